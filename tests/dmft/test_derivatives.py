"""Derivatives of the theory's curves: closed forms, other draws, automatic differentiation, a sweep."""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from dmft import Model, ParameterError, limits, sensitivity, solve
from dmft.checks import precision_context
from dmft.derivatives import DIFFERENCE, check_parameters, first_evidence
from dmft.solver import engine_for
from dmft.twotime.errors import difference
from dmft.twotime.grid import graded_times, implicit_grid
from dmft.twotime.loop import solve_replica
from dmft.twotime.request import Request
from dmft.twotime.steps import multistep
from dmft.wide import replica
from dmft.wide.explicit import advance_explicit
from dmft.wide.solution import Like

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)


@pytest.mark.parametrize(
    ("names", "step", "message"),
    [
        ("alhpa", None, "did you mean `alpha`?"),
        ("step", None, "`step`, which is no parameter to be varied"),
        ("dim", ("step",), "allowed: alpha, epsilon, kappa, initial_overlap, label_noise, weight_decay, step."),
        ("weight_decay", None, "`weight_decay`, which must be > 0 in the model to have a logarithm, but is 0."),
        ((), None, "must name different ones of"),
        (None, None, "`None`, which is no parameter to be varied"),
        (3, None, "`3`, which is no parameter to be varied"),
        (("alpha", "alpha"), None, "must name different ones of"),
    ],
)
def test_parameters_without_a_derivative_are_named(names, step, message):
    with pytest.raises(ParameterError) as error:
        check_parameters("wrt", names, MODEL, step or ())
    assert message in str(error.value)


def logarithmic(function, model, name, h=1e-4):
    """d log / d log parameter of a closed form, by central differences."""
    up, down = (np.log(function(model.replace(**{name: getattr(model, name) * np.exp(s)}))) for s in (h, -h))
    return (up - down) / (2 * h)


CASES = [
    # linear network: exact, any kappa
    (Model(alpha=1.0, epsilon=0.0, kappa=3.0, label_noise=0.3, weight_decay=0.1), limits.linear,
     ("alpha", "kappa", "label_noise", "weight_decay"), 6.0),
    # lazy: alpha so large that the kernel stays
    (Model(alpha=1e4, epsilon=0.5, kappa=3.0, centered=True, label_noise=0.3), limits.lazy,
     ("epsilon", "kappa", "label_noise"), 6.0),
    # population: kappa so large that the samples are all there are
    (Model(alpha=1.0, epsilon=0.5, kappa=1e5, initial_overlap=0.1, weight_decay=0.02), limits.population,
     ("alpha", "epsilon", "initial_overlap", "weight_decay"), 6.0),
]  # fmt: skip


@pytest.mark.slow
def test_steps_of_descent_of_a_linear_network_have_the_exact_derivatives():
    model = Model(alpha=1.3, epsilon=0.0, kappa=3.0, label_noise=0.3, weight_decay=0.1)
    names = ("alpha", "kappa", "label_noise", "weight_decay")
    few = {"step": 0.2, "sample_count": 64, "replicas": 4}  # each replica is exact
    found = sensitivity(model, 4.0, (*names, "step"), **few)
    times = found.time.to_numpy()
    for loss in ("train_loss", "test_loss"):
        for name in names:
            exact = logarithmic(lambda one, loss=loss: limits.linear(one, times, step=0.2)[loss], model, name)
            np.testing.assert_allclose(found[f"{loss}_by_{name}"] / found[loss], exact, atol=2e-3)
        curves = [np.log(limits.linear(model, s * times, step=0.2 * s)[loss]) for s in np.exp([1e-4, -1e-4])]
        slope = CubicSpline(times, np.log(limits.linear(model, times, step=0.2)[loss]))(times, 1)
        ours = found[f"{loss}_by_step"] / found[loss]
        exact = (curves[0] - curves[1]) / 2e-4 - times * slope  # at fixed time
        assert np.abs(ours - exact)[3:-3].max() < 0.05 * np.abs(exact[3:-3]).max()
    found = sensitivity(model, 4.0, "momentum", momentum=0.5, **few)
    for loss in ("train_loss", "test_loss"):
        up, down = (
            np.log(limits.linear(model, times, step=0.2, momentum=0.5 * np.exp(h))[loss]) for h in (1e-4, -1e-4)
        )
        np.testing.assert_allclose(found[f"{loss}_by_momentum"] / found[loss], (up - down) / 2e-4, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "closed", "names", "t_max"), CASES)
def test_derivatives_meet_those_of_the_closed_forms(model, closed, names, t_max):
    times = np.linspace(0.5, t_max, 12)
    found = sensitivity(model, t_max, names, rtol=0.001 if closed is limits.population else 0.005, times=times)
    for loss in ("train_loss", "test_loss"):
        for name in names:
            exact = logarithmic(lambda one, loss=loss: closed(one, times)[loss], model, name)
            ours = (found[f"{loss}_by_{name}"] / found[loss]).to_numpy()
            error = (found[f"{loss}_by_{name}_error"] / found[loss]).to_numpy()
            scale = np.abs(exact).max()
            assert np.abs(ours - exact).max() <= 0.01 * max(scale, 0.1), (
                loss,
                name,
                np.abs(ours - exact).max() / scale,
            )
            assert (np.abs(ours - exact) < 4 * error + 2e-3 * max(scale, 0.01)).all()


@pytest.fixture(scope="module")
def derivatives():
    """By three parameters, about one base."""
    return sensitivity(MODEL, 6.0, ("alpha", "kappa", "initial_overlap"), times=np.linspace(0.5, 6.0, 8), rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alpha", "kappa", "initial_overlap"])
def test_derivatives_meet_central_differences_on_fresh_draws(name, derivatives):
    """Wide differences of independent solves scatter more; both know by how much."""
    found, times, h = derivatives, derivatives.time.to_numpy(), 0.3
    up, down = (
        solve(
            MODEL.replace(**{name: getattr(MODEL, name) * np.exp(sign * h)}),
            6.0,
            times=times,
            rtol=0.006,
            seed=7 + sign,
        )
        for sign in (1, -1)
    )
    third = {}
    for loss in ("train_loss", "test_loss"):
        central = ((up[loss] - down[loss]) / (2 * h)).to_numpy()
        error = np.hypot(up[f"{loss}_error"], down[f"{loss}_error"]).to_numpy() / (2 * h)
        half_up, half_down = (
            solve(MODEL.replace(**{name: getattr(MODEL, name) * np.exp(sign * h / 2)}), 6.0, times=times, rtol=0.006,
                  seed=17 + sign)
            for sign in (1, -1)
        ) if not third else third["half"]  # fmt: skip
        third["half"] = (half_up, half_down)
        half = ((half_up[loss] - half_down[loss]) / h).to_numpy()
        half_error = np.hypot(half_up[f"{loss}_error"], half_down[f"{loss}_error"]).to_numpy() / h
        extrapolated = (4 * half - central) / 3  # the term of order h^2 is gone
        total = np.sqrt((4 * half_error / 3) ** 2 + (error / 3) ** 2 + found[f"{loss}_by_{name}_error"].to_numpy() ** 2)
        assert (np.abs(extrapolated - found[f"{loss}_by_{name}"].to_numpy()) < 3 * total).all()


@pytest.mark.slow
def test_differences_agree_with_automatic_differentiation():
    """The tangents of all steps of descent, of one replica: its train loss by alpha, epsilon and kappa.

    A near replica has the bases of the old one, another coupling of the same noise: equal but for its scatter.
    """
    model, seed = MODEL.replace(initial_overlap=0.0, dim=100), np.random.SeedSequence(0, spawn_key=(0,))
    request = Request(t_max=3.0, step=0.15, sample_count=256)
    engine, grid = engine_for(model), request.first_grid(engine_for(model))
    plan = request.plan(engine, grid, True)
    base = solve_replica(plan, 0)
    with precision_context("float64"):
        capacity = engine.capacities(grid.size, plan.sampling)[-1]
        steps = jax.tree.map(jnp.asarray, multistep(grid, capacity, np.dtype("float64")))
        state = jax.tree.map(jnp.asarray, replica.start(model, plan.sampling, seed, capacity))
        c = jax.tree.map(jnp.asarray, replica.couplings(model, "float64"))

        def train_loss(couplings):
            done = advance_explicit.function(couplings, steps, state, jnp.int32(0), jnp.int32(grid.size))
            return (done.fields.residual**2 @ done.samples.weight)[: grid.size]

        for name in ("alpha", "epsilon", "kappa"):
            tangent = jax.tree.map(jnp.zeros_like, c)._replace(**{name: jnp.asarray(getattr(model, name))})
            value, exact = map(np.asarray, jax.jvp(train_loss, (c,), (tangent,)))
            np.testing.assert_allclose(value, base.curves["train_loss"], rtol=1e-9)
            moved = model.replace(**{name: getattr(model, name) * np.exp(DIFFERENCE)})
            plan_moved = dataclasses.replace(plan, engine=engine_for(moved))
            for like, tolerance in ((None, 1e-3), (Like(base.with_full_bases().bases, None), 0.05)):
                other = solve_replica(plan_moved, 0, like).curves["train_loss"]
                ours = (other - base.curves["train_loss"]) / DIFFERENCE
                np.testing.assert_allclose(ours, exact, atol=tolerance * np.abs(exact).max())


@pytest.mark.slow
def test_the_step_and_the_threshold_times_are_differentiated():
    model = MODEL.replace(initial_overlap=0.2)
    found = sensitivity(model, 4.0, ("step", "alpha"), step=0.2, rtol=0.01, threshold=0.4)
    h = 0.2
    up, down = (solve(model, 4.0, step=0.2 * np.exp(sign * h), rtol=0.005) for sign in (1, -1))
    at = np.array([1.0, 2.0, 3.0])
    for loss in ("train_loss", "test_loss"):
        curves = [np.exp(np.interp(at, one.time, np.log(one[loss]))) for one in (up, down)]
        central = (curves[0] - curves[1]) / (2 * h)
        ours = np.interp(at, found.time, found[f"{loss}_by_step"])
        errors = np.interp(at, found.time, found[f"{loss}_by_step_error"])
        assert (np.abs(ours - central) < 3 * np.hypot(errors, 0.005 * curves[0] / (2 * h))).all()
    assert float(found.delay_by_alpha) == pytest.approx(float(found.t_test_by_alpha - found.t_train_by_alpha))


@pytest.mark.slow
def test_the_time_of_grokking_by_alpha_agrees_with_a_sweep():
    model = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
    found = sensitivity(model, 30.0, "alpha", threshold=0.1)
    factors = np.exp(np.linspace(-0.12, 0.12, 5))
    times = []
    for place, factor in enumerate(factors):
        one = solve(model.replace(alpha=float(factor)), 30.0, rtol=0.005, seed=20 + place)
        curve = one.test_loss.to_numpy()
        after = int(np.flatnonzero(curve <= 0.1)[0])
        log_t = np.interp(
            -np.log(0.1), -np.log(curve[after - 1 : after + 1]), np.log(one.time.to_numpy()[after - 1 : after + 1])
        )
        slope = np.gradient(np.log(curve), np.log(np.maximum(one.time.to_numpy(), 1e-9)))[after]
        times.append((log_t, float(one.test_loss_error[after]) / 0.1 / abs(slope)))
    values, errors = np.array(times).T
    (_, slope, _), covariance = np.polyfit(np.log(factors), values, 2, w=1 / errors, cov="unscaled")
    ours = float(found.t_test_by_alpha / found.t_test)
    error = float(found.t_test_by_alpha_error / found.t_test)
    assert abs(ours - slope) < 3 * np.hypot(error, np.sqrt(covariance[1, 1]))


@pytest.mark.slow
def test_a_sensitivity_costs_as_many_solves_as_there_are_parameters_and_one():
    def seconds(function):
        function()
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    request = Request(t_max=6.0, replicas=8)
    one = seconds(lambda: first_evidence(request, MODEL, lambda *_: None))
    three = seconds(lambda: sensitivity(MODEL, 6.0, replicas=8, progress=False))
    assert three < 1.3 * 4 * one


def test_the_evidence_of_a_derivative_is_of_the_base_grid():
    """Two grids: the change of a curve that is the same function of time is 0."""
    grids = [implicit_grid(graded_times(t_max, 40)) for t_max in (5.0, 5.002)]
    curves = [np.exp(-grid.times) for grid in grids]
    assert np.abs(difference(grids[1], curves[1], grids[0], curves[0], 1.0)).max() < 1e-5
