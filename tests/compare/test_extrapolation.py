"""Polynomials in 1/D: what they find, and the errors that they say."""

import math

import numpy as np
import pytest

from compare.extrapolation import bridged, first_within, line, polynomial


def test_a_line_is_found_with_its_error():
    rng, dims = np.random.default_rng(3), np.array([100.0, 200.0, 400.0])
    truth, errors = 1.0 - 8.0 / dims, 0.3 / np.sqrt(dims)
    values = truth[:, None] + errors[:, None] * rng.standard_normal((3, 4000))
    a, a_error, b, b_error, chi2 = line(1 / dims, values, np.broadcast_to(errors[:, None], values.shape))
    assert abs(((a - 1) / a_error).mean()) < 0.08
    assert abs(((a - 1) / a_error).std() - 1) < 0.05
    assert abs(((b + 8) / b_error).std() - 1) < 0.05
    assert abs(chi2.mean() - 1) < 0.1


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("dims", [(50, 100), (50, 100, 200)])
def test_a_parabola_through_one_at_infinite_dimension(dims, power):
    """Of 6000 noisy lots the ratios at D = 150 and 400 scatter by their errors about the truth."""
    rng, x = np.random.default_rng(4), np.array(dims) ** -power

    def truth(x):
        return 1 - 3 * x + 9 * x**2

    errors = 0.02 * (np.array(dims) / 50)[:, None] ** -0.5
    values = truth(x)[:, None] + errors * rng.standard_normal((len(dims), 6000))
    for dim in (150, 400):
        ratio, error = bridged(x, values, np.broadcast_to(errors, values.shape), dim**-power)
        away = (ratio - truth(dim**-power)) / error
        assert abs(away.mean()) < 4 / math.sqrt(away.size)
        assert abs(away.std() - 1) < 0.04
    far, error = bridged(x, values, np.broadcast_to(errors, values.shape), 1e-12)
    assert np.abs(far - 1).max() < 1e-9
    assert error.max() < 1e-9


def test_a_curvature_is_found_with_its_error():
    rng, dims = np.random.default_rng(5), np.array([50.0, 100.0, 200.0, 400.0])
    errors = np.full((4, 5000), 0.01)
    values = (1 - 8 / dims + 150 / dims**2)[:, None] + 0.01 * rng.standard_normal((4, 5000))
    found = polynomial(1 / dims, values, errors, order=2)
    for place, truth in enumerate((1.0, -8.0, 150.0)):
        away = (found.coefficients[place] - truth) / found.errors[place]
        assert abs(away.mean()) < 4 / math.sqrt(5000)
        assert abs(away.std() - 1) < 0.04
    assert abs(found.chi2.mean() - 1) < 0.1  # one degree of freedom


def test_where_a_value_or_its_error_is_not_known_nothing_is_said():
    values, errors = np.full((2, 2, 3), 1.1), np.full((2, 2, 3), 0.1)
    values[1, 0, 1] = errors[0, 1, 2] = np.nan
    errors[1, 1, 0] = 0.0
    unknown = [[False, True, False], [True, False, True]]
    for found in (
        *bridged(np.array([0.02, 0.01]), values, errors, 0.005),
        *line(np.array([0.02, 0.01]), values, errors),
    ):
        np.testing.assert_array_equal(np.isnan(found), unknown)


@pytest.mark.parametrize(
    ("slope", "curvature", "x"),
    [
        (2.0, 0.0, 0.025),
        (-2.0, 0.0, 0.025),
        (0.0, 0.0, np.inf),
        (0.0, 5.0, 0.1),
        (1.0, -4.0, (1 - math.sqrt(1 - 16 * 0.05)) / 8),
        (0.5, -4.0, (0.5 + math.sqrt(0.25 + 16 * 0.05)) / 8),  # turns below .05, and passes -.05
        (np.nan, 0.0, np.nan),
    ],
)
def test_how_far_a_deviation_is_within_a_bound(slope, curvature, x):
    found = float(first_within(0.05, np.array(slope), np.array(curvature)))
    np.testing.assert_allclose(found, x)
    if np.isfinite(x):
        inside = np.linspace(0, x, 500)
        assert np.abs(slope * inside + curvature * inside**2).max() <= 0.05 * (1 + 1e-9)
