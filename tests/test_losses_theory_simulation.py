"""Committees of other losses: the theory against simulations of several D, extrapolated in 1/D (THEORY section 14)."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray
from scipy import stats

from compare.extrapolation import line
from dmft import Committee, solve
from sim import Optimizer, simulate

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark, which has the models."""
    path = Path(__file__).parent.parent / "benchmarks" / "committee_losses.py"
    specification = importlib.util.spec_from_file_location("committee_losses", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def limits(
    model: Committee, names: tuple[str, ...], t_max: float, step: float, **rule: Any
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every observable at the end and at a third of it, extrapolated linearly in 1/D, with its error."""
    sizes = {250: 100, 500: 60, 1000: 30}
    times = [round(t_max / step / 3) * step, t_max]
    runs = [
        simulate(
            model.replace(dim=dim), t_max, step=step, times=times, seeds=seeds, seed=11, precision="float32", **rule
        )
        for dim, seeds in sizes.items()
    ]
    found = {}
    for name in names:
        means = np.array([run[name].mean("seed").to_numpy().ravel() for run in runs])
        errors = np.maximum([run[f"{name}_stderr"].to_numpy().ravel() for run in runs], 1e-12)
        found[name] = line(1.0 / np.array(list(sizes)), means, errors)[:2]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("case", "steps"), [("linear", 30), ("erf", 15), ("relu", 15)])
def test_simulations_extrapolated_in_1_over_d_meet_the_theory(script: ModuleType, case: str, steps: int) -> None:
    model = script.CASES[case][0]
    expected = limits(model, script.NAMES, float(steps), 1.0)
    times = [round(steps / 3), steps]
    theory = solve(model, float(steps), step=1.0, times=times, replicas=8, sample_count=4096)
    count = sum(value.size for value, _ in expected.values())
    threshold = stats.t.isf(0.01 / 2 / count, 30)  # some 30 degrees of freedom: 8 replicas, and 30 runs or more
    for name, (value, error) in expected.items():
        own, own_error = (theory[f"{name}{ending}"].to_numpy().ravel() for ending in ("", "_error"))
        z = (own - value) / np.hypot(error, own_error)
        assert np.abs(z).max() < threshold, (name, z)


@pytest.mark.slow
def test_momentum_of_a_committee_meets_simulations_extrapolated_in_1_over_d(script: ModuleType) -> None:
    """Heavy ball, ten steps of 0.5. The theory of plain descent is refused by the same simulations."""
    model, step, t_max, names = script.ERF, 0.5, 5.0, ("train_loss", "test_loss", "teacher_overlap", "self_overlap")
    rule = {"optimizer": Optimizer("momentum", momentum=0.6)}
    expected = limits(model, names, t_max, step, **rule)
    about = {"step": step, "times": [1.5, t_max], "replicas": 8, "sample_count": 4096}
    theory, plain = (solve(model, t_max, momentum=momentum, **about) for momentum in (0.6, 0.0))

    def scores(dataset: xarray.Dataset, name: str) -> np.ndarray:
        own, own_error = (dataset[f"{name}{ending}"].to_numpy().ravel() for ending in ("", "_error"))
        return np.abs(own - expected[name][0]) / np.hypot(expected[name][1], own_error)

    for name in names:
        assert scores(theory, name).max() < 3.0, (name, scores(theory, name))
        assert scores(plain, name).max() > 10.0, name
