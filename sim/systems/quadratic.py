"""The quadratic network in two exact arrangements of the same gradient descent (THEORY sections 1 to 3).

    f(x) = alpha sum_j [a_j h_j + c (epsilon/2) h_j^2],  h_j = v_j.x,  M = c sum_j v_j v_j^T,  wbar = sum_j a_j v_j,
    v_j <- (1 - dt lambda) v_j - (dt s/(alpha kappa)) sum_mu Delta_mu (a_j + c epsilon h_j,mu) x_mu,  a_j does not move.

*Network.* The plain network of finite width, as anyone would write it: v_i = w_i, a_i = c = 1/N, s = N.

*Reduced.* Any width, infinite included, for the cost of at most D + 1 neurons. The flow is linear in each w_i given the
residuals, so that everything observable depends on the weights through M and wbar alone. With v_i = w_i / sqrt(N),
a_i = 1 / sqrt(N), c = s = 1 all of it is unchanged when the N rows of (v, a) are rotated among themselves: any D + 1
rows with the same second moments sum_j (v_j, a_j) (v_j, a_j)^T start exactly the same dynamics. At infinite width they
are the rows of U(0) with a = 0, and c(0) = 0 with a = 1: the equations of THEORY section 3 for U and c.

A step costs 4 P D n operations: v X^T for the residuals, and the forces times X. Forming the D x D matrix
X^T diag(Delta) X first saves nothing, because the residuals need v X^T anyway, and costs D^3 on top; so does evolving
M itself. Neurons come first in every array, and they are summed by a product with a constant vector: on a CPU that is a
quarter faster than rows of samples and a plain sum.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.losses.quadratic import OBSERVABLES, test_loss_terms
from dmft.models.model import Model
from sim.systems.draws import Replica, plant
from sim.systems.state import Fields
from sim.training.stepsize import largest_eigenvalue
from sim.training.system import Equations


class Rows(NamedTuple):
    """The neurons of one arrangement at t = 0.

    Attributes:
        vectors: v, (n, D).
        linear: a, (n,).
        nonlinear: c.
        speed: s.
    """

    vectors: np.ndarray
    linear: np.ndarray
    nonlinear: float
    speed: float


class QuadraticData(NamedTuple):
    """One replica's constants; numpy arrays as drawn, jax arrays in the loop.

    Attributes:
        inputs: x, (P, D).
        targets: labels, (P,); plus f(t=0) when centred, so that Delta = f - targets either way.
        linear: a, (n,).
        nonlinear: c.
        speed: s.
        directions: beta_k, (K, D), |beta_k|^2 = D.
        strengths: s_k, (K,).
        alpha: output scale.
        epsilon: weight of the quadratic feature.
        rate: P / (alpha kappa): the gradient is s `rate` times a mean over samples.
        centered: 1 if f - f(t=0) is trained, else 0.
        second_moment: M(0) when centred, else 0, (D, D).
        mean_weight: wbar(0) when centred, else 0, (D,).
    """

    inputs: Any
    targets: Any
    linear: Any
    nonlinear: Any
    speed: Any
    directions: Any
    strengths: Any
    alpha: Any
    epsilon: Any
    rate: Any
    centered: Any
    second_moment: Any
    mean_weight: Any


def arrange(model: Model, replica: Replica, form: str) -> Rows:
    """The rows of a replica in the form "network", n = N, or "reduced", n = min(N, D + 1)."""
    dim = replica.inputs.shape[1]
    if form == "network":
        width = len(replica.weights)
        return Rows(replica.weights, np.full(width, 1.0 / width), 1.0 / width, float(width))
    if model.width is None:
        vectors = np.vstack([plant(model, replica.directions, np.eye(dim)), np.zeros(dim)])
        return Rows(vectors, np.append(np.zeros(dim), 1.0), 1.0, 1.0)
    rows = np.column_stack([replica.weights, np.ones(model.width)]) / np.sqrt(model.width)
    if model.width > dim + 1:  # any D + 1 rows with the same second moments will do
        values, vectors = np.linalg.eigh(rows.T @ rows)
        rows = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return Rows(rows[:, :-1], rows[:, -1], 1.0, 1.0)


def start(model: Model, replica: Replica, form: str) -> tuple[np.ndarray, QuadraticData]:
    """The vectors v(0), (n, D), and the data before `prepare`: nothing is centred yet."""
    rows, dim = arrange(model, replica, form), replica.inputs.shape[1]
    data = QuadraticData(
        inputs=replica.inputs,
        targets=replica.labels,
        linear=rows.linear,
        nonlinear=np.float64(rows.nonlinear),
        speed=np.float64(rows.speed),
        directions=replica.directions,
        strengths=np.array(model.strengths),
        alpha=np.float64(model.alpha),
        epsilon=np.float64(model.epsilon),
        rate=np.float64(replica.labels.size / (model.alpha * model.kappa)),
        centered=np.float64(model.centered),
        second_moment=np.zeros((dim, dim)),
        mean_weight=np.zeros(dim),
    )
    return rows.vectors, data


def outputs(vectors: jax.Array, data: QuadraticData) -> tuple[jax.Array, jax.Array]:
    """Preactivations h, (n, P), and f, (P,)."""
    h = vectors @ data.inputs.T
    terms = h * (data.linear[:, None] + (0.5 * data.nonlinear * data.epsilon) * h)
    return h, data.alpha * (jnp.ones_like(data.linear) @ terms)


def forward(vectors: jax.Array, data: QuadraticData) -> Fields:
    """Preactivations and residuals."""
    h, f = outputs(vectors, data)
    return Fields(h, f - data.targets)


def gradient(vectors: jax.Array, data: QuadraticData, fields: Fields) -> jax.Array:
    """(s/(alpha kappa)) sum_mu Delta_mu (a_j + c epsilon h_j,mu) x_mu, (n, D), as a mean over the samples of `data`."""
    del vectors
    force = fields.residual * (data.linear[:, None] + (data.nonlinear * data.epsilon) * fields.h)
    return (data.speed * data.rate / fields.residual.size) * (force @ data.inputs)


def objective(vectors: jax.Array, data: QuadraticData, fields: Fields) -> jax.Array:
    """(s P/(alpha^2 kappa)) <Delta^2> / 2, whose gradient is `gradient`."""
    del vectors
    return (0.5 * data.speed * data.rate / data.alpha) * jnp.mean(fields.residual**2)


def moments(vectors: jax.Array, data: QuadraticData) -> tuple[jax.Array, jax.Array]:
    """M, (D, D), and wbar, (D,)."""
    return data.nonlinear * (vectors.T @ vectors), data.linear @ vectors


def prepare(vectors: jax.Array, data: QuadraticData) -> QuadraticData:
    """The data with f replaced by f - f(t=0) if the model is centred."""
    second_moment, mean_weight = moments(vectors, data)
    return data._replace(
        targets=data.targets + data.centered * outputs(vectors, data)[1],
        second_moment=data.centered * second_moment,
        mean_weight=data.centered * mean_weight,
    )


def select(data: QuadraticData, indices: jax.Array) -> QuadraticData:
    """The data of the samples `indices`, (B,)."""
    return data._replace(inputs=data.inputs[indices], targets=data.targets[indices])


def observe(vectors: jax.Array, data: QuadraticData, fields: Fields) -> jax.Array:
    """All observables at one time, in the order of `OBSERVABLES`; then the overlap of each of several directions.

    E = alpha epsilon M' - sum_k s_k beta_k beta_k^T with M' = M - M_ref and wbar' = wbar - wbar_ref; the references are
    M(0) and wbar(0) when the model is centred, and zero otherwise. Trace, overlap and mean_weight_norm are those of M
    and wbar.
    """
    second_moment, mean_weight = moments(vectors, data)
    beta, dim = data.directions, data.directions.shape[1]
    error = data.alpha * data.epsilon * (second_moment - data.second_moment) - (data.strengths * beta.T) @ beta
    change = mean_weight - data.mean_weight
    overlaps = jnp.sum((beta @ second_moment) * beta, axis=1) / dim**2
    parts = jnp.trace(error) / dim, jnp.sum(error**2) / dim**2, change @ change / dim
    values = {
        "train_loss": jnp.mean(fields.residual**2),
        **test_loss_terms(data.alpha, *parts)._asdict(),
        "trace": jnp.trace(second_moment) / dim,
        "overlap": jnp.sum(overlaps),
        "mean_weight_norm": mean_weight @ mean_weight / dim,
    }
    each = overlaps if len(overlaps) > 1 else ()
    return jnp.stack([*(values[name] for name in OBSERVABLES), *each])


EQUATIONS = Equations(forward, gradient, observe, prepare, select, objective=objective)


def curvature(model: Model, replica: Replica) -> float:
    """Largest rate of the training dynamics of one replica: steps below 2 / curvature are stable.

    The residuals relax with the tangent kernel K = (1/kappa) (X X^T) o Phi, Phi = (1/N) sum_i phi'(h_i) phi'(h_i)^T.
    At the start lambda_max(K) <= max_mu Phi_mu,mu lambda_max(X X^T) / kappa. At the end, where f is the teacher with
    M = sum_k s_k beta_k beta_k^T / (alpha epsilon), Phi = 1 1^T + (epsilon/alpha) sum_k s_k u_k u_k^T. In rich cases
    the end is the steeper one: the trace of M grows to sum_k s_k / (alpha epsilon). The larger of the two counts.
    """
    inputs, u = replica.inputs, replica.inputs @ replica.directions.T
    if model.width is None:
        planted = plant(model, replica.directions, inputs)  # U(0)^T x
        features = 1.0 + model.epsilon**2 * np.sum(planted**2, axis=1)
    else:
        features = np.zeros(len(u))
        for weights in np.array_split(replica.weights, math.ceil(model.width / 1000)):
            features += np.sum((1.0 + model.epsilon * (inputs @ weights.T)) ** 2, axis=1) / model.width
    one = np.ones((len(u), 1))
    begin = features.max() * largest_eigenvalue(inputs, one)
    end = largest_eigenvalue(
        inputs, np.column_stack([one, np.sqrt(model.epsilon / model.alpha * np.array(model.strengths)) * u])
    )
    return max(begin, end) / model.kappa
