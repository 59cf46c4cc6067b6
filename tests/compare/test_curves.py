"""What a dataset has gone through (subsets, means, casts, gaps, infinite values) changes its errors rightly."""

import numpy as np
import pytest
import xarray

from compare import Regime, grokking_delay, overlay, regime
from compare.curves import read_side, total_error
from dmft import ParameterError


def verdicts(*sides, **options):
    return {name: row["verdict"] for name, row in overlay(*sides, **options).summary()["observables"].items()}


def test_a_value_that_is_not_finite_does_not_excuse_the_others(make_theory):
    theory = make_theory()
    time, loss = theory.time.values, theory.test_loss.values
    for late in (np.inf, np.nan, 1e300):
        agreement = overlay(theory, {**theory, "test_loss": np.where(time > 8, late, 2 * loss)})
        row = agreement.summary()["observables"]["test_loss"]
        count = int((time > 8).sum())
        assert row["verdict"] == "differs"
        assert row["max_abs_z"] == pytest.approx(0.01**-1 / np.sqrt(2), rel=1e-6)
        assert row["compared_times"] == time.size - count
        assert any(
            f"test_loss is not finite at {count} of {time.size} times (first t = 8." in n for n in agreement.notes
        )


def test_single_precision_excuses_only_what_is_rounding_of_the_value_itself(make_theory):
    """A loss twice too high, 45 standard errors, once it has fallen below 1e-6 of its start."""
    time = np.linspace(0.0, 40.0, 81)
    theory = make_theory(time, precision="float32")
    theory["train_loss"] = ("time", np.exp(-time))
    theory["train_loss_stderr"] = theory.train_loss / 45.0
    wrong = {name: theory[name].values for name in ("test_loss", "test_loss_stderr")}
    late = time > 20.0
    wrong |= {"time": time, "train_loss": np.where(late, 2.0, 1.0) * theory.train_loss, "train_loss_stderr": 0 * time}
    assert verdicts(theory, wrong) == {"train_loss": "differs", "test_loss": "agrees"}
    rounded = {**wrong, "train_loss": theory.train_loss * (1.0 + 1e-7), "train_loss_stderr": 0 * time}
    theory["train_loss_stderr"] = ("time", 0 * time)
    assert verdicts(theory, rounded)["train_loss"] == "agrees"
    assert verdicts(theory.assign_attrs(precision="float64"), rounded)["train_loss"] == "differs"


def test_errors_are_those_of_the_seeds_present(make_simulation):
    simulation = make_simulation()
    few = simulation.isel(seed=slice(0, 3))
    side = read_side("few", few)
    expected = few.test_loss.std("seed", ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(side.curves.test_loss_stderr, expected)
    assert (side.kind, side.runs, float(side.freedom.test_loss[3])) == ("simulation", 3, 0.5)


def test_one_seed_has_no_error_however_it_was_selected(make_theory, make_simulation):
    simulation = make_simulation()
    for one in (simulation.isel(seed=0), simulation.isel(seed=[0]), simulation.sel(seed=3)):
        assert set(verdicts(make_theory(), one).values()) == {"no error, no verdict"}
        assert read_side("one", one).runs == 1
        assert np.isnan(grokking_delay(one).t_train.error)


def test_a_mean_over_seeds_is_a_simulation_with_the_seeds_degrees_of_freedom(make_theory, make_simulation):
    simulation, theory = make_simulation(), make_theory()
    whole, mean = overlay(theory, simulation), overlay(theory, simulation.mean("seed", keep_attrs=True))
    xarray.testing.assert_allclose(mean.z, whole.z)
    xarray.testing.assert_allclose(mean.degrees, whole.degrees)
    assert mean.second.kind == "simulation"
    assert mean.summary()["seeds"] == [None, 8]
    assert any("of 8 seeds" in note for note in mean.notes)
    bare = overlay(theory, simulation.mean("seed", keep_attrs=False), runs=8)  # the attributes are lost
    xarray.testing.assert_allclose(bare.degrees.test_loss, whole.degrees.test_loss)


def test_what_is_done_to_a_dataset_on_the_way_does_not_matter(make_theory, make_simulation):
    theory, simulation = make_theory(), make_simulation()
    early = simulation.time < 30.0
    parts = [make_simulation(random=k) for k in (1, 2)]
    joined = xarray.concat(parts, "seed", data_vars="all")
    by_hand = np.concatenate([part.test_loss.values for part in parts])
    assert read_side("joined", joined).runs == 16
    np.testing.assert_allclose(
        read_side("joined", joined).curves.test_loss_stderr, by_hand.std(0, ddof=1) / 4, rtol=1e-9
    )
    expected = overlay(theory, simulation).z
    cut = overlay(theory, simulation.where(early, drop=True)).z
    xarray.testing.assert_allclose(cut.train_loss, expected.train_loss.sel(time=cut.time))
    turned = overlay(theory.isel(time=slice(None)), simulation.transpose("time", "seed")).z
    xarray.testing.assert_allclose(turned, expected)
    twice = read_side("twice", xarray.concat([simulation, simulation], "seed", data_vars="all"))
    assert twice.runs == 8
    assert any("twice" in note for note in twice.notes)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_run_stored_in_single_precision_is_still_the_run(make_theory, make_simulation, as_file, tmp_path):
    for run in (make_theory(), make_simulation()):
        for name in ("trace", "trace_stderr"):  # known exactly at t = 0
            run[name][{"time": 0}] = 1.0 / 3.0 if name == "trace" else 0.0
        stored = run.astype("float32")
        if as_file:
            run.to_netcdf(tmp_path / "run.nc", encoding={name: {"dtype": "float32"} for name in run.variables})
            stored = tmp_path / "run.nc"
        assert set(verdicts(run, stored).values()) == {"agrees"}
        assert set(verdicts(run.astype("float32").astype("float64"), run).values()) == {"agrees"}
        wrong = run.assign(trace=run.trace * 1.0001)
        assert verdicts(wrong, stored)["trace"] == "differs"  # exact at t = 0


def test_gaps_are_counted_observable_by_observable(make_theory, make_simulation):
    simulation = make_simulation(np.concatenate([[0.0], np.geomspace(0.1, 100.0, 20)]))
    holes = simulation.copy(deep=True)
    holes["trace"][2, 5:8] = np.nan
    agreement = overlay(make_theory(), holes)
    rows = agreement.summary()["observables"]
    assert (rows["trace"]["compared_times"], rows["test_loss"]["compared_times"]) == (18, 21)
    assert any("trace is not finite at 3 of 21 times" in note for note in agreement.notes)
    start = simulation.copy(deep=True)
    start["test_loss"][:, 1:] = np.nan
    row = overlay(make_theory(), start).summary()["observables"]["test_loss"]
    assert (row["compared_times"], row["verdict"]) == (1, "too few times")


def test_nothing_is_compared_in_a_hole_of_the_finer_curve(make_theory):
    fine = make_theory(relative_error=1e-3)
    time = np.array([0.0, 0.5, 2.0, 6.0, 10.0, 30.0])
    coarse = make_theory(time, relative_error=1e-3)
    hole = (fine.time > 1.0) & (fine.time < 20.0)
    for curve in (fine.where(~hole), fine.isel(time=~hole.values)):
        agreement = overlay(curve, coarse)
        assert set(agreement.summary()["observables"]["train_loss"].items()) >= {("verdict", "agrees")}
        assert any("train_loss is not compared at 3 times" in note for note in agreement.notes)


def test_a_gap_before_the_crossing_changes_no_time(make_theory, make_simulation):
    for run in (make_theory(), make_simulation()):
        whole = grokking_delay(run)
        before = int(np.searchsorted(run.time, whole.t_train.value)) - 1
        holes = run.copy(deep=True)
        holes["train_loss"][..., before] = np.nan
        holes["test_loss"][..., 1] = np.inf
        times = grokking_delay(holes)
        assert times.t_train.reached
        assert times.t_train.value == pytest.approx(whole.t_train.value, rel=0.01)
        assert times.delay.value == pytest.approx(whole.delay.value, rel=0.01)
        assert regime(holes) is regime(run) is Regime.GROKS
        assert sum("is not finite at 1 of" in note for note in times.notes) == 2


@pytest.mark.parametrize("function", [grokking_delay, regime, lambda run: overlay(run, run)])
def test_time_must_increase(function, make_theory, make_simulation):
    for run in (make_theory(), make_simulation()):
        backwards = run.isel(time=slice(None, None, -1))
        twice = xarray.concat([run, run], "time", data_vars="minimal")
        for wrong in (backwards, twice, run.drop_vars("time"), run.isel(time=3)):
            with pytest.raises(ParameterError, match="`time`"):
                function(wrong)
    with pytest.raises(ParameterError, match="strictly increasing, but it contains nan"):
        function(make_theory().assign_coords(time=np.append(np.nan, np.arange(200))))
    with pytest.raises(ParameterError, match=r"100 is followed by 96\.3"):
        function(make_theory().isel(time=slice(None, None, -1)).assign_coords(time=lambda d: d.time.round(1)))


def test_more_dimensions_than_time_and_seed_are_refused_by_name(make_theory, make_simulation):
    for run, match in ((make_theory(), "it is over `alpha` too: select one of the 2"), (make_simulation(), "`alpha`")):
        with pytest.raises(ParameterError, match=match):
            overlay(xarray.concat([run, run], "alpha", data_vars="all"), run)
    with pytest.raises(ParameterError, match="must be one theory, but holds 2 over `seed`"):
        overlay(xarray.concat([make_theory()] * 2, "seed", data_vars="all"), make_simulation())


def test_runs_without_a_loss_are_left_out(make_simulation):
    simulation = make_simulation()
    simulation["test_loss"][1] = np.nan
    side = read_side("simulation", simulation)
    assert side.runs == 7
    assert any("1 of 8 runs have a loss without any finite value" in note for note in side.notes)
    assert grokking_delay(simulation).t_test.runs == 7
    simulation["test_loss"][:] = np.nan
    with pytest.raises(ParameterError, match="must hold `test_loss`"):
        regime(simulation)


def test_one_notion_of_error_in_scores_and_times(make_theory):
    """A theory is judged by its total error; only the part from its replicas has few degrees of freedom."""
    theory = make_theory(replicas=4)
    for name in ("train_loss", "test_loss"):
        theory[f"{name}_error"] = 3.0 * theory[f"{name}_stderr"]
    assert (
        total_error(theory, "trace") is theory.get("trace_stderr")
        or total_error(theory, "trace").name == "trace_stderr"
    )
    exact = {name: theory[name] for name in ("time", "train_loss", "test_loss")}
    exact |= {f"{name}_stderr": 0 * theory[name] for name in ("train_loss", "test_loss")}
    agreement = overlay({**exact, "train_loss": 1.1 * theory.train_loss}, theory)
    np.testing.assert_allclose(agreement.z["train_loss"], 0.1 / 0.03)
    np.testing.assert_allclose(agreement.degrees["train_loss"], 3.0 * 3.0**4)
    bare = theory.drop_vars(["train_loss_error", "test_loss_error"])
    assert grokking_delay(theory).t_train.error == pytest.approx(3.0 * grokking_delay(bare).t_train.error)
