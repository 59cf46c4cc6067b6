"""The pieces of the benchmarks that compute physics or costs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dmft import Model
from dmft.checks import precision_context
from dmft.twotime.grid import explicit_grid
from dmft.twotime.loop import solve_one
from dmft.twotime.request import choose_iteration
from dmft.wide.engine import Wide
from dmft.wide.replica import Sampling
from dmft.wide.solution import Replica

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def picard() -> ModuleType:
    return load("picard")


def row_by_row(t_max: float, step: float, samples: int) -> Replica:
    """The first replica of `solve(MODEL, t_max, step=step, sample_count=samples)`."""
    grid = explicit_grid(step, t_max)
    with precision_context("float64"):
        sampling = Sampling(samples, min(grid.size, samples // 2), "float64")
        seed = np.random.SeedSequence(0, spawn_key=(0,))
        return solve_one(Wide(MODEL), grid, sampling, seed, choose_iteration("float64", 1e-3))


def test_picard_iteration_ends_at_the_row_by_row_solution(picard: ModuleType) -> None:
    # two codes for the same equations and samples: memory kernels of the whole trajectory, and row after row
    reference = row_by_row(6.0, 0.3, samples=32)
    result = picard.picard(MODEL, 6.0, 0.3, samples=32, damping=0.5, tolerance=1e-8)
    assert result.change < 1e-8
    np.testing.assert_allclose(result.test_loss, reference.curves["test_loss"], rtol=1e-6)
    np.testing.assert_allclose(result.train_loss, reference.curves["train_loss"], rtol=1e-6)


def test_picard_iteration_says_what_is_left(picard: ModuleType) -> None:
    reference = row_by_row(6.0, 0.3, samples=32).curves["test_loss"]
    early = picard.picard(MODEL, 6.0, 0.3, samples=32, damping=0.5, tolerance=1e-8, most=8)
    assert early.sweeps == 8
    assert early.change > 1e-3
    assert np.max(np.abs(early.test_loss / reference - 1)) > 1e-3


def test_propagate_solves_the_discrete_volterra_equation(picard: ModuleType) -> None:
    generator = np.random.default_rng(0)
    memory, rate = np.tril(generator.normal(size=(7, 7))), 0.3
    with precision_context("float64"):
        response, initial = (np.asarray(array) for array in picard.propagate(memory, rate))
    expected, start = np.zeros((7, 7)), np.ones(7)
    for n in range(6):
        expected[n + 1] = expected[n] + np.eye(7)[n] - rate * memory[n] @ expected
        start[n + 1] = start[n] - rate * memory[n, : n + 1] @ start[: n + 1]
    np.testing.assert_allclose(response, expected, atol=1e-12)
    np.testing.assert_allclose(initial, start, atol=1e-12)


def test_force_factor_reproduces_the_correlation(picard: ModuleType) -> None:
    generator = np.random.default_rng(1)
    force, weight = generator.normal(size=(5, 16)), generator.dirichlet(np.ones(16))
    with precision_context("float64"):
        factor = np.asarray(picard.force_factor(force, weight, 5))
    np.testing.assert_allclose(factor @ factor.T, (force * weight) @ force.T, atol=1e-12)
    assert np.all(np.diagonal(factor) > 0)
    assert np.all(np.triu(factor, 1) == 0)


def test_costs_are_carried_on_by_a_power() -> None:
    assert load("measuring").fitted_exponent([10, 20, 40], [2e3, 16e3, 128e3]) == pytest.approx(3.0)
    line = load("theory_methods").Line("x", 100.0, 2.0, 3.0, 0.02, 8, 1.0, 0.1)
    assert line.needed(0.01) == pytest.approx(32)
    assert line.needed(1.0) == 4
    assert line.total(0.01, 200.0) == pytest.approx(32 * 2.0 * 2**3)
    assert line.total(0.01, 200.0, refined=3.0) == pytest.approx(32 * 2.0 * 6**3)


def test_the_accelerator_benchmark_measures_both_sides() -> None:
    gpu = load("gpu")
    assert gpu.product_peak(64, count=2) > 0
    assert gpu.simulator_speed(dim=10, width=8, steps=20) > 0
    assert "first" in gpu.curve(*gpu.QUICK[0])


def test_the_survey_draws_the_same_models_and_goes_on_where_it_was(tmp_path: Path) -> None:
    survey = load("survey")
    drawn = [survey.draw(index) for index in range(40)]
    assert drawn == [survey.draw(index) for index in range(40)]
    for asked in drawn:
        fields = {name: value for name, value in asked.items() if name != "t_max"}
        Model(**fields)  # all are admissible
    assert sum("dim" in asked for asked in drawn) == 20
    file = tmp_path / "survey.jsonl"
    line = {"index": 3, "asked": drawn[3], "seconds": 2.0, "ended": "met"}
    file.write_text(f"{json.dumps(line)}\n{json.dumps(line)[:20]}")
    assert survey.load(file) == {3: line}
    assert "1 models, 100% met" in survey.table(survey.load(file))
    runs = [("met", 10.0, 19.0), ("met", 10.0, 21.0), ("met", 10.0, 4.0), ("time out", 60.0, 31.0)]
    runs.append(("time out", 60.0, 9.0))
    told = {k: dict(zip(("ended", "seconds", "expected_seconds"), run, strict=True)) for k, run in enumerate(runs)}
    assert survey.quality(told, "seconds") == "estimates of seconds: within a factor 2 in 2 of 5"


def test_lines_and_powers_of_one_over_the_dimension_are_found() -> None:
    late, dims = load("late_times"), np.array([100.0, 200.0, 400.0])
    error = np.full(3, 0.01)
    limit, z, slope, chi2 = late.line(dims, 1.03 - 5.0 / dims, error, 0.03)
    assert (limit[:5], slope[:4], chi2) == ("1.030", "-5.0", "0.0")
    spread = 0.01 * np.sqrt(1.0 / 3.0 + (7.0 / 3.0) ** 2 / (14.0 / 3.0))  # of the ordinate at 1/D = 0
    assert float(z) == pytest.approx(0.03 / np.hypot(spread, 0.03), abs=0.06)
    for power in (0.5, 1.0, 2.0):
        assert late.power(dims, 1.0 - dims**-power, error * 1e-3).startswith(f"{power:.1f} (")
