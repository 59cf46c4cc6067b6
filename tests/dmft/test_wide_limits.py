"""The wide engine against the closed forms of its exact limits."""

import numpy as np
import pytest

from dmft import Model, solve
from dmft.limits import lazy, linear, population

STEP = 0.2


def deviation(theory, exact, floor=1e-3):
    """Largest |theory - exact| in units of max(value, floor times the curve's first or largest value)."""
    worst = {}
    for name, curve in exact.items():
        scale = np.maximum(np.abs(curve), floor * (abs(curve[0]) or np.abs(curve).max()))
        difference = np.abs(theory[name].values - curve)
        worst[name] = float((difference[scale > 0] / scale[scale > 0]).max(initial=0.0))
    return worst


@pytest.mark.parametrize(
    ("kappa", "t_max"),
    [(3.0, 4.0), *(pytest.param(kappa, 30.0, marks=pytest.mark.slow) for kappa in (0.5, 3.0, 10.0))],
)
def test_linear_network_by_gradient_descent_is_exact(kappa, t_max):
    model = Model(alpha=1.3, epsilon=0.0, kappa=kappa)
    theory = solve(model, t_max, step=STEP, sample_count=64, replicas=4)
    worst = deviation(theory, linear(model, theory.time.values, step=STEP))
    assert max(worst.values()) < 1e-3, worst


@pytest.mark.parametrize(
    "changes",
    [
        {"label_noise": 0.5},
        {"weight_decay": 0.2, "initial_overlap": 0.1, "centered": True},
        {"kappa": 0.5, "weight_decay": 0.2, "label_noise": 0.3},
    ],
)
def test_linear_network_with_label_noise_and_weight_decay_is_exact(changes):
    model = Model(alpha=0.7, epsilon=0.0, kappa=3.0).replace(**changes)
    theory = solve(model, 6.0, step=STEP, sample_count=64, replicas=4)
    worst = deviation(theory, linear(model, theory.time.values, step=STEP))
    assert max(worst.values()) < 1e-3, worst


@pytest.fixture(scope="module", params=[{}, {"kappa": 0.5, "weight_decay": 0.2, "label_noise": 0.3}])
def linear_flow(request):
    """Gradient flow of a linear network, and its closed form: only the time step errs."""
    model = Model(alpha=1.0, epsilon=0.0, kappa=3.0).replace(**request.param)
    theory = solve(model, 20.0, sample_count=64, replicas=4, rtol=5e-3, atol=1e-5)
    return theory, linear(model, theory.time.values)


@pytest.mark.slow
def test_linear_network_by_gradient_flow_keeps_its_tolerance(linear_flow):
    theory, exact = linear_flow
    assert theory.attrs["tolerance_met"] == 1
    for name in ("train_loss", "test_loss"):
        allowed = 5e-3 * exact[name] + 1e-5 * exact[name][0]
        assert (np.abs(theory[name] - exact[name]) <= allowed).all(), name


@pytest.mark.slow
def test_lazy_limit():
    model = Model(alpha=1e4, epsilon=1.0, kappa=3.0, centered=True)
    theory = solve(model, 20.0, sample_count=64, replicas=4, points=62)
    exact = lazy(model, theory.time.values)
    assert theory.attrs["tolerance_met"] == 1
    losses = {name: exact.pop(name) for name in ("train_loss", "test_loss")}
    worst = deviation(theory, losses) | deviation(theory, exact, floor=0.02)
    assert max(worst.values()) < 0.01, worst
    for name, curve in losses.items():
        own = theory[f"{name}_error"].values
        assert (np.abs(theory[name] - curve).values <= 3 * own + 1e-12).all(), name
        assert float((own / np.maximum(curve, 1e-3 * curve[0])).max()) < 0.015


@pytest.mark.slow
def test_the_flow_s_own_error_covers_its_deviation_at_all_times(linear_flow):
    """First rows are of low order, and curves of two grids cross."""
    theory, exact = linear_flow
    for name, curve in exact.items():
        deviation, own = np.abs(theory[name].values - curve), theory[f"{name}_error"].values
        assert (deviation <= 3 * own + 1e-12).all(), name
        assert (own <= 0.01 * np.abs(curve).max()).all(), name


@pytest.mark.slow
def test_many_samples_approach_the_population_flow_as_1_over_kappa():
    kappas, at = np.array([75.0, 150.0, 300.0]), 1.5
    gaps, errors = [], []
    for kappa in kappas:
        model = Model(alpha=1.0, epsilon=0.5, kappa=kappa, initial_overlap=0.1)
        theory = solve(model, 2.1, sample_count=128, replicas=8, points=30)
        exact = population(model, theory.time.values)["test_loss"]
        difference = theory.test_loss - exact
        gaps.append(float(difference.interp(time=at)))
        own = np.hypot(theory.test_loss_stderr, theory.test_loss_step_error)
        errors.append(float(own.interp(time=at)))
    early = exact > 0.2
    assert float(theory.time[early][-1]) > 2.0
    assert float((np.abs(difference) / exact)[early].max()) < 0.02
    assert (np.array(errors) < 0.1 * np.array(gaps)).all()
    power = np.polyfit(np.log(kappas), np.log(gaps), 1)[0]
    assert -1.15 < power < -0.85
