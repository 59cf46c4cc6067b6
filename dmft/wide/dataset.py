"""One data set at finite D, drawn: the curves that its P samples and D coordinates give (THEORY section 12).

The theory averages over infinitely many samples and coordinates. The matrix X of a data set (P x D, variance 1/D) is
revealed as the dynamics asks for it: conditioned on what was seen, the rest of X is as random as before (Bolthausen
2014). Let e_m be orthonormal over samples and span the forces up to now, and v_m orthonormal over coordinates and span
X^T e_m, for c and for d. Then

    X v_m = kappa^-1/2 t_m e_m + z_m - sum_{l<=m} e_l E[e_l z_m],   D t_m^2 ~ chi^2 of D - m degrees of freedom,  (12.1)

with P fresh normals z_m, and E the mean over the P samples. With N the components of c on the v_m, in units in which
the theory has N = R F, the fields of the samples and the motion of N are

    p = -(alpha^2 kappa)^-1/2 N . Xv,    dN/dt = kappa^1/2 E[g Xv] - lambda N,    g = (1 + epsilon p) Delta,      (12.2)

and the same for q - b u with epsilon N in place of N, and g = q Delta. Overlaps that vanish by symmetry (of c with
beta, of c with d) are left out: they are of order 1/D. The bulk has D^2 entries and does not scatter at order D^-1/2:
it is the theory's, with E over the P samples.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.averages import ForceRow, bulk_force_row, extended_bases, force_row, forces
from dmft.wide.bath import bath_row, past_bath
from dmft.wide.drawn import Draw, DrawRow
from dmft.wide.fields import common_field, feedback_gains, offsets, solve_residual
from dmft.wide.history import BathBlock, with_row
from dmft.wide.local import Local
from dmft.wide.row import response_initial, target_overlap
from dmft.wide.sectors import BySector
from dmft.wide.seeding import Growth, growth_rows, with_noises
from dmft.wide.state import Couplings, put


class Drawn(NamedTuple):
    """All samples at row n, and their averages."""

    local: Local
    force: ForceRow
    growth: tuple[Growth, ...]  # of a random initialisation, in each direction


def known_fields(c: Couplings, state: Draw, row: DrawRow, instant: Float[Array, " cd"]) -> Float[Array, "cd S"]:
    """p and q of equation 12.2 without the feedback of row n on itself, which is kappa^-1/2 `instant` g."""
    strength = jnp.stack([jnp.ones_like(c.epsilon), *[c.epsilon] * (len(instant) - 1)]) / (c.alpha * jnp.sqrt(c.kappa))
    own = (instant / jnp.sqrt(c.kappa))[:, None] * row.factor
    seen = jnp.einsum("ik,iks->is", row.components, state.features)
    seen = seen - jnp.einsum("ik,iks->is", own, state.bases.vectors)
    target = row.target_overlap[:, None] * state.samples.u
    return -strength[:, None] * seen + jnp.concatenate([jnp.zeros_like(target[:1]), target])


def drawn_row(
    c: Couplings, h: Float[Array, " T"], state: Draw, n: Array, row: DrawRow, instant: Float[Array, " cd"]
) -> Drawn:
    """What the samples of a proposed row are: equations 4.1, 4.5 and 12.2.

    Args:
        instant: share of the feedback of row n on itself that is solved sample by sample, for c and for d: h_n R(n,n)
            of the theory. Any number gives the same, but for what g(n) has outside the span of e.
    """
    fields = known_fields(c, state, row, instant)
    p_0, q_0 = fields[0], fields[1:]
    past = past_bath(c, h, state, n, row)
    weights = BySector(instant[0], instant[1:], jnp.maximum(h[n] * row.response_bulk[n], 0.0))
    guess = state.fields.residual[jnp.maximum(n - 1, 0)]
    delta = solve_residual(c, guess, p_0, q_0, past.variance, offsets(state.labels), weights)
    gain = feedback_gains(c, weights, delta)
    bath = bath_row(past, n, gain.bulk)
    local = Local(common_field(c, p_0, delta, weights), gain.outlier * q_0, delta, gain, bath)
    return Drawn(local, force_row(state, forces(c, local)), growth_rows(c, state, n, local))


def drift(c: Couplings, state: Draw, local: Local) -> Float[Array, "cd M"]:
    """kappa^1/2 E[g Xv] of equation 12.2, for the v_m that are known."""
    known = jnp.arange(state.features.shape[1]) < state.bases.modes[:, None]
    mean = jnp.einsum("is,iks,s->ik", forces(c, local), state.features, state.samples.weight)
    return jnp.where(known, jnp.sqrt(c.kappa) * mean, 0.0)


def bulk_change(c: Couplings, state: Draw, local: Local) -> tuple[Float[Array, " T"], Float[Array, ""]]:
    """(epsilon/alpha) E[Delta G](n, :), the force on R_r, and how it follows R_r(n, :)."""
    weighted = c.epsilon / c.alpha * state.samples.weight * local.residual
    return local.bath.response @ weighted, weighted @ local.gain.bulk


def implied_draw(
    c: Couplings, steps: Steps, state: Draw, n: Array, row: DrawRow, past: DrawRow, drawn: Drawn
) -> DrawRow:
    """The row that the samples of a proposed row imply by an implicit step: equations 12.2, 4.6, 4.8 and 4.10.

    Args:
        past: the multistep history of every kernel.
    """
    local, decay = drawn.local, c.weight_decay
    change, gain = bulk_change(c, state, local)
    kick = jnp.where(jnp.arange(len(steps.weights)) == n, 1.0, 0.0)
    return DrawRow(
        components=steps.implicit(past.components, n, -drift(c, state, local), decay),
        factor=drawn.force.factor,
        response_bulk=steps.implicit(past.response_bulk + kick, n, change - gain * row.response_bulk, decay, gain),
        force_bulk=bulk_force_row(state, n, local),
        target_overlap=target_overlap(c, steps, state, n, past, local, drawn.growth),
        response_initial=response_initial(c, steps, state, n, past, row, local),
    )


def reveal(c: Couplings, state: Draw, force: ForceRow) -> Draw:
    """The new e_m that a row of forces adds, and X v_m of equation 12.1."""
    new = new_mode(state, force)[..., None]
    bases = extended_bases(state.bases, force)
    fresh = jnp.sum(jnp.where(new, state.features, 0.0), 1)
    shared = jnp.einsum("iks,is,s->ik", bases.vectors, fresh, state.samples.weight)
    length = jnp.sum(jnp.where(new[..., 0], state.lengths, 0.0), 1) / jnp.sqrt(c.kappa)
    feature = length[:, None] * force.unit + fresh - jnp.einsum("ik,iks->is", shared, bases.vectors)
    return state._replace(bases=bases, features=jnp.where(new, feature[:, None], state.features))


def new_mode(state: Draw, force: ForceRow) -> Array:
    """Which mode a row of forces adds, (1 + K, M)."""
    at = jnp.arange(state.features.shape[1]) == state.bases.modes[:, None]
    return at & jnp.any(force.unit != 0, axis=1)[:, None]


def store_draw(state: Draw, n: Array, row: DrawRow, drawn: Drawn) -> Draw:
    """The state with row n; its seeding has Sigma(n, :) alone."""
    local, here = drawn.local, jnp.arange(len(row.force_bulk)) == n
    bulk = local.bath.correlation_bulk
    kernels = put(state.kernels, n, **row._asdict(), correlation_bulk=bulk)
    return state._replace(
        kernels=kernels._replace(
            force_bulk=jnp.where(here, row.force_bulk[:, None], kernels.force_bulk),
            correlation_bulk=jnp.where(here, bulk[:, None], kernels.correlation_bulk),
        ),
        seeding=with_noises(state.seeding, n, drawn.growth),
        fields=put(state.fields, n, residual=local.residual),
        history=with_row(state.history, n, BathBlock(local.bath.resolvent)),
    )
