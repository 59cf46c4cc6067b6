"""Gradient flow of any system: adaptive Runge-Kutta-Chebyshev steps, compiled, for a group of replicas.

    dy/dt = v(y) = -gradient(y) - decay y

Every replica takes steps of its own. A step is accepted if its local error e, by the method's own estimate

    e = 0.8 (y_n - y_{n+1}) + 0.4 h (v_n + v_{n+1}) = h^3 y''' / 15,

is at most the tolerance relative to every array of the state, and at most tolerance / FIELDS relative to every array of
fields, to first order in e: the state alone would not control residuals that are small. Between steps the state is the
cubic Hermite polynomial.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmft.compiled.executables import compilable
from sim.training.chebyshev import chebyshev_step, stages, stiffness_of
from sim.training.descent import Batch, Loop, spread
from sim.training.system import Equations

#: Weight of errors in the fields. Those of fast modes die out before they matter: at weight 1 the same error of the
#: losses takes a third more evaluations; at 0 the train loss is off by per cents once it is 10^-5 of its start.
FIELDS = 0.03
#: Fields are followed to a relative error down to this part of their start (squared, for losses).
FLOOR = 1e-5
#: The spectral radius is found to ACCURACY, taken larger by SAFETY, and found again after so many accepted steps, and
#: after a step that was refused.
ACCURACY, SAFETY, RENEWED, ITERATIONS = 0.02, 1.1, 25, 50
#: A step is changed by at most these factors; the next error is aimed at 0.8^3 of the tolerance.
SHRINK, GROW, AIM = 0.1, 5.0, 0.8
#: Most stages; fewer where rounding errors, which grow like s^2, would be seen.
MOST_STAGES = 1000
#: Steps of the most stages which a run may still be in need of; refusals in a row.
MOST_STEPS, MOST_REFUSALS = 1e6, 30
#: Fields so many times as large as at the start are on their way to infinity, where rates go there too.
EXPLODED = 1e3
#: What ends a run: `Flow.failure`.
NONFINITE, STIFF = 1, 2


class Flow(NamedTuple):
    """What one replica carries besides its state y at time t.

    Attributes:
        tolerance: of the local error.
        before: state at the beginning of the last accepted step.
        velocity_before: its velocity.
        begun: its time.
        time: t.
        velocity: v(y).
        step: h to try next.
        rate: spectral radius of the velocity's Jacobian.
        direction: its eigenvector, a state.
        accepted: steps since the rate was found.
        refused: steps refused in a row.
        sizes: norms of the arrays of fields at t = 0.
        evaluations: of the velocity, or of its derivative along a direction, so far.
        rejected: steps so far.
        failure: 0, NONFINITE or STIFF.
    """

    tolerance: jax.Array
    before: Any
    velocity_before: Any
    begun: jax.Array
    time: jax.Array
    velocity: Any
    step: jax.Array
    rate: jax.Array
    direction: Any
    accepted: jax.Array
    refused: jax.Array
    sizes: list[jax.Array]
    evaluations: jax.Array
    rejected: jax.Array
    failure: jax.Array


class Span(NamedTuple):
    """What all replicas share: the rate of weight decay, the end of the run, evaluations in one compiled call."""

    decay: jax.Array
    end: jax.Array
    budget: jax.Array


def norm(tree: Any) -> jax.Array:
    """Euclidean norm of all arrays together."""
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def norms(tree: Any) -> list[jax.Array]:
    """Euclidean norm of every array of floating-point numbers."""
    return [norm(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def make_velocity(equations: Equations, data: Any, decay: jax.Array) -> Callable[..., Any]:
    """(state, fields or None) -> -gradient - decay state."""

    def velocity(state: Any, fields: Any = None) -> Any:
        fields = equations.forward(state, data) if fields is None else fields
        return jax.tree.map(lambda w, g: -g - decay * w, state, equations.gradient(state, data, fields))

    return velocity


def spectral_radius(velocity: Callable[[Any], Any], state: Any, start: Any) -> tuple[jax.Array, Any, jax.Array]:
    """The largest absolute eigenvalue of the Jacobian by power iteration from `start`, its vector, and iterations."""
    _, push = jax.linearize(velocity, state)

    def iterate(carry: Any) -> Any:
        n, _, rate, vector = carry
        vector = push(vector)
        new = norm(vector)
        return n + 1, rate, new, jax.tree.map(lambda v: v / jnp.where(new > 0.0, new, 1.0), vector)

    def goes_on(carry: Any) -> jax.Array:
        n, old, rate, _ = carry
        return (n < ITERATIONS) & ((n < 2) | (jnp.abs(rate - old) > ACCURACY * rate))

    size = norm(start)
    vector = jax.tree.map(lambda v: v / jnp.where(size > 0.0, size, 1.0), start)
    zero = jnp.zeros_like(size)
    n, _, rate, vector = jax.lax.while_loop(goes_on, iterate, (jnp.zeros((), "int32"), zero, zero, vector))
    return rate, vector, n


def shaken(velocity: Any) -> Any:
    """A direction with some of every eigenvector: the velocity, with a tenth of noise."""
    leaves, structure = jax.tree.flatten(velocity)
    key = jax.random.wrap_key_data(
        jnp.zeros(2, jnp.uint32), impl="threefry2x32"
    )  # of seed 0, whatever the offset of seeds
    noise = [jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
    share = 0.1 * norm(velocity) / norm(noise)
    mixed = [leaf + jnp.where(share > 0.0, share, 1.0) * one for leaf, one in zip(leaves, noise, strict=True)]
    return jax.tree.unflatten(structure, mixed)


def local_error(
    loop: Loop, data: Any, old: Any, flow: Flow, new: Any, h: jax.Array, decay: jax.Array
) -> tuple[jax.Array, Any, jax.Array]:
    """The estimate relative to the tolerance, infinite if not a number; the velocity at the state `new`; and how much
    larger fields are than at t = 0, at most.
    """
    velocity = make_velocity(loop.equations, data, decay)
    fields, push = jax.linearize(lambda state: loop.equations.forward(state, data), new)
    after = velocity(new, fields)
    error = jax.tree.map(lambda y0, y1, f0, f1: 0.8 * (y0 - y1) + (0.4 * h) * (f0 + f1), old, new, flow.velocity, after)
    moved = push(error)
    tiny = jnp.finfo(h.dtype).tiny
    floor = max(FLOOR, 3.0 * float(jnp.finfo(h.dtype).eps) ** 0.5)
    of_state = [
        size / jnp.maximum(jnp.maximum(a, b), tiny)
        for size, a, b in zip(norms(error), norms(old), norms(new), strict=True)
    ]
    of_fields = [
        size / jnp.maximum(jnp.maximum(now, floor * first), tiny)
        for size, now, first in zip(norms(moved), norms(fields), flow.sizes, strict=True)
    ]
    worst = jnp.max(jnp.stack([*of_state, *(FIELDS * ratio for ratio in of_fields)])) / flow.tolerance
    sound = jnp.isfinite(worst) & jnp.isfinite(norm(after))
    grown = [now / jnp.maximum(first, tiny) for now, first in zip(norms(fields), flow.sizes, strict=True)]
    return jnp.where(sound, worst, jnp.inf), after, jnp.max(jnp.stack(grown))


@compilable()
def begin_flow(batch: Batch, tolerances: jax.Array, span: Span, *, loop: Loop) -> Batch:
    """The batch at t = 0: data prepared, the spectral radius, and a first step from a trial step of descent."""

    def one(given: tuple[Batch, jax.Array], span: Span) -> Batch:
        replica, tolerance = given
        state, zero = replica.state, jnp.zeros_like(tolerance)
        data = loop.equations.prepare(state, replica.data)
        velocity = make_velocity(loop.equations, data, span.decay)
        fields = loop.equations.forward(state, data)
        now = velocity(state, fields)
        rate, direction, n = spectral_radius(velocity, state, shaken(now))
        count = jnp.zeros((), "int32")
        flow = Flow(
            tolerance=tolerance,
            before=state,
            velocity_before=now,
            begun=zero,
            time=zero,
            velocity=now,
            step=zero,
            rate=rate,
            direction=direction,
            accepted=count,
            refused=count,
            sizes=norms(fields),
            evaluations=n + 2,
            rejected=count,
            failure=count,
        )
        trial = jnp.where(rate > 0.0, 1.0 / rate, span.end)
        there = jax.tree.map(lambda w, v: w + trial * v, state, now)
        error, _, _ = local_error(loop, data, state, flow, there, trial, span.decay)
        # of a step of descent the estimate is h^2 y'' / 10; y''' is taken to be y'' / trial
        step = jnp.minimum(span.end, trial * jnp.clip(0.5 * jnp.maximum(error, 1e-30) ** -0.5, 1e-3, 1e3))
        sound = jnp.isfinite(norm(now)) & jnp.isfinite(rate)
        return replica._replace(
            data=data,
            own=flow._replace(step=step, failure=jnp.where(sound, 0, NONFINITE).astype("int32")),
        )

    return spread(one, loop.layout)((batch, tolerances), span)


@compilable()
def follow(batch: Batch, windows: jax.Array, span: Span, *, loop: Loop) -> tuple[Any, Any, jax.Array, jax.Array]:
    """Go on until the budget is used, the next times of `windows`, (S, C), are passed, or the run ends or fails.

    Returns:
        State and own state; observables at the times passed, each with the evaluations and the rejected steps up to
        then, (S, C, O + 2); and how many they are, (S,).
    """

    def one(given: tuple[Batch, jax.Array], span: Span) -> tuple[Any, Any, jax.Array, jax.Array]:
        replica, window = given
        data, capacity = replica.data, window.size

        def pending(passed: jax.Array, flow: Flow) -> jax.Array:
            return (passed < capacity) & (window[jnp.minimum(passed, capacity - 1)] <= flow.time)

        def goes_on(carry: Any) -> jax.Array:
            passed, _, flow, _ = carry
            used = flow.evaluations - replica.own.evaluations
            left = (flow.time < span.end) | pending(passed, flow)
            return (passed < capacity) & (used < span.budget) & left & (flow.failure == 0)

        def report(carry: Any) -> Any:
            passed, state, flow, records = carry
            seen = between(state, flow, window[passed])
            values = loop.equations.observe(seen, data, loop.equations.forward(seen, data)).astype(records.dtype)
            counts = jnp.stack([flow.evaluations, flow.rejected]).astype(records.dtype)
            return passed + 1, state, flow, records.at[passed].set(jnp.concatenate([values, counts]))

        def body(carry: Any) -> Any:
            passed, state, flow, records = jax.lax.while_loop(lambda c: pending(c[0], c[2]), report, carry)
            move = (flow.time < span.end) & (passed < capacity)
            state, flow = jax.lax.cond(
                move, lambda pair: try_step(loop, data, pair[0], pair[1], span), lambda pair: pair, (state, flow)
            )
            return passed, state, flow, records

        records = jnp.full((capacity, loop.numbers + 2), jnp.nan)
        carry = jnp.zeros((), "int32"), replica.state, replica.own, records
        passed, state, own, records = jax.lax.while_loop(goes_on, body, carry)
        return state, own, records, passed

    return spread(one, loop.layout)((batch, windows), span)


def between(state: Any, flow: Flow, time: jax.Array) -> Any:
    """The state at a time within the last step: the cubic with the states and the velocities at its ends."""
    h = flow.time - flow.begun
    x = jnp.where(h > 0.0, (time - flow.begun) / jnp.where(h > 0.0, h, 1.0), 1.0)
    rest = 1.0 - x

    def cubic(y0: jax.Array, f0: jax.Array, y1: jax.Array, f1: jax.Array) -> jax.Array:
        ends = rest**2 * (1.0 + 2.0 * x) * y0 + x**2 * (3.0 - 2.0 * x) * y1
        return ends + h * x * rest * (rest * f0 - x * f1)

    return jax.tree.map(cubic, flow.before, flow.velocity_before, state, flow.velocity)


def try_step(loop: Loop, data: Any, state: Any, flow: Flow, span: Span) -> tuple[Any, Flow]:
    """One step, accepted or refused, and the next step's size; before it the spectral radius, if it is due."""
    velocity = make_velocity(loop.equations, data, span.decay)
    due = (flow.accepted >= RENEWED) | (flow.refused == 1)
    rate, direction, n = jax.lax.cond(
        due,
        lambda: spectral_radius(velocity, state, flow.direction),
        lambda: (flow.rate, flow.direction, jnp.zeros((), "int32")),
    )
    safe = SAFETY * rate
    epsilon = float(jnp.finfo(safe.dtype).eps)
    most = jnp.clip(jnp.floor(jnp.sqrt(flow.tolerance / epsilon)), 2.0, MOST_STAGES)
    longest = stiffness_of(most) / jnp.maximum(safe, jnp.finfo(safe.dtype).tiny)
    left = span.end - flow.time
    h = jnp.minimum(jnp.minimum(flow.step, longest), left)
    s = stages(h * safe)
    new = chebyshev_step(velocity, state, flow.velocity, h, s)
    error, after, grown = local_error(loop, data, state, flow, new, h, span.decay)
    good = error <= 1.0
    factor = jnp.clip(AIM * jnp.maximum(error, 1e-30) ** (-1.0 / 3.0), SHRINK, jnp.where(good, GROW, 1.0))

    def choose(moved: Any, stayed: Any) -> Any:
        return jax.tree.map(partial(jnp.where, good), moved, stayed)

    refused = jnp.where(good, 0, flow.refused + 1)
    time = jnp.where(h < left, flow.time + h, span.end)
    stuck = ~good & ((refused > MOST_REFUSALS) | (flow.time + h <= flow.time))
    stiff = jnp.where(grown > EXPLODED, NONFINITE, STIFF)
    failure = jnp.where(left > MOST_STEPS * longest, stiff, jnp.where(stuck, NONFINITE, 0))
    flow = flow._replace(
        before=choose(state, flow.before),
        velocity_before=choose(flow.velocity, flow.velocity_before),
        begun=choose(flow.time, flow.begun),
        time=choose(time, flow.time),
        velocity=choose(after, flow.velocity),
        step=h * factor,
        rate=rate,
        direction=direction,
        accepted=jnp.where(due, 0, flow.accepted) + good,
        refused=refused,
        evaluations=flow.evaluations + n + s,  # s - 1 within the step and one after it
        rejected=flow.rejected + ~good,
        failure=failure.astype("int32"),
    )
    return choose(new, state), flow
