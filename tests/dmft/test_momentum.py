"""Momentum and schedules of descent (THEORY section 13), against exact recursions; simulations are elsewhere."""

import jax
import numpy as np
import pytest

from dmft import Model, ParameterError, limits, solve
from dmft.checks import DivergenceError
from dmft.twotime.momentum import momentum_of
from dmft.twotime.steps import Steps

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

MODEL = Model(alpha=1.3, epsilon=0.0, kappa=3.0, initial_overlap=0.1, weight_decay=0.05, label_noise=0.2)
FEW = {"step": 0.1, "rtol": 0.05, "replicas": 4, "sample_count": 64}


def every_third(n):
    """Steps of length 0 among the others."""
    return 1.0 * (n % 3 > 0)


RULES = [
    {"momentum": 0.8},
    pytest.param({"momentum": 0.8, "nesterov": True}, marks=pytest.mark.slow),
    pytest.param({"schedule": "cosine"}, marks=pytest.mark.slow),
    pytest.param({"momentum": 0.6, "schedule": "linear"}, marks=pytest.mark.slow),
    {"momentum": 0.6, "nesterov": True, "schedule": every_third},
]


def off(curves, **rule) -> float:
    exact = limits.linear(MODEL, curves["time"].values, step=0.1, **rule)
    names = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
    return max(float(np.abs(curves[name].values - exact[name]).max()) for name in names)


@pytest.mark.parametrize("rule", RULES)
def test_linear_network_is_the_recursion_of_each_eigenvalue(rule):
    """epsilon = 0: exact, so that nothing but rounding is left."""
    assert off(solve(MODEL, 6.0, **FEW, **rule), **rule) < 1e-8


def test_the_recursion_of_an_eigenvalue_is_that_of_optax():
    """One weight, gradient a w - 1, momentum and schedule of optax.sgd."""
    import optax

    rule = momentum_of(0.7, True, "cosine", 0.2, 4.0)
    schedule = optax.cosine_decay_schedule(0.2, 20)
    for nesterov, expected in (
        (True, rule),
        (False, momentum_of(0.7, False, optax.cosine_decay_schedule(1, 20), 0.2, 4.0)),
    ):
        descent = optax.sgd(schedule, momentum=0.7, nesterov=nesterov)
        w, state, seen = np.float32(0.0), descent.init(np.float32(0.0)), []
        for _ in range(20):
            update, state = descent.update(1.5 * w - 1, state)
            w = optax.apply_updates(w, update)
            seen.append(float(w))
        found = limits.times.driven_modes(np.array([1.5]), 20, 0.2, expected)[1:, 0]
        np.testing.assert_allclose(found, seen, rtol=1e-5)


@pytest.mark.slow
def test_no_momentum_and_equal_factors_are_plain_descent():
    """The gliding row is the plain one but for rounding, with seeding and centring."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=100, centered=True, weight_decay=0.01)
    plain, gliding = solve(model, 3.0, **FEW), solve(model, 3.0, **FEW, schedule=np.ones(30))
    for name in ("train_loss", "test_loss", "trace", "overlap"):
        np.testing.assert_allclose(gliding[name], plain[name], rtol=1e-9)
    assert [one.attrs.get("schedule") for one in (plain, gliding)] == [None, "array"]


@pytest.mark.slow
def test_both_forms_of_the_correlations_agree():
    """Equation 4.12 with momentum, of a random start with noise: the two forms differ by sampling error alone."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=60, label_noise=0.1)
    curves = solve(
        model, 4.0, step=0.1, momentum=0.7, nesterov=True, replicas=8, sample_count=128, kernels=True, rtol=0.05
    )
    for name in ("correlation_common", "correlation_outlier", "correlation_bulk"):
        differ = curves[f"{name}_consistency"].values
        assert np.abs(differ).max() < 0.05 * np.abs(curves[name].values).max(), name


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_anew")
def test_a_force_that_comes_a_step_late_is_seen(monkeypatch):
    def late(self, n, before, plain, velocity):
        pull = jax.tree.map(lambda x, y: x - y, before, plain)
        row = jax.tree.map(lambda x, u: x - self.glide.push[n] * u, before, velocity)
        return row, jax.tree.map(lambda g, u: self.glide.momentum * u + g, pull, velocity)

    monkeypatch.setattr(Steps, "gliding", late)
    assert off(solve(MODEL, 6.0, **FEW, momentum=0.8), momentum=0.8) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0, "step": 0.1}, r"`momentum` must be a number >= 0 and < 1, but is 1"),
        ({"momentum": -0.1, "step": 0.1}, r"`momentum` must be a finite number >= 0"),
        ({"momentum": 0.5}, r"`momentum` must be left out of gradient flow, .* but is 0.5; give `step`"),
        ({"schedule": "cosine"}, r"`schedule` must be left out of gradient flow"),
        ({"nesterov": True, "step": 0.1}, r"`nesterov` must be False without `momentum`"),
        ({"schedule": "step", "step": 0.1}, r"`schedule` must be one of constant, linear, cosine, a function"),
        ({"schedule": np.ones(9), "step": 0.1}, r"`schedule` must have a factor for each of 10 steps, but has 9"),
        ({"schedule": np.ones(11), "step": 0.1}, r"`schedule` must have a factor for each of 10 steps, but has 11"),
        ({"schedule": lambda n: 0.5 - n, "step": 0.1}, r"`schedule` must be finite and >= 0, but is -0.5 at step 1"),
        ({"schedule": b"linear", "step": 0.1}, r"`schedule` must be one of constant, .* but is b'linear'"),
        ({"schedule": ["a"] * 10, "step": 0.1}, r"`schedule` must be one of constant, .* but is \['a'"),
        ({"schedule": {0: 1.0}, "step": 0.1}, r"`schedule` must be one of constant, .* but is {0: 1.0}"),
        ({"schedule": np.ones((2, 5)), "step": 0.1}, r"array with one factor a step, but is array\("),
        ({"schedule": 0.5, "step": 0.1}, r"array with one factor a step, but is 0.5"),
        ({"schedule": lambda _: None, "step": 0.1}, r"`schedule` must return a number, but returns None at step 0"),
        ({"schedule": lambda _: "a", "step": 0.1}, r"`schedule` must return a number, but returns 'a' at step 0"),
        ({"momentum": 0.5, "step": 0.1, "spread": True}, r"`spread` must be False with momentum or a schedule"),
    ],
)
def test_bad_rules_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        solve(Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=100), 1.0, **arguments)


@pytest.mark.slow
def test_a_step_that_is_too_long_says_which_one_is_stable():
    with pytest.raises(DivergenceError, match=r"step = 2 diverges at .*; step = (1|0.5|0.25) is stable up to"):
        solve(MODEL.replace(epsilon=0.3), 200.0, step=2.0, momentum=0.3, sample_count=64, replicas=4)
