"""How a random initialisation seeds the outlier (THEORY section 5).

At finite D the overlap with the target starts at 1/D and is fed by noise of the same order.  The target coordinate
of a bulk neuron obeys equation 5.1, so that overlap(t) = C_beta(t,t)/D while it is small.  C_beta is almost rank one:
a single outlier follows it if its equation has the source that makes b = b_lin = sqrt(C_beta/D) in the linear regime.
Once Delta has decayed, the source vanishes by itself.  Where the overlap is planted, 1/D is taken as 0 and so is all
of this.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.averages import all_residuals
from dmft.wide.drawn import AnyState
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Grown, Seeding


class Growth(NamedTuple):
    """What the samples of row n do to the target coordinate of a bulk neuron."""

    feedback: Float[Array, " T"]  # K_beta(n, :)
    noise: Float[Array, " T"]  # Sigma(n, :)


class SeedingRow(NamedTuple):
    """One row of a `Seeding` but for the noise."""

    response: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear_overlap: Float[Array, ""]
    source: Float[Array, ""]


def growth_rows(c: Couplings, state: AnyState, n: Array, local: Local) -> tuple[Growth, ...]:
    """Equation 5.1: rows n of K_beta = E[u^2 Delta H] and Sigma(n, m) = (1/kappa) E[u^2 Delta(n) Delta(m) B(n, m)]."""

    def of(u: Array) -> Growth:
        x = state.samples.weight * u**2 * local.residual
        noise = (all_residuals(state, n, local) * local.bath.correlation) @ x
        return Growth(local.bath.resolvent @ x, noise / c.kappa)

    return tuple(of(u) for u in state.samples.u[: len(state.seeding)])


def with_noises(seedings: tuple[Seeding, ...], n: Array, growth: tuple[Growth, ...]) -> tuple[Seeding, ...]:
    """Row and column n of the Sigma of each direction."""
    return tuple(with_noise(seeding, n, one.noise) for seeding, one in zip(seedings, growth, strict=True))


def with_noise(seeding: Seeding, n: Array, noise: Float[Array, " T"]) -> Seeding:
    """Sigma(n, :) and Sigma(:, n)."""
    here = jnp.arange(len(noise)) == n
    return seeding._replace(noise=jnp.where(here[:, None], noise, jnp.where(here, noise[:, None], seeding.noise)))


def linear_overlap(
    c: Couplings, h: Float[Array, " T"], seed: Array, noise: Float[Array, "T T"], response: Array, initial: Array
) -> Float[Array, ""]:
    """b_lin(n) = sqrt(C_beta(n,n)/D), equation 5.2: C_beta = R_b0 R_b0^T + (epsilon/alpha)^2 R_beta Sigma R_beta^T.

    Args:
        seed: 1/D, or 0 where the overlap is planted.
        noise: Sigma.
        response, initial: R_beta(n, :) and R_b0(n).
    """
    weights = response * h
    fed = (c.epsilon / c.alpha) ** 2 * weights @ noise @ weights
    return jnp.sqrt(seed * (initial**2 + jnp.maximum(fed, 0.0)))


def implicit_seeding(
    c: Couplings, steps: Steps, seedings: tuple[Seeding, ...], n: Array, growth: tuple[Growth, ...]
) -> tuple[SeedingRow, ...]:
    """`implicit_seeding_row` of each direction."""
    each = zip(c.seed_overlap, seedings, growth, strict=True)
    return tuple(implicit_seeding_row(c, steps, seed, seeding, n, one) for seed, seeding, one in each)


def implicit_seeding_row(
    c: Couplings, steps: Steps, seed: Array, seeding: Seeding, n: Array, growth: Growth
) -> SeedingRow:
    """Row n of d_t R_beta = delta - (epsilon/alpha) K_beta R_beta - lambda R_beta, and the source of b that it implies.

    Args:
        seed: 1/D, or 0 where the overlap is planted.
        seeding: the rows before.
        growth: row n of K_beta and Sigma.
    """
    at_n, strength = jnp.arange(len(growth.noise)) == n, c.epsilon / c.alpha
    others, gain = jnp.where(at_n, 0.0, strength * growth.feedback), strength * growth.feedback[n]

    def step(rows: Array, force: Array | float = 0.0) -> Array:
        past = steps.history(rows, n) + force
        return steps.implicit(past, n, others @ rows, c.weight_decay, gain)

    response, initial = step(seeding.response, at_n), step(seeding.response_initial)
    noise = with_noise(seeding, n, growth.noise).noise
    linear = linear_overlap(c, steps.weights, seed, noise, response, initial)
    # b = b_lin solves the equation of b with this source
    missing = linear - step(seeding.linear_overlap)
    return SeedingRow(response, initial, linear, missing * (1 + steps.weights[n] * (c.weight_decay + gain)))


def explicit_seeding(
    c: Couplings,
    steps: Steps,
    seedings: tuple[Seeding, ...],
    n: Array,
    growth: tuple[Growth, ...],
    velocities: tuple[Grown | None, ...],
) -> tuple[tuple[SeedingRow, Grown | None], ...]:
    """`explicit_seeding_row` of each direction."""
    each = zip(c.seed_overlap, seedings, growth, velocities, strict=True)
    return tuple(explicit_seeding_row(c, steps, seed, of, n, one, velocity) for seed, of, one, velocity in each)


def explicit_seeding_row(
    c: Couplings, steps: Steps, seed: Array, seeding: Seeding, n: Array, growth: Growth, velocity: Grown | None
) -> tuple[SeedingRow, Grown | None]:
    """Row n + 1 of the same and its velocity, from row n; `velocity` is a `Grown`, or None without momentum."""

    def step(rows: Array) -> Array:
        return steps.explicit(rows[n], n, c.epsilon / c.alpha * growth.feedback @ rows, c.weight_decay)

    plain = Grown(
        step(seeding.response) + (jnp.arange(len(growth.noise)) == n),
        step(seeding.response_initial),
        step(seeding.linear_overlap),
    )
    before = Grown(*(getattr(seeding, name)[n] for name in Grown._fields))
    row, velocity = steps.gliding(n, before, plain, velocity)
    noise = with_noise(seeding, n, growth.noise).noise
    linear = linear_overlap(c, steps.weights, seed, noise, row.response, row.response_initial)
    return SeedingRow(row.response, row.response_initial, linear, linear - row.linear_overlap), velocity
