"""Responses R_ij(t, s) of a committee, after all of its rows are known (equations 8.1 and 8.2).

The rows themselves do without (equation 8.4). So the tangents, N^2 T^2 numbers a sample, are those of some samples of
a solved replica; where kinks are not smoothed in it, they are here alone.

What acts on the weights comes in *slots*: slot 0 is the initial weights, slot c > 0 the force that enters w at row c
(an explicit step takes it at row c - 1, an implicit one at row c itself). So R_ij(n; c) with c = 0 is the response to
w_j(0), and an integral int R(t, s) v(s) ds is the sum over c of R(n; c) h_c v_c in both schemes. Slots not filled yet
are zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmft.committee.implicit import fed_back, instant_gain
from dmft.committee.network import Network
from dmft.committee.rows import Local, local_forces
from dmft.committee.state import Couplings, Fields, Row, Start, State
from dmft.compiled.executables import compilable
from dmft.twotime.anderson import solve_row
from dmft.twotime.engine import Iteration
from dmft.twotime.steps import Steps


class Answers(NamedTuple):
    """Responses by row, and what Q samples do under a force or a shift of u, by slot."""

    response: Float[Array, "T N T N"]  # R_ij(n; c)
    force: Float[Array, "T N Q"]  # g_j = s a_j phi'(h_j) l', s = presence / b
    tangent: Float[Array, "T N Q T N"]  # dg_l(slot) under a force of slot c on j: [slot, l, s, c, j]
    target_tangent: Float[Array, "T N Q K"]  # dg_l(slot)/du
    velocity: Float[Array, "N T N"]  # U(n) of equation 13.1; 0 without momentum


@compilable(donated=["answers"])
def respond_explicit(
    c: Couplings, steps: Steps, state: State, answers: Answers, first: Array, stop: Array, *, network: Network
) -> Answers:
    """The responses of rows first < n <= stop, and the tangents of rows first <= n < stop."""

    def body(n: Array, answers: Answers) -> Answers:
        row = Row._make(array[n] for array in state.kernels)
        local = local_forces(c, network, state, row, n, state.fields.h[n])
        response = answers.response[n]
        under = tangents(answers, response, row.target_overlap, memory_weights(c, steps.weights, response))
        moved = force_tangents(state, local, *under)
        plain = next_response(c, steps.weights[n], state, response, n, moved[0])
        following, velocity = steps.gliding(n, response, plain, answers.velocity)
        return _stored(answers, n + 1, following, local, moved)._replace(velocity=velocity)

    return jax.lax.fori_loop(first, stop, body, answers)


def next_response(c: Couplings, step: Array, state: State, response: Array, n: Array, tangent: Array) -> Array:
    """R(n + 1; .) by an explicit step of equation 8.1."""
    width, capacity = response.shape[:2]
    kick = (jnp.arange(capacity) == n + 1)[:, None] * jnp.eye(width)[:, None, :]
    change = jnp.einsum("s,iscj->icj", sample_weight(state), tangent)
    return (1 - step * c.weight_decay) * response + kick - step / c.alpha * change


@compilable(donated=["answers"])
def respond_implicit(
    c: Couplings,
    steps: Steps,
    state: State,
    answers: Answers,
    first: Array,
    stop: Array,
    *,
    network: Network,
    iteration: Iteration,
) -> Answers:
    """The responses and tangents of rows first <= n < stop of the flow; row 0 moves nothing (h_0 = 0)."""

    def body(n: Array, answers: Answers) -> Answers:
        row = Row._make(array[n] for array in state.kernels)
        local = local_forces(c, network, state, row, n, state.fields.h[n])
        gain = instant_gain(c, steps, row, n)
        slopes, inverse = fed_back(local, gain)
        mean = jnp.einsum("ils,ljs,s->ij", slopes, inverse, sample_weight(state))  # G
        past = steps.history(answers.response, n)

        def moved(response: Array) -> tuple[Array, Array]:
            return flow_tangents(c, steps, state, answers, n, response, local, gain, inverse)

        def function(response: Array) -> tuple[Array, tuple[()]]:
            return implied_response(c, steps, state, n, response, past, mean, moved(response)[0]), ()

        response, _ = solve_row(function, predicted(answers, n), iteration, answers.response)
        return _stored(answers, n, response, local, moved(response))

    return jax.lax.fori_loop(first, stop, body, answers)


def implied_response(
    c: Couplings,
    steps: Steps,
    state: State,
    n: Array,
    response: Array,
    past: Array,
    mean: Array,
    tangent: Array,
) -> Array:
    """R(n; .) that a proposed one implies: a Newton step as those of `dmft.committee.implicit`, G = `mean`."""
    width, capacity = response.shape[:2]
    rate, decay = steps.weights[n] / c.alpha, 1 + steps.weights[n] * c.weight_decay
    kick = (jnp.arange(capacity) == n)[:, None] * jnp.eye(width)[:, None, :]
    average = jnp.einsum("s,iscj->icj", sample_weight(state), tangent)
    step = past + kick - rate * (average - jnp.einsum("il,lcj->icj", mean, response))
    return jnp.einsum("il,lcj->icj", jnp.linalg.inv(decay * jnp.eye(width) + rate * mean), step)


def predicted(answers: Answers, n: Array) -> Array:
    """First guess of R(n; .): moved along its diagonal."""
    one, two = n - 1, jnp.maximum(n - 2, 0)
    response = answers.response
    columns = jnp.arange(response.shape[2])[:, None]
    straight = 2 * response[one] - response[two]
    late = jnp.where(columns < 2, straight, jnp.roll(response[one], 1, axis=1)) * (columns <= n)
    own = response[one, :, one]
    early = response[one].at[:, n].set(jnp.where(n > 1, own, jnp.eye(own.shape[0])))
    return jnp.where(n >= 4, late, early)


def memory_weights(c: Couplings, weights: Float[Array, " T"], response: Array) -> Float[Array, "N T N"]:
    """-k R(n; c) h_c: what a sample's own past forces add to its fields."""
    return -c.k * response * weights[:, None]


def past_sum(weights: Float[Array, "N T N"], history: Array) -> Array:
    """sum_cl weights[i, c, l] history[c, l, ...]: one matrix product, shared by all samples."""
    rows = weights.shape[0]
    t, n, *rest = history.shape
    return (weights.reshape(rows, -1) @ history.reshape(t * n, -1)).reshape(rows, *rest)


def tangents(answers: Answers, response: Array, target_overlap: Array, memory: Array) -> tuple[Array, Array]:
    """dh_i without the feedback of row n: under a force of slot c on j, (N, Q, T, N), and under u, (N, Q, K)."""
    under_force = past_sum(memory, answers.tangent) + response[:, None]
    under_target = past_sum(memory, answers.target_tangent) + target_overlap[:, None]
    return under_force, under_target


def force_tangents(state: State, local: Local, under_force: Array, under_target: Array) -> tuple[Array, Array]:
    """dg_i = s a_i (phi'' l' dh_i + phi' l'' dDelta), dDelta = sum_l slope_l dh_l - df(0) - dy."""
    start = state.start
    slope, own, shared = local.slope, local.own[..., None], local.shared[..., None]
    residual_force = jnp.einsum("is,iscj->scj", slope, under_force).at[:, 0].add(-start.output_slope)
    residual_target = jnp.einsum("is,isk->sk", slope, under_target)
    residual_target = residual_target - start.output_target_slope - start.label_slope
    return (
        own[..., None] * under_force + shared[..., None] * residual_force,
        own * under_target + shared * residual_target,
    )


def flow_tangents(
    c: Couplings,
    steps: Steps,
    state: State,
    answers: Answers,
    n: Array,
    response: Array,
    local: Local,
    gain: Array,
    inverse: Array,
) -> tuple[Array, Array]:
    """`force_tangents` of a row of the flow: of dh = P (dh_0 - B e), P = (1 + B A)^-1 = `inverse`.

    e is what a force moves dg by without dh: through f(0) and dy.
    """
    start = state.start
    memory = memory_weights(c, steps.weights, response).at[:, n].set(0.0)
    under_force, under_target = tangents(answers, response, state.kernels.target_overlap[n], memory)
    fed = gain @ local.shared
    under_force = under_force.at[:, :, 0].add(fed[:, :, None] * start.output_slope[None])
    under_target = under_target + fed[:, :, None] * (start.output_target_slope + start.label_slope)
    return force_tangents(
        state,
        local,
        jnp.einsum("ils,lscj->iscj", inverse, under_force),
        jnp.einsum("ils,lsk->isk", inverse, under_target),
    )


def sample_weight(state: State) -> Float[Array, " Q"]:
    """Weights of the samples with tangents, sum 1."""
    return state.samples.weight / state.samples.weight.sum()


def _stored(answers: Answers, n: Array, response: Array, local: Local, moved: tuple[Array, Array]) -> Answers:
    """The answers with row n and slot n, dropped where there is no room for them."""

    def put(array: Array, value: Array) -> Array:
        return array.at[n].set(value, mode="drop")

    return Answers(
        response=put(answers.response, response),
        force=put(answers.force, local.force),
        tangent=put(answers.tangent, moved[0]),
        target_tangent=put(answers.target_tangent, moved[1]),
        velocity=answers.velocity,
    )


def no_answers(state: State) -> Answers:
    """Nothing known but R_ij(0; 0)."""
    (count,), (capacity, width, _) = state.samples.weight.shape, state.kernels.instant.shape
    directions, dtype = len(state.samples.u), state.samples.weight.dtype
    t, n = capacity, width
    response = jnp.zeros((t, n, t, n), dtype).at[0, :, 0].set(jnp.eye(n, dtype=dtype))
    shapes = ((t, n, count), (t, n, count, t, n), (t, n, count, directions), (n, t, n))
    return Answers(response, *(jnp.zeros(shape, dtype) for shape in shapes))


def some_samples(state: State, count: int) -> State:
    """The first `count` samples of a solved state, in NumPy, without modes; copied, so that the state can go."""
    samples, kernels, velocity = state.samples, state.kernels, state.velocity
    cut = state._replace(
        samples=samples._replace(
            weight=samples.weight[:count],
            u=samples.u[:, :count],
            label=samples.label[:count],
            modes=samples.modes[:0, :count],
        ),
        presence=state.presence[:, :count],
        start=Start._make(array[:count] for array in state.start),
        kernels=kernels._replace(noise=kernels.noise[..., :0], carried=kernels.carried[..., :0]),
        fields=Fields._make(array[..., :count] for array in state.fields),
        factor=state.factor[..., :0],
        basis=state.basis[:0, :count],
        velocity=velocity._replace(noise=velocity.noise[..., :0], carried=velocity.carried[..., :0]),
    )
    return jax.tree.map(np.array, cut)
