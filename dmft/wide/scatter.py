"""What finite D changes for each sample: the bulk that it sees scatters around its mean.

The bulk's weights are w^r(t) = U(t) w^r(0), and a sample knows them through two quadratic forms,

    x^T U(t) U(s)^T x = C_r(t,s) + sum_a z_a Phi_a(t,s),     x^T R(t,s) x = R_r(t,s) + sum_a z_a Psi_a(t,s),

R the response of U, and |x|^2 = 1 + sum_a z_a nu_a.  Their means over x ~ N(0, I/D) are the kernels of the theory.
Around them they scatter with variances like (2/D) tr M^2/D, M = U U^T, and that is large: samples with large labels
leave spikes in M, so that tr M^2/D is several times (tr M/D)^2 once they are fitted.

A known part of it is the direction beta: x has the length u/sqrt(D) along it, so that |x|^2 and x^T R x are larger
where the label u^2/2 is, by (u^2 - 1)/D and (u^2 - 1) R_r/D.  The labels weigh it: E[y^2 (u^2 - 1)] = 4 E[y^2].  It is
the last mode, z = (u^2 - 1)/sqrt(2).  It is not in q, though x^T M x is larger too: along beta q is u b, and b is made
by all samples, the one that sees it included; its force on itself along beta would be counted twice.

The rest is that of the random matrix dU/dt = -(e X^T diag(Delta) X + lambda) U in which each sample has the
residual of a solution without scatter (`BulkScatter.measure`); two modes carry 99 % of it.  Its leading effect on
every average, of order 1/D, is that of the second moments alone.  So each z_a is +1 or -1: a normal one would, for some
samples, make x^T U U^T x negative where the scatter is strong, and the solution unstable.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from dmft.wide.answers import columns
from dmft.wide.label_direction import common_along_beta
from dmft.wide.memory import pair_memory

if TYPE_CHECKING:
    from dmft.models.model import Model
    from dmft.twotime.grid import Grid
    from dmft.wide.replica import Replica

#: Modes of the random matrix that are kept.
MODES = 3
#: The random matrix: its largest dimension, how many are drawn, and the inputs that probe each.
DIM, DRAWS, PROBES = 96, 8, 48
#: Times at most at which the modes are told apart.
TIMES = 24


@dataclasses.dataclass(frozen=True)
class BulkScatter:
    """Modes of the scatter on a grid of T times, A = MODES of the random matrix and the one along beta.

    Attributes:
        correlation: Phi, (A, T, T), zero above the diagonal.
        response: Psi, (A, T, T), zero above the diagonal.
        norm: nu, (A,).
        spread: (tr M(t)^2/D) / (tr M(t)/D)^2 >= 1, (T,).
        memory: Lambda, (T, T), zero above the diagonal, see dmft.wide.memory; not of the scatter, but of the same
        order.
        common_along, common_counted: C_cb(t,t), and what C_c counts for it, (T,), see dmft.wide.label_direction.
        amplitudes: z of each input that the random matrices were probed with, (N, MODES); None if there is no scatter.
    """

    correlation: np.ndarray
    response: np.ndarray
    norm: np.ndarray
    spread: np.ndarray
    memory: np.ndarray
    common_along: np.ndarray
    common_counted: np.ndarray
    amplitudes: np.ndarray | None = None

    @classmethod
    def none(cls, times: int) -> BulkScatter:
        """No scatter: the first approximation, at t = 0 exact but for the norm."""
        square = np.zeros((MODES + 1, times, times))
        return cls(square, square, np.zeros(MODES + 1), np.ones(times), square[0], np.zeros(times), np.zeros(times))

    @classmethod
    def measure(
        cls, model: Model, grid: Grid, solution: Replica, seed: int, like: BulkScatter | None = None
    ) -> BulkScatter:
        """All of it, in a solution without; in the modes of `like`, measured in one on another grid, if given."""
        assert model.dim is not None
        u, weight, residual = solution.samples[:3]
        dim = min(model.dim, DIM)
        correlations, responses, norms, spreads = [], [], [], []
        for draw in range(DRAWS):
            generator = np.random.default_rng([seed, draw])
            deltas = residual[:, resample(u, weight, max(1, round(model.kappa * dim)), generator)]
            inputs = generator.standard_normal((deltas.shape[1], dim)) / np.sqrt(dim)
            probes = generator.standard_normal((dim, PROBES)) / np.sqrt(dim)
            matrices, answers = evolve(model, grid, inputs, deltas, probes)
            fields = np.einsum("tij,ip->tjp", matrices, probes, optimize=True)  # U(t)^T x
            correlations.append(np.einsum("tjp,sjp->pts", fields, fields, optimize=True))
            responses.append(answers)
            norms.append(np.sum(probes**2, axis=0))
            second = np.matmul(matrices, columns(matrices)).reshape(grid.size, -1)  # M = U U^T
            mean = np.sum(second[:, :: dim + 1], axis=1) / dim
            spreads.append(second @ second.T / dim / np.outer(mean, mean))
        centred = [
            np.concatenate([array - array.mean(axis=0) for array in arrays])
            for arrays in (correlations, responses, norms)
        ]
        amplitudes = like.amplitudes if like else None
        if amplitudes is None:
            amplitudes = principal_amplitudes(centred[0], centred[1])
        scale = np.sqrt(dim / model.dim) / len(amplitudes)
        phi, psi, nu = (scale * np.tensordot(amplitudes, array, axes=(0, 0)) for array in centred)
        lower, square = np.tri(grid.size), np.zeros((1, grid.size, grid.size))
        along = np.sqrt(2) / model.dim
        spread = np.mean(spreads, axis=0)
        common_along, common_counted = common_along_beta(model, grid, solution)
        return cls(
            correlation=np.concatenate([phi * lower, square]),
            response=np.concatenate([psi * lower, along * solution.rule[2][None]]),
            norm=np.append(nu, along),
            spread=np.diagonal(spread).copy(),
            memory=pair_memory(model, grid, solution, spread),
            common_along=common_along,
            common_counted=common_counted,
            amplitudes=amplitudes,
        )


def resample(u: np.ndarray, weight: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices, (count,), of samples drawn by weight, one in each of `count` strata of equal probability in u."""
    order = np.argsort(u)
    levels = (np.arange(count) + generator.random(count)) / count
    return order[np.minimum(np.searchsorted(np.cumsum(weight[order]), levels * weight.sum()), len(u) - 1)]


def evolve(
    model: Model, grid: Grid, inputs: np.ndarray, deltas: np.ndarray, probes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """dU/dt = -(e X^T diag(Delta) X + lambda) U on the grid, and its response to forces, for given residuals.

    Args:
        inputs: X, (P, D).
        deltas: Delta, (T, P).
        probes: x, (D, p).

    Returns:
        U(t), (T, D, D), and x^T R(t,s) x, (p, T, T), zero above the diagonal.
    """
    size, (dim, count) = grid.size, probes.shape
    gain = model.epsilon / (model.alpha * model.kappa)
    matrices = np.zeros((size, dim, dim))
    matrices[0] = np.eye(dim)
    recent = [np.zeros((dim, size, count)) for _ in range(grid.past.shape[1])]  # R(n-1-j, m) x over (D, m, p)
    forms = np.zeros((count, size, size))
    if not grid.explicit:
        recent[0][:, 0] = probes  # the response to the initial value
        forms[:, 0, 0] = np.sum(probes**2, axis=0)
    for n in range(1, size):
        at = n - 1 if grid.explicit else n
        h = grid.weights[at]
        rate = gain * inputs.T @ (deltas[at][:, None] * inputs) + model.weight_decay * np.eye(dim)
        past = np.zeros((dim, n + 1, count))
        for weight, rows in zip(grid.past[n], recent, strict=True):
            past += weight * rows[:, : n + 1]
        if grid.explicit:
            step = np.eye(dim) - h * rate
            matrices[n] = step @ matrices[n - 1]
            new = (step @ past.reshape(dim, -1)).reshape(past.shape)
            new[:, n - 1] += probes
        else:
            step = np.linalg.inv(np.eye(dim) + h * rate)
            matrices[n] = step @ grid.history(matrices, n)
            past[:, n] += probes
            new = (step @ past.reshape(dim, -1)).reshape(past.shape)
        forms[:, n, : n + 1] = np.einsum("ip,imp->pm", probes, new)
        recent = [recent[-1], *recent[:-1]]
        recent[0][:, : n + 1] = new
    return matrices, forms


def principal_amplitudes(correlation: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Amplitudes z of the MODES leading principal components, (N, MODES), unit mean square.

    Args:
        correlation, response: (N, T, T), centred.
    """
    times = np.unique(np.linspace(0, correlation.shape[1] - 1, TIMES).round().astype(int))
    blocks = []
    for array in (correlation, response):
        block = array[:, times][:, :, times].reshape(len(array), -1)
        size = np.sqrt(np.mean(block**2))
        blocks.append(block / (size if size > 0 else 1.0))
    left, _, right = np.linalg.svd(np.concatenate(blocks, axis=1), full_matrices=False)
    signs = np.where(right[:MODES].sum(axis=1) < 0, -1.0, 1.0)
    return left[:, :MODES] * signs * np.sqrt(len(left))
