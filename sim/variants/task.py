"""What one replica of an experiment draws: the inputs and the weights of `sim.systems.draws`, and what the variants
add.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.models.polynomials import FEATURES, evaluate
from sim.systems import quadratic
from sim.systems.draws import Replica, draw_replica, orthogonal
from sim.systems.state import Parameters
from sim.training.batches import replica_key
from sim.variants.experiment import Experiment
from sim.variants.ntk import gram, label_eigenvector
from sim.variants.ridge_functions import Components, Fixed, preactivations, target_components

#: Numbers folded into the key of a replica; 0 to 4 are taken by `sim.systems.draws` and the minibatches.
DIRECTIONS, READOUTS, TEST_INPUTS = 5, 6, 7


class Task(NamedTuple):
    """One replica's constants; numpy arrays as drawn, jax arrays in the loop.

    Attributes:
        fixed: the network without its parameters.
        inputs: x, (P, D).
        labels: y with noise, (P,).
        targets: the labels; plus f(t=0) when centred, so that Delta = f - targets either way.
        rate: P / (alpha kappa): the gradient is `rate` times a mean over samples.
        target: the clean target as a function; None if it is known on the test inputs alone.
        test_inputs: (Q, D), or None if the test loss is exact.
        test_targets: (Q,), treated like `targets`, or None.
        start: the initial parameters, known once prepared.
        start_gram: the initial Gram matrix, (P, P), if the kernel is watched.
    """

    fixed: Fixed
    inputs: Any
    labels: Any
    targets: Any
    rate: Any
    target: Components | None
    test_inputs: Any
    test_targets: Any
    start: Parameters | None
    start_gram: Any


def draw_task(experiment: Experiment, form: str, seed: int, index: int) -> tuple[Parameters, Task]:
    """Draw replica `index` of the random stream `seed`, in float64, in the form "network" or "reduced".

    Inputs, first direction, noise and weights (times sigma) are those that `sim.simulate` draws for the model.
    """
    model, strengths = experiment.model, np.array(experiment.strengths)
    replica = draw_replica(model, seed, index)
    noise = replica.labels - 0.5 * (replica.inputs @ replica.beta) ** 2
    directions = draw_directions(experiment, replica, seed, index)
    replica = replica._replace(weights=initial_weights(experiment, replica.weights, directions))
    readouts = draw_normal(seed, index, READOUTS, experiment.width) if experiment.train_readout else None
    parameters, fixed = arrange(experiment, form, replica, readouts)
    target, tests = None, (None, None)
    if experiment.exact_test_loss:
        clean = label(experiment.target, replica.inputs, directions, strengths)
        with precision_context("float64"):
            wick = target_components(FEATURES[experiment.target], *map(jnp.asarray, (directions, strengths)))
        target = jax.tree.map(np.asarray, wick)
    else:
        assert experiment.test_samples is not None
        assert experiment.eigenvector is not None
        others = draw_normal(seed, index, TEST_INPUTS, experiment.test_samples, experiment.dim)
        everything = np.concatenate([replica.inputs, others / np.sqrt(experiment.dim)])
        labels = strengths[0] * label_eigenvector(gram_matrix(fixed, parameters, everything), experiment.eigenvector)
        clean = labels[: experiment.samples]
        tests = everything[experiment.samples :], labels[experiment.samples :]
    rate = np.float64(experiment.samples / (model.alpha * model.kappa))
    noisy = clean + noise
    return parameters, Task(fixed, replica.inputs, noisy, noisy, rate, target, *tests, None, None)


def arrange(
    experiment: Experiment, form: str, replica: Replica, readouts: np.ndarray | None
) -> tuple[Parameters, Fixed]:
    """The network with the replica's weights, as it is ("network") or in at most D + 1 rotated rows ("reduced")."""
    model = experiment.model
    rows = quadratic.arrange(model, replica, form)
    numbers = np.float64(model.alpha), np.float64(model.epsilon), np.array(FEATURES[experiment.activation])
    nonlinear = np.full(len(rows.vectors), rows.nonlinear)
    return Parameters(rows.vectors, readouts), Fixed(*numbers, rows.linear, nonlinear, np.float64(rows.speed))


def label(feature: str, inputs: np.ndarray, directions: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """y = (1/2) sum_k strength_k g(beta_k.x), (P,), for `inputs` (P, D), `directions` (K, D), `strengths` (K,)."""
    return 0.5 * evaluate(FEATURES[feature], inputs @ directions.T) @ strengths


def draw_directions(experiment: Experiment, replica: Replica, seed: int, index: int) -> np.ndarray:
    """Orthogonal beta_k, (K, D), |beta_k|^2 = D, the first that of the replica, the others uniform on what is left."""
    count, dim = len(experiment.strengths), experiment.dim
    if count == 1:
        return replica.directions
    others = draw_normal(seed, index, DIRECTIONS, count - 1, dim)
    return orthogonal(np.vstack([replica.beta, others]))


def initial_weights(experiment: Experiment, weights: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(1 - s) sigma w + s w_solution, (N, D), from w ~ N(0, I), (N, D), and the directions (K, D)."""
    share, scaled = experiment.interpolation, experiment.weight_scale * weights
    return (1.0 - share) * scaled + share * solution(experiment, directions) if share else scaled


def solution(experiment: Experiment, directions: np.ndarray) -> np.ndarray:
    """Weights, (N, D), that fit the quadratic target exactly.

    sum_i w_i = 0 and (1/N) sum_i w_i w_i^T = sum_k s_k beta_k beta_k^T / (alpha epsilon): neurons 2p and 2p + 1 are
    +-c_k beta_k with k = p modulo K and c_k^2 = s_k N / (N_k alpha epsilon), where N_k neurons share direction k; at
    odd N the last neuron is 0.
    """
    model, width = experiment.model, experiment.width
    share = np.arange(width // 2) % len(experiment.strengths)
    neurons = 2.0 * np.bincount(share, minlength=len(experiment.strengths))
    scale = np.sqrt(np.array(experiment.strengths) * width / (neurons * model.alpha * model.epsilon))
    half = scale[share, None] * directions[share]
    weights = np.zeros((width, experiment.dim))
    weights[0 : 2 * share.size : 2] = half
    weights[1 : 2 * share.size : 2] = -half
    return weights


def gram_matrix(fixed: Fixed, parameters: Parameters, inputs: np.ndarray) -> np.ndarray:
    """The Gram matrix of the tangent kernel, (P, P), in float64."""
    with precision_context("float64"):
        start = jax.tree.map(jnp.asarray, parameters)
        x = jnp.asarray(inputs)
        return np.asarray(gram(fixed, start, x, preactivations(start, x)))


def draw_normal(seed: int, index: int, what: int, *shape: int) -> np.ndarray:
    """Standard normal numbers of replica `index`; `what` names the purpose."""
    with precision_context("float64"):
        key = jax.random.fold_in(replica_key(seed, index), what)
        return np.asarray(jax.random.normal(key, shape, jnp.float64))
