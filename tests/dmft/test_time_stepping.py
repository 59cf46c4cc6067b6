"""Gradient descent with a small step and gradient flow agree; the flow's error has the order it claims."""

import numpy as np
import pytest
from scipy import stats

from dmft import Model, solve
from dmft.checks import precision_context
from dmft.limits import linear
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import graded_times, implicit_grid
from dmft.twotime.loop import solve_one
from dmft.wide.consistency import regress_out
from dmft.wide.engine import Wide
from dmft.wide.replica import Sampling

NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)


def final_values(model, points, *, t_max, samples, replicas, modes=31):
    """Means and standard errors at t_max on graded times whose every step is proportional to 1/points."""
    grid = implicit_grid(graded_times(t_max, points))
    sampling = Sampling(samples, modes, "float64")
    with precision_context("float64"):
        runs = [
            solve_one(Wide(model), grid, sampling, np.random.SeedSequence(0, spawn_key=(i,)), Iteration())
            for i in range(replicas)
        ]
    controls = np.stack([run.controls for run in runs])
    pairs = {name: regress_out(np.stack([run.curves[name] for run in runs]), controls) for name in NAMES}
    return {name: (mean[-1], error[-1]) for name, (mean, error) in pairs.items()}


def measured_order(points, errors):
    return -np.polyfit(np.log(points), np.log(np.abs(errors)), 1)[0]


@pytest.mark.slow
def test_flow_has_third_order_against_the_closed_form():
    model, points = MODEL.replace(epsilon=0.0), [12, 16, 22]
    exact = linear(model, [6.0])
    runs = [final_values(model, count, t_max=6.0, samples=64, replicas=4) for count in points]
    for name in ("train_loss", "test_loss", "mean_weight_norm"):
        errors = [run[name][0] - exact[name][0] for run in runs]
        assert measured_order(points, errors) > 2.5, (name, errors)


@pytest.mark.slow
def test_flow_has_at_least_second_order_in_a_nonlinear_case():
    points = [8, 10, 12]
    settings = {"t_max": 6.0, "samples": 256, "replicas": 16}
    reference = final_values(MODEL, 30, **settings)
    runs = [final_values(MODEL, count, **settings) for count in points]
    for name in ("test_loss", "overlap", "mean_weight_norm"):
        errors = [run[name][0] - reference[name][0] for run in runs]
        noise = np.hypot(runs[-1][name][1], reference[name][1])
        assert noise < 0.1 * abs(errors[-1]), (name, noise, errors)
        assert measured_order(points, errors) > 1.7, (name, errors)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_small_steps_of_gradient_descent_approach_the_flow():
    """Euler's error is of first order: extrapolating two small steps meets the flow within the errors."""
    times = [0.3, 0.6, 1.2]
    flow = solve(MODEL, 1.2, sample_count=128, replicas=12, points=30, times=times)
    coarse, fine = (solve(MODEL, 1.2, step=h, sample_count=128, replicas=12, times=times) for h in (0.05, 0.025))
    quantile = stats.t.ppf(1 - 0.01 / 2 / (len(NAMES) * len(times)), 8)
    for name in NAMES:
        limit = 2 * fine[name].values - coarse[name].values
        own = [4 * fine[f"{name}_stderr"] ** 2, coarse[f"{name}_stderr"] ** 2, flow[f"{name}_stderr"] ** 2]
        error = np.sqrt(sum(part.values for part in own))
        quadratic = 0.1 * np.abs(fine[name].values - coarse[name].values)  # what the extrapolation leaves, h^2 terms
        step_error = flow[f"{name}_step_error"].values
        assert (np.abs(flow[name].values - limit) <= quantile * error + quadratic + step_error).all(), name
        assert (error + quadratic < 0.01 * np.abs(limit) + 1e-3).all(), name
        first, second = (run[name].values - flow[name].values for run in (coarse, fine))
        large = np.abs(first) > 20 * error
        assert (np.abs(first[large] / second[large] - 2) < 0.4).all(), name


def test_a_control_that_is_off_zero_is_not_used():
    """Nothing but the same residual in all replicas: it would share the mean with the constant."""
    generator = np.random.default_rng(0)
    values = 0.5 + 1e-3 * generator.standard_normal((8, 3))
    good = generator.standard_normal((8, 3))
    spoilt = 1e-7 * (1 + 1e-3 * generator.standard_normal((8, 3)))
    mean, error = regress_out(values, np.stack([good, spoilt], axis=-1))
    expected, own = regress_out(values, good[..., None])
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    np.testing.assert_allclose(error, own, rtol=1e-9)


def test_controls_that_hardly_scatter_move_no_mean():
    """What the inner iteration leaves is the same in all replicas but the first, and so are the controls."""
    others = 9.4233806e-08 + 1e-17 * np.array([1.5, -1.3, -1.9, 0.4, -1.3, -0.7, -0.2])
    common = np.r_[3.0525566e-07, others]
    outlier = np.r_[-1.9e-16, np.full(7, 2.1e-16)]
    values = np.r_[1.005130681287667, 1.005130760978453 + 2e-16 * np.array([0, -1, -1, 0, 0, -2, 0])]
    mean, error = regress_out(values[:, None], np.stack([common, outlier, np.zeros(8)], axis=-1)[:, None])
    assert abs(mean[0] - 1.00513) < 1e-6
    assert error[0] < 1e-6
