"""The scatter of the bulk over samples at finite D: its random matrix, its modes, and what they do to the curves."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from dmft import Model, solve
from dmft.checks import precision_context
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import explicit_grid, graded_times, implicit_grid
from dmft.twotime.noise import draw_samples
from dmft.wide.replica import Replica, SampleCurves, Sampling
from dmft.wide.scatter import MODES, BulkScatter, evolve, principal_amplitudes, resample

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=50)


def constant_residuals(grid, samples, value):
    return np.full((grid.size, samples), value)


@pytest.fixture
def task():
    generator = np.random.default_rng(0)
    dim, samples = 12, 36
    inputs = generator.standard_normal((samples, dim)) / np.sqrt(dim)
    probes = generator.standard_normal((dim, 5)) / np.sqrt(dim)
    return inputs, generator.standard_normal(samples), probes


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_random_matrix_follows_the_exponential_of_its_rate(task, decay):
    """With residuals constant in time U = exp(-A t) and R(t,s) = exp(-A (t - s))."""
    from scipy.linalg import expm

    inputs, delta, probes = task
    model = MODEL.replace(weight_decay=decay)
    grid = implicit_grid(graded_times(2.0, 400))
    matrices, forms = evolve(model, grid, inputs, np.tile(delta, (grid.size, 1)), probes)
    rate = model.epsilon / (model.alpha * model.kappa) * inputs.T @ (delta[:, None] * inputs) + decay * np.eye(12)
    np.testing.assert_allclose(matrices[-1], expm(-rate * 2.0), atol=1e-5)
    # the multistep rule holds its own weights: what a force at s moves a system without rates by
    free = evolve(model.replace(weight_decay=0.0), grid, inputs, np.zeros((grid.size, 36)), probes)[1]
    weights = free[0, -1] / np.sum(probes[:, 0] ** 2)
    for s in (100, 300):
        exact = np.einsum("ip,ij,jp->p", probes, expm(-rate * (grid.times[-1] - grid.times[s])), probes)
        np.testing.assert_allclose(forms[:, -1, s] / weights[s], exact, rtol=0.01)  # first order where the force acts


def test_explicit_steps_are_products_of_their_matrices(task):
    inputs, delta, probes = task
    grid = explicit_grid(0.1, 0.5)
    deltas = np.outer(np.arange(1.0, grid.size + 1), delta)
    matrices, forms = evolve(MODEL, grid, inputs, deltas, probes)
    gain = MODEL.epsilon / (MODEL.alpha * MODEL.kappa)
    steps = [np.eye(12) - 0.1 * gain * inputs.T @ (deltas[n][:, None] * inputs) for n in range(5)]
    np.testing.assert_allclose(matrices[5], steps[4] @ steps[3] @ steps[2] @ steps[1] @ steps[0], rtol=1e-12)
    # a force at step 2 enters w(3)
    np.testing.assert_allclose(
        forms[:, 5, 2], np.einsum("ip,ij,jp->p", probes, steps[4] @ steps[3], probes), rtol=1e-12
    )
    assert np.all(forms[:, 2, 2:] == 0)


def test_without_residuals_only_the_norm_of_the_inputs_scatters():
    """U = I: x^T M x = |x|^2 with variance 2/D, and tr M^2/D = (tr M/D)^2."""
    grid = implicit_grid(graded_times(1.0, 6))
    u, weight, still = np.linspace(0.1, 2.0, 16), np.full(16, 1 / 16), constant_residuals(grid, 16, 0.0)
    ones = np.ones((grid.size, grid.size))
    solution = SimpleNamespace(samples=SampleCurves(u, weight, still, still, still), rule=(ones, ones, ones, ones))
    scatter = BulkScatter.measure(MODEL, grid, cast("Replica", solution), 0)
    drawn, along = scatter.norm[:MODES], scatter.norm[MODES]
    assert np.sum(drawn**2) == pytest.approx(2 / MODEL.dim, rel=0.2)
    for modes in (scatter.correlation, scatter.response):
        for n in range(grid.size):
            np.testing.assert_allclose(np.sum(modes[:MODES, n, 0] ** 2), np.sum(drawn**2), rtol=1e-6)
    assert along == pytest.approx(2**0.5 / MODEL.dim)
    np.testing.assert_allclose(scatter.response[MODES], along)
    np.testing.assert_allclose(scatter.spread, 1.0, rtol=1e-12)
    assert scatter.correlation.shape == (MODES + 1, grid.size, grid.size)
    assert np.all(scatter.correlation[:, 0, 1:] == 0)


def test_samples_are_drawn_by_weight_and_in_order_of_u():
    generator = np.random.default_rng(1)
    u, weight = generator.random(64), generator.random(64)
    drawn = np.concatenate([resample(u, weight, 400, generator) for _ in range(50)])
    frequency = np.bincount(drawn, minlength=64) / drawn.size
    np.testing.assert_allclose(frequency, weight / weight.sum(), atol=2e-3)


def test_amplitudes_have_unit_mean_square_and_are_uncorrelated():
    generator = np.random.default_rng(2)
    fields = generator.standard_normal((200, 2)) @ generator.standard_normal((2, 36))
    array = fields.reshape(200, 6, 6)
    z = principal_amplitudes(array - array.mean(0), np.zeros_like(array))
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(MODES), atol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_scatter_vanishes_as_one_over_dim():
    """What finite dim changes in a planted case falls as 1/D (the kinematic terms and the scatter)."""

    def train(dim):
        model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1, dim=dim)
        return float(solve(model, 3.0, points=20, replicas=8, sample_count=64).train_loss[-1])

    limit = train(None)
    changes = np.array([dim * (train(dim) - limit) for dim in (200, 800)])
    assert changes.min() > 0
    assert changes[1] == pytest.approx(changes[0], rel=0.35)


@pytest.mark.slow
def test_the_spread_of_the_bulk_meets_the_simulation():
    """tr M^2/D of the bulk (M projected off beta) in direct runs of the reduced form: D = 200, step 0.1, 20 seeds."""
    reference = {1.0: (2.020, 0.045), 2.0: (4.676, 0.203), 5.0: (11.75, 0.41)}
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=200)
    theory = measured(model)
    for time, (mean, error) in reference.items():
        value, own = theory[time]
        assert abs(value - mean) < 3.5 * np.hypot(error, own), (time, value, own)


def measured(model):
    """tr M^2/D at t = 1, 2, 5 with its error over four sets of draws."""
    grid = explicit_grid(0.1, 5.0)
    with precision_context("float64"):
        replica = solve_one(Wide(model), grid, Sampling(128, 51, "float64"), np.random.SeedSequence(0), Iteration())
    sets = []
    for seed in range(4):
        scatter = BulkScatter.measure(model, grid, replica, seed)
        sets.append(scatter.spread * np.diagonal(replica.kernels["correlation_bulk"]) ** 2)
    sets = np.array(sets)[:, [10, 20, 50]]
    means, errors = sets.mean(0), sets.std(0, ddof=1) / 2
    return dict(zip((1.0, 2.0, 5.0), zip(means, errors, strict=True), strict=True))


def test_amplitudes_are_bounded():
    """A normal amplitude of -2 would make x^T U U^T x negative where the scatter is strong."""
    for seed in range(4):
        with precision_context("float64"):
            drawn = draw_samples(256, 32, np.random.SeedSequence(seed), np.float64)
        assert float(np.abs(np.asarray(drawn.bulk)).max()) < 1.5
        np.testing.assert_allclose(np.asarray(drawn.bulk**2) @ np.asarray(drawn.weight), 1.0)


@pytest.mark.slow
def test_strong_scatter_is_solved_to_late_times():
    """Deep in the rich regime, where tr M^2/D is tens of times (tr M/D)^2."""
    model = Model(alpha=0.4, epsilon=0.02, kappa=5.5, dim=100, centered=True)
    theory = solve(model, 1000.0, rtol=0.1, atol=0.01, points=60, sample_count=128, replicas=4)
    assert theory.attrs["complete"] == 1
    assert (np.diff(theory.test_loss.values[theory.time > 100]) < 0).all()
    assert 0.02 < float(theory.test_loss[-1]) < 0.08
