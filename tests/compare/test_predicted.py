"""The theory at a finite D, with what simulations at smaller D say of that D."""

import math

import numpy as np
import pytest
import xarray

from compare import finite_size, overlay
from compare.predicted import spread_factor
from dmft import Model, solve
from sim import simulate

OBSERVABLES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")


def test_the_scatter_of_runs_corrects_the_spread():
    """Of 4000 lots of runs that scatter by 1 + 4 x times the theory's, what is found at x = .05 is 1.2."""
    rng, x, runs = np.random.default_rng(6), np.array([0.2, 0.1]), np.array([60, 120])
    expected = np.full((2, 4000), 0.05)
    chi = np.sqrt(rng.chisquare(runs - 1, (4000, 2)).T / (runs - 1)[:, None])
    error = expected * (1 + 4 * x)[:, None] * chi / np.sqrt(runs)[:, None]
    arrays = {
        "ratio": (("dim", "time"), 2 + 0 * error),
        "ratio_error": (("dim", "time"), 2 * error),
        "runs": ("dim", runs),
    }
    factor, off = spread_factor(x, 0.05, xarray.Dataset(arrays), expected)
    assert abs(factor.mean() - 1.2) < 0.01
    assert 1.4 < factor.std() / off[0] < 1.8  # the error is that of a scatter as the theory expects it
    nothing, _ = spread_factor(x, 0.05, xarray.Dataset(arrays), 0 * expected)
    assert np.isnan(nothing).all()


@pytest.fixture(scope="module")
def planted():
    """The planted case: runs at D = 200, and what D = 50 and 100 say of it."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=5.5, dim=200, initial_overlap=0.1)
    times, step = [1.0, 2.0, 5.0], 0.2
    runs = simulate(model, 5.0, step=step, seeds=80, times=[0.0, *times], precision="float32")
    found = finite_size(model, 5.0, (50, 100), (80, 80), times=times, step=step, rtol=0.03, seed=1)
    return found.predict(200, spread=128), runs


def deviations(theory, runs):
    """By observable, mean of the runs less theory over the combined error, but for t = 0."""
    z = overlay(theory, runs).z
    return {name: z[name].sel(time=z.time > 0).to_numpy() for name in OBSERVABLES}


@pytest.mark.slow
def test_single_runs_lie_within_the_combined_error_as_often_as_they_should(planted):
    """80 runs at D = 200, each laid over the theory at that D: 68 % within one error, 95 % within two."""
    theory, runs = planted
    count = runs.sizes["seed"]
    away = [deviations(theory, runs.isel(seed=[run])) for run in range(count)]
    for name in OBSERVABLES:
        found = np.abs([one[name] for one in away])
        for errors, density in ((1, 0.242), (2, 0.054)):
            share = math.erf(errors / math.sqrt(2))
            # of the share found, and of the share expected, whose spread is known to 1/16
            error = np.hypot(np.sqrt(share * (1 - share) / count), 2 * errors * density / 16)
            z = ((found <= errors).mean(axis=0) - share) / error
            assert (np.abs(z) < 3.4).all(), (name, errors, (found <= errors).mean(axis=0))


@pytest.mark.slow
def test_means_at_a_size_that_was_not_simulated(planted):
    """Fifteen scores at 1 % together."""
    for name, z in deviations(*planted).items():
        assert (np.abs(z) < 3.7).all(), (name, z)


@pytest.mark.slow
def test_a_random_start_is_met_where_the_theory_alone_is_not():
    """At D = 100 the theory's train loss is 15 % low while the overlap grows; D = 25 and 50 say so."""
    model = Model(alpha=1.0, epsilon=0.25, kappa=5.5, dim=100)
    times, step = [4.0, 7.0, 10.0], 0.2
    runs = simulate(model, 10.0, step=step, seeds=100, times=[0.0, *times], precision="float32")
    found = finite_size(model, 10.0, (25, 50), (400, 200), times=times, step=step, rtol=0.03, seed=1)
    for name, z in deviations(found.predict(100), runs).items():
        assert (np.abs(z) < 3.7).all(), (name, z)
    alone = solve(model, 10.0, step=step, rtol=0.03, times=[0.0, *times])
    assert (np.abs(deviations(alone, runs)["train_loss"][1:]) > 6).all()
