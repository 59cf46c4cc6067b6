"""The presets of networks without a theory: what they claim is measured, what they write, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
import xarray

from compare.cli import main
from compare.lab import doshi, omnigrok, prieto
from compare.lab.catalogue import lab_preset, presets
from compare.lab.pictures import preset_figure
from compare.lab.preset import Asked, claim, near, slope

pytest.importorskip("equinox")

NAMES = [
    "kumar-modular",
    "kumar-mnist",
    "kumar-transformer",
    "kumar-student",
    "doshi-phases",
    "doshi-coexistence",
    "doshi-inversion",
    "doshi-forgetting",
    "doshi-batchnorm",
    "doshi-prune",
    "prieto-collapse",
    "prieto-stablemax",
    "prieto-orthogonal",
    "omnigrok-landscape",
    "omnigrok-decay",
    "omnigrok-mnist",
    "omnigrok-sphere",
]


def test_all_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(presets()) == set(NAMES)
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES)
    assert main(["train", "--list", "--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)["presets"]} == set(NAMES)


@pytest.mark.parametrize("arguments", [["--preset", "doshi"], [], ["--preset", "doshi-prune", "--seeds", "0"]])
def test_what_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["train", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert ("`seeds` must be an integer >= 1" if "--seeds" in arguments else "must be one of kumar-modular") in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_runs_of_both_sizes(name: str) -> None:
    made = lab_preset(name)
    for full in (False, True):
        runs = made.runs(full)
        assert runs
        assert all(run.steps >= 100 for run in runs.values())
    assert made.title


def test_a_claim_counts_the_seeds_that_agree() -> None:
    found = claim("a", "b", [0.5, 0.52, np.nan], near(0.5, 0.03))
    assert found.measured == {"each": [0.5, 0.52, None], "agreeing": 2, "of": 3}
    assert not found.agrees
    assert claim("a", "b", [0.5], near(0.5, 0.03)).agrees
    np.testing.assert_allclose(slope([1.0, 2.0, 4.0], [[8.0, 4.0, 2.0], [3.0, 3.0, 3.0]]), [-1.0, 0.0], atol=1e-12)


def curves(**columns: Any) -> xarray.Dataset:
    """A dataset of two seeds and four steps."""
    return xarray.Dataset(
        {name: (("seed", "step"), value) for name, value in columns.items()}, {"step": [0, 1, 10, 100]}
    )


def test_claims_are_false_where_the_data_say_so() -> None:
    """The same claims on curves that were made to agree, and on others."""
    gap = np.array([[0.0, 3.0, 7.0, 8.0]] * 2)
    good = {}
    for bits, when, test, factor in zip(prieto.BITS, (1, 2, 3), (0.45, 0.7, 0.95), (7.6, 16.6, 36.7), strict=True):
        collapse = np.array([[float(step >= when) for step in range(4)]] * 2)
        good[bits] = curves(
            collapse=collapse, logit_gap=gap * 0 + factor, test_accuracy=np.full((2, 4), test), train_loss=gap
        )
    assert all(one.agrees for one in prieto._collapse_claims(good))
    swapped = {**good, "float16": good["float64"], "float64": good["float16"]}
    told = {one.claim: one.agrees for one in prieto._collapse_claims(swapped)}
    assert not told["collapse comes later in higher precision"]
    assert not told["test accuracy ends higher in higher precision"]


def test_phases_and_floor() -> None:
    assert doshi.phase_of(0.98, 0.95, 0.35) == "coexistence"
    assert doshi.phase_of(0.8, 1.0, 0.35) == "partial inversion"
    assert doshi.phase_of(0.65, 1.0, 0.35) == "full inversion"
    assert doshi.phase_of(1.0, 0.2, 0.35) == "memorisation"
    assert doshi.phase_of(0.5, 0.2, 0.35) == "forgetting or confusion"
    dataset = xarray.Dataset(attrs={"task_corruption": 0.35, "task_p": 97})
    assert abs(doshi.floor_of(dataset) - 0.6536) < 1e-4


@pytest.mark.slow
def test_a_preset_writes_its_files(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a size at which nothing is claimed."""
    monkeypatch.setattr(doshi, "FULL", (7, 20))
    for name in ("doshi-prune", "doshi-inversion"):
        assert main(["train", "--preset", name, "--seeds", "2", "--out", str(tmp_path / name)]) == 0
    told = capsys.readouterr().out
    assert "DIFFERS" in told
    written = {path.name for path in (tmp_path / "doshi-prune").iterdir()}
    runs = {f"doshi-prune-{label}.nc" for label in ("trained", "low", "high", "random")}
    assert written == {"claims.json", "doshi-prune.png", *runs}
    claims = json.loads((tmp_path / "doshi-prune" / "claims.json").read_text())
    assert all(set(one) == {"claim", "expected", "measured", "agrees"} for one in claims)
    assert all(one["agrees"] == (one["measured"]["agreeing"] == one["measured"]["of"]) for one in claims)
    dataset = xarray.load_dataset(tmp_path / "doshi-prune" / "doshi-prune-low.nc")
    assert dataset.test_accuracy.dims == ("seed", "pruned")
    assert dataset.attrs["preset"] == "doshi-prune"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_runs_is_judged_and_drawn(name: str) -> None:
    """A few steps of each run: no claim need agree."""
    made = lab_preset(name)
    runs = {
        label: run for i, (label, run) in enumerate(made.runs(False).items()) if name != "doshi-phases" or i % 9 == 0
    }
    for label, run in runs.items():
        times = {} if run.function else {"times": [0, 4, 8]}
        runs[label] = run._replace(steps=8, settings={**run.settings, **times})
    results = {label: run(Asked(seeds=1)) for label, run in runs.items()}
    results |= made.derive(runs, results)
    assert made.claims(results)
    assert preset_figure(made, results).axes


@pytest.mark.slow
def test_the_landscape_has_its_minimum_below_the_initial_norm() -> None:
    made = lab_preset("omnigrok-landscape")
    claims = made.claims(made.run(Asked(seeds=2)))
    assert all(one.agrees for one in claims)
    assert omnigrok.FACTORS[0] == 0.1


@pytest.mark.slow
def test_inversion_reaches_the_floor() -> None:
    """Decay 15 removes every wrong label: train accuracy falls to the share that is right by chance or untouched."""
    run = lab_preset("doshi-inversion").runs(False)["decay-15"](Asked(seeds=1))
    assert float(run.test_accuracy[0, -1]) > 0.99
    assert float(run.train_accuracy[0, -1]) == pytest.approx(doshi.floor_of(run), abs=0.01)
