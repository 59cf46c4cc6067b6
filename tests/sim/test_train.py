"""`sim.train`: its steps against loops by hand, its twin, its draws, what interrupts it, and what it refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compare import grokking_delay
from dmft.checks import DivergenceError, ParameterError, precision_context
from sim import interventions, measures, networks, norm_landscape, tasks, train
from sim.lab import losses, modules
from sim.training import groups as training

eqx = pytest.importorskip("equinox")

TASK = tasks.modular("add", 5, train_fraction=0.6, corruption=0.3, seed=1)
NETWORK = networks.two_embeddings(6, deviation=0.5)
RULE = optax.adamw(0.02, weight_decay=0.1)
VALUES = tasks.student_teacher((3, 6, 2), train=12, test=7, tolerance=0.05)


def by_hand(
    network: Any, task: Any, rule: Any, loss: str, steps: int, index: int, alpha: float, centred: bool, seed: int = 0
) -> list[dict[str, Any]]:
    """Parameters after every step of a plain loop over autodiff gradients, in float64."""
    start = measures.initial(network, task, seed=seed, index=index)
    arrays, samples = start.arrays, losses.LOSSES[loss].samples
    with precision_context("float64"):
        offset = start.program(start.parameters, arrays.x) if centred else 0.0

        def descended(p: Any) -> Any:
            return jnp.mean(samples(alpha * (start.program(p, arrays.x) - offset), arrays.y))

        p, own, found = start.parameters, rule.init(start.parameters), [start.parameters]
        for _ in range(steps):
            step, own = rule.update(jax.grad(descended)(p), own, p)
            p = optax.apply_updates(p, step)
            found.append(p)
    return found


def test_steps_are_those_of_the_optimiser_on_autodiff_gradients() -> None:
    dataset = train(
        NETWORK, TASK, 12, optimizer=RULE, alpha=1.7, centred=True, seeds=2, precision="float64", weights=True,
        measures=("linearized", "ipr", "descent_cosine"), times=[0, 3, 12],
    )  # fmt: skip
    hand = by_hand(NETWORK, TASK, RULE, "square", 12, 1, 1.7, True)
    start = measures.initial(NETWORK, TASK, index=1)
    for name, value in hand[-1].items():
        np.testing.assert_allclose(dataset[f"weights_{name}"][1], value, rtol=1e-9, atol=1e-12)
    after = dataset.isel(seed=1).sel(step=3)
    with precision_context("float64"):
        data = start.arrays
        f, f_test = (1.7 * (start.program(hand[3], x) - start.program(hand[0], x)) for x in (data.x, data.x_test))
        hit = np.asarray(f).argmax(axis=1) == data.y
        np.testing.assert_allclose(after.train_loss, np.mean((f - np.eye(5)[data.y]) ** 2), rtol=1e-10)
        np.testing.assert_allclose(after.test_loss, np.mean((f_test - np.eye(5)[data.y_test]) ** 2), rtol=1e-10)
        np.testing.assert_allclose(after.ipr, measures.neuron_participation(hand[3]), rtol=1e-9)
        np.testing.assert_allclose(after.weight_norm, measures.weight_norm(hand[3]), rtol=1e-10)
    assert after.train_accuracy == hit.mean()
    assert after.clean_accuracy == hit[~data.corrupted].mean()
    assert after.corrupted_accuracy == hit[data.corrupted].mean()
    twin = linearized_by_hand(start, 12, 1.7)
    np.testing.assert_allclose(dataset.linearized_train_loss.isel(seed=1, step=-1), twin, rtol=1e-9)
    assert abs(float(dataset.train_loss[1, -1]) - twin) > 1e-3 * twin
    whole = measures.trained(dataset, NETWORK, TASK, 1)
    curve = measures.pruning_curve(whole, "random", points=3)
    with precision_context("float64"):
        answers = np.asarray(start.program(hand[-1], start.arrays.x)).argmax(axis=1)  # of f, without centring
    assert curve["train"][0] == np.mean(answers == start.arrays.y)
    assert curve["pruned"].tolist() == [0.0, 0.5, 1.0]


def linearized_by_hand(start: Any, steps: int, alpha: float) -> float:
    """Train loss of f_0 + jvp, trained by the same rule, centred."""
    zero, data = start.parameters, start.arrays
    with precision_context("float64"):
        target = jnp.eye(5)[data.y]

        def residual(p: Any) -> Any:
            change = jax.tree.map(jnp.subtract, p, zero)
            slope = jax.jvp(lambda q: start.program(q, data.x), (zero,), (change,))[1]
            return alpha * slope - target

        p, own = zero, RULE.init(zero)
        for _ in range(steps):
            step, own = RULE.update(jax.grad(lambda q: jnp.mean(residual(q) ** 2))(p), own, p)
            p = optax.apply_updates(p, step)
        return float(jnp.mean(residual(p) ** 2))


def test_draws_depend_on_seed_and_index_alone() -> None:
    one = train(NETWORK, TASK, 3, optimizer=RULE, seeds=1, times=[0, 3])
    two = train(NETWORK, TASK, 3, optimizer=RULE, seeds=2, times=[0, 3])
    np.testing.assert_array_equal(one.train_loss[0], two.train_loss[0])
    assert two.train_loss[0, 0] != two.train_loss[1, 0]
    assert one.attrs["task_corruption"] == 0.3
    assert one.attrs["steps"] == 3
    assert {"train_loss_stderr", "corrupted_accuracy"} <= set(one)
    assert one.step.dtype.kind == "i"
    assert grokking_delay(two, 0.5).t_train.runs == 2


class Stopped(Exception):
    """The run was stopped on purpose."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "settings"),
    [
        (NETWORK, {"measures": ("linearized", "movement"), "weights": True}),
        (networks.two_embeddings(6, dropout=0.3, batchnorm=True), {"batch_size": 4, "loss": "cross_entropy_float16"}),
    ],
    ids=["twin", "dropout"],
)
def test_a_run_goes_on_to_the_last_bit(
    network: Any, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "OPERATIONS_CPU", 1.0)
    options = {"optimizer": RULE, "seeds": 2, **settings}
    whole = train(network, TASK, 20, **options)
    original, path = training.run_piece, tmp_path / "run.npz"
    for pieces in (3, 11):
        left = iter(range(pieces))

        def run_piece(*arguments: Any, left: Any = left) -> Any:
            if next(left, None) is None:
                raise Stopped
            return original(*arguments)

        monkeypatch.setattr(training, "run_piece", run_piece)
        with pytest.raises(Stopped):
            train(network, TASK, 20, **options, checkpoint=path, checkpoint_every=0.0)
    monkeypatch.setattr(training, "run_piece", original)
    assert train(network, TASK, 20, **options, checkpoint=path, checkpoint_every=0.0).identical(whole)
    assert train(network, TASK, 20, **options, checkpoint=path).identical(whole)  # once more, when it is done
    with pytest.raises(ParameterError, match=r"of another: alpha = 1\.0 there, 2\.0 here"):
        train(network, TASK, 20, **options, checkpoint=path, alpha=2.0)


KILLED = """
import optax, sys
from sim import networks, tasks, train
task = tasks.modular("add", 23, train_fraction=0.6, corruption=0.3)
run = train(networks.two_embeddings(50), task, {steps}, optimizer=optax.adamw(0.01), seeds=2, checkpoint=sys.argv[1],
    checkpoint_every=0.0, times=range(0, {steps} + 1, 50), measures="ipr")
run.to_netcdf(sys.argv[2], engine="h5netcdf")
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    import xarray

    program = KILLED.format(steps=20_000)
    paths = [tmp_path / name for name in ("whole.npz", "whole.nc", "cut.npz", "cut.nc")]
    command = [sys.executable, "-c", program]
    subprocess.run([*command, *map(str, paths[:2])], check=True)
    process = subprocess.Popen([*command, *map(str, paths[2:])])
    until = time.monotonic() + 120.0
    while not paths[2].exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert paths[2].exists()
    assert not paths[3].exists()
    subprocess.run([*command, *map(str, paths[2:])], check=True)
    assert xarray.load_dataset(paths[3]).identical(xarray.load_dataset(paths[1]))


@pytest.mark.slow
def test_dropout_draws_anew_in_each_step_and_not_at_observations() -> None:
    network = networks.two_embeddings(40, dropout=0.5, deviation=0.5)
    still = train(network, TASK, 6, optimizer=optax.sgd(0.0), seeds=1, times=range(7))
    assert np.ptp(still.train_loss.values) == 0.0
    moving = train(network, TASK, 6, optimizer=optax.sgd(0.1), seeds=1, times=range(7), weights=True)
    plain = by_hand(networks.two_embeddings(40, deviation=0.5), TASK, optax.sgd(0.1), "square", 6, 0, 1.0, False)
    other = np.linalg.norm(moving.weights_readout[0] - plain[-1]["readout"])
    assert 0.01 < other / np.linalg.norm(plain[-1]["readout"] - plain[0]["readout"]) < 2.0
    with precision_context("float32"):
        draws = [modules.dropped(jnp.ones(20_000), 0.3, jax.random.key(i)) for i in range(2)]
    assert abs(float(draws[0].mean()) - 1.0) < 4.0 * np.sqrt(0.3 / 0.7 / 20_000)
    assert not np.array_equal(*draws)


@pytest.mark.slow
def test_the_twin_is_the_network_where_it_is_lazy_and_ends_in_kernel_regression() -> None:
    network, alpha = networks.mlp((60,), activation="tanh"), 300.0
    dataset = train(
        network, VALUES, 20_000, optimizer=optax.sgd(0.02 / alpha**2, 0.95), alpha=alpha, centred=True, seeds=2,
        precision="float64", measures=("linearized", "movement"),
    )  # fmt: skip
    np.testing.assert_allclose(dataset.test_loss[:, -1], dataset.linearized_test_loss[:, -1], rtol=0.02)
    assert float(dataset.movement.max()) < 0.02
    for index in range(2):
        start = measures.initial(network, VALUES, index=index)
        with precision_context("float64"):
            answers = measures.kernel_regression(start.program, start.parameters, start.arrays, start.arrays.y)
        regression = np.mean((answers - start.arrays.y_test) ** 2)
        np.testing.assert_allclose(dataset.linearized_test_loss[index, -1], regression, rtol=0.1)


@pytest.mark.slow
def test_networks_of_ones_own() -> None:
    def make(key: Any) -> Any:
        return eqx.nn.MLP(3, 2, 5, 1, key=key)

    pair = (lambda key: {"w": jax.random.normal(key, (3, 2))}, lambda p, x: x @ p["w"])
    for network in (make, make(jax.random.key(3)), pair):
        dataset = train(network, VALUES, 4, optimizer=optax.sgd(0.1), seeds=2, precision="float64", weights=True)
        hand = by_hand(network, VALUES, optax.sgd(0.1), "square", 4, 1, 1.0, False)
        for name, value in hand[-1].items():
            np.testing.assert_allclose(dataset[f"weights_{name}"][1], value, rtol=1e-9, atol=1e-12)

    class Dropping(eqx.Module):
        inner: Any
        drop: Any

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            return self.inner(self.drop(x, key=key))

    def dropping(key: Any) -> Any:
        return Dropping(eqx.nn.Linear(3, 2, key=key), eqx.nn.Dropout(0.5))

    runs = [train(dropping, VALUES, 5, optimizer=optax.sgd(rate), seeds=1, times=range(6)) for rate in (0.0, 0.1)]
    assert np.ptp(runs[0].train_loss.values) == 0.0
    assert np.ptp(runs[1].train_loss.values) > 0.0


@pytest.mark.slow
def test_the_landscape_keeps_the_norm_and_takes_the_best_step() -> None:
    network = networks.mlp((8,), activation="tanh")
    found = norm_landscape(network, VALUES, 30, factors=(0.5, 1.0), optimizer=optax.adam(0.01), seeds=2)
    assert found.train_loss.dims == ("seed", "factor")
    for index in range(2):
        start = measures.weight_norm(measures.initial(network, VALUES, index=index).parameters)
        np.testing.assert_allclose(found.weight_norm[index], np.array([0.5, 1.0]) * float(start), rtol=1e-5)
    rule = optax.chain(optax.adam(0.01), interventions.on_sphere())
    run = train(networks.scaled(network, 0.5), VALUES, 30, optimizer=rule, seeds=2)
    best = run.train_loss.argmin("step")
    np.testing.assert_array_equal(found.test_loss[:, 0], run.test_loss.isel(step=best))
    with pytest.raises(ParameterError, match="`factors` must be strictly increasing numbers > 0"):
        norm_landscape(network, VALUES, 30, factors=(1.0, 0.5))


def test_what_diverges_is_located() -> None:
    with pytest.raises(DivergenceError, match=r"by t = \d+ \(step \d+, seed 0: train loss .*lower the learning rate"):
        train(NETWORK, TASK, 12, optimizer=optax.sgd(1e6), seeds=2, times=[0, 3, 12])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": 3}, "`network` must be one of sim.networks, an Equinox module"),
        ({"task": "mnist"}, "`task` must be one of sim.tasks"),
        ({"network": lambda key: eqx.nn.Linear(2, 4, key=key)}, "`network` must have 5 outputs"),
        ({"network": lambda key: eqx.nn.Linear(9, 5, key=key)}, "`network` must fit the task, but fails"),
        ({"task": VALUES}, "two_embeddings takes two tokens"),
        ({"task": VALUES, "loss": "cross_entropy"}, "`loss` must be square for values"),
        ({"loss": "logistic"}, "must not be logistic unless there are two classes"),
        ({"loss": "hinge"}, "`loss` must be one of square, cross_entropy"),
        ({"optimizer": "adam"}, "`optimizer` must be an optax.GradientTransformation"),
        ({"alpha": 0.0}, "`alpha` must be a finite number > 0"),
        ({"steps": 0}, "`steps` must be an integer >= 1"),
        ({"measures": "norms"}, "`measures` must be of movement, linearized"),
        ({"network": networks.mlp((4,)), "measures": "ipr"}, "must not contain ipr unless"),
        ({"network": networks.two_embeddings(4, batchnorm=True), "measures": "kernel"}, "kernel with BatchNorm"),
        ({"precision": "float16"}, "`precision` must be one of float64, float32"),
        ({"epochs": 3}, "`epochs` is none of train"),
        ({"times": [0, 30]}, "`times` must be"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as error:
        train(**{"network": NETWORK, "task": TASK, "steps": 5, **changes})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.mlp((3,), activation="sine"), "`activation` must be one of relu, tanh"),
        (lambda: networks.mlp((0,)), "`widths` must be an integer >= 1"),
        (lambda: networks.transformer(10, heads=4), "`width` must be a multiple of heads = 4"),
        (lambda: networks.two_embeddings(5, dropout=1.0), "`dropout` must be a number >= 0 and < 1"),
        (lambda: networks.scaled(NETWORK, -1.0), "`factor` must be a finite number > 0"),
    ],
)
def test_networks_that_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert message in str(error.value)
