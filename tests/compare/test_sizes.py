"""The approach of finite networks to the theory."""

import json
import re

import numpy as np
import pytest
import xarray

from compare import finite_size, overlay
from compare.cli import main
from compare.sizes import NAMES, Request, extrapolated
from dmft import Model, ParameterError

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.2)


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


#: Single runs scatter by so much times D^-1/2.
NOISE = 0.01


@pytest.fixture
def runs(monkeypatch):
    """Theory and simulation that take no time: the simulation deviates by 3/D."""
    calls = []

    def dataset(kind, times, values, **attrs):
        dims = ("time",) if kind == "theory" else ("seed", "time")
        variables = {name: (dims, values) for name in NAMES}
        variables |= {f"{name}_error": ("time", np.full(len(times), 1e-4)) for name in NAMES if kind == "theory"}
        return xarray.Dataset(variables, {"time": np.asarray(times)}, attrs | {"kind": kind})

    def solve(model, _t_max, times, spread=False, **_):
        calls.append(("solve", model.dim))
        curve = np.exp(-np.asarray(times))
        theory = dataset("theory", times, curve, dim="infinite" if model.dim is None else model.dim)
        for name in NAMES if spread else ():
            size = NOISE / np.sqrt(model.dim)
            theory[f"{name}_spread"], theory[f"{name}_spread_stderr"] = (("time", k * size * curve) for k in (1, 0.01))
        return theory

    def simulate(model, _t_max, times, seeds, **_):
        calls.append(("simulate", model.dim))
        noise = NOISE / np.sqrt(model.dim) * np.random.default_rng(model.dim).standard_normal((seeds, len(times)))
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
    np.testing.assert_array_equal(found.ratio["trace"], found.limits["limit"].sel(observable="trace"))
    np.testing.assert_array_equal(found.z["overlap"], found.limits["z"].sel(observable="overlap"))
    assert abs((found.slope["trace"] - 3) / found.slope["trace_stderr"]).max() < 4.5
    assert found.slope["trace"].attrs["power"] == 1
    assert found.dim_for["test_loss"].sel(deviation=0.01).dims == ("time",)
    runs.clear()
    finite_size(MODEL.replace(initial_overlap=0.0), 2.0, (50, 100), 4)
    assert [call for call in runs if call[0] == "solve"] == [("solve", 50), ("solve", 100)]


@pytest.mark.parametrize("planted", [0.2, 0.0])
def test_the_theory_at_a_size_that_was_not_simulated(planted, runs):
    found = finite_size(MODEL.replace(initial_overlap=planted), 2.0, (50, 100), 40)
    runs.clear()
    theory = found.predict(400, spread=True)
    assert runs == [("solve", dim) for dim in ((400,) if planted else (400, 50, 100))]
    assert theory.attrs["dim"] == 400
    assert list(theory.attrs["corrected_at"]) == [50, 100]
    curve, x = np.exp(-theory.time.values), np.array([50.0, 100.0, 400.0]) ** (-1 if planted else -0.5)
    truth = curve * (1 + 3 / 400)  # a term in 1/D, which both parabolas have
    off = x[2] / np.sqrt(2 * 79 * x[0] ** 2 + 2 * 39 * x[1] ** 2)  # of the scatter that is found of 80 and 40 runs
    for name in NAMES:
        assert theory[name].values[0] == 1  # nothing is lacking at t = 0
        away = (theory[name].values - truth)[1:] / theory[f"{name}_error"].values[1:]
        assert np.abs(away).max() < 4, name
        spread, error = (theory[f"{name}_spread{end}"].values[1:] for end in ("", "_stderr"))
        np.testing.assert_allclose(error / (NOISE / 20 * truth[1:]), np.hypot(off, 0.01), rtol=0.1)
        assert np.abs((spread - NOISE / 20 * truth[1:]) / error).max() < 4, name
    notes = overlay(theory, theory.isel(time=slice(None, None, 2))).notes
    assert "The theory's means have what simulations at D = 50, 100 say of its finite D." in notes


@pytest.mark.usefixtures("runs")
def test_four_sizes_tell_a_curvature():
    found = finite_size(MODEL, 2.0, (50, 100, 200, 400), 4)
    assert found.limits.attrs["degrees_of_freedom"] == 1
    assert max(z for z, _ in found.worst.values()) < 4.5
    for name, truth in (("slope", 3.0), ("curvature", 0.0)):
        assert abs((found.limits[name] - truth) / found.limits[f"{name}_error"]).max() < 4.5


@pytest.fixture
def own_run(tmp_path):
    """A single run at D = 400 that has the term of order 1/D that the simulations have."""
    time = np.append(0.0, np.geomspace(2e-3, 2.0, 25))  # those of the theory
    losses = np.exp(-time) * np.where(time > 0, 1 + 3 / 400, 1.0)
    table = np.stack([time, losses, losses], axis=1)
    np.savetxt(tmp_path / "run.csv", table, delimiter=",", header="time,train_loss,test_loss", comments="")
    return tmp_path / "run.csv"


CASE = ["compare", "--dims", "50,100", "--alpha=1", "--epsilon=0.5", "--kappa=3", "--initial-overlap=0.2"]


@pytest.mark.usefixtures("runs")
def test_a_run_of_ones_own_is_judged_by_what_is_predicted_at_its_size(tmp_path, own_run, capsys):
    out = tmp_path / "out"
    own = ["--dim=400", "--measured", str(own_run), "--spread", "--test-samples=100000", "--seeds=40"]
    assert main([*CASE, *own, "--out", str(out)]) == 0
    made = {"predicted.nc", "measured.nc", "overlay.png", "finite-size.nc", "finite-size.png", "summary.json"}
    assert made <= {path.name for path in out.iterdir()}
    said = capsys.readouterr().out
    assert "what is predicted at D = 400" in said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["runs"] == {"50": 80, "100": 40}
    rows = summary["agreement"]["observables"]
    assert {name: row["verdict"] for name, row in rows.items()} == dict.fromkeys(("train_loss", "test_loss"), "agrees")
    assert rows["train_loss"]["max_abs_z"] < 1.5


@pytest.mark.usefixtures("runs")
def test_what_is_predicted_is_written_without_runs_too(tmp_path):
    assert main([*CASE, "--dim=400", "--t-max=2", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "overlay.png").exists()
    with xarray.open_dataset(tmp_path / "predicted.nc", engine="h5netcdf") as theory:
        assert theory.attrs["dim"] == 400
        assert not any(name.endswith("_spread") for name in theory)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--measured", "run.csv"], "`measured` needs `dim`"),
        (["--dim=40"], "`dim` must be >= 50.*40"),
        (["--spread"], "`spread`"),
        (["--dim=400", "--form=network"], "`form` must be left out with `dims`"),
    ],
)
def test_options_that_have_no_meaning_with_several_sizes(more, words, runs, tmp_path, capsys):
    assert main([*CASE, *more, "--out", str(tmp_path)]) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not runs


def test_no_size_below_those_simulated_is_predicted(runs):
    found = finite_size(MODEL, 2.0, (50, 100), 4)
    runs.clear()
    for dim, words in ((49, ">= 50.*49"), (100.5, "integer")):
        with pytest.raises(ParameterError, match=f"`dim`.*{words}"):
            found.predict(dim)
    assert not runs


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
