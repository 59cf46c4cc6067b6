"""The state at t = 0 (THEORY section 4): d = m0 beta, c = 0, and a bulk that is the initial weights."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmft.compiled.executables import ONCE, compilable
from dmft.twotime.noise import Samples
from dmft.wide.seeding import start_seeding
from dmft.wide.state import Couplings, Fields, Labels, State, empty_state, put


@compilable(options=ONCE)
def first_state(
    c: Couplings, samples: Samples, overlap: Array, noise: Array, centered: Array, *, capacity: int, flow: bool
) -> State:
    """The state at t = 0, with row 0 of the flow, and room for `capacity` rows."""
    about = labels(c, samples, overlap, noise, centered)
    state = start_state(c, about, samples, jnp.sqrt(overlap), capacity)
    return initial_row(c, state) if flow else state


def labels(c: Couplings, samples: Samples, overlap: Array, noise: Array, centered: Array) -> Labels:
    """y = u^2/2 + noise, and f(0) = (alpha epsilon/2)(overlap(0) u^2 + 1) if `centered` is 1 (equations 1.2, 4.1)."""
    slope = c.alpha * c.epsilon * overlap
    output = 0.5 * (slope * samples.u**2 + c.alpha * c.epsilon)
    return Labels(0.5 * samples.u**2 + noise * samples.label, centered * output, centered * slope)


def start_state(c: Couplings, labels: Labels, samples: Samples, m_0: Float[Array, ""], capacity: int) -> State:
    """Nothing solved yet but b(0) = m0, R_0(0) = 1."""
    state = empty_state(samples, labels, capacity)
    kernels = put(state.kernels, jnp.int32(0), target_overlap=m_0, response_initial=1.0)
    return state._replace(kernels=kernels, seeding=start_seeding(c, state.seeding))


def initial_row(c: Couplings, state: State) -> State:
    """Row 0 of the implicit scheme: p = 0, q = m0 u, V = 1.  It carries no force (h_0 = 0).

    Column 0 of the responses is the response to a change of the initial value.
    """
    fields, history = initial_fields(c, state), state.history
    history = history._replace(
        bath=history.bath.at[0, :, 0].set(1.0),
        force_correlation=history.force_correlation.at[0, :, 0].set(fields.residual),
    )
    return state._replace(
        kernels=state.kernels._replace(
            response=state.kernels.response.at[0, :, 0].set(1.0),
            correlation_bulk=state.kernels.correlation_bulk.at[0, 0].set(1.0),
        ),
        fields=put(state.fields, jnp.int32(0), **fields._asdict()),
        history=history,
    )


def initial_fields(c: Couplings, state: State) -> Fields:
    """Row 0 of the per-sample processes, (S,) each."""
    u, m_0, labels = state.samples.u, state.kernels.target_overlap[0], state.labels
    zero, one = jnp.zeros_like(u), jnp.ones_like(u)
    q = m_0 * u
    delta = 0.5 * c.alpha * c.epsilon * (q**2 + 1) - labels.initial_output - labels.target
    slope = (c.alpha * c.epsilon * m_0**2 - 1 - labels.initial_slope) * u  # dDelta/du
    return Fields(
        p=zero,
        q=q,
        residual=delta,
        variance=one,
        force_common=delta,
        force_outlier=q * delta,
        initial=one,
        target_residual=slope,
        target_common=slope,
        target_outlier=m_0 * delta + q * slope,
    )
