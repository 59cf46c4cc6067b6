"""The stored references of committees: how they are extrapolated, and that the simulation still gives them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from sim import simulate

HERE = Path(__file__).parent
FILES = sorted((HERE / "reference").glob("committee_*.json"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = HERE.parent / "benchmarks" / "committee_reference.py"
    specification = importlib.util.spec_from_file_location("committee_reference", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["committee_reference"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def test_the_line_in_one_over_dim_is_found_with_its_error(script: ModuleType) -> None:
    generator = np.random.default_rng(0)
    dims, counts = np.array([500, 1000, 2000]), np.array([40, 30, 20])
    truth = np.array([0.3, -1.0])
    scores, chi2 = [], []
    for _ in range(400):
        draws = [
            truth + 8.0 / dim + generator.standard_normal((count, 2)) * np.array([2.0, 0.5]) / np.sqrt(dim)
            for dim, count in zip(dims, counts, strict=True)
        ]
        means = np.array([draw.mean(axis=0) for draw in draws])
        variances = np.array([draw.var(axis=0, ddof=1) for draw in draws])
        limit, error, fit = script.extrapolate(script.Sizes(dims, counts, means, variances))
        scores.append((limit - truth) / error)
        chi2.append(fit)
    assert abs(np.mean(scores)) < 4.0 / np.sqrt(800)
    assert np.std(scores) == pytest.approx(1.0, abs=0.15)
    assert np.mean(chi2) == pytest.approx(1.0, abs=4.0 * np.sqrt(2.0 / 800))


def test_control_variates_take_scatter_away_and_no_more(script: ModuleType) -> None:
    generator = np.random.default_rng(1)
    dims, counts, truth = np.array([500, 1000, 2000]), (30, 20, 10), 0.3
    scores, gains = [], []
    for _ in range(400):
        zeros = [generator.standard_normal((n, 4)) / np.sqrt(dim) for dim, n in zip(dims, counts, strict=True)]
        values = [
            truth
            + 8.0 / dim
            + z @ np.array([[1.0], [2.0], [0.0], [0.0]])
            + generator.standard_normal((n, 1)) / dim**0.5
            for dim, n, z in zip(dims, counts, zeros, strict=True)
        ]
        sizes = script.controlled(dims, values, zeros)
        limit, error, _ = script.extrapolate(sizes)
        scores.append((limit - truth) / error)
        gains.append(sizes.variances / np.array([value.var(axis=0, ddof=1) for value in values]))
    assert abs(np.mean(scores)) < 4.0 / np.sqrt(400)
    assert np.std(scores) == pytest.approx(1.0, abs=0.15)
    assert np.mean(gains) == pytest.approx(1.0 / 6.0, abs=0.05)


def test_control_variates_have_no_mean(script: ModuleType) -> None:
    model = script.RELU.replace(dim=20)
    draws = [script.controls(model, script.draw_committee(model, 0, index)) for index in range(200)]
    for degree, number in ((1, 4), (2, 10), (3, 20), (4, 35)):
        values = np.array([draw[f"degree-{degree}"] for draw in draws])
        assert values.shape == (200, number)
        z = values.mean(axis=0) / (values.std(axis=0, ddof=1) / np.sqrt(200))
        assert np.max(np.abs(z)) < 4.5


def test_every_reference_is_as_exact_as_it_must_be(script: ModuleType) -> None:
    assert FILES
    for file in FILES:
        record = json.loads(file.read_text())
        case = script.CASES[file.stem.removeprefix("committee_")]
        assert record["step"] == case.step
        older = {"loss": "square", "labels": "teacher", "label_flips": 0.0}  # than these
        theirs, ours = older | record["model"], case.model.to_attributes()
        assert {**theirs, "teacher": ""} == {**ours, "teacher": ""}
        assert len(record["time"]) == script.STEPS + 1
        for name, row in record["observables"].items():
            limit, error = np.array(row["limit"]), np.array(row["stderr"])
            assert np.all(error <= np.maximum(0.003, 0.01 * np.abs(limit))), (file.stem, name)
            assert np.max(np.abs(limit - limit[0])) > 0.02, (file.stem, name)


def test_the_first_step_of_the_quadratic_case_has_its_closed_form() -> None:
    """E[Delta phi'(h) u] = -(3/2) epsilon m for the centred network: polynomials that the control variates know."""
    row = json.loads((HERE / "reference" / "committee_quadratic.json").read_text())["observables"]["teacher_overlap"]
    expected = np.array([[0.7], [-0.5]]) * (1.0 + 0.4 * 1.5 * 0.25)
    np.testing.assert_allclose(row["limit"][1], expected, atol=2e-6)
    assert np.max(row["stderr"][1]) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_fresh_runs_give_the_stored_means(script: ModuleType, file: Path) -> None:
    record, case = json.loads(file.read_text()), script.CASES[file.stem.removeprefix("committee_")]
    dim, seeds = min(int(size) for size in record["seeds"]), 32
    result = simulate(
        case.model.replace(dim=dim), case.step * script.STEPS, step=case.step, seeds=seeds, seed=77, precision="float32"
    )
    for name, row in record["observables"].items():
        mean, error = (np.array(row["sizes"][str(dim)][key]) for key in ("mean", "stderr"))
        both = np.maximum(np.hypot(error, result[f"{name}_stderr"].to_numpy()), 1e-6)
        z = (result[name].mean("seed").to_numpy() - mean) / both
        assert np.max(np.abs(z)) < stats.t.isf(0.005 / z.size, seeds - 1), name
