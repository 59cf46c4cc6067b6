"""Gradient flow by Runge-Kutta-Chebyshev steps: exact solutions, descent by small steps, interruptions, failures."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft import Committee, Model
from dmft.checks import DivergenceError, ParameterError, StiffnessError, precision_context
from sim import Experiment, Optimizer, simulate
from sim.request import Request
from sim.systems.forms import quadratic_system
from sim.training import driver, flow_groups
from sim.training.chebyshev import chebyshev_step, stages, stiffness_of
from sim.training.driver import run
from sim.training.system import Equations, System

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20)


def toy(gradient: Any, start: list[float]) -> System:
    """A system whose fields, and whose train loss, are the state itself and its mean square."""
    return System(
        equations=Equations(
            forward=lambda state, data: state + data,
            gradient=lambda _, __, fields: gradient(fields),
            observe=lambda _, __, fields: jnp.concatenate([jnp.mean(fields**2)[None], fields]),
        ),
        draw=lambda *_: (np.array(start), np.zeros(len(start))),
        observables={"train_loss": "mean square", "state": "the state"},
        shapes={"state": {"part": len(start)}},
        samples=1,
        operations=1e6,
        numbers=100.0,
        drawing_bytes=100.0,
        sizes="toy",
        description={},
    )


def follow(system: System, t_max: float, **options: Any) -> Any:
    return run(system, Request(t_max=t_max, seeds=1, **options), {})


@pytest.mark.parametrize("s", [2, 5, 20])
def test_the_method_is_of_order_two_with_any_number_of_stages(s: int) -> None:
    """y' = -y^2 (1, 2), coupled, with a known solution 1 / (1/y0 + t) for each."""
    with precision_context("float64"):
        rates, start = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.5])

        def velocity(y: jax.Array) -> jax.Array:
            return -rates * y**2

        @jax.jit
        def advance(y: jax.Array, h: jax.Array) -> jax.Array:
            return chebyshev_step(velocity, y, velocity(y), h, jnp.asarray(s))

        errors = []
        for count in (16, 32, 64):
            y = start
            for _ in range(count):
                y = advance(y, jnp.asarray(1.0 / count))
            errors.append(float(jnp.abs(y - 1.0 / (1.0 / start + rates)).max()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(orders - 2.0) < 0.1).all(), orders


@pytest.mark.parametrize("s", [2, 7, 40])
def test_every_mode_decays_up_to_the_stability_limit(s: int) -> None:
    with precision_context("float64"):
        rates = jnp.linspace(0.0, stiffness_of(s), 2001)[1:]
        y = chebyshev_step(lambda y: -rates * y, jnp.ones_like(rates), -rates, jnp.asarray(1.0), jnp.asarray(s))
        beyond = 1.1 * stiffness_of(s)
        out = chebyshev_step(
            lambda y: -beyond * y, jnp.ones(1), -beyond * jnp.ones(1), jnp.asarray(1.0), jnp.asarray(s)
        )
        assert int(stages(jnp.asarray(stiffness_of(s)))) == s
    assert float(np.abs(y).max()) < 1.0
    assert float(np.abs(out[0])) > 1.0


def test_a_saddle_is_left_along_the_growing_mode() -> None:
    """x' = x - x^3 away from the saddle at 0, beside y' = -50 y: exact solutions."""
    times = np.linspace(0.0, 12.0, 25)
    system = toy(lambda y: jnp.stack([y[0] ** 3 - y[0], 50.0 * y[1]]), [1e-3, 1.0])
    result = follow(system, 12.0, times=times)
    exact = 1.0 / np.sqrt(1.0 + (1e6 - 1.0) * np.exp(-2.0 * times))
    error = np.abs(result.state.values[0, :, 0] - exact)
    assert (error / exact).max() < 5e-3
    assert (error <= 2.0 * result.state_step_error.values[:, 0] + 1e-9).all()
    assert result.attrs["evaluations"] < 1200


def test_a_rate_that_grows_a_hundredfold_is_followed() -> None:
    """x' = x from 1 to 148, y' = -x (y - 1): y is at rest, at a rate that grows with x."""
    times = np.linspace(0.0, 5.0, 21)
    system = toy(lambda y: jnp.stack([-y[0], y[0] * (y[1] - 1.0)]), [1.0, 3.0])
    result = follow(system, 5.0, times=times)
    exact = 1.0 + 2.0 * np.exp(-np.expm1(times))
    error = np.abs(result.state.values[0] - np.stack([np.exp(times), exact], axis=1))
    assert (error <= 2.0 * result.state_step_error.values + 1e-9).all()
    np.testing.assert_allclose(result.state.values[0, :, 0], np.exp(times), rtol=4e-3)
    np.testing.assert_allclose(result.state.values[0, :, 1], exact, rtol=4e-3)
    assert result.attrs["evaluations"] < 1000


NETWORKS = {
    "reduced": MODEL,
    "one neuron": MODEL.replace(width=1),
    "planted": MODEL.replace(initial_overlap=0.2, label_noise=0.3, weight_decay=0.05),
    "centred": MODEL.replace(width=50, centered=True),
    "wide": MODEL.replace(width=500, dim=10),
    "tanh": Committee(alpha=1.0, kappa=4.0, width=3, activation="tanh", dim=20),
    "relu": Committee(alpha=1.0, kappa=4.0, width=3, activation="relu", dim=20, train_readout=True),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("planted", "wide", "relu") else name for name in NETWORKS],
)
def test_it_is_what_small_steps_of_descent_tend_to(name: str) -> None:
    """Descent at two steps, extrapolated: what is left of its error is of second order in the step."""
    model, times = NETWORKS[name], np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    form = "network" if getattr(model, "width", None) else "auto"
    result = simulate(model, 4.0, seeds=2, times=times, form=form)
    coarse, fine = (simulate(model, 4.0, seeds=2, times=times, step=step, form=form) for step in (0.01, 0.005))
    for loss in ("train_loss", "test_loss"):
        limit = 2.0 * fine[loss] - coarse[loss]
        left = np.abs(fine[loss] - coarse[loss]) * (0.02 if name != "relu" else 0.1)
        allowed = 2.0 * result[f"{loss}_step_error"] + left
        assert (np.abs(result[loss] - limit) <= allowed + 1e-12).all(), loss
        assert float(np.abs(result[loss] / limit - 1.0).max()) < 2e-3
        assert float(np.abs(coarse[loss] / limit - 1.0).max()) > float(np.abs(result[loss] / limit - 1.0).max())


@pytest.mark.parametrize("rtol", [1e-2, 1e-3])
def test_the_error_claimed_is_there(rtol: float) -> None:
    """Against a run at a local tolerance of 10^-8, in a rich case that overfits: the train loss falls to 10^-4."""
    model, times = Model(alpha=0.5, epsilon=0.5, kappa=2.0, dim=30), np.append(0.0, np.geomspace(0.1, 40.0, 40))
    exact = simulate(model, 40.0, seeds=2, times=times, rtol=3e-6)
    result = simulate(model, 40.0, seeds=2, times=times, rtol=rtol)
    assert float(exact.train_loss[0, -1] / exact.train_loss[0, 0]) < 1e-3
    for loss in ("train_loss", "test_loss"):
        error, value = abs(result[loss] - exact[loss]).max("seed"), exact[loss].mean("seed")
        claimed = result[f"{loss}_step_error"]
        assert (error <= rtol * value + 1e-5 * value[0]).all(), loss
        assert (error <= 3.0 * claimed + 1e-6 * value).all(), loss
        assert float((claimed / value)[1:].max()) < 20.0 * float((error / value)[1:].max())  # and not much more


@pytest.mark.slow
def test_the_error_claimed_is_a_bound_and_not_a_loose_one() -> None:
    """Ten random models, against a run at a local tolerance of 2 10^-10: points of the curves of all seeds."""
    generator, times = np.random.default_rng(0), np.append(0.0, np.geomspace(0.02, 1.0, 60))
    held, loose, worst = [], [], []
    for _ in range(10):
        model = Model(
            alpha=float(np.exp(generator.uniform(np.log(0.25), np.log(8.0)))),
            epsilon=float(np.exp(generator.uniform(np.log(0.1), 0.0))),
            kappa=float(generator.choice([1.2, 4.0])),
            dim=20,
            centered=bool(generator.integers(2)),
            initial_overlap=float(generator.choice([0.0, 0.1])),
            label_noise=float(generator.choice([0.0, 0.3])),
            weight_decay=float(generator.choice([0.0, 0.02])),
        )
        t_max = float(np.exp(generator.uniform(np.log(5.0), np.log(200.0))))
        options: dict[str, Any] = {"seeds": 4, "times": t_max * times, "form": "reduced"}
        exact = simulate(model, t_max, rtol=2e-7, **options)
        result = simulate(model, t_max, **options)
        for name in ("train_loss", "test_loss", "trace", "overlap"):
            error = np.abs(result[name].values - exact[name].values)[:, 1:]
            claimed = result[f"{name}_step_error"].values[1:]
            negligible = 1e-6 * np.abs(exact[name].values[:, 1:])
            held.append((error <= np.maximum(claimed, negligible)).mean())
            around = np.stack([error[:, max(0, i - 5) : i + 6].max() for i in range(error.shape[1])])
            loose.append(np.median(claimed / np.maximum(around, negligible.mean(axis=0))))
            worst.append((error.mean(axis=0) / np.maximum(claimed, negligible.mean(axis=0))).max())
    assert np.mean(held) >= 0.95
    assert np.quantile(loose, 0.9) < 3.0
    assert np.max(worst) < 3.0


@pytest.mark.slow
def test_small_residuals_are_controlled_beside_the_state() -> None:
    """The train loss falls to 2 10^-7 of its start."""
    model, times = Model(alpha=0.5, epsilon=0.5, kappa=1.5, dim=20, centered=True), [0.0, 40.0]
    exact, result = (simulate(model, 40.0, seeds=1, times=times, rtol=rtol).train_loss[0, 1] for rtol in (1e-5, 1e-3))
    system = quadratic_system(model, "reduced")
    equations = system.equations

    def shifted(fields: Any, by: float) -> Any:
        """Fields that are large, so that no error of theirs is."""
        return jax.tree.map(lambda array: array + by, fields)

    hidden = Equations(
        forward=lambda state, data: shifted(equations.forward(state, data), 1e6),
        gradient=lambda state, data, fields: equations.gradient(state, data, shifted(fields, -1e6)),
        observe=lambda state, data, fields: equations.observe(state, data, shifted(fields, -1e6)),
        prepare=equations.prepare,
    )
    state_alone = follow(dataclasses.replace(system, equations=hidden), 40.0, times=times).train_loss[0, 1]
    assert abs(float(result / exact) - 1.0) < 0.01
    assert abs(float(state_alone / exact) - 1.0) > 5.0 * abs(float(result / exact) - 1.0)


def test_precision_seeds_and_density_of_times() -> None:
    many = simulate(MODEL, 20.0, seeds=2)
    one = simulate(MODEL, 20.0, seeds=1)
    np.testing.assert_array_equal(many.train_loss[0], one.train_loss[0])  # each seed has steps of its own
    single = simulate(MODEL, 20.0, seeds=1, precision="float32", times=one.time)
    np.testing.assert_allclose(single.test_loss, one.test_loss, rtol=2e-3)
    np.testing.assert_allclose(single.train_loss, one.train_loss, rtol=5e-3)
    assert (float(one.time[0]), float(one.time[-1])) == (0.0, 20.0)
    every_other = np.interp(one.time[1:-1:2], one.time[::2], one.train_loss[0, ::2])
    assert np.abs(every_other / one.train_loss[0, 1:-1:2] - 1.0).max() < 4 * 3e-3
    attributes = one.attrs
    assert (attributes["step"], attributes["rtol"], attributes["tolerance_met"]) == ("flow", 1e-3, 1)
    assert attributes["integrator"].startswith("Runge-Kutta-Chebyshev")
    assert 50 < attributes["evaluations"] < 400
    assert attributes["evaluations_for_errors"] < attributes["evaluations"]
    assert attributes["rejected"] >= 0


class Stopped(Exception):
    """The run was stopped on purpose."""


@pytest.mark.parametrize(("precision", "groups"), [("float64", 1), pytest.param("float32", 3, marks=pytest.mark.slow)])
def test_a_flow_goes_on_as_if_it_had_never_stopped(
    precision: str, groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after every few evaluations, with other memory than before, and stopped four times."""
    options: dict[str, Any] = {"seeds": 3, "precision": precision}
    whole = simulate(MODEL, 5.0, **options)
    monkeypatch.setattr(driver, "group_size", lambda *_: -(-5 // groups))
    monkeypatch.setattr(flow_groups, "chunk_budget", lambda *_: 5)
    path, original = tmp_path / "run.npz", flow_groups.go_on
    for calls in (3, 6, 1, 0, None):
        left = iter(range(calls)) if calls is not None else None

        def go_on(*arguments: Any, left: Any = left) -> Any:
            if left is not None and next(left, None) is None:
                raise Stopped
            return original(*arguments)

        monkeypatch.setattr(flow_groups, "go_on", go_on)
        if calls is None:
            assert simulate(MODEL, 5.0, **options, checkpoint=path, checkpoint_every=0.0).identical(whole)
            break
        with pytest.raises(Stopped):
            simulate(MODEL, 5.0, **options, checkpoint=path, checkpoint_every=0.0)
        monkeypatch.setattr(driver, "group_size", lambda *_: 5)
    with pytest.raises(ParameterError, match=r"of this very run.*rtol = 0.001 there, 0.01 here"):
        simulate(MODEL, 5.0, **options, rtol=0.01, checkpoint=path)


def test_it_stops_where_every_seed_is_below_every_threshold() -> None:
    full = simulate(MODEL, 20.0, seeds=3)
    last = int(np.argmax((full.train_loss < 0.05).all("seed").values))
    short = simulate(MODEL, 20.0, seeds=3, stop_below={"train_loss": 0.05})
    assert (short.sizes["time"], short.attrs["stopped"]) == (last + 1, 1)
    np.testing.assert_array_equal(short.test_loss, full.test_loss[:, : last + 1])


def test_what_is_not_finite_is_located_and_leaves_its_curves() -> None:
    """x' = x^2 from 1/2 ends at t = 2."""
    with pytest.raises(DivergenceError, match=r"cannot be followed beyond t = 2\.?\d* \(seed 0\)") as caught:
        follow(toy(lambda y: -(y**2), [0.5]), 5.0, times=np.linspace(0.0, 5.0, 51))
    curves = caught.value.curves
    assert curves.attrs["complete"] == 0
    assert 1.9 <= float(curves.time[-1]) <= 2.0
    early = curves.sel(time=slice(0.0, 1.85))
    np.testing.assert_allclose(early.state[0, :, 0], 1.0 / (2.0 - early.time), rtol=0.02)
    with pytest.raises(DivergenceError, match="beyond t = 0") as caught:
        follow(toy(lambda y: y / 0.0, [1.0]), 1.0, times=[0.0, 1.0])
    assert caught.value.curves is None


def test_what_is_too_stiff_says_so() -> None:
    with pytest.raises(StiffnessError, match=r"too stiff at t = \S+ \(seed 0\): its fastest rate is 1e\+13"):
        follow(toy(lambda y: jnp.array([1e13, 1.0]) * y, [1.0, 1.0]), 1e3, times=[0.0, 1e3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "momentum"}, "`step` must be given with optimizer = momentum"),
        ({"optimizer": "adam"}, "`step` must be given with optimizer = adam"),
        ({"optimizer": Optimizer(batch_size=5)}, "`step` must be given with optimizer = gd, batch_size = 5"),
        ({"optimizer": Optimizer(schedule="cosine")}, "`step` must be given with optimizer = gd, schedule = cosine"),
        ({"rtol": 0.0}, "`rtol` must be a finite number >= 1e-09"),
        ({"rtol": 1e-5, "precision": "float32"}, "`rtol` must be a finite number >= 0.0001"),
        ({"rtol": 0.5}, "`rtol` must be at most 0.1, but is 0.5"),
    ],
    ids=str,
)
def test_what_is_no_flow_is_refused_with_what_to_give(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=f"^Argument {words}"):
        simulate(MODEL, 1.0, **options)


@pytest.mark.slow
def test_an_experiment_and_its_linearised_twin_follow_the_flow() -> None:
    model = Model(alpha=3.0, epsilon=0.3, kappa=2.0, dim=15, width=8)
    experiment = Experiment(model=model, activation="hermite3", target="hermite3")
    options: dict[str, Any] = {"seeds": 1, "linearized": True, "times": [0.0, 1.0, 3.0]}
    result = simulate(experiment, 3.0, **options)
    coarse, fine = (simulate(experiment, 3.0, step=step, **options) for step in (0.02, 0.01))
    for name in ("train_loss", "test_loss", "linearized_train_loss", "linearized_test_loss"):
        limit = 2.0 * fine[name] - coarse[name]
        left = float(np.abs(result[name] / limit - 1.0).max())
        assert left < 1e-3, name
        assert left < 0.3 * float(np.abs(coarse[name] / limit - 1.0).max()), name
    np.testing.assert_allclose(result.kernel_regression_train_loss, fine.kernel_regression_train_loss)
    dense = simulate(experiment, 3.0, seeds=1)  # times of its own, though it has no bound on its rates
    assert float(dense.time[-1]) == 3.0
    assert dense.sizes["time"] > 20
