"""Threshold times with known answers, and the five regimes."""

import numpy as np
import pytest

from compare import Regime, grokking_delay, regime
from dmft import ParameterError

TIME = np.concatenate([[0.0], np.geomspace(0.01, 100.0, 2000)])


def losses(make, train, test, error=0.0):
    """A theory dataset with these losses and a constant standard error."""
    dataset = make(TIME)
    for name, curve in (("train_loss", train), ("test_loss", test)):
        dataset[name] = ("time", curve)
        dataset[f"{name}_stderr"] = ("time", np.full(TIME.shape, error))
    return dataset


def test_crossing_times_of_exponentials(make_theory):
    times = grokking_delay(losses(make_theory, np.exp(-TIME), np.exp(-TIME / 10.0), error=0.001), threshold=0.1)
    expected = np.log(10.0)
    assert times.t_train.value == pytest.approx(expected, rel=1e-4)
    assert times.t_test.value == pytest.approx(10.0 * expected, rel=1e-4)
    assert times.delay.value == pytest.approx(9.0 * expected, rel=1e-4)
    assert times.t_train.error == pytest.approx(0.001 / 0.1, rel=0.01)
    assert times.t_test.error == pytest.approx(0.001 / 0.01, rel=0.01)
    assert times.delay.error == pytest.approx(np.hypot(0.01, 0.1), rel=0.01)
    assert all(entry.reached for entry in (times.t_train, times.t_test, times.delay))


def test_the_first_crossing_counts_and_lies_between_grid_points(make_theory):
    dataset = make_theory([0.0, 1.0, 4.0, 5.0])
    dataset["train_loss"] = ("time", [1.1, 0.6, 0.0, 1.0])
    dataset["test_loss"] = ("time", [0.6, 0.4, 0.2, 0.2])
    times = grokking_delay(dataset, threshold=0.3)
    assert times.t_train.value == pytest.approx(2.0)  # half-way in log t between 1 and 4
    assert times.t_test.value == pytest.approx(2.0)
    assert times.delay.value == 0.0
    assert grokking_delay(dataset, threshold=0.85).t_train.value == pytest.approx(0.5)  # linear from t = 0


def test_a_loss_that_never_gets_there_is_no_delay_of_zero(make_theory):
    times = grokking_delay(losses(make_theory, np.exp(-TIME), np.ones_like(TIME)))
    assert times.t_train.reached
    assert not times.t_test.reached
    assert not times.delay.reached
    assert np.isnan(times.t_test.value)
    assert np.isnan(times.delay.value)
    assert np.isnan(times.delay.error)


def test_below_from_the_start_is_reached_at_zero(make_theory):
    times = grokking_delay(losses(make_theory, 0.05 + 0 * TIME, np.exp(-TIME)))
    assert (times.t_train.value, times.t_train.error) == (0.0, 0.0)


def test_simulation_averages_over_the_seeds_that_get_there(make_simulation):
    dataset = make_simulation(TIME, seeds=3)
    rates = np.array([1.0, 2.0, 4.0])
    dataset["train_loss"] = (("seed", "time"), np.exp(-rates[:, None] * TIME))
    test = np.exp(-rates[:, None] * TIME / 10.0)
    test[2] = 1.0
    dataset["test_loss"] = (("seed", "time"), test)
    times = grokking_delay(dataset)
    single = np.log(10.0) / rates
    assert times.t_train.value == pytest.approx(single.mean(), rel=1e-4)
    assert times.t_train.error == pytest.approx(single.std(ddof=1) / np.sqrt(3), rel=1e-3)
    assert times.t_train.reached
    assert (times.t_test.runs_reached, times.t_test.runs, times.t_test.reached) == (2, 3, False)
    assert times.t_test.value == pytest.approx(10.0 * single[:2].mean(), rel=1e-4)
    assert times.delay.value == pytest.approx(9.0 * single[:2].mean(), rel=1e-4)


def test_error_of_theory_matches_the_scatter_of_noisy_curves(make_theory):
    """The propagated error against the standard deviation over curves with an additive Gaussian shift."""
    error, random = 0.004, np.random.default_rng(1)
    shifted = [
        grokking_delay(losses(make_theory, np.exp(-TIME) + shift, np.exp(-TIME))).t_train.value
        for shift in error * random.standard_normal(300)
    ]
    predicted = grokking_delay(losses(make_theory, np.exp(-TIME), np.exp(-TIME), error=error)).t_train.error
    assert np.std(shifted, ddof=1) == pytest.approx(predicted, rel=4.0 / np.sqrt(2 * 300))


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (np.exp(-TIME), np.exp(-TIME / 5.0), Regime.GROKS),
        (np.exp(-TIME), np.exp(-TIME / 2.0), Regime.GENERALISES),
        (np.exp(-TIME), 0.5 + np.exp(-TIME), Regime.MEMORISES),
        (0.5 + np.exp(-TIME), 0.9 + 0 * TIME, Regime.NOT_TRAINED),
        (np.exp(-TIME), 1.0 / (1.0 + TIME / 50.0), Regime.UNDECIDED),
        (1.0 / (1.0 + TIME / 50.0), 1.0 + 0 * TIME, Regime.UNDECIDED),
    ],
)
def test_regimes(train, test, expected, make_theory):
    assert regime(losses(make_theory, train, test)) is expected


def test_regime_options_move_the_borders(make_theory):
    dataset = losses(make_theory, np.exp(-TIME), np.exp(-TIME / 5.0))
    assert regime(dataset, ratio=6.0) is Regime.GENERALISES
    slow = losses(make_theory, np.exp(-TIME), 1.0 / (1.0 + TIME / 50.0))
    assert regime(slow, plateau_change=1.0) is Regime.MEMORISES
    assert regime(losses(make_theory, np.exp(-TIME), np.exp(-TIME / 40.0)), threshold=0.05) is Regime.UNDECIDED


def test_regime_of_a_simulation_is_that_of_its_mean(make_simulation):
    assert regime(make_simulation()) is Regime.GROKS


@pytest.mark.parametrize("threshold", [0.0, -1.0, np.nan, "low"])
def test_threshold_is_checked(threshold, make_theory):
    with pytest.raises(ParameterError, match="`threshold`"):
        grokking_delay(make_theory(), threshold=threshold)
