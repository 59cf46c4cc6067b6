"""How a random initialisation seeds the outlier (THEORY section 5).

At finite D the overlap with the target starts at 1/D and is fed by noise of the same order.  The target coordinate
of a bulk neuron obeys equation 5.1, so that overlap(t) = C_beta(t,t)/D while it is small.  C_beta is almost rank one:
a single outlier follows it if its equation has the source that makes b = b_lin = sqrt(C_beta/D) in the linear regime.
Once Delta has decayed, the source vanishes by itself.  Where the overlap is planted, 1/D is taken as 0 and so is all
of this.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.averages import all_residuals
from dmft.wide.drawn import AnyState
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Grown, Seeding, put


class Growth(NamedTuple):
    """What the samples of row n do to the target coordinate of a bulk neuron."""

    feedback: Float[Array, " T"]  # K_beta(n, :)
    noise: Float[Array, " T"]  # Sigma(n, :)


class SeedingRow(NamedTuple):
    """One row of `Seeding` but for the noise."""

    response: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear_overlap: Float[Array, ""]
    source: Float[Array, ""]


def start_seeding(c: Couplings, seeding: Seeding) -> Seeding:
    """Row 0: R_b0 = 1, b_lin = D^-1/2."""
    return put(seeding, jnp.int32(0), response_initial=1.0, linear_overlap=jnp.sqrt(c.seed_overlap))


def growth_row(c: Couplings, state: AnyState, n: Array, local: Local) -> Growth:
    """Equation 5.1: rows n of K_beta = E[u^2 Delta H] and Sigma(n, m) = (1/kappa) E[u^2 Delta(n) Delta(m) B(n, m)]."""
    x = state.samples.weight * state.samples.u**2 * local.residual
    noise = (all_residuals(state, n, local) * local.bath.correlation) @ x
    return Growth(local.bath.resolvent @ x, noise / c.kappa)


def with_noise(seeding: Seeding, n: Array, noise: Float[Array, " T"]) -> Seeding:
    """Sigma(n, :) and Sigma(:, n)."""
    here = jnp.arange(len(noise)) == n
    return seeding._replace(noise=jnp.where(here[:, None], noise, jnp.where(here, noise[:, None], seeding.noise)))


def linear_overlap(
    c: Couplings, h: Float[Array, " T"], noise: Float[Array, "T T"], response: Array, initial: Array
) -> Float[Array, ""]:
    """b_lin(n) = sqrt(C_beta(n,n)/D), equation 5.2: C_beta = R_b0 R_b0^T + (epsilon/alpha)^2 R_beta Sigma R_beta^T.

    Args:
        noise: Sigma.
        response, initial: R_beta(n, :) and R_b0(n).
    """
    weights = response * h
    fed = (c.epsilon / c.alpha) ** 2 * weights @ noise @ weights
    return jnp.sqrt(c.seed_overlap * (initial**2 + jnp.maximum(fed, 0.0)))


def implicit_seeding_row(c: Couplings, steps: Steps, seeding: Seeding, n: Array, growth: Growth) -> SeedingRow:
    """Row n of d_t R_beta = delta - (epsilon/alpha) K_beta R_beta - lambda R_beta, and the source of b that it implies.

    Args:
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
    linear = linear_overlap(c, steps.weights, noise, response, initial)
    # b = b_lin solves the equation of b with this source
    missing = linear - step(seeding.linear_overlap)
    return SeedingRow(response, initial, linear, missing * (1 + steps.weights[n] * (c.weight_decay + gain)))


def explicit_seeding_row(
    c: Couplings, steps: Steps, seeding: Seeding, n: Array, growth: Growth, velocity: Any = None
) -> tuple[SeedingRow, Any]:
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
    linear = linear_overlap(c, steps.weights, noise, row.response, row.response_initial)
    return SeedingRow(row.response, row.response_initial, linear, linear - row.linear_overlap), velocity
