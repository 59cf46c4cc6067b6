"""Accuracies in threshold times, phase diagrams, overlays and pictures."""

from typing import Any

import numpy as np
import pytest

from compare import grokking_delay, overlay, phase_diagram, regime
from compare.curves import read_side
from compare.figures.overlay import overlay_figure
from compare.sweep.measures import measure
from dmft import Committee, Model, ParameterError, solve

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

MODEL = Committee(
    alpha=1.0,
    kappa=2.0,
    width=1,
    activation="linear",
    teacher="linear",
    loss="logistic",
    labels="sign",
    initial_teacher_overlap=[[0.3]],
)
CURVES: dict[str, Any] = {
    "time": np.array([0.0, 1.0, 2.0, 4.0]),
    "train_loss": np.array([1.0, 0.9, 0.9, 0.9]),
    "test_loss": np.array([1.0, 0.9, 0.9, 0.9]),
    "train_accuracy": np.array([0.5, 0.7, 0.95, 1.0]),
    "test_accuracy": np.array([0.5, 0.5, 0.8, 0.96]),
}


def test_times_of_accuracies_are_those_of_wrong_signs() -> None:
    found = grokking_delay(CURVES, 0.1, of="accuracy")
    wrong = {f"{side}_loss": 1.0 - CURVES[f"{side}_accuracy"] for side in ("train", "test")}
    expected = grokking_delay({"time": CURVES["time"], **wrong}, 0.1)
    for name in ("t_train", "t_test", "delay"):
        assert getattr(found, name).value == pytest.approx(getattr(expected, name).value)
    assert 1.0 < found.t_train.value < 2.0 < found.t_test.value < 4.0
    assert not grokking_delay(CURVES, 0.1).t_train.reached
    assert regime(CURVES, 0.1, of="accuracy", ratio=1.5) == "groks"


def test_errors_of_accuracies_are_those_of_the_times() -> None:
    curves = {**CURVES, "train_accuracy_stderr": np.full(4, 0.01), "test_accuracy_stderr": np.full(4, 0.01)}
    found = grokking_delay(curves, 0.1, of="accuracy")
    slope = 0.25 / np.log(2.0) / found.t_train.value
    assert found.t_train.error == pytest.approx(0.01 / slope, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"of": "error"}, "`of` must be"), ({"of": "accuracy", "threshold": 1.2}, "`threshold` must be < 1")],
)
def test_what_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        grokking_delay(CURVES, **arguments)


def test_accuracies_are_asked_where_labels_are_signs() -> None:
    losses = {name: CURVES[name] for name in ("time", "train_loss", "test_loss")}
    with pytest.raises(ParameterError, match="train_accuracy"):
        grokking_delay(losses, of="accuracy")
    with pytest.raises(ParameterError, match=r"`of` must be loss unless labels are signs"):
        phase_diagram(Model(alpha=1.0, epsilon=0.5, kappa=2.0), ("alpha", [1.0]), t_max=1.0, of="accuracy")


@pytest.mark.slow
def test_phase_diagram_of_accuracies() -> None:
    options = {"sample_count": 256, "replicas": 4}
    about: dict[str, Any] = {"t_max": 4.0, "step": 1.0, "solve_options": options, "workers": 1, "threshold": 0.25}
    phase = phase_diagram(MODEL, ("alpha", [1.0]), of="accuracy", **about)
    assert phase.attrs["of"] == "accuracy"
    curves = solve(MODEL, 4.0, step=1.0, rtol=0.03, atol=1e-3, **options)
    expected, point = grokking_delay(curves, 0.25, of="accuracy").t_train, phase.sel(alpha=1.0)
    assert float(point.t_train) == pytest.approx(expected.value, rel=1e-12)
    assert float(point.final_train_loss) == pytest.approx(float(curves.train_loss[-1]), rel=1e-12)


def test_a_point_of_a_sweep_has_the_times_of_accuracies() -> None:
    curves = solve(MODEL, 4.0, step=1.0, sample_count=256, replicas=4)
    found, times = measure(curves, 0.25, 3.0, "accuracy"), grokking_delay(curves, 0.25, of="accuracy")
    assert found["t_train"] == times.t_train.value
    assert found["t_train_error"] == times.t_train.error
    assert found["final_test_loss"] == float(curves.test_loss[-1])
    assert found["t_train"] != measure(curves, 0.25, 3.0)["t_train"]


def test_overlay_judges_and_draws_accuracies() -> None:
    theory = solve(MODEL, 4.0, step=1.0, sample_count=256, replicas=4)
    agreement = overlay(theory, theory.copy())
    assert {"train_accuracy", "test_accuracy", "margin"} <= set(agreement.z.data_vars)
    other = theory.assign_attrs({"loss": "hinge"})
    with pytest.raises(ParameterError, match="loss is logistic in the first and hinge in the second"):
        overlay(theory, other)
    older = theory.copy()
    del older.attrs["label_flips"]
    overlay(theory, older)
    side = read_side("theory", theory)
    labels = [axes.get_ylabel() for axes in overlay_figure(side, side).axes]
    assert "mean loss" in labels
    assert "accuracy" in labels
