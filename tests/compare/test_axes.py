"""Axes of a sweep, from Python and from the command line."""

import numpy as np
import pytest

from compare.fields import FIELDS
from compare.sweep.axes import Axis
from dmft import Model, ParameterError


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("alpha=0.5,1,2", "alpha", (0.5, 1.0, 2.0)),
        ("kappa = 4", "kappa", (4.0,)),
        ("epsilon=0:1:3", "epsilon", (0.0, 0.5, 1.0)),
        ("epsilon=0:1:3:lin", "epsilon", (0.0, 0.5, 1.0)),
        ("alpha=0.25:4:5:log", "alpha", (0.25, 0.5, 1.0, 2.0, 4.0)),
        ("initial-overlap=0,0.1", "initial_overlap", (0.0, 0.1)),
        ("dim=50:400:4:log", "dim", (50, 100, 200, 400)),
        ("dim=2:4:6", "dim", (2, 3, 4)),  # whole numbers, each once
    ],
)
def test_the_command_line_s_axes(text, field, values):
    axis = Axis.parse("x", text)
    assert (axis.field, axis.values) == (field, values)
    assert all(isinstance(value, FIELDS[field].kind) for value in axis.values)


def test_a_logarithmic_range_is_numpy_s():
    np.testing.assert_allclose(Axis.parse("x", "alpha=0.1:10:12:log").values, np.geomspace(0.1, 10, 12), rtol=1e-11)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alpha", "FIELD=VALUES"),
        ("alpha=", "FIELD=VALUES"),
        ("alpha=1,x", "FIELD=VALUES"),
        ("alpha=1:2", "FIELD=VALUES"),
        ("alpha=1:2:3:cubic", "FIELD=VALUES"),
        ("alpha=2:1:3", "FROM < TO"),
        ("alpha=1:2:1", "NUMBER >= 2"),
        ("alpha=0:2:3:log", "FROM > 0"),
        ("alpha=1,2,1", "different values"),
        ("dim=50.5", "whole numbers, but has 50.5"),
        ("gamma=1,2", "must name one of the fields alpha, epsilon, kappa"),
        ("centered=0,1", "must name one of the fields"),
    ],
)
def test_what_is_no_axis_is_refused_by_name(text, says):
    with pytest.raises(ParameterError, match="Argument `y`") as caught:
        Axis.parse("y", text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[], 3.0, ["a"], None])
def test_python_values_must_be_numbers(values):
    with pytest.raises(ParameterError, match="Argument `x`"):
        Axis.of("x", "alpha", values)


def test_the_models_along_an_axis():
    base = Model(alpha=1.0, epsilon=0.5, kappa=2.0)
    assert Axis.of("x", "kappa", [1, 3]).models(base) == [base.replace(kappa=1.0), base.replace(kappa=3.0)]
    with pytest.raises(ParameterError, match="`kappa`"):
        Axis.of("x", "kappa", [1, -3]).models(base)
