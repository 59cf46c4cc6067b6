"""Committees of other losses: the theory against simulations of several D, extrapolated in 1/D (THEORY section 14)."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from compare.sizes import line
from dmft import Committee, solve
from sim import simulate

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

PAIR: dict[str, Any] = {
    "initial_teacher_overlap": [[0.4], [-0.1]],
    "initial_self_overlap": [[1.0, 0.2], [0.2, 0.8]],
}
LINEAR = Committee(
    alpha=1.0,
    kappa=2.0,
    width=1,
    activation="linear",
    teacher="linear",
    loss="logistic",
    labels="probability",
    initial_teacher_overlap=[[0.3]],
)
ERF = Committee(
    alpha=2.0,
    kappa=2.0,
    width=2,
    activation="erf",
    teacher="linear",
    loss="logistic",
    labels="sign",
    label_flips=0.1,
    **PAIR,
)
RELU = ERF.replace(activation="relu", readout=[1.0, -1.0], label_flips=0.0)
NAMES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "margin", "teacher_overlap", "self_overlap")


def limits(model: Committee, t_max: float, step: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every observable at the end and at a third of it, extrapolated linearly in 1/D, with its error."""
    sizes = {250: 100, 500: 60, 1000: 30}
    times = [round(t_max / step / 3) * step, t_max]
    runs = [
        simulate(model.replace(dim=dim), t_max, step=step, times=times, seeds=seeds, seed=11, precision="float32")
        for dim, seeds in sizes.items()
    ]
    found = {}
    for name in NAMES:
        means = np.array([run[name].mean("seed").to_numpy().ravel() for run in runs])
        errors = np.maximum([run[f"{name}_stderr"].to_numpy().ravel() for run in runs], 1e-12)
        found[name] = line(1.0 / np.array(list(sizes)), means, errors)[:2]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "steps"), [(LINEAR, 30), (ERF, 15), (RELU, 15)], ids=["linear", "two erf", "two ReLU"]
)
def test_simulations_extrapolated_in_1_over_d_meet_the_theory(model: Committee, steps: int) -> None:
    expected = limits(model, float(steps), 1.0)
    times = [round(steps / 3), steps]
    theory = solve(model, float(steps), step=1.0, times=times, replicas=8, sample_count=4096)
    count = sum(value.size for value, _ in expected.values())
    threshold = stats.t.isf(0.01 / 2 / count, 30)  # some 30 degrees of freedom: 8 replicas, and 30 runs or more
    for name, (value, error) in expected.items():
        own, own_error = (theory[f"{name}{ending}"].to_numpy().ravel() for ending in ("", "_error"))
        z = (own - value) / np.hypot(error, own_error)
        assert np.abs(z).max() < threshold, (name, z)
