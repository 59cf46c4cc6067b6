"""One time point of the wide theory (THEORY section 4), given all earlier ones.

Everything here is local to row n: the fields of each sample from a proposed row of kernels, the tangents, and the
row of kernels that the samples imply.  In both time schemes an integral int_0^t R(t,s) v(s) ds is the sum
sum_m R(n,m) h_m v_m.  Explicit steps have R(n,n) = 0, so their row follows from the past; implicit steps have
R(n,n) > 0 and the row is a fixed point of `implied_row`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from dmft.twotime.noise import factor_row
from dmft.twotime.steps import Steps
from dmft.wide.seeding import SeedRow, feedback_row, force_row, implicit_seed_row
from dmft.wide.state import Couplings, Row, State, Tangent


class Local(NamedTuple):
    """Sample by sample at row n: fields, the gains of the instantaneous feedback, the bath rows."""

    p: Float[Array, " S"]
    q: Float[Array, " S"]
    residual: Float[Array, " S"]
    variance: Float[Array, " S"]
    gain_p: Float[Array, " S"]  # a_p = 1/(1 + e h R_c(n,n) Delta)
    gain_q: Float[Array, " S"]  # a_q = 1/(1 + e h R_d(n,n) Delta)
    gain_r: Float[Array, " S"]  # a_r = 1/(1 + e h R_r(n,n) Delta)
    response: Float[Array, "S T"]  # G(n, :)
    correlation: Float[Array, "S T"]  # B(n, :)
    correlation_bulk: Float[Array, " T"]  # C_r(n, :)


class Slopes(NamedTuple):
    """How dDelta and the forces of row n follow the histories P0, Q0, W0 of the tangents, (S,) each.

    D = d_p P0 + d_q Q0 + d_w W0,  X = epsilon Delta a_p P0 + x_d D,  Y = Delta a_q Q0 + y_d D.
    """

    d_p: Float[Array, " S"]
    d_q: Float[Array, " S"]
    d_w: Float[Array, " S"]
    x_p: Float[Array, " S"]
    x_d: Float[Array, " S"]
    y_q: Float[Array, " S"]
    y_d: Float[Array, " S"]
    bath: Float[Array, "T S"]  # -dV(n)/dDelta_j, the weights of W0: 2 e h_j G(n,j) B(n,j)
    d_y: Float[Array, " S"]  # dDelta/dy = -d_y at fixed p_0, q_0, w_0


def past_sum(weights: Float[Array, " T"], history: Float[Array, "T S T"]) -> Float[Array, "S T"]:
    """sum_j weights_j history[j, s, m]."""
    t, s, m = history.shape
    return (weights @ history.reshape(t, s * m)).reshape(s, m)


def sample_mean(weights: Float[Array, " S"], history: Float[Array, "T S T"]) -> Float[Array, "T T"]:
    """sum_s weights_s history[j, s, m]: E[x history] for weights = (sample weight) x."""
    return jnp.sum(weights[:, None] * history, axis=1)


def solve_residual(
    c: Couplings,
    residual_now: Float[Array, " S"],
    p_past: Float[Array, " S"],
    q_past: Float[Array, " S"],
    bath_variance: Float[Array, " S"],
    offset: Float[Array, " S"],
    diagonals: Float[Array, " 3"],
) -> Float[Array, " S"]:
    """Delta of each sample: the root of alpha [p + (epsilon/2)(p^2 + q^2 + V)] - offset - Delta = 0.

    With x_i = e h R_i(n,n): p = (p_past - x_c Delta/epsilon)/(1 + x_c Delta), q = q_past/(1 + x_d Delta) and
    V = V_0/(1 + x_r Delta)^2.  Where all three denominators are positive the left side falls strictly and is convex in
    Delta, from +infinity at the edge to -infinity: the root there is unique, and it is the one that connects to small
    steps.  Newton is kept inside that domain.

    Args:
        residual_now: first guess (the previous time).
        p_past, q_past: fields without the feedback of row n.
        bath_variance: V_0 >= 0.
        offset: y + f(0).
        diagonals: h R_c(n,n), h R_d(n,n), h R_r(n,n), not negative.
    """
    x_c, x_d, x_r = c.e * diagonals
    push = c.k * diagonals[0]  # k h R_c(n,n)
    tiny = jnp.finfo(p_past.dtype).tiny
    edge = -1.0 / jnp.maximum(c.e * jnp.max(diagonals), jnp.sqrt(tiny))

    def body(carry):
        delta, _, count = carry
        a_p, a_q, a_r = 1 / (1 + x_c * delta), 1 / (1 + x_d * delta), 1 / (1 + x_r * delta)
        p, q, v = a_p * (p_past - push * delta), a_q * q_past, a_r**2 * bath_variance
        value = c.alpha * (p + 0.5 * c.epsilon * (p**2 + q**2 + v)) - offset - delta
        slope = 1 + c.alpha * ((1 + c.epsilon * p) ** 2 * a_p * push + c.epsilon * (q**2 * a_q * x_d + v * a_r * x_r))
        new = jnp.maximum(delta + value / slope, 0.5 * (delta + edge))
        return new, jnp.max(jnp.abs(new - delta) / (jnp.abs(new) + 1e-3)), count + 1

    def unfinished(carry):
        return (carry[1] > 16 * jnp.finfo(p_past.dtype).eps) & (carry[2] < 60)

    start = jnp.maximum(residual_now, 0.5 * edge)
    return jax.lax.while_loop(unfinished, body, (start, jnp.asarray(jnp.inf, start.dtype), 0))[0]


def correlation_bulk_row(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row) -> Float[Array, " T"]:
    """C_r(n, :) = R_0 R_0^T + (epsilon^2/(alpha^2 kappa)) R_r Gamma_r R_r^T."""
    kernels = state.kernels
    weights = row.response_bulk * h
    y = weights @ kernels.force_bulk + weights[n] * row.force_bulk
    y = y.at[n].set(weights @ row.force_bulk)
    scale = c.epsilon**2 / (c.alpha**2 * c.kappa)
    response_initial = kernels.response_initial.at[n].set(row.response_initial)
    noise = ((kernels.response_bulk * h) @ y).at[n].set(weights @ y)
    return row.response_initial * response_initial * (jnp.arange(len(h)) <= n) + scale * noise


def noise_weights(h: Float[Array, " T"], state: State, n: Array, row: Row) -> tuple[Array, Array]:
    """(R_c h F_c)(n, :) and (R_d h F_d)(n, :), the noise of row n in its modes."""
    common, outlier = row.response_common * h, row.response_outlier * h
    return (
        common @ state.kernels.factor_common + common[n] * row.factor_common,
        outlier @ state.kernels.factor_outlier + outlier[n] * row.factor_outlier,
    )


def local_fields(c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row) -> Local:
    """Fields of every sample at row n from a proposed row of kernels (THEORY section 4, sample level)."""
    samples, fields, history = state.samples, state.fields, state.history
    common, outlier, bulk = row.response_common * h, row.response_outlier * h, row.response_bulk * h
    noise_c, noise_d = noise_weights(h, state, n, row)
    strength = 1 / (c.alpha * jnp.sqrt(c.kappa))
    # p and q without the feedback of row n itself: noise, then the response to the sample's own past
    p_past = -strength * (noise_c @ samples.common) - c.k * (common @ fields.force_common)
    q_past = row.target_overlap * samples.u - c.epsilon * strength * (noise_d @ samples.outlier)
    q_past = q_past - c.e * (outlier @ fields.force_outlier)
    # bath: r(n) = a_r [zeta^r(n) - e sum_j v_j r(j)], v_j = h_j R_r(n,j) Delta_j
    correlation_bulk = correlation_bulk_row(c, h, state, n, row)
    v = bulk[:, None] * fields.residual
    free = jnp.sum(history.bath * correlation_bulk, axis=2)  # E_r[zeta^r(n) r(j)], (T, S)
    fed = past_sum(bulk, history.force_correlation)  # sum_j v_j B(j, :)
    variance_0 = correlation_bulk[n] - 2 * c.e * jnp.sum(v * free, 0) + c.e**2 * jnp.sum(fed * v.T, 1)
    variance_0 = jnp.maximum(variance_0, 0.0)
    diagonals = jnp.maximum(jnp.stack([common[n], outlier[n], bulk[n]]), 0.0)
    guess = fields.residual[jnp.maximum(n - 1, 0)]
    offset = state.residual.target + state.residual.initial_output
    delta = solve_residual(c, guess, p_past, q_past, variance_0, offset, diagonals)
    a_p, a_q, a_r = (1 / (1 + c.e * diagonals[i] * delta) for i in range(3))
    variance = a_r**2 * variance_0
    response = a_r[:, None] * (row.response_bulk - c.e * past_sum(bulk, history.force_response))
    correlation = (a_r[:, None] * (free.T - c.e * fed)).at[:, n].set(variance)
    p = a_p * (p_past - c.k * diagonals[0] * delta)
    return Local(p, a_q * q_past, delta, variance, a_p, a_q, a_r, response, correlation, correlation_bulk)


def slopes(c: Couplings, h: Float[Array, " T"], n: Array, row: Row, local: Local) -> Slopes:
    """Linearisation of the residual equation at row n: how a sample answers to the histories of its tangents."""
    p, q, delta = local.p, local.q, local.residual
    feature = 1 + c.epsilon * p
    beta_p = c.k * jnp.maximum(h[n] * row.response_common[n], 0.0) * feature
    beta_q = c.e * jnp.maximum(h[n] * row.response_outlier[n], 0.0) * q
    bath = 2 * c.e * h[:, None] * (local.response * local.correlation).T
    beta_w = bath[n]
    den = 1 + c.alpha * (
        feature * beta_p * local.gain_p + c.epsilon * q * beta_q * local.gain_q + 0.5 * c.epsilon * beta_w
    )
    return Slopes(
        d_p=c.alpha * feature * local.gain_p / den,
        d_q=c.alpha * c.epsilon * q * local.gain_q / den,
        d_w=0.5 * c.alpha * c.epsilon / den,
        x_p=c.epsilon * delta * local.gain_p,
        x_d=feature * local.gain_p,
        y_q=delta * local.gain_q,
        y_d=q * local.gain_q,
        bath=bath.at[n].set(0.0),
        d_y=1 / den,
    )


def tangent_row(c: Couplings, h: Float[Array, " T"], past: Tangent, row: Row, s: Slopes, *, on_common: bool) -> Tangent:
    """Tangents D, X, Y of row n under a force on c (or on d), per sample: arrays (S, T)."""
    common, outlier = row.response_common * h, row.response_outlier * h
    p_0 = -c.k * past_sum(common, past.common)
    q_0 = -c.e * past_sum(outlier, past.outlier)
    w_0 = -jnp.einsum("js,jsm->sm", s.bath, past.residual)
    if on_common:
        p_0 = p_0 + row.response_common
    else:
        q_0 = q_0 + row.response_outlier
    d = s.d_p[:, None] * p_0 + s.d_q[:, None] * q_0 + s.d_w[:, None] * w_0
    return Tangent(
        residual=d,
        common=s.x_p[:, None] * p_0 + s.x_d[:, None] * d,
        outlier=s.y_q[:, None] * q_0 + s.y_d[:, None] * d,
    )


def target_tangent_row(
    c: Couplings, h: Float[Array, " T"], state: State, row: Row, s: Slopes
) -> tuple[Float[Array, " S"], Float[Array, " S"], Float[Array, " S"]]:
    """dDelta/du, d[(1 + epsilon p) Delta]/du and d[q Delta]/du of row n: y = u^2/2 and zeta^q = b u + ... move."""
    fields, samples = state.fields, state.samples
    p_0 = -c.k * ((row.response_common * h) @ fields.target_common)
    q_0 = row.target_overlap - c.e * ((row.response_outlier * h) @ fields.target_outlier)
    w_0 = -jnp.sum(s.bath * fields.target_residual, 0)
    d = s.d_p * p_0 + s.d_q * q_0 + s.d_w * w_0 - s.d_y * samples.u * (1 + state.residual.initial_slope)
    return d, s.x_p * p_0 + s.x_d * d, s.y_q * q_0 + s.y_d * d


def implied_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, past: Row, *, seeded: bool) -> Row:
    """The row of kernels that the samples of a proposed row imply: the fixed-point map of an implicit step.

    Args:
        past: the multistep history of every kernel.
        seeded: whether a random initialisation feeds the outlier.
    """
    h, samples = steps.weights, state.samples
    local = local_fields(c, h, state, n, row)
    decay, rate = h[n] * c.weight_decay, h[n] * c.epsilon / c.alpha
    responses = _implied_responses(c, h, state, n, row, past, local)
    gamma = local.residual * local.gain_r
    fed = (row.response_bulk * h) @ (state.fields.residual * state.fields.initial)
    initial = past.response_initial + rate * c.e * (samples.weight @ (gamma * fed))
    overlap = past.target_overlap - rate * (samples.weight @ (local.q * local.residual * samples.u))
    if seeded:
        overlap = overlap + seed_row(c, steps, state, n, row, local).source
    common, outlier = row_forces(c, state, local)
    return Row(
        *responses,
        factor_common=common[0],
        factor_outlier=outlier[0],
        force_bulk=bulk_force_row(state, n, local),
        target_overlap=overlap / (1 + decay),
        response_initial=initial / (1 + decay + rate * (samples.weight @ gamma)),
    )


def _implied_responses(
    c: Couplings, h: Float[Array, " T"], state: State, n: Array, row: Row, past: Row, local: Local
) -> tuple[Array, Array, Array]:
    """Rows n of R_c, R_d and R_r: each linear in the new row, so one triangular solve apiece."""
    weight, history = state.samples.weight, state.history
    s = slopes(c, h, n, row, local)
    common, outlier = row.response_common * h, row.response_outlier * h
    rate, at_n = h[n] * c.epsilon / c.alpha, jnp.arange(h.shape[0]) == n

    def respond(hist: Array, rate: Array, gain: Array, own_gain: Array, own: Array, rest: Array | float) -> Array:
        """R [1 + h lambda + rate E gain - rate own_gain diag(h) E(gain X)] = hist + delta - rate E rest."""
        diagonal = 1 + h[n] * c.weight_decay + rate * (weight @ gain)
        feedback = own_gain * h[:, None] * sample_mean(weight * gain, own)
        matrix = jnp.diag(jnp.broadcast_to(diagonal, h.shape)) - rate * feedback
        return solve_triangular(matrix, hist + at_n - rate * rest, lower=True, trans=1)

    def bath_mean(x: Array, tangent: Array) -> Array:
        """E[x W0]."""
        weights = -s.bath * (weight * x)
        return weights.reshape(-1) @ tangent.reshape(-1, tangent.shape[-1])

    under = history.under_common
    rest = (weight * s.x_d * s.d_q) @ (-c.e * past_sum(outlier, under.outlier))
    rest = rest + bath_mean(s.x_d * s.d_w, under.residual)
    response_common = respond(past.response_common, h[n] / c.alpha, s.x_p + s.x_d * s.d_p, c.k, under.common, rest)
    under = history.under_outlier
    rest = (weight * s.y_d * s.d_p) @ (-c.k * past_sum(common, under.common))
    rest = rest + bath_mean(s.y_d * s.d_w, under.residual)
    response_outlier = respond(past.response_outlier, rate, s.y_q + s.y_d * s.d_q, c.e, under.outlier, rest)
    gain = local.residual * local.gain_r
    response_bulk = respond(past.response_bulk, rate, gain, c.e, history.force_response, 0.0)
    return response_common, response_outlier, response_bulk


def seed_row(c: Couplings, steps: Steps, state: State, n: Array, row: Row, local: Local) -> SeedRow:
    """Row n of the seeding of a random initialisation (implicit steps)."""
    feedback = feedback_row(c, row.response_bulk * steps.weights, state, n, local.residual, local.gain_r)
    force = force_row(c, state, n, local.residual, local.correlation)
    return implicit_seed_row(c, steps, state.seed, n, feedback, force)


def row_forces(c: Couplings, state: State, local: Local) -> tuple[tuple, tuple]:
    """Rows n of F_c and F_d with their new basis vectors, from g = (1 + epsilon p) Delta and q Delta."""
    common, outlier = (1 + c.epsilon * local.p) * local.residual, local.q * local.residual
    bases, weight = state.bases, state.samples.weight
    return (
        factor_row(common, bases.common, weight, bases.modes[0]),
        factor_row(outlier, bases.outlier, weight, bases.modes[1]),
    )


def bulk_force_row(state: State, n: Array, local: Local) -> Float[Array, " T"]:
    """Gamma_r(n, :) = E[Delta(n) Delta(:) B(n, :)]."""
    residuals = state.fields.residual.at[n].set(local.residual)
    return jnp.einsum("s,ms,sm->m", state.samples.weight * local.residual, residuals, local.correlation)
