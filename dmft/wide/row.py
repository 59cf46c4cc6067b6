"""The fixed-point map of an implicit step: the row of kernels that the samples of a proposed row imply (THEORY 4)."""

from __future__ import annotations

from jaxtyping import Array, Float

from dmft.twotime.steps import Steps
from dmft.wide.averages import bulk_force_row, force_rows, target_drift
from dmft.wide.bath import initial_fed
from dmft.wide.local import Local, local_row
from dmft.wide.responses import response_bulk_row, response_common_row, response_outlier_row
from dmft.wide.seeding import seeding_row
from dmft.wide.state import Couplings, Row, State
from dmft.wide.tangents import slopes


def implied_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, *, seeded: bool) -> Row:
    """Equations 4.6, 4.8 and 4.10 at row n.

    Args:
        row: the proposed row.
        past: the multistep history of every kernel.
        seeded: whether a random initialisation feeds the outlier.
    """
    local = local_row(c, steps.weights, state, n, row)
    s = slopes(c, steps.weights, n, row, local)
    source = seeding_row(c, steps, state, n, row, local)[1].source if seeded else 0.0
    common, outlier = force_rows(c, state, local)
    return Row(
        response_common=response_common_row(c, steps, state, n, row, past, s),
        response_outlier=response_outlier_row(c, steps, state, n, row, past, s),
        response_bulk=response_bulk_row(c, steps, state, n, past, local),
        factor_common=common.factor,
        factor_outlier=outlier.factor,
        force_bulk=bulk_force_row(state, n, local),
        target_overlap=target_overlap(c, steps, state, n, past, local, source),
        response_initial=response_initial(c, steps, state, n, row, past, local),
    )


def target_overlap(
    c: Couplings, steps: Steps, state: State, n: Array, past: Row, local: Local, source: Array | float
) -> Float[Array, ""]:
    """b(n) of equation 4.8: db/dt = -(epsilon/alpha) E[Delta q u] - lambda b, and the source of the seeding."""
    drift = target_drift(c, state, local)
    return steps.implicit(past.target_overlap + source, n, drift, c.weight_decay)


def response_initial(
    c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, local: Local
) -> Float[Array, ""]:
    """R_0(n): d_t R_0 = -(epsilon/alpha) E[Delta G_0] - lambda R_0, G_0 = H R_0."""
    strength, weight = c.epsilon / c.alpha, state.samples.weight
    gain = local.residual * local.gain.bulk  # Delta G_0 = gain (R_0 - e R_r Delta G_0)
    others = -c.e * (weight @ (gain * initial_fed(steps.weights, state, row)))
    return steps.implicit(past.response_initial, n, strength * others, c.weight_decay, strength * (weight @ gain))
