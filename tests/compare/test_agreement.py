"""z-scores with known answers, their calibration, and what goes in and out of `overlay`."""

import json
import types

import numpy as np
import pytest
import xarray
from scipy import stats

from compare import overlay
from compare.agreement import common_times
from compare.verdicts import agreement_table
from dmft import ParameterError
from dmft.losses.quadratic import OBSERVABLES


def curves(time, value, error=None):
    """Measured curves, both losses alike."""
    table = {"time": time, "train_loss": value, "test_loss": value}
    if error is not None:
        table |= {"train_loss_stderr": error, "test_loss_stderr": error}
    return table


def test_z_is_the_difference_over_the_combined_error():
    agreement = overlay(curves([0, 1], [5.0, 2.0], [3.0, 0.3]), curves([0, 1], [0.0, 1.0], [4.0, 0.4]))
    np.testing.assert_allclose(agreement.z["train_loss"], [1.0, 2.0])
    assert agreement.z.sizes == {"time": 2}


def test_z_of_theory_against_simulation_by_hand(make_theory, make_simulation):
    time = [0.0, 1.0, 4.0]
    theory, simulation = make_theory(time), make_simulation(time)
    z = overlay(theory, simulation).z
    assert set(z.data_vars) == set(OBSERVABLES)
    for name in OBSERVABLES:
        seeds = simulation[name].values
        error = np.sqrt(theory[f"{name}_stderr"].values ** 2 + seeds.var(axis=0, ddof=1) / 8)
        np.testing.assert_allclose(z[name], (theory[name].values - seeds.mean(axis=0)) / error, rtol=1e-12)
    swapped = overlay(simulation, theory).z
    np.testing.assert_allclose(swapped["overlap"], -z["overlap"])


def test_the_finer_curve_is_interpolated_to_the_coarser_times():
    fine, coarse = np.linspace(0.0, 10.0, 101), np.array([-1.0, 0.55, 3.21, 12.0])
    agreement = overlay(curves(fine, 3.0 * fine, 0 * fine), curves(coarse, 3.0 * coarse + 0.5, 0 * coarse + 0.25))
    np.testing.assert_array_equal(agreement.z["time"], [0.55, 3.21])
    np.testing.assert_allclose(agreement.z["test_loss"], [-2.0, -2.0])


def test_interpolation_is_exact_at_shared_times():
    grid = np.array([0.0, 0.1, 0.3, 0.7, 1.1])
    value = np.array([1.0, np.pi, 1e-9, 7.0, 2.0])
    exact = overlay(curves(grid, value, 0 * value), curves(grid[::2], value[::2], np.zeros(3)))
    assert (exact.z["train_loss"] == 0.0).all()


def test_common_times_keep_an_end_that_differs_by_rounding():
    first, second = np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.2, 0.5, 1.0 - 1e-16])
    np.testing.assert_array_equal(common_times(first, second), first)
    with pytest.raises(ParameterError, match="overlap `first` in time"):
        common_times(first, second + 2.0)


def test_the_first_interval_of_the_finer_curve_is_left_out():
    fine, coarse = np.linspace(0.0, 10.0, 101), np.array([0.0, 0.05, 0.1, 5.0])
    np.testing.assert_array_equal(common_times(fine, coarse), [0.0, 0.1, 5.0])
    np.testing.assert_array_equal(common_times(coarse, fine), [0.0, 0.1, 5.0])


def test_without_errors_equal_values_score_zero_and_others_infinity():
    first = curves([0, 1, 2], [0.3, 0.1 + 0.2, 1.0], [0.0, 0.0, 0.1])
    second = curves([0, 1, 2], [0.5, 0.3, 1.0], [0.0, 0.0, 0.0])
    agreement = overlay(first, second)
    np.testing.assert_array_equal(agreement.z["train_loss"], [-np.inf, 0.0, 0.0])
    row = agreement.summary()["observables"]["train_loss"]
    assert (row["exact_differences"], row["verdict"], row["max_abs_z"]) == (1, "differs", 0.0)
    json.dumps(agreement.summary(), allow_nan=False)


def test_one_seed_has_no_verdict(make_theory, make_simulation):
    agreement = overlay(make_theory(), make_simulation(seeds=1))
    assert np.isnan(agreement.z["test_loss"]).all()
    summary = agreement.summary()
    assert {row["verdict"] for row in summary["observables"].values()} == {"no error, no verdict"}
    assert "One seed has no standard error" in summary["notes"][0]
    json.dumps(summary, allow_nan=False)


def test_degrees_of_freedom_follow_welch_and_satterthwaite(make_theory, make_simulation):
    time = [1.0, 2.0]
    theory = make_theory(time, replicas=4)
    simulation = make_simulation(time, seeds=6)
    v1 = theory["trace_stderr"].values ** 2
    v2 = simulation["trace_stderr"].values ** 2
    expected = (v1 + v2) ** 2 / (v1**2 / 3 + v2**2 / 5)
    np.testing.assert_allclose(overlay(theory, simulation).degrees["trace"], expected)
    exact_theory = make_theory(time, relative_error=0.0)
    np.testing.assert_allclose(overlay(exact_theory, simulation).degrees["trace"], 5.0)


def test_p_values_of_replicated_gaussians_are_uniform():
    """Few Gaussian replicas around the truth: z follows Student's t, and visibly not the normal distribution."""
    random, times, seeds = np.random.default_rng(5), 4000, 4
    noise = random.standard_normal((seeds, times))
    time = np.arange(times)
    first = curves(time, np.zeros(times), np.zeros(times))
    variables = {}
    for name in ("train_loss", "test_loss"):
        variables[name] = (("seed", "time"), noise)
        variables[f"{name}_stderr"] = ("time", noise.std(axis=0, ddof=1) / 2.0)
    agreement = overlay(first, xarray.Dataset(variables, {"time": time}))
    z, degrees = agreement.z["test_loss"].values, agreement.degrees["test_loss"].values
    assert stats.kstest(2.0 * stats.t.sf(np.abs(z), degrees), "uniform").pvalue > 0.01
    assert stats.kstest(2.0 * stats.norm.sf(np.abs(z)), "uniform").pvalue < 1e-6
    assert agreement.summary()["observables"]["test_loss"]["mean_square_z"] == pytest.approx(3.0, rel=0.5)


def test_false_alarms_are_as_rare_as_stated_and_shifts_are_seen(make_theory, make_simulation):
    theory = make_theory(relative_error=0.0)
    trials, alarms = 120, 0
    for random in range(trials):
        rows = overlay(theory, make_simulation(random=random, time=np.geomspace(0.1, 100.0, 300))).summary()
        alarms += rows["observables"]["train_loss"]["verdict"] == "differs"
    assert alarms <= stats.binom.isf(0.001, trials, 0.05)
    shifted = overlay(theory, make_simulation(shift=0.2)).summary()["observables"]
    assert {row["verdict"] for row in shifted.values()} == {"differs"}


def test_summary_tells_settings_counts_and_threshold(make_theory, make_simulation):
    agreement = overlay(make_theory(precision="float64"), make_simulation(seeds=5))
    summary = json.loads(json.dumps(agreement.summary(), allow_nan=False))
    assert summary["seeds"] == [None, 5]
    assert summary["compared_times"] == agreement.z.sizes["time"] == 61
    assert summary["first"]["kind"] == "theory"
    assert summary["second"]["kappa"] == 4.0
    row = summary["observables"]["overlap"]
    z = agreement.z["overlap"]
    worst = int(np.abs(z.values).argmax())
    assert row["max_abs_z"] == pytest.approx(float(abs(z[worst])))
    assert row["time"] == float(z["time"][worst])
    assert row["threshold"] == pytest.approx(stats.t.isf(0.025 / 25, float(agreement.degrees["overlap"][worst])))
    sides = [float(side.curves["overlap"].interp(time=row["time"])) for side in (agreement.first, agreement.second)]
    assert row["difference"] == pytest.approx((sides[0] - sides[1]) / max(sides))
    assert row["mean_square_z"] == pytest.approx(float((z**2).mean()))


@pytest.mark.parametrize(
    "make",
    [
        dict,
        lambda **c: types.SimpleNamespace(**c),
        lambda **c: xarray.Dataset({k: ("time", v) for k, v in c.items() if k != "time"}, {"time": c["time"]}),
    ],
)
def test_measured_curves_may_be_a_mapping_an_object_or_a_dataset(make, make_theory):
    theory = make_theory()
    time = np.array([1.0, 2.0, 5.0])
    exact = {name: np.interp(time, theory["time"], theory[name]) for name in ("train_loss", "test_loss")}
    measured = make(time=time, **exact, test_loss_stderr=0.01 * exact["test_loss"])
    agreement = overlay(theory, measured)
    assert set(agreement.z.data_vars) == {"train_loss", "test_loss"}
    np.testing.assert_allclose(agreement.z["test_loss"], 0.0, atol=1e-9)
    rows = agreement.summary()["observables"]
    assert (rows["train_loss"]["verdict"], rows["test_loss"]["verdict"]) == ("no error, no verdict", "agrees")
    assert agreement.summary()["notes"] == [
        "The measurement comes without errors, so there is no verdict: train_loss.",
        "Errors are taken as exact, for it is not known of how many runs they are: give `runs`.",
    ]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("theory.nc", "must be a dataset"),
        (object(), "must be a dataset"),
        ({"time": [0, 1], "train_loss": [1, 1]}, "must hold `test_loss`"),
        (curves([0, 0], [1, 1]), "strictly increasing"),
        (curves([0, 1], [1, 1, 1]), r"`train_loss` of shape \(2,\)"),
        (curves([0, 1], [1, 1], [0, -1]), "`train_loss_stderr` >= 0"),
        (curves([200, 300], [1, 1]), "overlap `first` in time"),
        (curves([0, 1], ["a", "b"]), "must hold numbers in `train_loss`"),
    ],
)
def test_nonsense_is_refused_by_name(second, message, make_theory):
    with pytest.raises(ParameterError, match=message):
        overlay(make_theory(), second)


def test_significance_is_checked(make_theory):
    with pytest.raises(ParameterError, match="`significance`"):
        overlay(make_theory(), make_theory(), significance=1.0)


def test_observables_with_more_dimensions_are_scored(make_theory):
    """Such as one overlap for each neuron; the threshold counts them all."""
    first = make_theory([0.0, 1.0])
    first["teacher_overlap"] = (("time", "neuron"), np.ones((2, 3)))
    first["teacher_overlap_stderr"] = (("time", "neuron"), np.full((2, 3), 0.1))
    second = first.copy(deep=True)
    second["teacher_overlap"][1, 2] = 0.5
    agreement = overlay(first, second)
    assert agreement.z["teacher_overlap"].dims == ("time", "neuron")
    row = agreement.summary()["observables"]["teacher_overlap"]
    assert row["max_abs_z"] == pytest.approx(0.5 / np.hypot(0.1, 0.1))
    assert row["threshold"] == pytest.approx(stats.norm.isf(0.025 / 6))


def test_printed_it_is_the_command_line_s_table(make_theory, make_simulation):
    agreement = overlay(make_theory(dim=200), make_simulation())
    text = str(agreement)
    assert text.startswith(agreement_table(agreement.summary()))
    assert "note: Sizes differ" in text
    assert len(text) < 2000
    assert "may reach" in text
    html = agreement._repr_html_()
    assert html.count("<tr") == 1 + 1 + len(OBSERVABLES)  # names of columns, name of the index, a row for each
    assert "Sizes differ" in html


def test_rows_have_the_same_keys_whatever_is_known(make_theory, make_simulation):
    table = {"time": [0.0, 1.0], "train_loss": [1.0, 0.5], "test_loss": [1.0, 0.5], "test_loss_stderr": [0.0, 0.0]}
    sides = [make_simulation(), make_simulation(seeds=1), make_simulation().isel(time=[0]), table]
    agreements = [overlay(make_theory(), side) for side in sides]
    rows = [row for agreement in agreements for row in agreement.summary()["observables"].values()]
    assert {row["verdict"] for row in rows} == {"agrees", "no error, no verdict", "too few times", "differs"}
    assert len({tuple(sorted(row)) for row in rows}) == 1
    for agreement in agreements:
        frame = agreement.table()
        assert list(frame.index) == list(agreement.summary()["observables"])
        assert {"max_abs_z", "verdict", "compared_times", "threshold"} <= set(frame.columns)
        json.dumps(agreement.summary(), allow_nan=False)


def test_a_large_difference_that_agrees_is_explained(make_theory, make_simulation):
    """-45 % with an error of as much is no contradiction, and is said not to be one."""
    agreement = overlay(make_theory(), make_simulation(seeds=4, scatter=1.5, shift=0.7))
    rows = agreement.summary()["observables"]
    name = next(name for name, row in rows.items() if row["verdict"] == "agrees" and abs(row["difference"]) > 0.2)
    error = abs(rows[name]["difference"]) / rows[name]["max_abs_z"]
    words = f"So {name} agrees at {rows[name]['difference']:+.0%}: the difference has a standard error of {error:.0%}"
    assert words in repr(agreement)
    assert words in agreement._repr_html_()
    assert "So " not in repr(overlay(make_theory(), make_theory()))


def test_rows_have_the_same_keys_for_any_number_of_seeds(make_theory, make_simulation):
    keys = {tuple(row) for seeds in (1, 2, 8) for row in
            overlay(make_theory(), make_simulation(seeds=seeds)).summary()["observables"].values()}  # fmt: skip
    assert len(keys) == 1
