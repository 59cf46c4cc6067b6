"""Whatever the admissible parameters: curves are finite, kernels are what kernels are, and errors are owned up to."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from dmft import Model, RunError, solve
from dmft.limits import linear
from dmft.losses.quadratic import OBSERVABLES
from dmft.twotime.prediction import ToleranceWarning
from dmft.wide.engine import Wide
from dmft.wide.solution import KERNELS

#: Small, so that an example takes about a second: shapes repeat and are compiled once.
SMALL = {"replicas": 4, "sample_count": 64}
POINTS = 28


def log_uniform(low: float, high: float) -> SearchStrategy[float]:
    return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.exp(x)))


@st.composite
def models(draw: DrawFn) -> Model:
    return Model(
        alpha=draw(log_uniform(0.1, 100)),
        epsilon=draw(st.just(0.0) | st.floats(0, 3)),
        kappa=draw(log_uniform(0.3, 30)),
        dim=draw(st.none() | st.integers(50, 1000)),
        initial_overlap=draw(st.just(0.0) | st.floats(0, 1)),
        centered=draw(st.booleans()),
        label_noise=draw(st.just(0.0) | st.floats(0, 1)),
        weight_decay=draw(st.just(0.0) | log_uniform(1e-3, 0.3)),
    )


@st.composite
def runs(draw: DrawFn, precisions: tuple[str, ...]):
    """Arguments of a solve: a flow to 0.1 <= t <= 300, or 10 or 20 steps of gradient descent."""
    model, precision = draw(models()), draw(st.sampled_from(precisions))
    if draw(st.booleans()):
        return model, draw(log_uniform(0.1, 300)), {"points": POINTS, "precision": precision}
    step, count = draw(log_uniform(0.01, 0.5)), draw(st.sampled_from([10, 20]))
    return model, count * step, {"step": step, "precision": precision}


def check(run) -> None:
    model, t_max, arguments = run
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ToleranceWarning)
        try:
            theory = solve(model, t_max, kernels=True, **arguments, **SMALL)
        except RunError as error:
            return check_refusal(error)
    said = [warning for warning in caught if issubclass(warning.category, ToleranceWarning)]
    assert len(said) == 1 - theory.attrs["tolerance_met"]
    check_curves(theory)
    check_kernels(theory, discrete="step" in arguments)
    check_tolerance(theory)
    if model.epsilon == 0 and model.dim is None and arguments["precision"] == "float64":
        check_linear(model, theory, arguments.get("step"))


def check_refusal(error: RunError) -> None:
    """One line that says when, and the curves up to there."""
    assert "\n" not in str(error)
    assert "t = " in str(error)
    if error.curves is not None:
        assert error.curves.attrs["complete"] == 0
        check_curves(error.curves)


def check_curves(theory) -> None:
    """Finite; losses and norms not negative; the test loss is the sum of its parts."""
    single = theory.attrs["precision"] == "float32"
    for name in OBSERVABLES:
        curve, error = theory[name].values, theory[f"{name}_error"].values
        assert np.isfinite(curve).all(), name
        assert np.isfinite(error).all(), name
        assert (error >= 0).all(), name
        # a curve interpolated between times may fall below 0 by its own error
        assert (curve >= -(3 * error + (1e-4 if single else 1e-9) * np.abs(curve).max())).all(), name
    parts = theory.variance_error + theory.misalignment_error + theory.linear_power
    np.testing.assert_allclose(parts, theory.test_loss, rtol=1e-6, atol=1e-9 * float(theory.test_loss.max()))


def check_kernels(theory, *, discrete: bool) -> None:
    """Correlations symmetric and positive semi-definite; responses causal."""
    rounding = 1e-3 if theory.attrs["precision"] == "float32" else 1e-8
    for name in KERNELS:
        kernel = theory[name].values
        assert np.isfinite(kernel).all(), name
        if name.startswith("response"):
            assert not np.triu(kernel, 0 if discrete else 1).any(), name
            continue
        np.testing.assert_allclose(kernel, kernel.T, rtol=0, atol=1e-10 * np.abs(kernel).max())
        if discrete:
            eigenvalues = np.linalg.eigvalsh(kernel)
            assert eigenvalues[0] >= -rounding * max(eigenvalues[-1], 1e-300), name


def check_tolerance(theory) -> None:
    """The attribute says what the errors say."""
    met = True
    for name in Wide.controlled:
        allowed = theory.attrs["rtol"] * np.abs(theory[name]) + theory.attrs["atol"] * float(theory[name][0])
        met &= bool((theory[f"{name}_error"] <= 1.01 * allowed).all())
    if theory.attrs["tolerance_met"] and theory.attrs["step"] != "flow":
        assert met
    if not theory.attrs["tolerance_met"]:
        assert "tolerance" in theory.attrs["tolerance_message"]


def check_linear(model: Model, theory, step: float | None) -> None:
    """At epsilon = 0 the closed form lies within three of the errors claimed, or the tolerance's share of rounding."""
    exact = linear(model, theory.time.values, step=step)
    for name in Wide.controlled:
        deviation = np.abs(theory[name].values - exact[name])
        assert (deviation <= 3 * theory[f"{name}_error"] + 2e-5 * exact[name].max()).all(), name


quick = settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(quick, max_examples=14)


@quick
@given(runs(("float64",)))
def test_any_admissible_parameters(run):
    check(run)


@pytest.mark.slow
@thorough
@given(runs(("float64", "float64", "float32")))
def test_many_admissible_parameters(run):
    check(run)
