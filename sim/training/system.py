"""What the driver trains: a *system*, any state that moves down a gradient on data of its own.

A system is a value with two parts. `Equations` are pure functions of arrays, compiled once: two systems with the same
`Equations` share one compilation, so these are module-level functions, and every number that differs from run to run
(alpha, epsilon, the data) is an array in `data`. The rest of `System` is what the driver asks for outside the
compiled loop: how replica k is drawn, what a step costs, what its observables are called.

    state   what is trained: any pytree of floating-point arrays (weights; weights and readouts; two networks).
    data    what is not: any pytree of arrays (inputs, labels, constants as 0-d arrays, references at t = 0).
    fields  what `forward` hands to `gradient` and `observe`: any pytree (preactivations and residuals).

The functions see one replica, without a seed axis; the driver maps them over seeds. In the flow the state obeys

    d state / dt = -gradient(state) - decay * state,

and plain gradient descent takes steps state <- (1 - step decay) state - step gradient, one per time `step`. For the
network, gradient_i = (1/(alpha kappa)) sum_mu Delta_mu phi'(h_i,mu) x_mu (THEORY section 1): N D / alpha^2 times the
gradient of (1/2P) sum Delta^2. This same gradient, per unit of time, is what an optimiser of optax is given.

To train another system: write the functions, fill in a `System`, and call `sim.training.driver.run(system, request,
attributes)`
(`sim.request.Request`), which gives a dataset over ("seed", "time") like that of `sim.simulate`.
`sim.systems.quadratic` is
the system of a `dmft.Model`, in the two forms of `sim.systems.forms`; `sim.systems.committee` is that of a
`dmft.Committee`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


def keep(state: Any, data: Any) -> Any:
    """The data as they were drawn: the `prepare` of a system that needs nothing from its initial state."""
    del state
    return data


class Presence(NamedTuple):
    """Each sample takes part in a step with a probability.

    Attributes:
        fraction: that probability b, 0 < b < 1.
        persistence: mean time tau of absence, or None: presence is drawn anew in every step, which is tau = dt / b.
    """

    fraction: float
    persistence: float | None = None


class Equations(NamedTuple):
    """Pure functions of one replica's arrays, in the precision of the run; compiled code is shared by equal ones.

    Attributes:
        forward: (state, data) -> fields.
        gradient: (state, data, fields) -> minus the velocity without decay, a pytree like the state.
        observe: (state, data, fields) -> observables, (O,): those of `System.observables` one after the other, arrays
            row by row.
        prepare: (state, data) -> data, once at t = 0: for what refers to the initial state (centring).
        select: (data, indices (B,)) -> data of these samples alone, with `gradient` normalised as a mean over
            samples, so that its average over batches is the full gradient. None: no minibatches.
        weigh: (data, weights (P,)) -> data in whose `gradient` each sample counts with its weight. None: there is no
            `System.presence`.
        objective: (state, data, fields) -> the number whose gradient is `gradient`, for optimisers that ask for the
            value of the loss. None: there is none, and such optimisers are refused.
        randomize: (data, random key of the step) -> data as this step sees them, for what is drawn anew in each, such
            as dropout; observations see the data without. None: nothing is.
    """

    forward: Callable[[Any, Any], Any]
    gradient: Callable[[Any, Any, Any], Any]
    observe: Callable[[Any, Any, Any], jax.Array]
    prepare: Callable[[Any, Any], Any] = keep
    select: Callable[[Any, jax.Array], Any] | None = None
    weigh: Callable[[Any, jax.Array], Any] | None = None
    objective: Callable[[Any, Any, Any], jax.Array] | None = None
    randomize: Callable[[Any, jax.Array], Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """A system and what the driver must know of it.

    Attributes:
        equations: the compiled part.
        draw: (seed, index) -> (state, data) of replica `index`, numpy arrays in float64 (rounded to the precision of
            the run by the driver; integers stay). Must depend on (seed, index) alone.
        observables: name -> meaning, in the order of `equations.observe`; must contain `train_loss`, which is watched
            for divergence.
        shapes: name -> dimensions and their sizes, of those observables that are arrays.
        samples: P, for minibatches.
        operations: floating-point operations of one step of one replica.
        numbers: floating-point numbers that one replica takes on the device, state and intermediate arrays included.
        drawing_bytes: host memory that `draw` takes.
        sizes: the sizes in words, for messages ("dim = 100, samples = 550").
        description: everything that determines the system, flat and JSON-able; stored with checkpoints and compared.
        functions: the user's own functions in it, by argument, whose code decides whether a checkpoint fits.
        decay: rate of weight decay of the whole state.
        presence: with which probability samples take part in a step; None: all do.
        steps_only: why there is no gradient flow, in words; None: there is.
        curvature: (seed, index, batch size or None) -> largest rate of the replica's dynamics: steps below
            2 / curvature are stable. None if unknown: then a step must be given.
    """

    equations: Equations
    draw: Callable[[int, int], tuple[Any, Any]]
    observables: Mapping[str, str]
    samples: int
    operations: float
    numbers: float
    drawing_bytes: float
    sizes: str
    description: Mapping[str, Any]
    shapes: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    functions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    decay: float = 0.0
    presence: Presence | None = None
    steps_only: str | None = None
    curvature: Callable[[int, int, int | None], float] | None = None

    @property
    def columns(self) -> dict[str, slice]:
        """Where each observable is among the numbers of `equations.observe`."""
        sizes = [math.prod(self.shapes.get(name, {}).values()) for name in self.observables]
        ends = list(itertools.accumulate(sizes))
        return {name: slice(end - size, end) for name, size, end in zip(self.observables, sizes, ends, strict=True)}

    @property
    def numbers_observed(self) -> int:
        """O, the numbers that `equations.observe` returns."""
        return max(column.stop for column in self.columns.values())
