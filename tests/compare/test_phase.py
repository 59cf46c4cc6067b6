"""Phase diagrams: what they hold, what they keep, what they compute again, and what they refuse."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray
from scipy.stats import norm

from compare import phase_diagram
from compare.cli import main
from compare.figures.phase.figure import phase_figure
from compare.grokking import Regime, grokking_delay, regime
from compare.report.data import report_data
from compare.sweep import phase as sweep
from compare.sweep.axes import Axis
from compare.sweep.measures import REGIMES, grok_probability, measure
from compare.sweep.phase import PointFailedWarning
from compare.sweep.points import compute
from compare.sweep.request import Sweep
from dmft import Committee, Model, ParameterError, solve
from dmft.compiled import executables
from sim import simulate

BASE = Model(alpha=1.0, epsilon=0.5, kappa=2.0, initial_overlap=0.1)
LARGE = BASE.replace(dim=20)
QUICK = {"t_max": 2.0, "step": 0.2, "rtol": 0.5, "atol": 0.1}


@pytest.fixture
def computed(monkeypatch):
    """Points computed in this process, one after the other; their descriptions."""
    done = []

    def run(points):
        for point in points:
            done.append(point.describe())
            yield point, compute(point.to_json())

    monkeypatch.setattr(sweep, "local_runner", lambda _: run)
    return done


@pytest.mark.slow
@pytest.mark.usefixtures("computed")
@pytest.mark.parametrize(("settings", "name"), [({}, "advance_implicit"), ({"step": 0.1}, "advance_explicit")])
def test_all_points_of_a_sweep_share_two_programs(settings, name, monkeypatch, tmp_path):
    """Whatever alpha, kappa and the grid that they need: one of all samples, one of few."""
    monkeypatch.setattr(executables, "LIMIT", Path("/nowhere"))
    executables.forget()
    before = executables.COUNTS.copy()
    asked = {"t_max": 2.0, "rtol": 0.3, "atol": 0.1, **settings}
    phase_diagram(BASE, ("alpha", [0.5, 1.0, 3.0]), ("kappa", [1.0, 4.0]), folder=tmp_path, **asked)
    made = executables.COUNTS - before
    assert made["compiled"] + made["loaded"] == 2
    assert [kind.function.__name__ for kind in executables._slots] == 2 * [name]


@pytest.mark.slow
def test_the_grid_holds_what_each_point_s_curves_say(computed, tmp_path):
    alphas, kappas = [0.5, 2.0], [1.0, 4.0, 2.0]
    phase = phase_diagram(
        BASE.replace(dim=40), ("alpha", alphas), ("kappa", kappas), simulate_every=2, seeds=3, folder=tmp_path, **QUICK
    )
    assert len(computed) == 6 + 2
    assert phase.t_train.dims == ("alpha", "kappa")
    np.testing.assert_array_equal(phase.kappa, kappas)
    model = BASE.replace(dim=40, alpha=2.0, kappa=4.0)
    theory = solve(model, **QUICK)
    at = phase.sel(alpha=2.0, kappa=4.0)
    for name, value in measure(theory, 0.1, 3.0).items():
        np.testing.assert_array_equal(at[name], value, err_msg=name)
    assert int(at.tolerance_met) == theory.attrs["tolerance_met"]
    np.testing.assert_array_equal(phase.simulation_state, [[1, 0, 1], [0, 0, 0]])
    assert np.isnan(phase.simulation_final_test_loss.values[phase.simulation_state == 0]).all()
    there = simulate(BASE.replace(dim=40, alpha=0.5, kappa=2.0), 2.0, step=0.2, seeds=3)
    at = phase.isel(alpha=0, kappa=2)
    assert float(at.simulation_final_test_loss) == float(there.test_loss[:, -1].mean())
    assert float(at.simulation_final_test_loss_error) == float(there.test_loss_stderr[-1])
    kept = xarray.load_dataset(tmp_path / "points" / f"{at.simulation_point.item()}.nc")
    np.testing.assert_array_equal(kept.test_loss, there.test_loss)
    for name in ("state", "regime", "regime_certain", "t_train_reached", "tolerance_met"):
        assert phase[name].dtype == np.int8, name


def test_a_second_run_computes_what_is_missing_and_nothing_else(computed, tmp_path):
    first = phase_diagram(BASE, ("alpha", [1.0, 2.0]), folder=tmp_path, **QUICK)
    assert len(computed) == 2
    again = phase_diagram(BASE, ("alpha", [1.0, 2.0]), folder=tmp_path, **QUICK)
    assert len(computed) == 2
    xarray.testing.assert_identical(first, again)
    lower = phase_diagram(BASE, ("alpha", [1.0, 2.0]), threshold=0.4, ratio=2.0, folder=tmp_path, **QUICK)
    assert len(computed) == 2  # thresholds are read off the same curves
    assert float(lower.t_train[0]) < float(first.t_train.fillna(np.inf)[0])
    more = phase_diagram(BASE, ("alpha", [2.0, 4.0, 1.0]), folder=tmp_path, **QUICK)
    assert computed[2:] == ["theory at alpha = 4, epsilon = 0.5, kappa = 2, initial_overlap = 0.1"]
    xarray.testing.assert_identical(more.sel(alpha=[1.0, 2.0]), first)
    phase_diagram(BASE, ("alpha", [1.0]), folder=tmp_path, **QUICK | {"rtol": 0.4})
    assert len(computed) == 4
    (tmp_path / "points" / f"{first.point.values[1]}.nc").write_bytes(b"damaged")
    xarray.testing.assert_identical(phase_diagram(BASE, ("alpha", [1.0, 2.0]), folder=tmp_path, **QUICK), first)
    assert len(computed) == 5


def test_a_failed_point_is_recorded_and_does_not_stop_the_others(computed, tmp_path):
    base, axis = BASE.replace(dim=40, epsilon=0.0), ("kappa", [0.25, 16.0])  # step (1 + kappa^(-1/2))^2 above, below 2
    arguments = {"t_max": 80.0, "step": 0.8, "theory": False, "simulate_every": 1, "seeds": 2, "folder": tmp_path}
    with pytest.warns(PointFailedWarning, match=r"simulation at .*kappa = 0.25, .* failed: .*diverge"):
        phase = phase_diagram(base, axis, **arguments)
    assert "state" not in phase
    np.testing.assert_array_equal(phase.simulation_state, [2, 1])
    assert "diverge" in phase.simulation_message.values[0]
    assert phase.simulation_message.values[1] == ""
    np.testing.assert_array_equal(phase.simulation_regime > 0, [False, True])
    assert len(computed) == 2
    xarray.testing.assert_identical(phase_diagram(base, axis, **arguments), phase)
    assert len(computed) == 2
    with pytest.warns(PointFailedWarning):
        phase_diagram(base, axis, retry_failed=True, **arguments)
    assert len(computed) == 3


@pytest.mark.slow
def test_points_of_the_same_shape_share_what_is_compiled(computed):
    executables.forget()  # else what earlier tests have compiled may be dropped in between
    phase_diagram(BASE, ("alpha", [1.0]), t_max=3.0, rtol=0.1, atol=0.01)
    compiled = []
    listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    phase = phase_diagram(BASE, ("alpha", [0.5, 2.0]), ("kappa", [1.5, 6.0]), t_max=3.0, rtol=0.1, atol=0.01)
    assert (phase.state == 1).all()
    assert len(computed) == 5
    assert compiled == []
    jax.jit(lambda x: x + 1.25)(np.ones(3))
    assert compiled  # the listener hears


@pytest.mark.usefixtures("computed")
def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phase = phase_diagram(BASE.replace(epsilon=0.0), ("kappa", [1, 4]), t_max=0.4, step=0.2, rtol=0.5)
    assert phase.attrs["y"] == ""
    assert phase.state.dims == ("kappa",)
    assert not list(tmp_path.iterdir())


def test_further_arguments_reach_simulation_and_theory(computed, tmp_path):
    """They are part of the points' names; the diagram says what they were."""
    base, axis = BASE.replace(dim=10, width=5), ("kappa", [2.0])
    arguments = {"theory": False, "simulate_every": 1, "seeds": 2, "t_max": 1.0, "step": 0.1, "folder": tmp_path}
    plain = phase_diagram(base, axis, **arguments)
    options = {"optimizer": "adam", "times": [0.0, 0.5, 1.0]}
    phase = phase_diagram(base, axis, simulate_options=options, **arguments)
    assert len(computed) == 2
    there = simulate(base.replace(kappa=2.0), 1.0, step=0.1, seeds=2, **options)
    assert float(phase.simulation_final_test_loss[0]) == float(there.test_loss[:, -1].mean())
    assert phase.simulation_point.item() != plain.simulation_point.item()
    assert json.loads(phase.attrs["simulate_options"]) == options
    assert "simulate_options" not in plain.attrs


def test_a_committee_is_swept_by_names(computed, tmp_path):
    committee = Committee(alpha=1.0, kappa=2.0, width=2, activation="erf", readout=[1.0, -1.0], dim=10)
    arguments = {"theory": False, "simulate_every": 1, "seeds": 2, "t_max": 1.0, "step": 0.1, "folder": tmp_path}
    phase = phase_diagram(committee, ("kappa", [2.0, 4.0]), **arguments)
    assert (phase.simulation_state == 1).all()
    there = simulate(committee.replace(kappa=4.0), 1.0, step=0.1, seeds=2)
    assert float(phase.simulation_final_test_loss[1]) == float(there.test_loss[:, -1].mean())
    assert computed[0].startswith("simulation at alpha = 1, kappa = 2, width = 2")
    assert phase.attrs["model_activation"] == "erf"
    phase_figure(phase)
    phase.to_netcdf(tmp_path / "phase.nc", engine="h5netcdf")
    report = report_data(tmp_path)
    assert report["model"] == "A committee: its activation is erf, its teacher half_square."
    cells = report["cells"]
    assert [cell["command"] for cell in cells] == [None, None]
    last = cells[1]["simulation"]["curves"]["test_loss"]["value"][-1]
    assert last == pytest.approx(float(there.test_loss[:, -1].mean()), rel=1e-3)
    with pytest.raises(ParameterError, match="`activation` must be a name in a sweep"):
        phase_diagram(committee.replace(activation=jax.numpy.tanh), ("kappa", [2.0]), **arguments)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x": ("gamma", [1])}, "`x` must name one of the fields"),
        ({"x": ("alpha", [])}, "`x` must give alpha at least one value"),
        ({"x": "alpha"}, "`x` must be a pair"),
        ({"x": ("alpha", [1, -2])}, "`alpha` must be a finite number > 0, but is -2"),
        ({"y": ("alpha", [1])}, "`y` must be another field"),
        ({"t_max": 0.0}, "`t_max`"),
        ({"threshold": 0.0}, "`threshold`"),
        ({"ratio": -1.0}, "`ratio`"),
        ({"step": 3.0}, "`step`"),
        ({"rtol": 0.0}, "`rtol`"),
        ({"precision": "half"}, "`precision`"),
        ({"simulate_every": -1}, "`simulate_every`"),
        ({"simulate_every": 1}, "`dim`"),
        ({"theory": False}, "`simulate_every` must be >= 1"),
        ({"spread": True}, "`dim` must be given with `spread`"),
        ({"spread": 64}, "`spread`"),
        ({"spread": True, "theory": False, "simulate_every": 1}, "`spread` must be False without theory"),
        ({"spread": True, "solve_options": {"momentum": 0.9}}, "`spread` must be False with momentum"),
        ({"spread": True, "base_model": Committee(alpha=1.0, kappa=2.0, width=2, activation="erf")}, "Committee"),
        ({"solve_options": {"spread": True}}, "'spread'"),
        ({"workers": 0}, "`workers`"),
        ({"seed": -1}, "`seed`"),
        ({"base_model": None}, "`base_model`"),
        ({"solve_options": {"momentum": 0.9}, "step": None}, "`momentum` must be left out of gradient flow"),
        ({"solve_options": {"momentum": 1.5}, "step": 0.1}, "`momentum` must be a number >= 0 and < 1"),
        ({"solve_options": {"schedule": [1.0, 1.0]}, "step": 0.1}, "`schedule` must have a factor for each of"),
        (
            {"simulate_options": {"optimizer": "sgd"}, "simulate_every": 1, "base_model": LARGE},
            "`optimizer` must be one of gd",
        ),
        ({"solve_options": {"sample_count": 100}}, "`sample_count` must be a power of two >= 32, but is 100"),
        ({"solve_options": {"sample_count": 16}}, "`sample_count` must be an integer >= 32"),
        (
            {
                "solve_options": {"sample_count": 32},
                "step": 0.1,
                "base_model": Committee(alpha=1.0, kappa=2.0, width=2, activation="erf"),
            },
            "`sample_count` must be an integer >= 512",
        ),
        (
            {"simulate_options": {"optimizer": "adam"}, "simulate_every": 1, "step": 0.1, "base_model": LARGE},
            "`width` of the model must be finite with optimizer adam",
        ),
        (
            {"simulate_options": {"stop_below": {"trace": 0.1}}, "simulate_every": 1, "base_model": LARGE},
            "`stop_below` must be one of",
        ),
        (
            {"simulate_options": {"kernel": True}, "simulate_every": 1, "base_model": LARGE},
            "`kernel` must be False unless",
        ),
        ({"solve_options": {"sampels": 64}}, "'sampels'"),
        ({"solve_options": {"rtol": 0.1}}, "'rtol'"),
        ({"simulate_options": {"checkpoint": "x"}}, "'checkpoint'"),
        ({"simulate_options": {"optimizer": object()}}, "plain numbers and texts"),
        ({"simulate_options": "adam"}, "must map"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(computed, tmp_path, changes, says):
    arguments = {"base_model": BASE, "x": ("alpha", [1.0]), "folder": tmp_path / "new", **QUICK, **changes}
    with pytest.raises(ParameterError, match="Argument") as caught:
        phase_diagram(**arguments)
    assert says in str(caught.value)
    assert not computed
    assert not (tmp_path / "new").exists()


def test_a_constant_schedule_is_none_beside_a_spread():
    asked = {"t_max": 2.0, "step": 0.5, "spread": True, "solve_options": {"schedule": "constant"}}
    assert Sweep(base_model=BASE.replace(dim=20), axes=(Axis.of("x", "alpha", [1.0]),), **asked).spread


# Measures


def test_what_is_not_reached_is_not_zero(make_theory):
    never = measure(make_theory(), threshold=1e-9, ratio=3.0)
    assert np.isnan([never["t_train"], never["t_test"], never["delay"], never["delay_error"]]).all()
    assert (never["t_train_reached"], never["delay_reached"]) == (0, 0)
    curves = make_theory()
    found, times = measure(curves, threshold=0.1, ratio=3.0), grokking_delay(curves)
    assert found["delay"] == times.delay.value
    assert found["delay_reached"] == 1
    assert found["regime"] == REGIMES[regime(curves)]
    assert found["peak_test_loss"] == float(curves.test_loss.max())


def test_a_regime_at_its_border_is_not_certain(make_theory):
    curves = make_theory(relative_error=0.001)
    times = grokking_delay(curves)
    ratio = times.t_test.value / times.t_train.value
    for factor, certain in ((0.5, 1), (0.9999, 0), (1.0001, 0), (2.0, 1)):
        found = measure(curves, threshold=0.1, ratio=factor * ratio)
        assert found["regime"] == REGIMES[Regime.GROKS if factor < 1 else Regime.GENERALISES]
        assert found["regime_certain"] == certain, factor


def test_one_seed_has_no_errors_and_no_certainty(make_simulation):
    found = measure(make_simulation(seeds=1), threshold=0.1, ratio=3.0)
    assert np.isnan(found["final_test_loss_error"])
    assert found["regime_certain"] == 0


def with_spread(curves, relative):
    """The curves with a spread of the test loss, `relative` to it, known to a tenth."""
    spread = relative * curves.test_loss
    return curves.assign(test_loss_spread=spread, test_loss_spread_stderr=0.1 * spread)


@pytest.mark.parametrize(("threshold", "relative"), [(0.03, 0.8), (0.015, 0.3), (0.3, 1.0)])
def test_the_chance_to_grok_is_the_share_of_runs_of_its_law(make_theory, threshold, relative):
    """Equation 12.3 against runs at even quantiles of the law above it, each read as a simulation is."""
    curves, runs, ratio = with_spread(make_theory(), relative), 200, 3.0
    found = grok_probability(curves, threshold, ratio)
    z = norm.ppf((np.arange(runs) + 0.5) / runs)[:, None]
    losses = {
        "train_loss": np.repeat(curves.train_loss.values[None], runs, axis=0),
        "test_loss": curves.test_loss.values * np.exp(relative * z),
    }
    drawn = xarray.Dataset({name: (("seed", "time"), values) for name, values in losses.items()}, {"time": curves.time})
    share = grok_probability(drawn.assign_attrs(kind="simulation"), threshold, ratio)
    assert 0.1 < share["grok_probability"] < 0.95
    assert abs(found["grok_probability"] - share["grok_probability"]) <= 1.01 / runs


def test_the_chance_to_grok_where_nothing_scatters_or_nothing_is_known(make_theory, make_simulation):
    curves = make_theory()
    assert np.isnan(list(grok_probability(curves, 0.1, 3.0).values())).all()
    for threshold, chance in ((0.1, 1.0), (1e-9, 0.0)):
        assert grok_probability(with_spread(curves, 0.0), threshold, 3.0)["grok_probability"] == chance
    assert grok_probability(with_spread(curves, 0.3), 0.1, 1e9)["grok_probability"] == 0.0
    narrow, wide = (grok_probability(with_spread(curves, size), 0.013, 3.0) for size in (0.1, 0.5))
    assert 0 < narrow["grok_probability"] < wide["grok_probability"] < 0.5
    assert wide["grok_probability_error"] > 0
    all_runs = grok_probability(make_simulation(scatter=0.01), 0.1, 3.0)
    assert all_runs["grok_probability"] == 1.0
    assert all_runs["grok_probability_error"] == pytest.approx(np.sqrt(0.9 * 0.1 / 8))


def test_a_sweep_has_the_chance_to_grok_if_asked(computed, tmp_path):
    model, axis = BASE.replace(dim=30), ("alpha", [1.0])
    asked = QUICK | {"folder": tmp_path, "threshold": 0.5, "simulate_every": 1, "seeds": 4, "solve_options": {}}
    plain = phase_diagram(model, axis, **asked)
    with_chance = phase_diagram(model, axis, spread=True, **asked)
    assert len(computed) == 3  # the theory again, the simulation not
    added = {f"{prefix}grok_probability{end}" for prefix in ("", "simulation_") for end in ("", "_error")}
    assert set(with_chance.data_vars) - set(plain.data_vars) == added
    theory = xarray.load_dataset(tmp_path / "points" / f"{with_chance.point.item()}.nc")
    assert float(with_chance.grok_probability[0]) == grok_probability(theory, 0.5, 3.0)["grok_probability"]
    assert "test_loss_spread" in theory
    assert np.isfinite(with_chance.simulation_grok_probability).all()
    without = with_chance.drop_vars([*added, "point"])
    xarray.testing.assert_equal(without, plain.drop_vars("point"))


@pytest.mark.slow
def test_the_chance_to_grok_is_that_of_simulations(computed):
    """D = 200 at the time at which the mean run has just reached the threshold (descent in steps of .2)."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=5.5, dim=200, initial_overlap=0.1)
    phase = phase_diagram(
        model,
        ("dim", [200]),
        t_max=4.0,
        step=0.2,
        threshold=0.235,
        spread=True,
        simulate_every=1,
        seeds=80,
        simulate_options={"times": [0.0, 0.4, 0.8, 1.0, 1.2, 1.4, 2.0, 2.6, 3.0, 3.2, 3.4, 3.6, 3.8, 4.0]},
    ).isel(dim=0)
    assert len(computed) == 2
    chance, share = float(phase.grok_probability), float(phase.simulation_grok_probability)
    error = np.hypot(float(phase.grok_probability_error), float(phase.simulation_grok_probability_error))
    assert 0.2 < chance < 0.8
    assert abs(chance - share) < 3 * error, (chance, share, error)


# The command

LINE = ("--epsilon", "0", "--x", "alpha=1,2", "--kappa", "2", "--t-max", "0.4", "--step", "0.2", "--rtol", "0.5")


def test_the_command_writes_the_dataset_and_its_picture(computed, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["phase", *LINE, "--dim", "20", "--simulate-every", "1", "--seeds", "2", "--out", str(out)]) == 0
    files = {path.name for path in out.iterdir()}
    assert files == {"phase.nc", "phase.png", "phase.pdf", "panels.png", "panels.pdf", "points"}
    phase = xarray.load_dataset(out / "phase.nc")
    assert phase.state.dims == ("alpha",)
    assert phase.attrs["threshold"] == 0.1
    said = capsys.readouterr()
    assert "undecided at t_max" in said.out
    assert said.err == ""
    before = (out / "phase.nc").read_bytes()
    assert main(["phase", *LINE, "--dim", "20", "--simulate-every", "1", "--seeds", "2", "--out", str(out)]) == 0
    assert (out / "phase.nc").read_bytes() == before
    assert len(computed) == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--x", "gamma=1,2"], "`x` must name one of the fields"),
        (["--x", "alpha=2:1:5"], "FROM < TO"),
        (["--x", "alpha=1:2:0"], "NUMBER >= 2"),
        (["--y", "alpha=1,2"], "`x` must be given too"),
        (["--x", "alpha=1,2", "--alpha", "3"], "`alpha` must be left out where it is on an axis"),
        (["--x", "alpha=1,-2"], "`alpha` must be a finite number > 0"),
        (["--x", "kappa=1,2", "--epsilon", "0.1"], "`alpha` must be given too"),
        (["--x", "alpha=1:2:400", "--y", "kappa=1:2:400"], "`yes` must be given for more than 100000 points"),
        (["--x", "alpha=1,2", "--scheduler", "tcp://127.0.0.1:1"], "tcp://127.0.0.1:1"),
        (["--x", "alpha=1,2", "--threshold", "0"], "`threshold`"),
        (["--x", "alpha=1,2", "--out", "/dev/null/x"], "`out` must be a folder that can be written"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(computed, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr("compare.sweep.workers.PATIENCE", 0.5)
    monkeypatch.chdir(tmp_path)
    assert main(["phase", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert not computed


def test_a_full_disk_ends_the_run_and_loses_nothing(computed, tmp_path, monkeypatch, capsys):
    write = os.fsync

    def full(number):
        if len(computed) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(number)

    monkeypatch.setattr(os, "fsync", full)
    assert main(["phase", *LINE, "--out", str(tmp_path)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert len(list((tmp_path / "points").iterdir())) == 1
    monkeypatch.setattr(os, "fsync", write)
    assert main(["phase", *LINE, "--out", str(tmp_path)]) == 0
    assert len(computed) == 3


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_in_the_same_file(tmp_path):
    command = [sys.executable, "-m", "compare.cli", "phase", "--epsilon", "0.5", "--initial-overlap", "0.1"]
    command += ["--dim", "30", "--simulate-every", "2", "--seeds", "2", "--workers", "2", "--rtol", "0.2"]
    command += ["--x", "alpha=0.5,1", "--y", "kappa=2,4", "--t-max", "2", "--step", "0.2", "--out"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    subprocess.run([*command, str(straight)], check=True, capture_output=True)
    draw = random.Random(0)
    seen = {}

    def look():
        """Points done so far; a file that is there stays the file that it is."""
        for path in (broken / "points").glob("*.nc"):
            identity = (path.stat().st_ino, path.stat().st_mtime_ns)
            assert seen.setdefault(path.name, identity) == identity

    for stored in (1, 3):  # killed within half a second of so many points, while others are computed
        process = subprocess.Popen([*command, str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((broken / "points").glob("*.nc"))) < stored:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        look()
    assert subprocess.run([*command, str(broken)], check=False).returncode == 0
    look()
    assert (broken / "phase.nc").read_bytes() == (straight / "phase.nc").read_bytes()
    assert len(seen) == 4 + 1
