"""A third engine for `dmft.solve`, on one page: the linear network (epsilon = 0), row by row.

With Delta = alpha p - y every sample follows the same linear map, so that no samples are needed (THEORY section 4):

    d_t R = delta - P,    (1 + L) P = R,    L(n, m) = R(n, m) h_m / kappa,

Gamma = E[Delta Delta] = (1/kappa) B Gamma B^T + v a a^T with B = (1 + L)^-1 R h, a = (1 + L)^-1 1, v = E y^2, and
C = (1/(alpha^2 kappa)) R h Gamma (R h)^T. Its closed form is `dmft.limits.linear`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.compiled.executables import compilable
from dmft.solver import ENGINES
from dmft.twotime.engine import Program, Progress
from dmft.twotime.members import Ensemble


@dataclasses.dataclass(frozen=True)
class LinearNetwork:
    """The model: what is asked."""

    alpha: float
    kappa: float

    def to_attributes(self):
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Exact:
    """The sampling of a theory without samples."""

    precision: str
    samples: int = 1


class Rows(NamedTuple):
    """All rows so far: R and P, (T, T) each, and what the machine asks of an iteration."""

    response: jax.Array
    tangent: jax.Array
    rounds: jax.Array
    mismatch: jax.Array


class Solution(NamedTuple):
    train_loss: np.ndarray
    test_loss: np.ndarray
    rounds: np.ndarray
    mismatch: np.ndarray


@compilable(donated=["state"])
def advance(kappa, steps, state, first, stop, *, explicit):
    """Rows first <= n < stop: R(n, :), then P(n, :) from P = R - L P; explicit steps also begin row n + 1."""
    h, columns = steps.weights, jnp.arange(state.rounds.shape[0])

    def body(n, state):
        response, memory = state.response, steps.weights / kappa
        if not explicit:  # R(n, :) (1 + h_n / (1 + R(n, n) h_n / kappa)) with R(n, n) the root of a square equation
            past = steps.history(response, n) + (columns == n)
            x, y = h[n] / kappa, 1 + h[n] - h[n] / kappa  # R = (past - h P), P (1 + x R) = R on the diagonal
            own = (-y + jnp.sqrt(y**2 + 4 * x)) / (2 * x)
            # off the diagonal: P (1 + x own) = R - sum_{m<n} R(n, m) h_m P(m, :)/kappa, linear in R(n, :)
            feedback = (memory * (columns < n))[:, None] * state.tangent
            matrix = (1 + x * own + h[n]) * jnp.eye(len(h)) - h[n] * feedback
            row = jnp.linalg.solve(matrix.T, (1 + x * own) * past) * (columns < n) + own * (columns == n)
            response = response.at[n].set(row)
        row = response[n]
        tangent = (row - (row * memory * (columns < n)) @ state.tangent) / (1 + row[n] * memory[n])
        if explicit:
            response = response.at[n + 1].set(row - h[n] * tangent + (columns == n), mode="drop")
        return state._replace(response=response, tangent=state.tangent.at[n].set(tangent))

    return jax.lax.fori_loop(first, stop, body, state)


class LinearEngine(Ensemble):
    """alpha and kappa are all that matters; one replica is as good as many."""

    title = "linear: a linear network of any width, dimension and samples infinite at fixed ratio"
    meanings = {"train_loss": "mean squared residual", "test_loss": "mean squared error on new inputs"}  # noqa: RUF012

    def choose_sampling(self, grid, precision, rtol, samples):  # noqa: ARG002
        return Exact(precision)

    def shapes(self, sampling, points, capacity):  # noqa: ARG002
        square = jax.ShapeDtypeStruct((capacity, capacity), np.dtype(sampling.precision))
        return Rows(
            square, square, *(jax.ShapeDtypeStruct((capacity,), np.dtype(kind)) for kind in ("int32", "float64"))
        )

    def start(self, grid, sampling, seed, capacity, like):  # noqa: ARG002
        rows = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.shapes(sampling, grid.size, capacity))
        if not grid.explicit:  # the response to the initial value
            rows.response[0, 0] = rows.tangent[0, 0] = 1.0
        return rows

    def program(self, grid, sampling, iteration):  # noqa: ARG002
        return Program(advance, np.asarray(self.model.kappa, sampling.precision), {"explicit": grid.explicit})

    def progress(self, state):
        size = 1 + np.square(state.tangent).max(axis=1)  # explodes where the loss does
        return Progress(size, np.asarray(state.rounds), np.asarray(state.mismatch))

    def read(self, state, grid):
        size, kappa = grid.size, self.model.kappa
        weighted = np.asarray(state.response)[:size, :size] * grid.weights
        inverse = np.linalg.inv(np.eye(size) + weighted / kappa)
        a, b = inverse.sum(axis=1), inverse @ weighted / np.sqrt(kappa)
        gamma = 0.75 * np.outer(a, a)
        while np.abs(b).max() > 1e-12:  # gamma = sum_k b^k (v a a^T) (b^k)^T, twice as many terms each time
            gamma, b = gamma + b @ gamma @ b.T, b @ b
        power = np.diagonal(weighted @ gamma @ weighted.T) / kappa  # alpha^2 C
        return Solution(np.diagonal(gamma).copy(), 0.75 + power, np.zeros(size, int), np.zeros(size))

    def curves(self, replica):
        return {"train_loss": replica.train_loss, "test_loss": replica.test_loss}


ENGINES[LinearNetwork] = LinearEngine

if __name__ == "__main__":
    from dmft import Model, limits, solve

    theory = solve(LinearNetwork(alpha=1.0, kappa=3.0), t_max=20.0, rtol=1e-3)
    exact = limits.linear(Model(alpha=1.0, epsilon=0.0, kappa=3.0), theory.time.values)
    for name in ("train_loss", "test_loss"):
        print(name, "largest relative deviation:", float(np.abs(theory[name] / exact[name] - 1).max()))
