"""`solve` as users call it: datasets, times, reproducibility, precision, tolerance, and one-line refusals."""

import math
import re
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from scipy import stats

from dmft import ConvergenceError, DivergenceError, MemoryLimitError, Model, ParameterError, solve
from dmft.checks import precision_context
from dmft.losses.quadratic import OBSERVABLES
from dmft.twotime.engine import Iteration
from dmft.twotime.errors import MEANINGS
from dmft.twotime.grid import graded_times, implicit_grid
from dmft.twotime.loop import ReplicaStopped, solve_one
from dmft.twotime.prediction import VARIABLES, ToleranceWarning
from dmft.wide.engine import Wide
from dmft.wide.estimate import AMPLIFICATION, CONSISTENCY_LEVEL, residual_sum
from dmft.wide.replica import Sampling

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
SMALL = {"sample_count": 64, "replicas": 4}
LOOSE = {"rtol": 1.0, "atol": 1.0}


def test_a_dataset_says_how_to_run_it_again():
    model = Model(alpha=0.5, epsilon=0.3, kappa=2.0, dim=50, centered=True, label_noise=0.1, weight_decay=0.02)
    theory = solve(model, 1.0, step=0.2, seed=7, **SMALL, **LOOSE)
    attributes = theory.attrs
    assert Model.from_attributes(attributes) == model
    keywords = {
        name: attributes[name] for name in ("step", "sample_count", "replicas", "seed", "rtol", "atol", "precision")
    }
    again = solve(Model.from_attributes(attributes), attributes["t_max"], **keywords)
    np.testing.assert_array_equal(again.test_loss, theory.test_loss)
    assert attributes["kind"] == "theory"
    assert attributes["tolerance_met"] == 1
    assert {"package_version", "backend", "modes", "points", "engine"} <= set(attributes)


def test_a_dataset_survives_a_file(tmp_path):
    import xarray

    theory = solve(MODEL, 1.0, step=0.2, kernels=True, **SMALL, **LOOSE)
    theory.to_netcdf(tmp_path / "theory.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "theory.nc", engine="h5netcdf") as loaded:
        xarray.testing.assert_identical(loaded.load(), theory)
        assert Model.from_attributes(loaded.attrs) == MODEL


@pytest.mark.parametrize("settings", [{"step": 0.2}, {"points": 30}])
def test_every_observable_has_an_error_and_time_runs_from_0_to_t_max(settings):
    theory = solve(MODEL, 2.0, **SMALL, **LOOSE, **settings)
    time = theory.time.values
    assert time.dtype == np.float64
    assert time[0] == 0
    assert time[-1] == 2.0
    assert (np.diff(time) > 0).all()
    for name in OBSERVABLES:
        assert theory[name].dims == theory[f"{name}_stderr"].dims == ("time",)
        assert np.isfinite(theory[name]).all()
        assert np.isfinite(theory[f"{name}_stderr"]).all()
        assert (theory[f"{name}_stderr"] >= 0).all()
    start = theory.isel(time=0)
    assert float(start.trace) == pytest.approx(1.1)
    assert float(start.overlap) == pytest.approx(0.1)
    assert float(start.mean_weight_norm) == 0


def test_initial_losses_are_those_of_the_initial_network():
    """f(0) - y = (1/2)(alpha epsilon (m0^2 u^2 + 1) - u^2): mean square by the normal moments 1, 1, 3."""
    theory = solve(MODEL, 0.4, step=0.2, **SMALL, **LOOSE)
    a, b = 0.5 * 0.5, 0.5 * (0.5 * 0.1 - 1)
    loss = a**2 + 2 * a * b + 3 * b**2
    assert float(theory.train_loss[0]) == pytest.approx(loss, rel=1e-10)
    assert float(theory.test_loss[0]) == pytest.approx(loss, rel=1e-10)


def test_default_times_of_the_flow_interpolate_linearly_to_three_per_mille():
    theory = solve(MODEL, 6.0, points=30, **SMALL, **LOOSE)
    time = theory.time.values
    between = np.sort(np.concatenate([time, 0.5 * (time[1:] + time[:-1])]))
    dense = solve(MODEL, 6.0, points=30, times=between, **SMALL, **LOOSE)
    for name in ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm"):
        line = np.interp(between, time, theory[name].values)
        scale = np.maximum(np.abs(dense[name].values), 0.01 * np.abs(dense[name].values).max())
        assert (np.abs(dense[name].values - line) / scale).max() < 3e-3, name


def test_times_are_reported_as_asked():
    times = [0.0, 0.3, 1.7, 2.0]
    flow = solve(MODEL, 2.0, points=30, times=times, **SMALL, **LOOSE)
    np.testing.assert_array_equal(flow.time, times)
    steps = solve(MODEL, 2.0, step=0.2, times=[0.0, 0.6, 1.65], **SMALL, **LOOSE)
    np.testing.assert_allclose(steps.time, [0.0, 0.6, 1.6])
    every = solve(MODEL, 2.0, step=0.2, **SMALL, **LOOSE)
    np.testing.assert_allclose(every.time, 0.2 * np.arange(11))
    np.testing.assert_array_equal(every.test_loss.values[[0, 3, 8]], steps.test_loss)


def test_t_max_is_what_was_asked_for_and_the_last_time_what_was_reached():
    theory = solve(MODEL, 0.7, step=0.2, **SMALL, **LOOSE)
    assert (theory.attrs["t_max"], float(theory.time[-1])) == (0.7, pytest.approx(0.6))


def test_seeds_are_reproducible_and_independent():
    one, again, other = (solve(MODEL, 2.0, step=0.2, seed=seed, **SMALL, **LOOSE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.train_loss, again.train_loss)
    assert np.abs(one.train_loss - other.train_loss).max() > 0
    error = np.hypot(one.test_loss_stderr, other.test_loss_stderr)
    assert (np.abs(one.test_loss - other.test_loss) <= 8 * error + 1e-12).all()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"step": 0.2}, {"points": 30}])
def test_float32_is_close_to_float64(settings):
    double, single = (
        solve(MODEL, 2.0, precision=precision, **SMALL, **LOOSE, **settings) for precision in ("float64", "float32")
    )
    assert single.attrs["precision"] == "float32"
    for name in ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm"):
        assert single[name].dtype == np.float64
        np.testing.assert_allclose(single[name], double[name], rtol=2e-3, atol=1e-4, err_msg=name)


def test_jax_is_left_as_it_was():
    before = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, jax.numpy.ones(1).dtype)
    solve(MODEL, 0.4, step=0.2, **SMALL, **LOOSE)
    after = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, jax.numpy.ones(1).dtype)
    assert before == after


def test_importing_the_package_leaves_jax_alone():
    code = (
        "import dmft, sys; assert 'jax' not in sys.modules; import dmft.solver, jax; print(jax.config.jax_enable_x64)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Tolerance


@pytest.fixture
def one_replica_at_a_time(monkeypatch):
    """The shape checks of these tests catch warnings while they are made; in a thread they lose those of others."""
    monkeypatch.setattr("dmft.twotime.request.cores", lambda: 1)


def test_a_tolerance_that_is_not_reached_is_said(one_replica_at_a_time):  # noqa: ARG001
    with pytest.warns(ToleranceWarning, match="train_loss|test_loss") as caught:
        theory = solve(MODEL, 2.0, step=0.2, rtol=1e-7, atol=0.0, **SMALL)
    assert theory.attrs["tolerance_met"] == 0
    assert theory.attrs["tolerance_message"] in str(caught[0].message)
    assert "\n" not in str(caught[0].message)


def test_a_tolerance_that_is_met_is_met():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theory = solve(MODEL, 2.0, step=0.2, rtol=0.01, sample_count=128)
    assert theory.attrs["tolerance_met"] == 1
    for name in ("train_loss", "test_loss"):
        allowed = 0.01 * np.abs(theory[name]) + 1e-5 * float(theory[name][0])
        assert (theory[f"{name}_error"] <= allowed).all()


# Error budget


def test_the_total_error_is_the_root_sum_square_of_its_parts():
    theory = solve(MODEL, 2.0, step=0.2, **SMALL, **LOOSE)
    quantile = stats.t.ppf(1 - CONSISTENCY_LEVEL / 2, SMALL["replicas"] - 1)
    for name in OBSERVABLES:
        part = {
            ending: theory[f"{name}_{ending}"].values for ending in (*VARIABLES, "stderr") if ending != "kink_error"
        }
        bias = np.maximum(part["bias"] ** 2 - part["bias_stderr"] ** 2, 0)
        consistency = np.maximum(np.abs(part["consistency"]) - quantile * part["consistency_stderr"], 0)
        squares = part["stderr"] ** 2 + part["step_error"] ** 2 + part["iteration_error"] ** 2 + bias + consistency**2
        np.testing.assert_allclose(part["error"], np.sqrt(squares), rtol=1e-9, atol=1e-15)
        assert theory[f"{name}_error"].attrs["limited_by"] in MEANINGS.values()
    assert not theory.train_loss_step_error.any()  # discrete steps are solved exactly
    assert theory.attrs["limited_by"] in theory.attrs["tolerance_message"]


@pytest.mark.slow
def test_a_part_that_limits_is_named():
    few = solve(MODEL, 2.0, step=0.2, **SMALL, **LOOSE)
    assert few.attrs["limited_by"] in (MEANINGS["sampling"], MEANINGS["bias"])
    rough = solve(MODEL.replace(epsilon=0.0), 20.0, points=8, **SMALL, **LOOSE)
    assert rough.attrs["limited_by"] == MEANINGS["step"]


@pytest.mark.slow
def test_the_iteration_s_error_covers_what_a_loose_iteration_changes():
    grid, sampling = implicit_grid(graded_times(6.0, 20)), Sampling(64, 20, "float64")

    def replica(tolerance):
        with precision_context("float64"):
            seed = np.random.SeedSequence(0)
            return solve_one(Wide(MODEL), grid, sampling, seed, Iteration(tolerance=tolerance, accepted=1e-2))

    loose, tight = replica(1e-3), replica(1e-9)
    claimed = AMPLIFICATION * residual_sum([loose])
    for name in ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm"):
        change = np.abs(loose.curves[name] - tight.curves[name])
        assert (change <= 2 * claimed * np.abs(tight.curves[name]) + 1e-12).all(), name
        assert change.max() > 0


@pytest.mark.slow
def test_the_bias_of_few_samples_is_found():
    """At 32 samples against 16: what is claimed is compared with the mean of 512 samples."""
    few = solve(MODEL, 6.0, points=24, sample_count=32, replicas=32, seed=1, **LOOSE)
    many = solve(MODEL, 6.0, points=24, sample_count=512, replicas=8, seed=2, times=few.time.values, **LOOSE)
    for name in ("train_loss", "test_loss"):
        deviation = np.abs(few[name] - many[name])
        own = np.hypot(few[f"{name}_error"], many[f"{name}_error"])
        assert (deviation <= 4 * own + 1e-9).all(), name
        z = (few[name] - many[name] - few[f"{name}_bias"]) / np.hypot(own, few[f"{name}_bias_stderr"]).clip(1e-12)
        assert float(np.abs(z).max()) < 4


def test_the_reported_error_covers_the_scatter_between_seeds():
    """Twelve solves of 4 replicas each: their scatter over the mean reported error, a ratio of variances."""
    runs = [solve(MODEL, 2.0, step=0.2, seed=seed, **SMALL, **LOOSE) for seed in range(12)]
    for name in ("train_loss", "overlap", "mean_weight_norm"):
        values = np.array([float(run[name][-1]) for run in runs])
        claimed = np.mean([float(run[f"{name}_stderr"][-1]) ** 2 for run in runs])
        ratio = values.var(ddof=1) / claimed  # F(11, 36): 0.5 % tails at 0.22 and 2.9
        assert 0.2 < ratio < 3.0, (name, ratio)


# Refusals


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0.0), ("kappa", -1.0), ("kappa", math.nan), ("epsilon", -0.1), ("alpha", math.inf), ("dim", 1)],
)
def test_a_model_out_of_range_is_refused(name, value):
    with pytest.raises(ParameterError, match=f"`{name}`") as caught:
        MODEL.replace(**{name: value})
    assert f"{value:g}" in str(caught.value)
    assert "\n" not in str(caught.value)


BAD = [
    ("t_max", {"t_max": 0.0}, "0"),
    ("t_max", {"t_max": math.nan}, "nan"),
    ("t_max", {"t_max": -1.0}, "-1"),
    ("t_max", {"t_max": math.inf}, "inf"),
    ("rtol", {"rtol": 0.0}, "0"),
    ("rtol", {"rtol": -0.1}, "-0.1"),
    ("rtol", {"rtol": math.nan}, "nan"),
    ("atol", {"atol": -1.0}, "-1"),
    ("step", {"step": 0.0}, "0"),
    ("step", {"step": 5.0}, "5"),
    ("times", {"times": [0.5, 0.2]}, "0.5"),
    ("times", {"times": [0.5, 3.0]}, "contains 3"),
    ("times", {"times": np.linspace(0.0, 3.0, 100)}, r"contains 2\.0303"),
    ("times", {"times": [[0.5, 1.0]]}, r"shape \(1, 2\)"),
    ("times", {"times": []}, r"shape \(0,\)"),
    ("times", {"times": "soon"}, "soon"),
    ("sample_count", {"sample_count": 100}, "100"),
    ("sample_count", {"sample_count": 16}, "16"),
    ("replicas", {"replicas": 3}, "3"),
    ("replicas", {"replicas": 4.5}, "4.5"),
    ("points", {"points": 2}, "2"),
    ("points", {"points": 20, "step": 0.1}, "20"),
    ("precision", {"precision": "half"}, "half"),
    ("seed", {"seed": -1}, "-1"),
]


@pytest.mark.parametrize(("name", "settings", "shown"), BAD)
def test_an_argument_out_of_range_is_refused_in_one_line(name, settings, shown):
    arguments = {"t_max": 2.0} | settings
    with pytest.raises(ParameterError, match=f"`{name}`") as caught:
        solve(MODEL, arguments.pop("t_max"), **arguments)
    message = str(caught.value)
    assert re.search(shown, message)
    assert "must be" in message
    assert "\n" not in message


def test_something_that_is_no_model_is_refused():
    with pytest.raises(ParameterError, match="`model`"):
        solve({"alpha": 1.0}, 2.0)


@pytest.mark.slow
def test_divergence_names_a_step_that_is_stable():
    with pytest.raises(DivergenceError) as caught:
        solve(MODEL, 24.0, step=1.6, **SMALL)
    message = str(caught.value)
    assert "\n" not in message
    assert "1.6" in message
    found = re.search(r"step = ([0-9.e-]+) is stable up to t = ([0-9.e+]+)", message)
    assert found, message
    stable, horizon = map(float, found.groups())
    theory = solve(MODEL, horizon, step=stable, **SMALL, **LOOSE)
    assert float(theory.train_loss[-1]) < float(theory.train_loss[0])
    # the curves up to there are those of a run that ends before
    curves, time = caught.value.curves, float(re.search(r"diverges at t = ([0-9.]+)", message)[1])
    assert curves.attrs["complete"] == 0
    assert theory.attrs["complete"] == 1
    assert 0 < float(curves.time[-1]) < time
    assert np.isfinite(curves.to_array()).all()
    assert float(curves.train_loss[0]) == pytest.approx(float(theory.train_loss[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("t_max", "settings", "size"), [(1e4, {"step": 0.1}, "100001"), (1e4, {"points": 10**8}, "100000001")]
)
def test_a_run_that_does_not_fit_is_refused_before_it_starts(t_max, settings, size):
    with pytest.raises(MemoryLimitError, match="GiB") as caught:
        solve(MODEL, t_max, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{size} time points" in message
    assert caught.value.curves is None


def stop_at(monkeypatch, time, reached=lambda grid: True):  # noqa: ARG005
    """Make every replica stop at the first row from `time` on, on the grids for which `reached` says so."""
    from dmft.twotime import loop

    solved = loop.solve_one

    def stopped(engine, grid, *rest):
        late = np.searchsorted(grid.times, time)
        if late < grid.size and reached(grid):
            raise ReplicaStopped(grid, int(late), "told to")
        return solved(engine, grid, *rest)

    monkeypatch.setattr(loop, "solve_one", stopped)


def test_a_row_that_fails_gets_smaller_steps(monkeypatch):
    """Until the step at t = 1 is below 0.13, which takes two rescues; the steps elsewhere stay as they were."""
    stop_at(monkeypatch, 1.0, lambda grid: np.diff(grid.times)[np.searchsorted(grid.times, 1.0) - 1] > 0.13)
    theory = solve(MODEL, 3.0, times=[0.0, 1.0, 3.0], **SMALL, **LOOSE)
    monkeypatch.undo()
    plain = solve(MODEL, 3.0, times=[0.0, 1.0, 3.0], **SMALL, **LOOSE)
    assert plain.attrs["points"] < theory.attrs["points"] <= plain.attrs["points"] + 16
    assert (np.abs(theory.test_loss - plain.test_loss) <= 3 * (theory.test_loss_error + plain.test_loss_error)).all()


def test_where_the_coarser_grid_cannot_be_solved_all_replicas_are_on_the_fine_one(monkeypatch):
    """Only those of many samples stop, at t = 1 on the coarser grid: the result is that of the fine grid alone."""
    from dmft.twotime import loop

    solved = loop.solve_one

    def stopped(engine, grid, sampling, *rest):
        if grid.size < 21 and sampling.samples == SMALL["sample_count"]:
            raise ReplicaStopped(grid, int(np.searchsorted(grid.times, 1.0)), "told to")
        return solved(engine, grid, sampling, *rest)

    plain = solve(MODEL, 2.0, points=20, kernels=True, **SMALL, **LOOSE)
    monkeypatch.setattr(loop, "solve_one", stopped)
    theory = solve(MODEL, 2.0, points=20, **SMALL, **LOOSE)
    np.testing.assert_array_equal(theory.test_loss, plain.test_loss)


def test_the_coarse_grid_with_the_pilot_s_correction_is_the_fine_grid():
    """`kernels` solves all replicas on the fine grid.  The two agree to sampling errors and 1/14 of the correction."""
    cheap, full = (
        solve(MODEL, 20.0, points=20, sample_count=64, kernels=kernels, **LOOSE) for kernels in (False, True)
    )
    largest = 0.0
    for name in OBSERVABLES:
        sampling = np.hypot(cheap[f"{name}_stderr"], full[f"{name}_stderr"])
        allowed = 4 * sampling + 0.5 * cheap[f"{name}_step_error"] + 1e-12
        assert (np.abs(cheap[name] - full[name]) <= allowed).all(), name
        largest = max(largest, float((7 * cheap[f"{name}_step_error"] / allowed).max()))
    assert largest > 5  # what the test allows is small beside what the coarse grid alone errs by


@pytest.mark.parametrize("settings", [{"step": 0.2}, {"points": 20}])
def test_a_row_that_cannot_be_solved_leaves_the_curves_before_it(monkeypatch, settings):
    stop_at(monkeypatch, 1.3)
    with pytest.raises(ConvergenceError, match=r"t = 1\.[34].*told to.*points") as caught:
        solve(MODEL, 2.0, **settings, **SMALL, **LOOSE)
    assert "\n" not in str(caught.value)
    curves = caught.value.curves
    assert curves.attrs["complete"] == 0
    assert 0.8 < float(curves.time[-1]) < 1.3
    assert np.isfinite(curves.to_array()).all()
    monkeypatch.undo()
    whole = solve(MODEL, 2.0, **settings, **SMALL, **LOOSE)
    expected = np.interp(curves.time, whole.time, whole.test_loss)
    np.testing.assert_allclose(curves.test_loss, expected, rtol=2e-3)


@pytest.mark.slow
def test_a_row_that_cannot_be_solved_says_what_to_change(monkeypatch):
    from dmft.twotime import request

    monkeypatch.setattr(request, "choose_iteration", lambda precision, rtol: Iteration(max_rounds=2))  # noqa: ARG005
    with pytest.raises(ConvergenceError, match="points") as caught:
        solve(MODEL, 2.0, points=30, **SMALL)
    assert "\n" not in str(caught.value)


# Time


@pytest.mark.slow
def test_within_a_time_the_best_curves_say_how_good_they_are(one_replica_at_a_time):  # noqa: ARG001
    """Too short for the tolerance, they are those of a looser one; long enough, they are those without a limit."""
    whole = solve(MODEL, 6.0)
    with pytest.warns(ToleranceWarning):
        short = solve(MODEL, 6.0, max_seconds=1e-3)
    assert (short.attrs["rtol"], short.attrs["tolerance_met"], whole.attrs["tolerance_met"]) == (0.01, 0, 1)
    assert short.attrs["points"] < whole.attrs["points"]
    at = whole.time.values
    difference = np.abs(np.interp(at, short.time, short.test_loss) - whole.test_loss.values)
    assert (difference <= 3 * np.interp(at, short.time, short.test_loss_error) + 3 * whole.test_loss_error.values).all()
    unhurried = solve(MODEL, 6.0, max_seconds=1e4)
    np.testing.assert_array_equal(unhurried.test_loss, whole.test_loss)


def test_no_time_is_refused():
    with pytest.raises(ParameterError, match="max_seconds"):
        solve(MODEL, 1.0, max_seconds=0)
