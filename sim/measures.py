"""Measures of networks in training and after it, each with its formula and where it is from.

Parameters are mappings of tensors by name, as `sim.train(..., weights=True)` leaves them in its dataset (`trained`), or
any pytree. Functions of outputs take z, (P, K).

    K = Kumar et al., arXiv 2310.06110; D = Doshi et al., 2310.13061; P = Prieto et al., 2501.04697;
    O = Liu et al., 2210.01117.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import ParameterError, check_choice, precision_context
from sim.lab.losses import collapsed, right
from sim.lab.modules import TwoEmbeddings
from sim.lab.program import Program, parts
from sim.networks import Shape, as_network
from sim.tasks import Arrays, Task
from sim.training.batches import replica_key
from sim.variants.ntk import centered, distance, minimum_norm_coefficients

if TYPE_CHECKING:
    import xarray

__all__ = [
    "Trained",
    "absorbed",
    "accuracy",
    "alignment",
    "collapse",
    "descent_cosine",
    "distance",
    "initial",
    "inverse_participation",
    "kernel_regression",
    "logit_gap",
    "movement",
    "neuron_participation",
    "pruning_curve",
    "steps_to",
    "tangent_kernel",
    "task_difficulty",
    "trace_kernel",
    "trained",
    "weight_norm",
]

#: Labels times samples of a full tangent kernel: its square is kept.
LARGEST_KERNEL = 6000
#: Orders in which neurons are pruned.
ORDERS = ("low", "high", "random")


def accuracy(z: Any, y: Any, tolerance: float | None = None) -> jax.Array:
    """Share of samples whose largest output is that of their class; of values, whose mean square error <= tolerance."""
    return jnp.mean(right(z, y, tolerance), dtype=z.dtype)


def weight_norm(parameters: Any) -> jax.Array:
    """|theta| = sqrt(sum theta_i^2), over all parameters (O)."""
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(parameters)), start=jnp.zeros(())))


def movement(parameters: Any, start: Any) -> jax.Array:
    """|theta - theta_0| / |theta_0| (K)."""
    return weight_norm(jax.tree.map(jnp.subtract, parameters, start)) / weight_norm(start)


def inverse_participation(rows: Any) -> jax.Array:
    """(|F|_4 / |F|_2)^4 = sum F^4 / (sum F^2)^2, F = |rfft(row)|, for each row of (N, p): 1 for a single wave (D)."""
    power = jnp.abs(jnp.fft.rfft(rows, axis=-1)) ** 2
    return jnp.sum(power**2, axis=-1) / jnp.maximum(jnp.sum(power, axis=-1) ** 2, jnp.finfo(power.dtype).tiny)


def neuron_participation(parameters: Mapping[str, Any]) -> jax.Array:
    """The same of each neuron of a two-embedding network, mean over its rows of U and V and its column of W, (N,)."""
    three = (parameters["left"].T, parameters["right"].T, parameters["readout"].T)
    return sum(inverse_participation(rows) for rows in three) / 3.0  # type: ignore[return-value]


def collapse(z: Any, softmax: str = "float32") -> jax.Array:
    """Share of samples with sum_k exp(z_k - max z) == 1 in the softmax's precision (P): no gradient of the largest."""
    check_choice("softmax", softmax, ("float16", "float32", "float64"))
    return jnp.mean(collapsed(z, softmax))


def logit_gap(z: Any) -> jax.Array:
    """Largest minus second largest output, averaged over samples; collapse begins about 7.6, 16.6, 36.7 (P)."""
    top = jax.lax.top_k(z, 2)[0]
    return jnp.mean(top[:, 0] - top[:, 1])


def descent_cosine(parameters: Any, gradient: Any) -> Any:
    """cos(-g, theta) = -g.theta / (|g| |theta|) of every tensor (P): 1 if a step of descent only scales it."""

    def one(theta: jax.Array, g: jax.Array) -> jax.Array:
        tiny = jnp.finfo(g.dtype).tiny
        return -jnp.sum(theta * g) / jnp.maximum(jnp.linalg.norm(theta) * jnp.linalg.norm(g), tiny)

    return jax.tree.map(one, parameters, gradient)


def absorbed(parameters: Any, update: Any) -> jax.Array:
    """Share of the parameters with an update that is not 0 for which theta + update == theta in their precision (P)."""
    pairs = list(zip(jax.tree.leaves(parameters), jax.tree.leaves(update), strict=True))
    lost = sum(jnp.sum((u != 0) & (theta + u == theta)) for theta, u in pairs)
    return jnp.asarray(lost) / sum(theta.size for theta, _ in pairs)


def alignment(kernel: Any, labels: Any, *, centred: bool = False) -> jax.Array:
    """y^T K y / (|K|_F |y|^2), K (P, P), y (P,); of several outputs <K, Y Y^T> / (|K|_F |Y Y^T|_F), Y (P, C) (K).

    Args:
        kernel: K, of samples.
        labels: y or Y.
        centred: of H K H and H Y, H = 1 - 1 1^T / P.
    """
    matrix, labels = jnp.asarray(kernel), jnp.asarray(labels).reshape(len(labels), -1)
    if centred:
        matrix, labels = centered(matrix), labels - jnp.mean(labels, axis=0)
    target = labels @ labels.T
    return jnp.sum(matrix * target) / (jnp.linalg.norm(matrix) * jnp.linalg.norm(target))


def trace_kernel(function: Callable[[Any, Any], Any], parameters: Any, x: Any, outputs: int) -> jax.Array:
    """K(x, x') = (1/C) sum_c (df_c(x)/d theta).(df_c(x')/d theta), (P, P): the tangent kernel averaged over outputs.

    Args:
        function: (parameters, x) -> outputs (P, C), each sample by itself.
        parameters: where the derivatives are taken.
        x: inputs (P, ...).
        outputs: C.
    """

    def one(c: jax.Array) -> jax.Array:
        slope = jax.grad(lambda p, sample: function(p, sample[None])[0, c])
        slopes = jax.vmap(slope, in_axes=(None, 0))(parameters, x)
        return sum(
            (leaf.reshape(len(x), -1) @ leaf.reshape(len(x), -1).T for leaf in jax.tree.leaves(slopes)),
            start=jnp.zeros((len(x), len(x)), jnp.result_type(*jax.tree.leaves(parameters))),
        )

    return jnp.mean(jax.lax.map(one, jnp.arange(outputs)), axis=0)


def tangent_kernel(function: Callable[[Any, Any], Any], parameters: Any, x: Any, other: Any) -> np.ndarray:
    """K = J(x) J(x')^T, (P C, Q C), every output with every other; J = df/d theta.

    Raises:
        ParameterError: it has more than LARGEST_KERNEL rows or columns.
    """

    def jacobian(inputs: Any) -> jax.Array:
        slope = jax.jacrev(lambda p, sample: function(p, sample[None])[0])
        rows = jax.jit(jax.vmap(slope, in_axes=(None, 0)))(parameters, inputs)
        leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(rows)]
        flat = jnp.concatenate(leaves, axis=2)
        return flat.reshape(-1, flat.shape[2])

    outputs = jax.eval_shape(function, parameters, x).shape[1]
    largest = max(len(x), len(other)) * outputs
    if largest > LARGEST_KERNEL:
        raise ParameterError(
            f"Argument `x` must have at most {LARGEST_KERNEL // outputs} samples of {outputs} outputs, but a kernel of "
            f"{largest} rows is asked for."
        )
    return np.asarray(jacobian(x) @ jacobian(other).T)


def kernel_regression(function: Callable[[Any, Any], Any], parameters: Any, arrays: Arrays, targets: Any) -> np.ndarray:
    """f(x) = K(x, X) K(X, X)^+ Y at the test inputs, (Q, C): the end of lazy, centred training without decay (K).

    Args:
        function: (parameters, x) -> outputs.
        parameters: the initial ones.
        arrays: data.
        targets: Y, (P, C).
    """
    gram = tangent_kernel(function, parameters, arrays.x, arrays.x)
    cross = tangent_kernel(function, parameters, arrays.x_test, arrays.x)
    return (cross @ minimum_norm_coefficients(gram, np.ravel(targets))).reshape(-1, np.shape(targets)[1])


def task_difficulty(kernel: Any, labels: Any) -> float:
    """y^T K^+ y / P, summed over outputs (K): how far lazy training must move the parameters, squared, per sample."""
    labels = np.reshape(np.asarray(labels, np.float64), (len(labels), -1))
    matrix = np.asarray(kernel, np.float64)
    return float(sum(column @ minimum_norm_coefficients(matrix, column) for column in labels.T) / len(labels))


class Trained(NamedTuple):
    """A network after training, or before it.

    Attributes:
        program: (parameters, x) -> outputs (B, K).
        parameters: by name.
        arrays: the data of its replica.
    """

    program: Program
    parameters: dict[str, np.ndarray]
    arrays: Arrays


def initial(network: Any, task: Task, *, seed: int = 0, index: int = 0, outputs: int | None = None) -> Trained:
    """The network of replica `index` before training, its parameters in float64."""
    arrays = task.draw(index)
    shape = Shape(arrays.x.shape[1:], task.vocabulary, outputs or task.outputs)
    with precision_context("float64"):
        key = jax.random.fold_in(replica_key(seed, index), 5)
        parameters, program = parts(as_network(network).build(shape, key))
        return Trained(program, {name: np.asarray(leaf, np.float64) for name, leaf in parameters.items()}, arrays)


def trained(dataset: xarray.Dataset, network: Any, task: Task, index: int = 0) -> Trained:
    """The network of replica `index` as `sim.train(network, task, ..., weights=True)` left it.

    Raises:
        ParameterError: the dataset has no weights.
    """
    found = {str(name): value for name, value in dataset.data_vars.items() if str(name).startswith("weights_")}
    if not found:
        raise ParameterError("Argument `dataset` must hold weights: give weights=True to sim.train; but it has none.")
    start = initial(network, task, seed=int(dataset.attrs["seed"]), index=index)
    parameters = {name.removeprefix("weights_"): value.isel(seed=index).to_numpy() for name, value in found.items()}
    return start._replace(parameters=parameters)


def pruning_curve(network: Trained, order: str = "low", *, points: int = 41, seed: int = 0) -> dict[str, np.ndarray]:
    """Accuracies of a two-embedding network as neurons are pruned one after the other (D).

    They are those of f itself: of a centred run, without centring.

    Args:
        network: trained.
        order: from the lowest inverse participation ratio, the highest, or in random order.
        points: of the curve.
        seed: of the random order.

    Returns:
        `pruned` (points,), the fraction gone, and beside it `train` and `test` accuracy, `clean` and `corrupted`, those
        of the training samples with right and with wrong labels (NaN where there are none).
    """
    check_choice("order", order, ORDERS)
    if not isinstance(network.program.template, TwoEmbeddings):
        raise ParameterError("Argument `network` must be of two_embeddings, whose neurons are waves, but is another.")
    ratio = np.asarray(neuron_participation(network.parameters))
    ranks = np.argsort(ratio) if order != "random" else np.random.default_rng(seed).permutation(ratio.size)
    ranks = ranks[::-1] if order == "high" else ranks
    fractions = np.linspace(0.0, 1.0, points)
    arrays, readout = network.arrays, network.parameters["readout"]

    @jax.jit
    def hits(kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        pruned = {**network.parameters, "readout": readout * kept}
        x = np.concatenate([arrays.x, arrays.x_test])
        z = network.program(pruned, x, reference=len(arrays.x))
        return right(z[: len(arrays.x)], arrays.y, None), right(z[len(arrays.x) :], arrays.y_test, None)

    found = []
    for fraction in fractions:
        kept = np.ones(ratio.size, readout.dtype)
        kept[ranks[: round(fraction * ratio.size)]] = 0.0
        train, test = map(np.asarray, hits(jnp.asarray(kept)))
        wrong = arrays.corrupted
        found.append((train.mean(), test.mean(), train[~wrong].mean(), train[wrong].mean() if wrong.any() else np.nan))
    names = ("train", "test", "clean", "corrupted")
    return {"pruned": fractions, **dict(zip(names, np.array(found).T, strict=True))}


def steps_to(dataset: xarray.Dataset, name: str, level: float, *, below: bool = False) -> np.ndarray:
    """The first observed step of every seed at which `name` is at least `level` (or at most), (S,); NaN if none is."""
    values = dataset[name].transpose("seed", "step").to_numpy()
    reached = values <= level if below else values >= level
    steps = dataset["step"].to_numpy().astype(np.float64)
    return np.where(reached.any(axis=1), steps[np.argmax(reached, axis=1)], np.nan)
