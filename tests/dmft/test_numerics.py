"""The building blocks of the wide engine: residual root, fixed points, Gram factor, quadrature, time grids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from dmft.checks import precision_context
from dmft.twotime.anderson import anderson
from dmft.twotime.grid import coordinate, explicit_grid, graded_times, halved_steps, implicit_grid, resampled_times
from dmft.twotime.noise import draw_samples, factor_row, target_quadrature
from dmft.wide.fields import solve_residual
from dmft.wide.sectors import BySector
from dmft.wide.state import Couplings

# The residual equation

COUPLINGS = st.tuples(st.floats(0.05, 20.0), st.floats(0.01, 3.0), st.floats(0.2, 20.0))
PAST = st.lists(
    st.tuples(st.floats(-6.0, 6.0), st.floats(-6.0, 6.0), st.floats(0.0, 9.0), st.floats(-5.0, 30.0)),
    min_size=4,
    max_size=4,
)
DIAGONALS = st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 50.0), st.floats(0.0, 50.0))


compiled_root = jax.jit(solve_residual)


def mismatch(couplings, past, diagonals, delta):
    """alpha [p + (epsilon/2)(p^2 + q^2 + V)] - offset - Delta, written out for one sample."""
    alpha, epsilon, kappa = couplings
    p_past, q_past, variance, offset = past
    k = 1 / (alpha * kappa)
    x_c, x_d, x_r = (epsilon * k * diagonal for diagonal in diagonals)
    p = (p_past - k * diagonals[0] * delta) / (1 + x_c * delta)
    q = q_past / (1 + x_d * delta)
    v = variance / (1 + x_r * delta) ** 2
    return alpha * (p + 0.5 * epsilon * (p**2 + q**2 + v)) - offset - delta


def bracketed_root(couplings, past, diagonals, edge):
    """The root above `edge`, where the mismatch falls from positive values to -infinity."""
    low = edge * (1 - 1e-13) if np.isfinite(edge) else -1e9
    high = 1.0
    while mismatch(couplings, past, diagonals, high) > 0:
        high *= 2
    return brentq(lambda delta: mismatch(couplings, past, diagonals, delta), low, high, xtol=1e-14, rtol=1e-14)


@settings(max_examples=150, deadline=None)
@given(couplings=COUPLINGS, past=PAST, diagonals=DIAGONALS, guess=st.floats(-5.0, 30.0))
@example(  # the third sample has no root inside its domain
    couplings=(1.125, 1.125, 6.0),
    past=[(0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 2.0), (0.0, 2.8125, 0.5, 5.5)],
    diagonals=(0.0, 0.0, 4.0),
    guess=0.0,
)
def test_residual_root_is_the_bracketed_one_inside_its_domain(couplings, past, diagonals, guess):
    alpha, epsilon, kappa = couplings
    largest = max(epsilon / (alpha * kappa) * diagonal for diagonal in diagonals)
    edge = -1 / largest if largest > 0 else -np.inf
    with precision_context("float64"):
        c = Couplings(*(jnp.asarray(x) for x in (*couplings, 0.0, [0.0])))
        columns = [jnp.asarray(column) for column in np.array(past).T]
        columns[1], diagonal = columns[1][None], [jnp.asarray(one) for one in diagonals]
        instant = BySector(diagonal[0], diagonal[1][None], diagonal[2])
        root = compiled_root(c, jnp.full(4, guess), *columns, instant)
        root = np.asarray(root)
    assert (root >= edge).all()
    for value, one in zip(root, past, strict=True):
        if not mismatch(couplings, one, diagonals, edge * (1 - 1e-13) if np.isfinite(edge) else -1e9) > 0:
            continue  # nothing pushes up at the edge: no root inside, and the iteration stops at the edge
        assert value > edge
        expected = bracketed_root(couplings, one, diagonals, edge)
        assert abs(value - expected) <= 1e-8 * (1 + abs(expected)), (value, expected)


@settings(max_examples=100, deadline=None)
@given(couplings=COUPLINGS, past=PAST, diagonals=DIAGONALS)
def test_residual_equation_falls_and_is_convex_inside_its_domain(couplings, past, diagonals):
    alpha, epsilon, kappa = couplings
    largest = max(epsilon / (alpha * kappa) * diagonal for diagonal in diagonals)
    edge = -1 / largest if largest > 1e-3 else -1e3
    points = edge + np.geomspace(1e-2 * abs(edge), 50 + abs(edge), 400)
    for one in past:
        values = mismatch(couplings, one, diagonals, points)
        slopes = np.diff(values) / np.diff(points)
        assert (slopes < 0).all()
        assert (np.diff(slopes) >= -1e-7 * np.abs(slopes[:-1])).all()


# Anderson acceleration


def run_anderson(function, start, **options):
    with precision_context("float64"):
        start = jnp.asarray(start)
        defaults = {"tolerance": 1e-12, "depth": 8, "max_rounds": 200}
        result = anderson(lambda x: (function(x), ()), start, jnp.ones_like(start), **(defaults | options))
        return jax.tree.map(np.asarray, result)


def linear_map(spectrum, seed=0):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(len(spectrum), len(spectrum))))[0]
    return basis @ np.diag(spectrum) @ basis.T, generator.normal(size=len(spectrum))


def test_anderson_solves_a_linear_map_in_as_many_rounds_as_it_has_dimensions():
    matrix, shift = linear_map(np.array([0.9, 0.5, -0.8, -3.0, 0.2, 2.5]))
    result = run_anderson(lambda x: matrix @ x + shift, np.zeros(6), tolerance=1e-9)
    np.testing.assert_allclose(result.value, np.linalg.solve(np.eye(6) - matrix, shift), rtol=1e-7)
    assert result.rounds <= 10


def test_anderson_converges_where_plain_iteration_diverges():
    matrix, shift = linear_map(np.linspace(-6.0, 0.9, 40), seed=1)
    result = run_anderson(lambda x: matrix @ x + shift + 0.05 * jnp.sin(x), np.zeros(40), depth=30, tolerance=1e-10)
    x = result.value
    assert result.mismatch <= 1e-10
    np.testing.assert_allclose(matrix @ x + shift + 0.05 * np.sin(x), x, atol=1e-8)


def test_anderson_reaches_the_fixed_point_of_the_cosine():
    result = run_anderson(jnp.cos, np.array([0.1]))
    assert abs(result.value[0] - 0.7390851332151607) < 1e-11
    assert result.rounds <= 12


def test_anderson_reports_what_is_left_when_it_runs_out_of_rounds():
    result = run_anderson(lambda x: x + 1.0, np.zeros(3), max_rounds=7)
    assert result.rounds == 7
    assert result.mismatch == pytest.approx(1.0)


# Samples and the factor of their Gram kernel


@pytest.mark.parametrize("count", [32, 256, 2048])
def test_quadrature_has_the_moments_of_a_normal(count):
    u, weight = target_quadrature(count)
    assert (u > 0).all()
    assert (np.diff(u) > 0).all()
    for order, moment in zip(range(0, 10, 2), (1, 1, 3, 15, 105), strict=True):
        assert weight @ u**order == pytest.approx(moment, rel=1e-10)
    if count >= 256:
        assert (weight > 0).all()
        # smooth functions beyond the matched moments: E cos u, E e^{-u^2} = 3^{-1/2}
        assert weight @ np.cos(u) == pytest.approx(np.exp(-0.5), abs=5e-5)
        assert weight @ np.exp(-(u**2)) == pytest.approx(3**-0.5, abs=5e-5)


@pytest.mark.parametrize("count", [8, 16])
def test_quadrature_of_few_points_has_positive_weights(count):
    u, weight = target_quadrature(count)
    assert (weight > 0).all()
    for order, moment in zip(range(0, 8, 2), (1, 1, 3, 15), strict=True):
        assert weight @ u**order == pytest.approx(moment, rel=1e-10)


def draw(samples, modes, seed):
    with precision_context("float64"):
        drawn = draw_samples(samples, modes, np.random.SeedSequence(seed), jnp.float64)
        return drawn._replace(**{name: np.asarray(value) for name, value in drawn._asdict().items()})


def test_samples_are_moment_matched_and_reproducible():
    drawn, again, other = draw(128, 20, 5), draw(128, 20, 5), draw(128, 20, 6)
    even = np.vstack([np.ones(128), drawn.u**2 - 1, drawn.label, drawn.common])
    odd = np.vstack([drawn.u, drawn.outlier[0]])
    sizes = np.ones(len(even))
    sizes[1] = 2.0  # E (u^2 - 1)^2
    np.testing.assert_allclose((even * drawn.weight) @ even.T, np.diag(sizes), atol=1e-11)
    np.testing.assert_allclose((odd * drawn.weight) @ odd.T, np.eye(len(odd)), atol=1e-11)
    np.testing.assert_array_equal(drawn.common, again.common)
    assert np.abs(drawn.common - other.common).max() > 0.1


def factor(vectors, weight, modes):
    with precision_context("float64"):
        basis, rows, used = jnp.zeros((modes, vectors.shape[1])), [], 0
        for vector in vectors:
            row, unit = factor_row(jnp.asarray(vector), basis, jnp.asarray(weight), jnp.asarray(used))
            rows.append(np.asarray(row))
            if np.any(np.asarray(unit)):
                basis = basis.at[used].set(unit)
                used += 1
        return np.array(rows), used


def test_factor_rows_reproduce_a_gram_matrix():
    generator = np.random.default_rng(2)
    weight = generator.uniform(0.5, 1.5, 64)
    weight /= weight.sum()
    vectors = generator.normal(size=(12, 64)) * np.geomspace(1, 1e-7, 12)[:, None]
    rows, used = factor(vectors, weight, 12)
    gram = (vectors * weight) @ vectors.T
    size = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(rows @ rows.T / np.outer(size, size), gram / np.outer(size, size), atol=1e-13)
    assert used == 12
    assert (np.triu(rows, 1) == 0).all()


def test_factor_of_a_singular_gram_matrix_uses_as_many_modes_as_its_rank():
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(10, 3)) @ generator.normal(size=(3, 64))
    weight = np.full(64, 1 / 64)
    rows, used = factor(vectors, weight, 10)
    assert used == 3
    np.testing.assert_allclose(rows @ rows.T, vectors @ vectors.T / 64, rtol=1e-10, atol=1e-11)


def test_shapes_are_checked_at_run_time():
    from jaxtyping import TypeCheckError

    with pytest.raises(TypeCheckError):
        factor_row(jnp.zeros(5), jnp.zeros((3, 4)), jnp.ones(4) / 4, jnp.asarray(0))


# Time grids


def solve_scalar(grid, rate, start=1.0):
    """w' = -rate(t) w by the grid's implicit rule."""
    w = np.zeros(grid.size)
    w[0] = start
    for n in range(1, grid.size):
        w[n] = grid.history(w, n) / (1 + grid.weights[n] * rate(grid.times[n]))
    return w


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("graded", [False, True])
def test_backward_differentiation_has_its_order(order, graded):
    errors, counts = [], np.array([40, 80, 160, 320])
    for count in counts:
        times = graded_times(4.0, count) if graded else np.linspace(0.0, 4.0, count + 1)
        w = solve_scalar(implicit_grid(times, order), lambda t: 1 + np.sin(t))
        errors.append(abs(w[-1] - np.exp(-(4.0 + 1 - np.cos(4.0)))))
    slope = -np.polyfit(np.log(counts[1:]), np.log(errors[1:]), 1)[0]
    assert order - 0.3 < slope < order + 0.7


def test_implicit_grid_is_exact_for_polynomials_of_its_order():
    times = graded_times(10.0, 12)
    grid = implicit_grid(times)
    for power in range(4):
        for n in range(3, grid.size):
            derivative = power * times[n] ** max(power - 1, 0)
            expected = grid.history(times**power, n) + grid.weights[n] * derivative
            assert times[n] ** power == pytest.approx(expected, rel=1e-9)


def test_implicit_steps_are_stable_however_large():
    w = solve_scalar(implicit_grid(graded_times(1e4, 40)), lambda _: 1e3)
    assert np.abs(w[1:]).max() < 0.1
    assert abs(w[-1]) < 1e-12


@pytest.mark.parametrize(("t_max", "points"), [(0.1, 16), (1.0, 16), (60.0, 50), (1e4, 80)])
def test_graded_times_grow_linearly_then_by_a_constant_factor(t_max, points):
    times = graded_times(t_max, points)
    steps = np.diff(times)
    assert times[0] == 0
    assert times[-1] == t_max
    assert len(times) == points + 1
    np.testing.assert_allclose(np.diff(coordinate(times)), coordinate(t_max) / points, rtol=1e-9)
    spacing = coordinate(t_max) / points
    assert steps[1] / steps[0] == pytest.approx(3.0, abs=2 * spacing**2)  # t ~ x^2 at first
    if t_max >= 60:
        assert steps[-1] / steps[-2] == pytest.approx(np.exp(spacing), rel=1e-2)


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
def test_the_first_steps_err_no_more_than_the_rest(rate):
    """Rows 1 and 2 are of lower order; a linear decay is wrong by at most as much as later."""
    grid = implicit_grid(graded_times(60.0, 44))
    error = np.abs(solve_scalar(grid, lambda _: rate) - np.exp(-rate * grid.times))
    assert error[:4].max() < 0.3 * error.max()
    assert error.max() < 6e-3


def test_resampled_times_change_every_step_by_the_same_factor():
    times = graded_times(60.0, 48)
    np.testing.assert_allclose(resampled_times(times, 24), times[::2], rtol=1e-12)
    np.testing.assert_allclose(resampled_times(times, 72), graded_times(60.0, 72), rtol=1e-12)


@pytest.mark.parametrize("row", [0, 7, 16])
def test_halved_steps_begin_where_asked_and_leave_the_rest(row):
    times = graded_times(6.0, 16)
    halved = halved_steps(times, times[row])
    assert len(halved) == len(times) + 4
    assert (np.diff(halved) > 0).all()
    assert set(times) <= set(halved)
    new = np.sort(list(set(halved) - set(times)))
    first = min(row, len(times) - 5)
    assert (times[first : first + 4] < new).all()
    assert (new < times[first + 1 : first + 5]).all()


def test_explicit_grid_reports_every_step():
    grid = explicit_grid(0.2, 12.0)
    assert grid.explicit
    np.testing.assert_allclose(grid.times, 0.2 * np.arange(61))
    assert (grid.weights == 0.2).all()
