"""Damped Picard iteration of the wide theory over a whole trajectory: the usual way to solve such equations.

The equations (THEORY section 4) on the uniform grid of gradient descent, w(n+1) = w(n) - h F(n).  Memory kernels of all
pairs of times and the paths of all samples are iterated together: from averages over the samples to correlations and
responses, from these to new paths and tangents, from these to new averages, of which a fraction `damping` is taken.
Nothing but the paths is row after row: a sweep consists of large matrix products, about 13 S T^3 operations.

With A_i = h R_i (i = c, d, r), f = 1 + epsilon p and every quantity of one sample as a matrix or a diagonal over time,

    U_c = (1 + k epsilon A_c Delta)^-1 k A_c,   U_i = (1 + e A_i Delta)^-1 e A_i  (i = d, r)
    H = 1 - U_r Delta,  G = U_r/(e h),  B = H C_r H^T
    [1 + alpha (f U_c f + epsilon q U_d q + epsilon e h (G o B))] D = alpha f (1 - epsilon U_c Delta)    (field of c)
                                                               or = alpha epsilon q (1 - U_d Delta)     (field of d)

give the memory responses Sigma_c = E[dg/dzeta^p], Sigma_d = E[d(q Delta)/dzeta^q], Sigma_r = E[Delta H], and with them
R_i from d_t R = 1 - rate Sigma R.  The samples and the factors of the noise are those of `dmft.wide.replica`, so
that the
fixed point is a replica of gradient descent, number by number.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dmft.checks import precision_context
from dmft.losses.quadratic import test_loss_terms
from dmft.models.model import Model
from dmft.twotime.noise import Samples, draw_samples

#: Samples treated side by side.
CHUNK = 8


class Memory(NamedTuple):
    """What is iterated: averages over samples, (T, T) or (T, K) each, and the paths of the residuals."""

    common: jax.Array  # Sigma_c
    outlier: jax.Array  # Sigma_d
    bulk: jax.Array  # Sigma_r
    force_common: jax.Array  # F_c, F_c F_c^T = Gamma_c
    force_outlier: jax.Array  # F_d
    force_bulk: jax.Array  # Gamma_r
    drift: jax.Array  # E[q Delta u]/b, (T,)
    residual: jax.Array  # Delta, (T, S)


class Kernels(NamedTuple):
    """What follows from the memory: responses, the bulk's correlation, b, and the noise in its modes."""

    response_common: jax.Array
    response_outlier: jax.Array
    response_bulk: jax.Array
    correlation_bulk: jax.Array
    target_overlap: jax.Array
    noise_common: jax.Array  # (R_c h F_c)/(alpha sqrt(kappa)), (T, K)
    noise_outlier: jax.Array


@dataclasses.dataclass(frozen=True)
class Iterated:
    """The result: curves over `time`, the number of sweeps, and what the last one changed.

    Attributes:
        time, train_loss, test_loss: (T,).
        sweeps: number of sweeps done.
        change: largest relative change of the test loss that a full (undamped) step would still make.
    """

    time: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    sweeps: int
    change: float


def picard(
    model: Model,
    t_max: float,
    step: float,
    *,
    samples: int = 256,
    damping: float = 0.5,
    tolerance: float = 1e-3,
    most: int = 1000,
    seed: np.random.SeedSequence | None = None,
) -> Iterated:
    """Iterate one replica of gradient descent to t_max until a sweep changes the test loss by less than `tolerance`.

    Args:
        model: planted, not centred, without decay and label noise.
        t_max, step: horizon and time per step.
        samples: S, a power of two.
        damping: fraction in (0, 1] of the new averages that is taken.
        tolerance: of the largest relative change of the test loss.
        most: sweeps after which the iteration is given up.
        seed: of the samples; the default is the first replica of `solve`.
    """
    count = round(t_max / step) + 1
    seed = np.random.SeedSequence(0, spawn_key=(0,)) if seed is None else seed
    with precision_context("float64"):
        drawn = draw_samples(samples, min(count, samples // 2), seed, jnp.float64)
        drawn = drawn._replace(u=drawn.u[0], outlier=drawn.outlier[0])  # one direction
        numbers = tuple(jnp.float64(x) for x in (model.alpha, model.epsilon, model.kappa, model.initial_overlap, step))
        memory = first_guess(model, drawn, step * np.arange(count))
        previous, change, sweeps = None, np.inf, 0
        while sweeps < most and not change < tolerance:
            memory, train, test = sweep(numbers, drawn, memory, jnp.float64(damping))
            test, sweeps = np.asarray(test), sweeps + 1
            if not np.all(np.isfinite(test)):
                return Iterated(step * np.arange(count), np.asarray(train), test, sweeps, np.inf)
            change = np.inf if previous is None else float(np.max(np.abs(test / previous - 1)) / damping)
            previous = test
    return Iterated(step * np.arange(count), np.asarray(train), test, sweeps, change)


def first_guess(model: Model, drawn: Samples, time: np.ndarray) -> Memory:
    """No memory, no noise, residuals that decay from their initial values at unit rate."""
    count, modes = len(time), drawn.common.shape[0]
    start = 0.5 * model.alpha * model.epsilon * (model.initial_overlap * drawn.u**2 + 1) - 0.5 * drawn.u**2
    square, factor = jnp.zeros((count, count)), jnp.zeros((count, modes))
    return Memory(square, square, square, factor, factor, square, jnp.zeros(count), jnp.exp(-time)[:, None] * start)


def propagate(memory: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
    """R(n+1, :) = R(n, :) + delta(n, :) - rate sum_j Sigma(n, j) R(j, :), and the response to the initial value."""
    count = memory.shape[0]
    step = jnp.eye(count) - jnp.roll(jnp.eye(count) - rate * memory, 1, axis=0).at[0].set(0.0)
    full = solve_unit_lower(step, jnp.eye(count))
    return jnp.roll(full, -1, axis=1).at[:, -1].set(0.0), full[:, 0]


def solve_unit_lower(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """X with (1 + N) X = right, N the part of `matrix` strictly below its diagonal (the rest must be that of 1).

    By halves, so that all is matrix products; at 16 rows (1 + N)^-1 = (1 - N)(1 + N^2)(1 + N^4)(1 + N^8) exactly.
    jax's triangular solve of several matrices at once would do, but two of them at the same time can deadlock on the
    threads of the CPU (each waits there for its own parts; seen with jaxlib 0.10 on two cores).
    """
    size = matrix.shape[0]
    if size > 16:
        half = size // 2
        first = solve_unit_lower(matrix[:half, :half], right[:half])
        second = solve_unit_lower(matrix[half:, half:], right[half:] - matrix[half:, :half] @ first)
        return jnp.concatenate([first, second])
    power = matrix - jnp.eye(size)
    right = right - power @ right
    for _ in range(3):
        power = power @ power
        right = right + power @ right
    return right


def kernels_from(numbers: Any, memory: Memory) -> Kernels:
    """Responses and correlations in propagator form from the memory."""
    alpha, epsilon, kappa, planted, h = numbers
    rate, strength = h * epsilon / alpha, 1 / (alpha * jnp.sqrt(kappa))
    common, _ = propagate(memory.common, h / alpha)
    outlier, _ = propagate(memory.outlier, rate)
    bulk, initial = propagate(memory.bulk, rate)
    noise = (strength * epsilon * h) ** 2 * bulk @ memory.force_bulk @ bulk.T
    factors = jnp.concatenate([jnp.ones(1), jnp.cumprod(1 - rate * memory.drift)[:-1]])
    return Kernels(
        common,
        outlier,
        bulk,
        jnp.outer(initial, initial) + noise,
        jnp.sqrt(planted) * factors,
        strength * h * common @ memory.force_common,
        strength * epsilon * h * outlier @ memory.force_outlier,
    )


def test_loss(numbers: Any, kernels: Kernels) -> jax.Array:
    """The test loss (THEORY section 4, "Losses"), (T,)."""
    alpha, epsilon = numbers[:2]
    c_c, overlap = jnp.sum(kernels.noise_common**2, 1), kernels.target_overlap**2
    c_q = jnp.sum(kernels.noise_outlier**2, 1) + overlap
    trace, strength = jnp.diagonal(kernels.correlation_bulk) + c_c + c_q, alpha * epsilon
    frobenius = strength**2 * (c_q**2 + c_c**2) - 2 * strength * overlap + 1
    return test_loss_terms(alpha, strength * trace - 1, frobenius, c_c).test_loss


test_loss.__test__ = False  # type: ignore[attr-defined]  # not a test function


@jax.jit
def sweep(numbers: Any, drawn: Samples, memory: Memory, damping: jax.Array) -> tuple[Memory, jax.Array, jax.Array]:
    """One sweep: the damped memory, the train loss of the new paths and the test loss of the old memory."""
    kernels = kernels_from(numbers, memory)
    p_free = -kernels.noise_common @ drawn.common
    q_free = kernels.target_overlap[:, None] * drawn.u - kernels.noise_outlier @ drawn.outlier
    (p, q, delta), averages = over_samples(
        partial(one_sample, numbers, kernels), drawn.weight, (drawn.u, p_free.T, q_free.T, memory.residual.T)
    )
    modes = memory.force_common.shape[1]
    new = Memory(
        averages.common,
        averages.outlier,
        averages.bulk,
        force_factor((1 + numbers[1] * p) * delta, drawn.weight, modes),
        force_factor(q * delta, drawn.weight, modes),
        averages.force_bulk,
        (q * delta) @ (drawn.weight * drawn.u) / kernels.target_overlap,
        delta,
    )
    mixed = jax.tree.map(lambda old, implied: old + damping * (implied - old), memory, new)
    return mixed, delta**2 @ drawn.weight, test_loss(numbers, kernels)


class PerSample(NamedTuple):
    """The matrices over time of one sample whose averages are the memory."""

    common: jax.Array
    outlier: jax.Array
    bulk: jax.Array
    force_bulk: jax.Array


def over_samples(function: Any, weight: jax.Array, columns: Any) -> tuple[Any, PerSample]:
    """Paths (T, S) of all samples and the means of their matrices, CHUNK samples at a time."""
    parts = jax.tree.map(lambda array: array.reshape(-1, CHUNK, *array.shape[1:]), (weight, columns))

    def body(total: PerSample, part: Any) -> tuple[PerSample, Any]:
        fields, matrices = jax.vmap(function)(*part[1])
        return jax.tree.map(lambda sum_, new: sum_ + jnp.tensordot(part[0], new, 1), total, matrices), fields

    count = columns[1].shape[1]
    total, fields = jax.lax.scan(body, PerSample(*[jnp.zeros((count, count))] * 4), parts)
    return jax.tree.map(lambda array: array.reshape(-1, count).T, fields), total


def one_sample(
    numbers: Any, kernels: Kernels, u: jax.Array, p_free: jax.Array, q_free: jax.Array, past_residual: jax.Array
) -> tuple[Any, PerSample]:
    """Bath of one sample from its residuals of the last sweep, then its path (causally), then its tangents."""
    alpha, epsilon, kappa, _, h = numbers
    k, e = 1 / (alpha * kappa), epsilon / (alpha * kappa)
    unit = jnp.eye(p_free.size)

    def resolvent(gain: jax.Array, response: jax.Array, delta: jax.Array) -> jax.Array:
        """(1 + gain' A Delta)^-1 gain A, gain' = e."""
        matrix = unit + e * h * response * delta
        return solve_unit_lower(matrix, gain * h * response)

    u_r = resolvent(e, kernels.response_bulk, past_residual)
    own = unit - u_r * past_residual  # H
    correlation = own @ kernels.correlation_bulk @ own.T  # B
    variance = jnp.diagonal(correlation)

    def advance(forces: Any, row: Any) -> tuple[Any, Any]:
        n, common, outlier, p_0, q_0, v = row
        p, q = p_0 - k * h * common @ forces[0], q_0 - e * h * outlier @ forces[1]
        delta = alpha * (p + 0.5 * epsilon * (p**2 + q**2 + v)) - 0.5 * u**2
        return (forces[0].at[n].set((1 + epsilon * p) * delta), forces[1].at[n].set(q * delta)), (p, q, delta)

    rows = (jnp.arange(p_free.size), kernels.response_common, kernels.response_outlier, p_free, q_free, variance)
    p, q, delta = jax.lax.scan(advance, (jnp.zeros_like(p_free), jnp.zeros_like(p_free)), rows)[1]
    f = 1 + epsilon * p
    u_c = resolvent(k, kernels.response_common, delta)
    u_d = resolvent(e, kernels.response_outlier, delta)
    matrix = f[:, None] * u_c * f + epsilon * q[:, None] * u_d * q + epsilon * u_r * correlation
    free = jnp.concatenate(
        [f[:, None] * (unit - epsilon * u_c * delta), epsilon * q[:, None] * (unit - u_d * delta)], axis=1
    )
    both = alpha * solve_unit_lower(unit + alpha * matrix, free)
    d_c, d_d = both[:, : p_free.size], both[:, p_free.size :]
    x = epsilon * delta[:, None] * (unit - epsilon * u_c * delta - u_c @ (f[:, None] * d_c)) + f[:, None] * d_c
    y = delta[:, None] * (unit - u_d * delta - u_d @ (q[:, None] * d_d)) + q[:, None] * d_d
    column = past_residual[:, None]
    return (p, q, delta), PerSample(x, y, column * own, column * past_residual * correlation)


def force_factor(force: jax.Array, weight: jax.Array, modes: int) -> jax.Array:
    """F, (T, K), with F F^T = E[g g^T] as far as K modes go: Gram-Schmidt in sample space, row after row."""
    triangle = jnp.linalg.qr((force * jnp.sqrt(weight)).T, mode="r")
    return (jnp.where(jnp.diagonal(triangle) < 0, -1.0, 1.0)[:, None] * triangle).T[:, :modes]
