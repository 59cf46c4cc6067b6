"""Optimisers against optax used by hand on an independently written loss, and minibatches against their definition."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dmft.checks import DivergenceError, ParameterError, precision_context
from dmft.compiled.executables import COUNTS
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.committee import Committee
from dmft.models.model import Model
from sim import Optimizer, simulate
from sim.systems.draws import draw_replica
from sim.systems.forms import choose_form
from sim.systems.quadratic import EQUATIONS
from sim.training.batches import make_batches, replica_key
from sim.training.optimizers import Pace, schedule_factor

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20, width=15)
DECAYING = MODEL.replace(alpha=0.7, weight_decay=0.2, centered=True, label_noise=0.3)
STEP, COUNT = 0.1, 12


def outputs(weights: Any, inputs: Any) -> Any:
    """f of the model DECAYING, not centred; weights (N, D), inputs (P, D)."""
    h = weights @ inputs.T
    return DECAYING.alpha / DECAYING.width * jnp.sum(h + DECAYING.epsilon / 2 * h**2, axis=0)


@jax.jit
def mean_square(weights: Any, inputs: Any, targets: Any) -> Any:
    return jnp.mean((outputs(weights, inputs) - targets) ** 2)


slope = jax.jit(jax.grad(mean_square))


def train_by_hand(transformation: Any, decay: float, batches: Any = None) -> np.ndarray:
    """Train losses (COUNT + 1,) of optax on autodiff gradients, per unit of time, of replica 0 of DECAYING.

    Weight decay at rate `decay` joins the gradient; `batches` gives the samples of step n.
    """
    draw, losses = draw_replica(DECAYING, 0, 0), []
    with precision_context("float64"):
        x, weights = jnp.asarray(draw.inputs), jnp.asarray(draw.weights)
        y, own = jnp.asarray(draw.labels) + outputs(weights, x), transformation.init(weights)
        speed = DECAYING.learning_rate_from_step(1.0, loss_factor=2.0)  # on the plain mean square, per unit of time
        for n in range(COUNT + 1):
            losses.append(float(mean_square(weights, x, y)))
            rows = slice(None) if batches is None else batches(n)
            gradient = speed * slope(weights, x[rows], y[rows]) + decay * weights
            updates, own = transformation.update(gradient, own, weights)
            weights = optax.apply_updates(weights, updates)
    return np.array(losses)


#: Rule, the same of optax, and whether weight decay joins the gradient.
CASES = {
    "gd": ("gd", optax.sgd(STEP), True),
    "optax": (optax.sgd(STEP), optax.sgd(STEP), True),
    "nesterov": (Optimizer("nesterov", 0.5), optax.sgd(STEP, 0.5, nesterov=True), True),
    "adam": ("adam", optax.adam(STEP), True),
    "adamw": ("adamw", optax.adamw(STEP, weight_decay=DECAYING.weight_decay), False),
    "warmup": (Optimizer("gd", warmup=3), optax.sgd(lambda n: STEP * jnp.minimum(1.0, (n + 1) / 4)), True),
    "cosine": (Optimizer("adam", schedule="cosine"), optax.adam(optax.cosine_decay_schedule(STEP, COUNT)), True),
    "function": (
        Optimizer("momentum", schedule=optax.exponential_decay(1.0, 4, 0.5)),
        optax.sgd(optax.exponential_decay(STEP, 4, 0.5), 0.9),
        True,
    ),
    "array": (
        Optimizer("nesterov", 0.5, schedule=0.5 ** (np.arange(COUNT) / 4)),
        optax.sgd(optax.exponential_decay(STEP, 4, 0.5), 0.5, nesterov=True),
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_are_those_of_optax_on_the_textbook_gradient(case: str) -> None:
    rule, transformation, coupled = CASES[case]
    result = simulate(DECAYING, STEP * COUNT, seeds=1, step=STEP, form="network", optimizer=rule)
    expected = train_by_hand(transformation, DECAYING.weight_decay if coupled else 0.0)
    scheduled = isinstance(rule, Optimizer) and rule.scheduled  # optax's schedules are in single precision
    np.testing.assert_allclose(result.train_loss[0], expected, rtol=3e-7 if scheduled else 1e-9)


def test_sgd_of_optax_is_plain_gradient_descent() -> None:
    plain, by_optax = (
        simulate(DECAYING, 4.0, seeds=2, step=STEP, form="network", optimizer=rule) for rule in ("gd", optax.sgd(STEP))
    )
    for name in OBSERVABLES:
        np.testing.assert_allclose(by_optax[name], plain[name], rtol=1e-11, atol=1e-14)
    assert (plain.attrs["optimizer"], by_optax.attrs["optimizer"]) == ("gd", "optax")


@pytest.mark.slow
def test_rules_linear_in_the_gradient_agree_in_both_forms() -> None:
    optimizer = Optimizer("nesterov", 0.5, batch_size=20, schedule="cosine")
    network, reduced = (
        simulate(DECAYING.replace(width=60), 2.0, seeds=2, step=0.05, form=form, optimizer=optimizer)
        for form in ("network", "reduced")
    )
    for name in OBSERVABLES:
        np.testing.assert_allclose(reduced[name], network[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("rule", ["adam", "adamw", optax.sgd(0.1)], ids=["adam", "adamw", "optax"])
def test_rules_that_see_coordinates_are_refused_in_the_reduced_form(rule: Any) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `form` must be network .* allows gd, momentum, nesterov"):
        simulate(MODEL, 1.0, step=0.1, form="reduced", optimizer=rule)
    with pytest.raises(ParameterError, match=r"^Argument `width` .* must be finite .* allows gd, momentum, nesterov"):
        simulate(MODEL.replace(width=None), 1.0, step=0.1, optimizer=rule)
    wide = MODEL.replace(width=40)
    assert choose_form(wide, "auto", Optimizer()) == "reduced"
    assert choose_form(wide, "auto", Optimizer(rule)) == "network"


def drawn_batches(size: int, replacement: bool, count: int, samples: int = 60) -> np.ndarray:
    """Indices (count, B) of the first steps, as the loop draws them."""
    optimizer = Optimizer(batch_size=size, replacement=replacement)
    key = jax.random.key_data(jax.random.fold_in(replica_key(0, 0), 4))
    equations = EQUATIONS._replace(select=lambda data, indices: data[indices])
    pace = Pace(*map(jnp.asarray, (STEP, 0.0, float(count))))
    memory, part, _ = make_batches(equations, optimizer, None, samples, pace, key)
    part, batches = jax.jit(part), []
    for n in range(count):
        indices, memory = part(jnp.asarray(n), memory, jnp.arange(samples))
        batches.append(np.asarray(indices))
    return np.array(batches)


@pytest.mark.parametrize("replacement", [False, True])
def test_minibatch_descent_is_descent_on_the_batches(replacement: bool) -> None:
    batches = drawn_batches(7, replacement, COUNT + 1)
    expected = train_by_hand(optax.adam(STEP), DECAYING.weight_decay, lambda n: batches[n])
    optimizer = Optimizer("adam", batch_size=7, replacement=replacement)
    result = simulate(DECAYING, STEP * COUNT, seeds=1, step=STEP, optimizer=optimizer)
    np.testing.assert_allclose(result.train_loss[0], expected, rtol=1e-9)
    sparse = simulate(
        DECAYING, STEP * COUNT, seeds=1, step=STEP, optimizer=optimizer, times=[0.5, 1.2], precision="float32"
    )
    np.testing.assert_allclose(sparse.train_loss[0], expected[[5, 12]], rtol=1e-4)
    assert (result.attrs["batch_size"], result.attrs["replacement"]) == (7, int(replacement))


def test_batches_of_large_seeds_are_the_same_in_both_precisions() -> None:
    batches = {"seed": 2**40 + 3, "optimizer": Optimizer(batch_size=7), "step": STEP, "seeds": 1}
    double, single = (simulate(MODEL, 2.0, **batches, precision=name) for name in ("float64", "float32"))
    np.testing.assert_allclose(single.train_loss, double.train_loss, rtol=1e-4)


def test_rules_written_alike_share_what_is_compiled() -> None:
    simulate(MODEL, 0.5, seeds=1, step=STEP, optimizer=optax.adam(0.03))
    before = COUNTS["compiled"] + COUNTS["loaded"]
    simulate(MODEL, 0.5, seeds=1, step=STEP, optimizer=optax.adam(0.03))
    assert COUNTS["compiled"] + COUNTS["loaded"] == before
    simulate(MODEL, 0.5, seeds=1, step=STEP, optimizer=Optimizer(schedule=lambda n: 1 / (2 + n)))
    before = COUNTS["compiled"] + COUNTS["loaded"]
    simulate(MODEL, 0.5, seeds=1, step=STEP, optimizer=Optimizer(schedule=lambda n: 1 / (2 + n)))
    assert COUNTS["compiled"] + COUNTS["loaded"] == before


TABLE = np.linspace(1.0, 0.5, 5)


@pytest.mark.parametrize(
    "schedule",
    [lambda n: 1.0 if n < 3 else 0.5, lambda n: np.where(n < 3, 1.0, 0.5), lambda n: TABLE[n]],
    ids=["branches", "numpy", "table"],
)
def test_functions_that_jax_cannot_trace_are_those_of_numbers(schedule) -> None:
    values = np.array([float(schedule(n)) for n in range(5)])
    both = (simulate(MODEL, 0.5, seeds=1, step=STEP, optimizer=Optimizer(schedule=one)) for one in (schedule, values))
    found, expected = (run.train_loss.to_numpy() for run in both)
    np.testing.assert_array_equal(found, expected)


def test_an_array_is_a_copy_and_tells_runs_apart(tmp_path) -> None:
    factors = np.linspace(1.0, 0.0, 5)
    optimizer = Optimizer(schedule=factors)
    factors[:] = 1.0
    run = {"seeds": 1, "step": STEP, "checkpoint": tmp_path / "a", "checkpoint_every": 0.0}
    falling = simulate(MODEL, 5 * STEP, optimizer=optimizer, **run)
    with pytest.raises(ParameterError, match="schedule_code = "):
        simulate(MODEL, 5 * STEP, optimizer=Optimizer(schedule=factors), **run)
    same = simulate(MODEL, 5 * STEP, seeds=1, step=STEP, optimizer=Optimizer(schedule=lambda n: 1.0 - n / 4))
    np.testing.assert_allclose(falling.train_loss, same.train_loss, rtol=1e-12)
    assert (falling.attrs["schedule"], same.attrs["schedule"]) == ("array", "function")
    assert falling.attrs["schedule_factors"] == same.attrs["schedule_factors"]
    assert Optimizer(schedule=list(np.ones(3))) == Optimizer(schedule=np.ones(3)) != Optimizer(schedule=np.zeros(3))


def test_an_epoch_without_replacement_shows_every_sample_once() -> None:
    batches = drawn_batches(20, False, 9).reshape(3, 60)
    for epoch in batches:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(60))
    assert not np.array_equal(batches[0], batches[1])
    leftover = drawn_batches(25, False, 4).reshape(2, 50)
    assert all(np.unique(epoch).size == 50 for epoch in leftover)


def test_batches_with_replacement_are_uniform() -> None:
    counts = np.bincount(drawn_batches(60, True, 200).ravel(), minlength=60)
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4
    assert any(np.unique(batch).size < 60 for batch in drawn_batches(60, True, 3))


def test_schedules_start_at_one_and_end_at_zero() -> None:
    pace = Pace(jnp.asarray(0.1), jnp.asarray(0.0), jnp.asarray(40.0))
    n = np.arange(41)
    linear = [float(schedule_factor(Optimizer(schedule="linear"), pace, k)) for k in n]
    np.testing.assert_allclose(linear, 1.0 - n / 40, atol=1e-6)
    warm = [float(schedule_factor(Optimizer(schedule="cosine", warmup=10), pace, k)) for k in n]
    np.testing.assert_allclose(warm[:10], (n[:10] + 1) / 11, atol=1e-6)
    np.testing.assert_allclose(warm[10:], 0.5 * (1 + np.cos(np.pi * (n[10:] - 10) / 30)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("optimizer", {"rule": "sgdd"}),
        ("optimizer", {"rule": 3}),
        ("momentum", {"rule": "adam", "momentum": 0.9}),
        ("momentum", {"rule": "momentum", "momentum": 1.0}),
        ("momentum", {"rule": "nesterov", "momentum": -0.1}),
        ("batch_size", {"batch_size": 0}),
        ("batch_size", {"batch_size": 1.5}),
        ("batch_size", {"batch_size": 61}),
        ("replacement", {"replacement": True}),
        ("replacement", {"replacement": 1, "batch_size": 3}),
        ("schedule", {"schedule": "steps"}),
        ("schedule", {"schedule": np.ones(9)}),
        ("schedule", {"schedule": np.ones(11)}),
        ("schedule", {"schedule": np.ones((2, 5))}),
        ("schedule", {"schedule": [1.0] * 9 + [-1.0]}),
        ("schedule", {"schedule": [1.0] * 9 + [math.nan]}),
        ("schedule", {"schedule": 0.5}),
        ("schedule", {"schedule": 1j * np.ones(10)}),
        ("schedule", {"schedule": ["1"] * 10}),
        ("schedule", {"schedule": []}),
        ("schedule", {"rule": optax.sgd(0.1), "warmup": 3}),
        ("warmup", {"warmup": -1}),
    ],
    ids=lambda value: str(value)[:45],  # an optax rule ends in an address: not the same in two processes
)
def test_bad_optimizers_are_refused_by_name(name: str, changes: dict) -> None:
    with pytest.raises(ParameterError, match=f"^Argument `{name}`"):
        simulate(MODEL, 1.0, step=0.1, optimizer=Optimizer(**changes))


@pytest.mark.parametrize(
    "schedule",
    [lambda n: 0.5 - n, lambda n: math.nan * n, lambda _: None, lambda _: "a"],
    ids=["negative", "nan", "none", "text"],
)
def test_functions_of_no_factors_are_refused(schedule) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `schedule`"):
        simulate(MODEL, 1.0, step=0.1, optimizer=Optimizer(schedule=schedule))


def test_an_unknown_rule_is_told_what_exists() -> None:
    with pytest.raises(ParameterError, match=r"gd, momentum, nesterov, adam, adamw .* but is 'lion'"):
        simulate(MODEL, 1.0, step=0.1, optimizer="lion")


@pytest.mark.slow
def test_rules_that_ask_for_the_loss_get_the_one_they_descend() -> None:
    """polyak_sgd and lbfgs by hand, on (N D / alpha^2) (1/2P) sum Delta^2 + (lambda/2) |w|^2 by autodiff."""
    draw, decay = draw_replica(DECAYING, 0, 0), DECAYING.weight_decay
    for rule in (optax.polyak_sgd(max_learning_rate=0.5), optax.lbfgs()):
        result = simulate(DECAYING, 4 * STEP, seeds=1, step=STEP, form="network", optimizer=rule)
        with precision_context("float64"):
            x, weights = jnp.asarray(draw.inputs), jnp.asarray(draw.weights)
            y, own = jnp.asarray(draw.labels) + outputs(weights, x), rule.init(weights)
            speed = DECAYING.learning_rate_from_step(1.0)

            def loss(w: Any, y: Any = y, x: Any = x, speed: float = speed) -> Any:
                return speed * mean_square(w, x, y) / 2 + decay * jnp.sum(w**2) / 2

            losses, update = [], jax.jit(partial(rule.update, value_fn=loss))
            for _ in range(5):
                losses.append(float(mean_square(weights, x, y)))
                value, gradient = jax.value_and_grad(loss)(weights)
                updates, own = update(gradient, own, weights, value=value, grad=gradient)
                weights = optax.apply_updates(weights, updates)
        np.testing.assert_allclose(result.train_loss[0], losses, rtol=1e-8)


def test_a_plateau_lowers_the_rate_and_readouts_of_their_own_speed_have_no_loss() -> None:
    rule = optax.chain(optax.sgd(STEP), optax.contrib.reduce_on_plateau(patience=1, factor=0.5, rtol=0.9))
    plain, slower = (simulate(MODEL, 2.0, seeds=1, step=STEP, optimizer=how).train_loss[0] for how in ("gd", rule))
    assert float(slower[-1]) > 1.05 * float(plain[-1])
    committee = Committee(alpha=1.0, kappa=2.0, width=2, activation="erf", dim=10, train_readout=True)
    with pytest.raises(ParameterError, match=r"^Argument `optimizer` must be a rule that does without the value"):
        simulate(committee, 1.0, step=STEP, optimizer=optax.polyak_sgd())


def test_after_divergence_the_advice_concerns_the_rate_of_the_rule() -> None:
    with pytest.raises(DivergenceError, match=r"lower the learning rate of the `optimizer`, .* optax.sgd is") as caught:
        simulate(MODEL, 40.0, seeds=2, step=0.1, optimizer=optax.sgd(2.0))
    advised = float(str(caught.value).split("stable at ")[1].rstrip("."))
    result = simulate(MODEL, 40.0, seeds=2, step=0.1, optimizer=optax.sgd(advised))
    assert float(result.train_loss[:, -1].max()) < float(result.train_loss[:, 0].max())


@pytest.mark.parametrize("optimizer", ["momentum", "adam", Optimizer(batch_size=3), Optimizer(schedule="linear")])
def test_only_plain_descent_stands_for_gradient_flow(optimizer: Any) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `step` must be given with"):
        simulate(MODEL, 1.0, optimizer=optimizer)
