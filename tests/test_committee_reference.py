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


def test_every_reference_is_as_exact_as_it_must_be(script: ModuleType) -> None:
    assert FILES
    for file in FILES:
        record = json.loads(file.read_text())
        case = script.CASES[file.stem.removeprefix("committee_")]
        assert record["step"] == case.step
        theirs, ours = record["model"], case.model.to_attributes()
        assert {**theirs, "teacher": ""} == {**ours, "teacher": ""}
        assert len(record["time"]) == script.STEPS + 1
        for name, row in record["observables"].items():
            limit, error = np.array(row["limit"]), np.array(row["stderr"])
            assert np.all(error <= np.maximum(0.003, 0.01 * np.abs(limit))), (file.stem, name)
            assert np.max(np.abs(limit - limit[0])) > 0.02, (file.stem, name)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_fresh_runs_give_the_stored_means(script: ModuleType, file: Path) -> None:
    record, case = json.loads(file.read_text()), script.CASES[file.stem.removeprefix("committee_")]
    dim, seeds = 500, 24
    result = simulate(case.model.replace(dim=dim), case.step * script.STEPS, step=case.step, seeds=seeds, seed=77)
    stored = record["seeds"][str(dim)]
    for name, row in record["observables"].items():
        mean, error = (np.array(row["sizes"][str(dim)][key]) for key in ("mean", "stderr"))
        both = np.sqrt(error**2 + error**2 * stored / seeds)  # the many stored seeds know the scatter better
        z = (result[name].mean("seed").to_numpy() - mean) / np.maximum(both, 1e-6)
        assert np.max(np.abs(z)) < stats.norm.isf(0.005 / z.size), name
