"""Committees laid over each other: every entry of their overlaps has a z, and a curve in the picture."""

from typing import Any

import numpy as np
import pytest
import xarray
from scipy import stats

from compare import overlay
from compare.figures.entries import by_entry, entry_names, shown_entries
from compare.verdicts import agreement_table
from dmft import Committee, ParameterError
from dmft.losses.committee import DIMENSIONS, OBSERVABLES, READOUTS
from dmft.losses.dataset import build_dataset

MODEL = Committee(
    alpha=1.0, kappa=3.0, width=3, activation="relu", teacher="relu", teacher_dim=2, dim=50, train_readout=True
)
SHAPES = {"teacher_overlap": (3, 2), "self_overlap": (3, 3), "readouts": (3,)}
TIME = np.arange(9.0)
MEANINGS = OBSERVABLES | READOUTS


def curve(name: str) -> np.ndarray:
    """A mean curve, (T, ...), every entry different; overlaps of both signs."""
    shape = SHAPES.get(name, ())
    entries = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape) - 2.5 * bool(shape)
    if name == "self_overlap":
        entries = entries + entries.T
    return np.exp(-TIME / 4.0).reshape(-1, *(1,) * len(shape)) * entries + 0.1


def make_theory(error: float = 0.01) -> xarray.Dataset:
    values = {name: curve(name) for name in MEANINGS}
    errors = {name: np.full(value.shape, error) for name, value in values.items()}
    attributes = {**MODEL.replace(dim=None).to_attributes(), "kind": "theory"}
    return build_dataset(("time",), TIME, values, errors, attributes, MEANINGS, DIMENSIONS)


def make_simulation(seeds: int = 8, scatter: float = 0.05, random: int = 0, **attributes: Any) -> xarray.Dataset:
    generator = np.random.default_rng(random)
    values, errors = {}, {}
    for name in MEANINGS:
        value = curve(name) + scatter * generator.standard_normal((seeds, *curve(name).shape))
        values[name], errors[name] = value, value.std(axis=0, ddof=1) / np.sqrt(seeds)
    attributes = {**MODEL.to_attributes(), "kind": "simulation", **attributes}
    return build_dataset(("seed", "time"), TIME, values, errors, attributes, MEANINGS, DIMENSIONS)


def test_every_entry_has_a_score_and_counts_as_a_test() -> None:
    theory, simulation = make_theory(), make_simulation()
    agreement = overlay(theory, simulation)
    assert agreement.z["teacher_overlap"].dims == ("time", "neuron", "direction")
    difference = theory.teacher_overlap - simulation.teacher_overlap.mean("seed")
    expected = difference / np.hypot(theory.teacher_overlap_stderr, simulation.teacher_overlap_stderr)
    np.testing.assert_allclose(agreement.z["teacher_overlap"], expected, rtol=1e-12)
    row = agreement.summary()["observables"]["teacher_overlap"]
    worst = np.unravel_index(np.argmax(np.abs(expected.to_numpy())), expected.shape)
    assert row["entry"] == {"neuron": worst[1], "direction": worst[2]}
    assert row["time"] == TIME[worst[0]]
    degrees = float(agreement.degrees["teacher_overlap"].to_numpy()[worst])
    assert row["threshold"] == pytest.approx(stats.t.isf(0.025 / (9 * 6), degrees))
    assert agreement.summary()["observables"]["train_loss"]["entry"] is None
    assert f"teacher_overlap[{worst[1]},{worst[2]}]" in agreement_table(agreement.summary())
    assert ["infinite D" in note for note in agreement.summary()["notes"]] == [True]


def test_agreement_is_seen_and_one_wrong_entry_too() -> None:
    sound = [overlay(make_theory(0.0), make_simulation(random=k)).summary()["observables"] for k in range(20)]
    false = sum(rows[name]["verdict"] == "differs" for rows in sound for name in MEANINGS)
    assert false <= 11  # 5 expected of 100
    wrong = make_theory(0.0)
    wrong["self_overlap"][4:, 2, 0] += 0.3
    rows = overlay(wrong, make_simulation()).summary()["observables"]
    assert rows["self_overlap"]["verdict"] == "differs"
    assert rows["self_overlap"]["entry"] == {"neuron": 2, "neuron2": 0}
    assert rows["teacher_overlap"]["verdict"] == "agrees"


def test_dimensions_must_be_the_same() -> None:
    flat = make_theory()
    for name in ("self_overlap", "self_overlap_stderr"):
        flat[name] = flat[name].isel(neuron2=0)
    with pytest.raises(ParameterError, match="must hold `self_overlap` over"):
        overlay(make_theory(), flat)


def test_sizes_must_be_the_same() -> None:
    fewer = make_theory().isel(neuron=slice(2), neuron2=slice(2))
    with pytest.raises(ParameterError, match="`teacher_overlap` of as many entries"):
        overlay(make_theory(), fewer)


def test_entries_are_named_and_the_ones_that_move_are_drawn() -> None:
    assert list(entry_names("self_overlap", (2, 2)).values()) == [
        "self_overlap[1,1]", "self_overlap[1,2]", "self_overlap[2,2]"
    ]  # fmt: skip
    agreement = overlay(make_theory(), make_simulation())
    side = by_entry(agreement.first)
    np.testing.assert_array_equal(side.curves["teacher_overlap[3,1]"], agreement.first.curves.teacher_overlap[:, 2, 0])
    labels, total = shown_entries("teacher_overlap", (side,), 2)
    assert (labels, total) == (["teacher_overlap[3,1]", "teacher_overlap[3,2]"], 6)


def test_the_picture_has_a_panel_for_each_array(tmp_path: Any) -> None:
    agreement = overlay(make_theory(), make_simulation())
    figure = agreement.plot()
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear", "linear"]
    assert [len(axes.get_legend().get_texts()) for axes in figure.axes] == [2, 6, 6, 3]
    assert "activation relu" in figure.get_suptitle()
    assert figure.axes[1].get_ylim()[0] < 0.0
    agreement.plot(tmp_path / "overlay.png")
    assert (tmp_path / "overlay.png").stat().st_size > 10_000
