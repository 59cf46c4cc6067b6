"""How a random initialisation seeds the outlier (THEORY section 5).

At finite D the overlap with the target starts at 1/D and is fed by noise of the same order.  The target coordinate
of a bulk neuron obeys equation 5.1, so that overlap(t) = C_beta(t,t)/D while it is small.  C_beta is almost rank one:
a single outlier follows it if its equation has the source that makes b = b_lin = sqrt(C_beta/D) in the linear regime.
Once Delta has decayed, the source vanishes by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.local import Local
from dmft.wide.state import Couplings, Row, Seeding, State, put


class SeedingRow(NamedTuple):
    """One row of `Seeding` but for the noise."""

    response: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear_overlap: Float[Array, ""]
    source: Float[Array, ""]


def start_seeding(c: Couplings, seeding: Seeding) -> Seeding:
    """Row 0: R_b0 = 1, b_lin = D^-1/2."""
    return seeding._replace(
        response_initial=seeding.response_initial.at[0].set(1.0),
        linear_overlap=seeding.linear_overlap.at[0].set(jnp.sqrt(c.seed_overlap)),
    )


def feedback_row(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, local: Local
) -> Float[Array, " T"]:
    """K_beta(n, :) = E[u^2 Delta(n) H(n, :)] of equation 5.1, with H = delta - e R_r Delta H."""
    u_squared = state.samples.weight * state.samples.u**2
    x = u_squared * local.residual * local.gain.bulk
    weights = x * (row.response_bulk * h)[:, None] * state.fields.residual
    past = jnp.einsum("js,jsm->m", weights, state.history.bath)
    return jnp.sum(x) * (jnp.arange(len(h)) == n) - c.e * past


def noise_row(c: Couplings, state: State, n: Array, local: Local) -> Float[Array, " T"]:
    """Sigma(n, :) = (1/kappa) E[u^2 Delta(n) Delta(:) B(n, :)] of equation 5.1."""
    residuals = state.fields.residual.at[n].set(local.residual)
    x = state.samples.weight * state.samples.u**2 * local.residual
    return jnp.einsum("s,ms,sm->m", x, residuals, local.bath.correlation) / c.kappa


def with_noise(seeding: Seeding, n: Array, noise: Float[Array, " T"]) -> Seeding:
    """Sigma(n, :) and Sigma(:, n)."""
    return seeding._replace(noise=seeding.noise.at[n].set(noise).at[:, n].set(noise))


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


def implicit_seeding_row(
    c: Couplings, steps: Steps, seeding: Seeding, n: Array, feedback: Float[Array, " T"]
) -> SeedingRow:
    """Row n of d_t R_beta = delta - (epsilon/alpha) K_beta R_beta - lambda R_beta, and the source of b that it implies.

    Args:
        seeding: with Sigma(n, :).
        feedback: K_beta(n, :).
    """
    strength, at_n = c.epsilon / c.alpha, jnp.arange(len(feedback)) == n
    others, gain = jnp.where(at_n, 0.0, strength * feedback), strength * feedback[n]

    def step(rows: Array, force: Array | float) -> Array:
        past = steps.history(rows, n) + force
        return steps.implicit(past, n, others @ rows, c.weight_decay, gain)

    response = step(seeding.response, at_n)
    initial = step(seeding.response_initial, 0.0)
    linear = linear_overlap(c, steps.weights, seeding.noise, response, initial)
    # b = b_lin solves the equation of b with this source
    missing = linear - step(seeding.linear_overlap, 0.0)
    source = missing * (1 + steps.weights[n] * (c.weight_decay + gain))
    return SeedingRow(response, initial, linear, source)


def explicit_seeding_row(
    c: Couplings, steps: Steps, seeding: Seeding, n: Array, feedback: Float[Array, " T"]
) -> SeedingRow:
    """Row n + 1 of the same, from row n."""

    def step(rows: Array) -> Array:
        return steps.explicit(rows[n], n, c.epsilon / c.alpha * feedback @ rows, c.weight_decay)

    response = step(seeding.response) + (jnp.arange(len(feedback)) == n)
    initial = step(seeding.response_initial)
    linear = linear_overlap(c, steps.weights, seeding.noise, response, initial)
    return SeedingRow(response, initial, linear, linear - step(seeding.linear_overlap))


def seeding_row(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, local: Local
) -> tuple[Seeding, SeedingRow]:
    """Row n of the seeding by an implicit step, and the seeding with Sigma(n, :)."""
    seeding = with_noise(state.seeding, n, noise_row(c, state, n, local))
    feedback = feedback_row(c, steps.weights, state, n, row, local)
    return seeding, implicit_seeding_row(c, steps, seeding, n, feedback)


def store_seeding(seeding: Seeding, n: Array, row: SeedingRow) -> Seeding:
    """Write row n."""
    return put(seeding, n, **row._asdict())
