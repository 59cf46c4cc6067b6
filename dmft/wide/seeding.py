"""How a random initialisation seeds the outlier (THEORY section 5).

At finite D the overlap with the target starts at 1/D and is fed by noise of the same order.  The target coordinate
of a bulk neuron obeys  dw_beta/dt = -(epsilon/alpha) [xi_beta + int K_beta w_beta] - lambda w_beta  with
K_beta(t,s) = E[u^2 Delta(t) H(t,s)] and cov xi_beta = Sigma(t,s) = (1/kappa) E[u^2 Delta(t) Delta(s) B(t,s)], so that
overlap(t) = C_beta(t,t)/D, C_beta = R_b0 R_b0^T + (epsilon/alpha)^2 R_beta Sigma R_beta^T, while it is small.
C_beta is almost rank one: a single outlier follows it if its equation has the source that makes b = b_lin =
sqrt(C_beta/D) in the linear regime.  Once Delta has decayed, the source vanishes by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.state import Couplings, Seed, State


class SeedRow(NamedTuple):
    """Row n of `Seed`."""

    response: Float[Array, " T"]
    force: Float[Array, " T"]
    response_initial: Float[Array, ""]
    linear: Float[Array, ""]
    source: Float[Array, ""]


def start_seed(c: Couplings, seed: Seed) -> Seed:
    """Row 0: R_b0 = 1, b_lin = D^-1/2."""
    return seed._replace(
        response_initial=seed.response_initial.at[0].set(1.0),
        linear=seed.linear.at[0].set(jnp.sqrt(c.seed_overlap)),
    )


def feedback_row(
    c: Couplings,
    bulk: Float[Array, " T"],
    state: State,
    n: Array,
    residual: Float[Array, " S"],
    gain_r: Float[Array, " S"],
) -> Float[Array, " T"]:
    """K_beta(n, :) = E[u^2 Delta(n) H(n, :)] with H(n, :) = a_r (delta - e v H), v_j = bulk_j Delta_j."""
    x = state.samples.weight * state.samples.u**2 * residual * gain_r
    weights = x * bulk[:, None] * state.fields.residual
    past = jnp.einsum("js,jsm->m", weights, state.history.bath)
    return jnp.sum(x) * (jnp.arange(bulk.shape[0]) == n) - c.e * past


def force_row(c: Couplings, state: State, n: Array, residual: Array, correlation: Array) -> Float[Array, " T"]:
    """Sigma(n, :) = (1/kappa) E[u^2 Delta(n) Delta(:) B(n, :)]."""
    residuals = state.fields.residual.at[n].set(residual)
    x = state.samples.weight * state.samples.u**2 * residual
    return jnp.einsum("s,ms,sm->m", x, residuals, correlation) / c.kappa


def linear_overlap(
    c: Couplings, h: Float[Array, " T"], forces: Float[Array, "T T"], response: Array, initial: Array
) -> Float[Array, ""]:
    """b_lin(n) = sqrt(C_beta(n,n) / D), C_beta = R_b0 R_b0^T + (epsilon/alpha)^2 (R h) Sigma (R h)^T."""
    weights = response * h
    noise = (c.epsilon / c.alpha) ** 2 * weights @ forces @ weights
    return jnp.sqrt(c.seed_overlap * (initial**2 + jnp.maximum(noise, 0.0)))


def implicit_seed_row(c: Couplings, steps: Steps, seed: Seed, n: Array, feedback: Array, force: Array) -> SeedRow:
    """Row n of the seed by an implicit step."""
    h, rate = steps.weights, steps.weights[n] * c.epsilon / c.alpha

    at_n = jnp.arange(h.shape[0]) == n
    others = jnp.where(at_n, 0.0, feedback)
    diagonal = 1 + steps.weights[n] * c.weight_decay + rate * feedback[n]
    response = (steps.history(seed.response, n) + at_n - rate * others @ seed.response) / diagonal
    initial = (steps.history(seed.response_initial, n) - rate * others @ seed.response_initial) / diagonal
    forces = seed.force.at[n].set(force).at[:, n].set(force)
    linear = linear_overlap(c, h, forces, response, initial)
    drift = others @ seed.linear + feedback[n] * linear
    source = linear - steps.history(seed.linear, n) + rate * drift + steps.weights[n] * c.weight_decay * linear
    return SeedRow(response, force, initial, linear, source)


def explicit_seed_step(
    c: Couplings, steps: Steps, seed: Seed, n: Array, feedback: Array, force: Array
) -> tuple[Seed, Array]:
    """Store Sigma(n, :), write row n + 1 of the responses and b_lin; return the seed and the gain of b(n + 1)."""
    h, rate, keep = steps.weights, steps.weights[n] * c.epsilon / c.alpha, 1 - steps.weights[n] * c.weight_decay
    seed = seed._replace(force=seed.force.at[n].set(force).at[:, n].set(force))
    response = keep * seed.response[n] + (jnp.arange(h.shape[0]) == n) - rate * feedback @ seed.response
    initial = keep * seed.response_initial[n] - rate * feedback @ seed.response_initial
    linear = linear_overlap(c, h, seed.force, response, initial)
    gain = linear - keep * seed.linear[n] + rate * feedback @ seed.linear
    seed = seed._replace(
        response=seed.response.at[n + 1].set(response, mode="drop"),
        response_initial=seed.response_initial.at[n + 1].set(initial, mode="drop"),
        linear=seed.linear.at[n + 1].set(linear, mode="drop"),
        source=seed.source.at[n + 1].set(gain, mode="drop"),
    )
    return seed, gain


def store_seed_row(seed: Seed, n: Array, row: SeedRow) -> Seed:
    """Write row n of an implicit step."""
    return Seed(
        seed.response.at[n].set(row.response),
        seed.force.at[n].set(row.force).at[:, n].set(row.force),
        seed.response_initial.at[n].set(row.response_initial),
        seed.linear.at[n].set(row.linear),
        seed.source.at[n].set(row.source),
    )
