"""Row n (THEORY section 4): what the samples of a proposed row are, and the row of kernels that they imply."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.averages import ForceRow, bulk_force_row, force_row, forces, target_drift
from dmft.wide.drawn import AnyRow, AnyState
from dmft.wide.local import Local, local_row
from dmft.wide.responses import mean_changes, mean_gains, response_rows
from dmft.wide.seeding import Growth, growth_rows, implicit_seeding
from dmft.wide.state import Couplings, Row, State
from dmft.wide.tangents import TangentRow, TargetTangent, slopes, tangent_row, target_tangent_row


class Sampled(NamedTuple):
    """All samples at row n, and their averages."""

    local: Local
    tangent: TangentRow
    target: TargetTangent
    answer: Float[Array, "F T S"]  # G_d of the directions beyond the first
    force: ForceRow
    force_bulk: Float[Array, " T"]  # Gamma_r(n, :)
    change: Float[Array, "cdr T"]  # E[X], E[Y], E[Delta G]
    gain: Float[Array, " cdr"]  # how these follow the responses
    growth: tuple[Growth, ...]  # of a random initialisation, in each direction


def sampled_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row) -> Sampled:
    """What the samples of a proposed row are: equations 4.1 to 4.6 and 4.9."""
    weight, local = state.samples.weight, local_row(c, h, state, n, row)
    s = slopes(c, h, state, n, row, local)
    tangent = tangent_row(c, h, n, state, row, local, s)
    return Sampled(
        local=local,
        tangent=tangent,
        target=target_tangent_row(c, h, state, row, s),
        answer=s.further.answer,
        force=force_row(state, jnp.where(h[n] > 0, forces(c, local), 0.0)),  # none if it has no weight
        force_bulk=bulk_force_row(state, n, local),
        change=mean_changes(weight, local, tangent),
        gain=mean_gains(c, weight, local, s),
        growth=growth_rows(c, state, n, local),
    )


def implied_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, sampled: Sampled) -> Row:
    """The row of kernels that the samples of a proposed row imply by an implicit step: equations 4.6, 4.8 and 4.10.

    Args:
        row: the proposed row.
        past: the multistep history of every kernel.
        sampled: what the samples of `row` are.
    """
    return Row(
        response=response_rows(c, steps, state, n, row, past, sampled.change, sampled.gain),
        factor=sampled.force.factor,
        force_bulk=sampled.force_bulk,
        target_overlap=target_overlap(c, steps, state, n, past, sampled.local, sampled.growth),
        response_initial=response_initial(c, steps, state, n, past, row, sampled.local),
    )


def target_overlap(
    c: Couplings, steps: Steps, state: AnyState, n: Array, past: AnyRow, local: Local, growth: tuple[Growth, ...]
) -> Float[Array, " G"]:
    """b(n) of equation 4.8: db/dt = -(epsilon/alpha) E[Delta q u] - lambda b, and the source of the seeding."""
    drift = target_drift(c, state, local)
    source = jnp.stack([row.source for row in implicit_seeding(c, steps, state.seeding, n, growth)])
    return steps.implicit(past.target_overlap + source, n, drift, c.weight_decay)


def response_initial(
    c: Couplings, steps: Steps, state: AnyState, n: Array, past: AnyRow, row: AnyRow, local: Local
) -> Float[Array, ""]:
    """R_0(n): d_t R_0 = -(epsilon/alpha) E[Delta G_0] - lambda R_0, G_0 = H R_0."""
    strength, weight = c.epsilon / c.alpha, state.samples.weight
    gain = weight @ (local.residual * local.gain.bulk)  # how E[Delta G_0] follows R_0(n)
    others = weight @ (local.residual * local.bath.initial) - gain * row.response_initial
    return steps.implicit(past.response_initial, n, strength * others, c.weight_decay, strength * gain)
