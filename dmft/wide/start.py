"""The state at t = 0 (THEORY section 4): d = m0 beta, c = 0, and a bulk that is the initial weights.

The arithmetic is NumPy's: it needs no compilation.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmft.compiled.executables import compilable
from dmft.twotime.noise import Samples
from dmft.wide.seeding import start_seeding
from dmft.wide.state import Couplings, Fields, Labels, State, empty_state, put


def labels(c: Couplings, samples: Samples, overlap: float, noise: float, centered: float) -> Labels:
    """y = u^2/2 + noise, and f(0) = (alpha epsilon/2)(overlap(0) u^2 + 1) if `centered` is 1 (equations 1.2, 4.1)."""
    alpha, epsilon, u, label = map(np.asarray, (c.alpha, c.epsilon, samples.u, samples.label))
    slope = alpha * epsilon * overlap
    output = 0.5 * (slope * u**2 + alpha * epsilon)
    return Labels(*_like(u, 0.5 * u**2 + noise * label, centered * output, centered * slope))


def initial_fields(c: Couplings, samples: Samples, m_0: np.ndarray, labels: Labels) -> Fields:
    """Row 0 of the per-sample processes of the flow, (S,) each: p = 0, q = m0 u, V = 1."""
    alpha, epsilon, u = map(np.asarray, (c.alpha, c.epsilon, samples.u))
    target, initial_output, initial_slope = map(np.asarray, labels)
    q = m_0 * u
    delta = 0.5 * alpha * epsilon * (q**2 + 1) - initial_output - target
    slope = (alpha * epsilon * m_0**2 - 1 - initial_slope) * u  # dDelta/du
    rows = {
        "p": np.zeros_like(u),
        "q": q,
        "residual": delta,
        "variance": np.ones_like(u),
        "force_common": delta,
        "force_outlier": q * delta,
        "initial": np.ones_like(u),
        "target_residual": slope,
        "target_common": slope,
        "target_outlier": m_0 * delta + q * slope,
    }
    return Fields(**dict(zip(rows, _like(u, *rows.values()), strict=True)))


def _like(array: np.ndarray, *others: Any) -> Any:
    """The others in the precision of `array`."""
    return [np.asarray(other, array.dtype) for other in others]


@compilable()
def first_state(
    c: Couplings, labels: Labels, samples: Samples, m_0: Float[Array, ""], row: Fields | None, *, capacity: int
) -> State:
    """The state at t = 0, with row 0 of the flow if it is given, and room for `capacity` rows."""
    state = start_state(c, labels, samples, m_0, capacity)
    return state if row is None else with_row(state, row)


def start_state(c: Couplings, labels: Labels, samples: Samples, m_0: Float[Array, ""], capacity: int) -> State:
    """Nothing solved yet but b(0) = m0, R_0(0) = 1."""
    state = empty_state(samples, labels, capacity)
    kernels = put(state.kernels, jnp.int32(0), target_overlap=m_0, response_initial=1.0)
    return state._replace(kernels=kernels, seeding=start_seeding(c, state.seeding))


def with_row(state: State, row: Fields) -> State:
    """Row 0 of the implicit scheme.  It carries no force (h_0 = 0).

    Column 0 of the responses is the response to a change of the initial value.
    """
    history = state.history
    one = {name: getattr(state.kernels, name).at[0, 0].set(1.0) for name in _ONE}
    history = history._replace(
        bath=history.bath.at[0, :, 0].set(1.0),
        force_correlation=history.force_correlation.at[0, :, 0].set(row.residual),
    )
    return state._replace(
        kernels=state.kernels._replace(**one),
        fields=put(state.fields, jnp.int32(0), **row._asdict()),
        history=history,
    )


#: Kernels that are 1 at (0, 0).
_ONE = ("response_common", "response_outlier", "response_bulk", "correlation_bulk")
