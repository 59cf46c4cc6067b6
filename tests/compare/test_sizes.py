"""The approach of finite networks to the theory."""

import json

import numpy as np
import pytest
import xarray

from compare import finite_size
from compare.sizes import NAMES, Request, extrapolated, line
from dmft import Model, ParameterError

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.2)


def test_a_line_is_found_with_its_error():
    rng, dims = np.random.default_rng(3), np.array([100.0, 200.0, 400.0])
    truth, errors = 1.0 - 8.0 / dims, 0.3 / np.sqrt(dims)
    values = truth[:, None] + errors[:, None] * rng.standard_normal((3, 4000))
    a, a_error, b, b_error, chi2 = line(1 / dims, values, np.broadcast_to(errors[:, None], values.shape))
    assert abs(((a - 1) / a_error).mean()) < 0.08
    assert abs(((a - 1) / a_error).std() - 1) < 0.05
    assert abs(((b + 8) / b_error).std() - 1) < 0.05
    assert abs(chi2.mean() - 1) < 0.1


def ratios(power):
    dims = np.array([100, 200, 400])
    ratio = 1 - 0.5 * (dims / 100.0)[:, None, None] ** -power * np.ones((3, len(NAMES), 6))
    rng = np.random.default_rng(0)
    return xarray.Dataset(
        {
            "ratio": (("dim", "observable", "time"), ratio + 1e-3 * rng.standard_normal(ratio.shape)),
            "ratio_error": (("dim", "observable", "time"), np.full(ratio.shape, 1e-3)),
            "theory_error": (("dim", "observable", "time"), np.full(ratio.shape, 1e-3)),
        },
        {"dim": dims, "observable": list(NAMES), "time": np.arange(1.0, 7.0)},
    )


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_power_is_chosen_by_fit_and_the_needed_size_follows(power):
    limits = extrapolated(ratios(power), (1.0, 0.5))
    assert (limits["power"] == power).all()
    assert (abs(limits["z"]) < 4).all()
    needed = 100 * (0.5 / 0.05) ** (1 / power)
    np.testing.assert_allclose(limits["dim_for"].sel(deviation=0.05), needed, rtol=0.1)


@pytest.fixture
def runs(monkeypatch):
    """Theory and simulation that take no time: the simulation deviates by 3/D."""
    calls = []

    def dataset(kind, times, values, **attrs):
        dims = ("time",) if kind == "theory" else ("seed", "time")
        variables = {name: (dims, values) for name in NAMES}
        variables |= {f"{name}_error": ("time", np.full(len(times), 1e-4)) for name in NAMES if kind == "theory"}
        return xarray.Dataset(variables, {"time": np.asarray(times)}, attrs | {"kind": kind})

    def solve(model, _t_max, times, **_):
        calls.append(("solve", model.dim))
        return dataset("theory", times, np.exp(-np.asarray(times)))

    def simulate(model, _t_max, times, seeds, **_):
        calls.append(("simulate", model.dim))
        noise = 1e-3 * np.random.default_rng(model.dim).standard_normal((seeds, len(times)))
        return dataset("simulation", times, np.exp(-np.asarray(times)) * (1 + 3 / model.dim + noise), seeds=seeds)

    monkeypatch.setattr("compare.sizes.solve", solve)
    monkeypatch.setattr("compare.sizes.simulate", simulate)
    return calls


def test_planted_theory_is_solved_once_and_a_random_start_at_each_size(runs):
    found = finite_size(MODEL, 2.0, (50, 100, 200), 4)
    assert [call for call in runs if call[0] == "solve"] == [("solve", None)]
    assert [int(one.attrs["seeds"]) for one in found.simulations.values()] == [16, 8, 4]
    assert max(z for z, _ in found.worst.values()) < 4.5
    slope = found.limits["slope"] / found.limits["slope_error"]
    assert abs((found.limits["slope"] - 3) / found.limits["slope_error"]).max() < 4.5
    assert (slope > 5).all()
    runs.clear()
    finite_size(MODEL.replace(initial_overlap=0.0), 2.0, (50, 100), 4)
    assert [call for call in runs if call[0] == "solve"] == [("solve", 50), ("solve", 100)]


def test_what_is_done_is_kept(runs, tmp_path, monkeypatch):
    first = finite_size(MODEL, 2.0, (50, 100), 4, folder=tmp_path / "kept")
    (tmp_path / "kept" / "simulation-100.nc").unlink()
    runs.clear()
    again = finite_size(MODEL, 2.0, (50, 100), 4, folder=tmp_path / "kept")
    assert runs == [("simulate", 100)]
    xarray.testing.assert_identical(first.limits, again.limits)
    with pytest.raises(ParameterError, match="`folder`"):
        finite_size(MODEL, 3.0, (50, 100), 4, folder=tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr("dmft.version.NUMERICS", -1)
        with pytest.raises(ParameterError, match="`folder`"):
            finite_size(MODEL, 2.0, (50, 100), 4, folder=tmp_path / "kept")
    (tmp_path / "kept" / "theory.nc").write_bytes(b"half of it")
    with pytest.raises(ParameterError, match="cannot be read"):
        finite_size(MODEL, 2.0, (50, 100), 4, folder=tmp_path / "kept")


@pytest.mark.usefixtures("runs")
def test_summary_and_picture(tmp_path):
    found = finite_size(MODEL, 2.0, (50, 100, 200), 4)
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))
    assert set(summary["observables"]) == set(NAMES)
    assert summary["runs"] == {"50": 16, "100": 8, "200": 4}
    assert "dim_for_5_percent" in repr(found)
    found.plot(tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": (100,)}, ["`dims`", "two sizes"]),
        ({"dims": (200, 100)}, ["`dims`", "increasing"]),
        ({"dims": 100}, ["`dims`", "100"]),
        ({"seeds": 1}, ["`seeds`", ">= 2", "1"]),
        ({"seeds": (4, 4)}, ["`seeds`", "3 dims"]),
        ({"seeds": np.array(1)}, ["`seeds`", ">= 2", "1"]),
        ({"dims": (2, 100), "model": MODEL.replace(strengths=(1.0, 0.5))}, ["`dim`", ">= 4", "2"]),
        ({"dims": (2, 100), "model": MODEL.replace(kappa=0.1)}, ["`kappa`", "one sample"]),
        ({"times": [0.0, 1.0]}, ["`times`", "> 0"]),
        ({"t_max": -1.0}, ["`t_max`", "> 0"]),
        ({"step": "a"}, ["`step`", "'a'"]),
        ({"step": 0}, ["`step`", "> 0"]),
        ({"step": 3.0}, ["`step`", "t_max = 2"]),
        ({"model": "model"}, ["`model`", "Model"]),
        ({"rtol": 20}, ["`rtol`", "from 1e-08 to 1", "20"]),
        ({"rtol": 1e-9}, ["`rtol`", "from 1e-08 to 1", "1e-09"]),
    ],
)
def test_refusals(changes, words, runs):
    with pytest.raises(ParameterError) as caught:
        finite_size(**{"model": MODEL, "t_max": 2.0, "dims": (50, 100, 200)} | changes)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not runs


def test_a_request_of_steps_has_times_on_them():
    request = Request.of(MODEL, 4.0, (50, 100), 2, None, 0.5, 0.01, 0)
    assert all(abs(time / 0.5 - round(time / 0.5)) < 1e-9 for time in request.times)
    assert request.times[-1] == 4.0
