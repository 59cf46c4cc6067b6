"""The exact reduced form: any width, infinite included, for the cost of at most D + 1 neurons (THEORY section 3).

The flow is linear in each w_i given the residuals, so everything observable depends on the weights through
M = (1/N) sum w_i w_i^T and wbar = (1/N) sum w_i alone. Write the rows v_i = w_i / sqrt(N) and a_i = 1 / sqrt(N):

    f(x) = alpha sum_j [a_j h_j + (epsilon/2) h_j^2],  h_j = v_j.x,   M = sum v_j v_j^T,   wbar = sum a_j v_j,
    v_j <- (1 - dt lambda) v_j - (dt/(alpha kappa)) sum_mu Delta_mu (a_j + epsilon h_j,mu) x_mu.

All of it is unchanged when the N rows of (v, a) are rotated among themselves, so any D + 1 rows with the same second
moments sum_j (v_j, a_j) (v_j, a_j)^T start exactly the same dynamics. At infinite width they are the rows of U(0) with
a = 0, and c(0) = 0 with a = 1: the equations of THEORY section 3 for U and c.

A step costs 4 P D min(N, D + 1) operations: v X^T for the residuals, and the forces times X. Forming the D x D matrix
X^T diag(Delta) X first saves nothing, because the residuals need v X^T anyway, and costs D^3 on top; so does evolving
M itself. Measured at D = 100, P = 550 the three are equal within the noise of the timing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dmft.models.model import Model
from sim.systems.draws import Replica, plant
from sim.systems.quadratic import Data, Fields, centre, make_data, observe, select
from sim.training.system import Equations


def start(model: Model, replica: Replica) -> tuple[np.ndarray, Data]:
    """The rows v(0), (n, D) with n = min(N, D + 1), and the data with a, (n,), which does not move.

    A replica's rotated rows, or U(0) and c(0) = 0 at infinite width.
    """
    dim = replica.beta.size
    if model.width is None:
        vectors = np.vstack([plant(model, replica.beta, np.eye(dim)), np.zeros(dim)])
        return vectors, make_data(model, replica, np.append(np.zeros(dim), 1.0))
    rows = np.column_stack([replica.weights, np.ones(model.width)]) / np.sqrt(model.width)
    if model.width > dim + 1:  # any D + 1 rows with the same second moments will do
        values, vectors = np.linalg.eigh(rows.T @ rows)
        rows = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return rows[:, :-1], make_data(model, replica, rows[:, -1])


def outputs(vectors: jax.Array, data: Data) -> tuple[jax.Array, jax.Array]:
    """Row fields h, (n, P), and f, (P,)."""
    h = vectors @ data.inputs.T
    return h, data.alpha * (jnp.ones_like(data.linear) @ (h * (data.linear[:, None] + (0.5 * data.epsilon) * h)))


def forward(vectors: jax.Array, data: Data) -> Fields:
    """Row fields and residuals."""
    h, f = outputs(vectors, data)
    return Fields(h, f - data.targets)


def gradient(vectors: jax.Array, data: Data, fields: Fields) -> jax.Array:
    """(1/(alpha kappa)) sum_mu Delta_mu (a_j + epsilon h_j,mu) x_mu, (n, D), as a mean over the samples of `data`."""
    del vectors
    force = fields.residual * (data.linear[:, None] + data.epsilon * fields.h)
    return (data.rate / fields.residual.size) * (force @ data.inputs)


def moments(vectors: jax.Array, linear: jax.Array) -> tuple[jax.Array, jax.Array]:
    """M = sum_j v_j v_j^T, (D, D), and wbar = sum_j a_j v_j, (D,)."""
    return vectors.T @ vectors, linear @ vectors


EQUATIONS = Equations(
    forward=forward,
    gradient=gradient,
    observe=lambda vectors, data, fields: observe(data, fields.residual, *moments(vectors, data.linear)),
    prepare=lambda vectors, data: centre(data, outputs(vectors, data)[1], *moments(vectors, data.linear)),
    select=select,
)
