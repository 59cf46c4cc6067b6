"""Optimisers: how the state moves, given the gradient per unit of time (`sim.training.system`).

    gd        w <- w - dt (g + lambda w): the exact counterpart of the theory, without any state of its own
    momentum  m <- g + lambda w + mu m,  w <- w - dt m
    nesterov  the same m,                w <- w - dt (g + lambda w + mu m)
    adam      Adam with learning rate dt on g + lambda w
    adamw     Adam with learning rate dt on g, then w <- w - dt lambda w

`dt` is the time per step, times the factor of the schedule. All but the first are those of optax. A batch of B samples
stands for all P: its gradient is normalised so that its mean over batches is the full gradient.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dmft.checks import (
    ParameterError,
    check_bool,
    check_factors,
    check_integer,
    check_momentum,
    check_schedule,
    precision_context,
    tabulated,
)
from dmft.models.fingerprint import ByContent, schedule_code, short_code

if TYPE_CHECKING:
    import jax
    import numpy as np
    import optax

RULES = ("gd", "momentum", "nesterov", "adam", "adamw")
#: Rules that are the same for rotated rows, because they are linear in the gradient.
LINEAR_RULES = ("gd", "momentum", "nesterov")
#: Steps of the longest run whose schedule is compared with others.
MOST_COMPARED = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer(ByContent):
    """An optimiser with its batches and its schedule; two are equal if their rules and schedules do the same.

    Attributes:
        rule: one of RULES, or any optax.GradientTransformation. The latter has its own learning rate: with
            `optax.sgd(step)` it is plain gradient descent. One that asks for the value of the loss (`optax.polyak_sgd`,
            `optax.lbfgs`) is given that whose gradient per unit of time it gets: N D / alpha^2 times
            (1/2P) sum Delta^2, with weight decay.
        momentum: mu in [0, 1) of the rules momentum and nesterov, 0.9 if left out; a step of theirs moves as far as
            1 / (1 - mu) steps of gradient descent, once the velocity has built up.
        batch_size: samples B per step, drawn anew for every step from (seed, replica, step); None: all.
        replacement: draw each batch independently, with replacement. Otherwise each epoch goes once through a fresh
            random order in floor(P / B) batches, leaving out the last P mod B samples of that order.
        schedule: factor of `step` as the run proceeds: "constant" 1, "linear" from 1 to 0, "cosine" likewise along
            half a cosine; a function of the step number (an optax schedule, for one); or an array with one factor a
            step.
        warmup: first steps, over which the factor rises linearly to 1.

    Raises:
        ParameterError: a field is out of range, or has no meaning for the rule.
    """

    rule: str | optax.GradientTransformation = "gd"
    momentum: float | None = None
    batch_size: int | None = None
    replacement: bool = False
    schedule: str | Callable[[Any], Any] | np.ndarray = "constant"
    warmup: int = 0

    def __post_init__(self) -> None:
        if not (is_transformation(self.rule) or (isinstance(self.rule, str) and self.rule in RULES)):
            raise ParameterError(
                f"Argument `optimizer` must be one of {', '.join(RULES)} or an optax.GradientTransformation, "
                f"but is {self.rule!r}."
            )
        if self.momentum is not None and self.rule not in ("momentum", "nesterov"):
            raise ParameterError(
                f"Argument `momentum` must be left out unless the optimizer is momentum or nesterov, but is "
                f"{self.momentum!r} with {self.name}."
            )
        if self.rule in ("momentum", "nesterov"):
            object.__setattr__(self, "momentum", check_momentum(0.9 if self.momentum is None else self.momentum))
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size, at_least=1))
        object.__setattr__(self, "replacement", check_bool("replacement", self.replacement))
        if self.replacement and self.batch_size is None:
            raise ParameterError("Argument `replacement` must be False unless a `batch_size` is given, but is True.")
        object.__setattr__(self, "schedule", check_schedule(self.schedule))
        object.__setattr__(self, "warmup", check_integer("warmup", self.warmup, at_least=0))
        if is_transformation(self.rule) and self.scheduled:
            raise ParameterError(
                f"Argument `schedule` must be constant, without warmup, for an optax.GradientTransformation, which has "
                f"its own learning rate, but is {self.schedule!r} with warmup = {self.warmup}."
            )

    @property
    def name(self) -> str:
        """Name of the rule; "optax" for a transformation handed in."""
        return self.rule if isinstance(self.rule, str) else "optax"

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate changes along the run."""
        return not (isinstance(self.schedule, str) and self.schedule == "constant") or self.warmup > 0

    @property
    def is_flow(self) -> bool:
        """Whether small steps follow gradient flow, so that a step can be chosen for it."""
        return self.rule == "gd" and self.batch_size is None and not self.scheduled

    @property
    def functions(self) -> dict[str, Any]:
        """What was handed in as code, or as an array, by argument."""
        own = {"optimizer": self.rule, "schedule": self.schedule}
        return {name: value for name, value in own.items() if not isinstance(value, str)}

    def to_attributes(self) -> dict[str, Any]:
        """The settings that apply, as NetCDF attributes."""
        attributes: dict[str, Any] = {"optimizer": self.name}
        attributes |= {f"{name}_code": short_code(function) for name, function in self.functions.items()}
        if self.momentum is not None:
            attributes["momentum"] = self.momentum
        if self.batch_size is not None:
            attributes |= {"batch_size": self.batch_size, "replacement": int(self.replacement)}
        if self.scheduled:
            name = "function" if callable(self.schedule) else "array"
            name = self.schedule if isinstance(self.schedule, str) else name
            attributes |= {"schedule": name, "warmup": self.warmup}
        return attributes

    def of_steps(self, count: int) -> Optimizer:
        """The same for a run of `count` steps: with an array where jax cannot trace the function of the step number.

        Raises:
            ParameterError: an array has another length; a function returns what is no number >= 0.
        """
        if isinstance(self.schedule, str):
            return self
        if not callable(self.schedule):
            check_factors(self.schedule, count)
            return self
        if not _is_traceable(self.schedule):
            return dataclasses.replace(self, schedule=check_factors(tabulated(self.schedule, count), count))
        if count <= MOST_COMPARED:
            import jax

            check_factors(tabulated(jax.vmap(self.schedule), count), count)
        return self


def is_transformation(rule: object) -> bool:
    """Whether `rule` can serve as an optax.GradientTransformation: a pair of functions `init` and `update`."""
    return callable(getattr(rule, "init", None)) and callable(getattr(rule, "update", None))


def as_optimizer(optimizer: object) -> Optimizer:
    """`optimizer` itself, or the Optimizer of a rule given by name or as an optax.GradientTransformation."""
    return optimizer if isinstance(optimizer, Optimizer) else Optimizer(optimizer)  # type: ignore[arg-type]


def needs_value(rule: object) -> bool:
    """Whether a rule of optax asks for the value of the loss."""
    import jax

    if not is_transformation(rule):
        return False

    def update(state: Any) -> Any:
        return rule.update(state, rule.init(state), state)  # type: ignore[attr-defined]

    try:
        jax.eval_shape(update, jax.ShapeDtypeStruct((3,), jax.numpy.float32))
    except TypeError as error:
        return "required keyword-only argument" in str(error)
    except Exception:  # not a rule for one array: the run will tell
        return False
    return False


class Pace(NamedTuple):
    """Scalars of a run: time per step, rate of weight decay, number of steps."""

    step: jax.Array
    decay: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]


class Rule(NamedTuple):
    """One optimiser at one pace.

    Attributes:
        start: state -> the optimiser's own state.
        move: (n, state, gradient, own state, loss) -> (state, own state), one step later; n is the step's number, and
            `loss` the function of the state whose gradient is given, or None.
    """

    start: Callable[[Any], Any]
    move: Callable[[jax.Array, Any, Any, Any, Callable[[Any], jax.Array] | None], tuple[Any, Any]]


def make_rule(optimizer: Optimizer, pace: Pace) -> Rule:
    """The rule of `optimizer`; inside a compiled function, where the scalars of `pace` are traced."""
    return _descent(optimizer, pace) if optimizer.rule == "gd" else _optax_rule(optimizer, pace)


def _descent(optimizer: Optimizer, pace: Pace) -> Rule:
    """Plain gradient descent, w <- (1 - dt lambda) w - dt g."""
    import jax

    def move(n: jax.Array, state: Any, gradient: Any, own: Any, loss: Any) -> tuple[Any, Any]:
        del loss
        dt = pace.step * schedule_factor(optimizer, pace, n) if optimizer.scheduled else pace.step
        shrink = 1.0 - dt * pace.decay
        return jax.tree.map(lambda w, g: shrink * w - dt * g, state, gradient), own

    return Rule(lambda _: (), move)


def _optax_rule(optimizer: Optimizer, pace: Pace) -> Rule:
    """Weight decay joins the gradient, except where the rule is adamw."""
    import jax
    import optax

    def rate(n: jax.Array) -> jax.Array:
        return pace.step * schedule_factor(optimizer, pace, n)

    learning_rate: Any = rate if optimizer.scheduled else pace.step
    if not isinstance(optimizer.rule, str):
        transformation = optimizer.rule
    elif optimizer.rule == "adam":
        transformation = optax.adam(learning_rate)
    elif optimizer.rule == "adamw":
        transformation = optax.adamw(learning_rate, weight_decay=pace.decay)  # type: ignore[arg-type]
    else:
        transformation = optax.sgd(learning_rate, optimizer.momentum, nesterov=optimizer.rule == "nesterov")

    def move(n: jax.Array, state: Any, gradient: Any, own: Any, loss: Any) -> tuple[Any, Any]:
        del n  # optax counts the steps itself
        if optimizer.rule != "adamw":
            gradient = jax.tree.map(lambda w, g: g + pace.decay * w, state, gradient)

        def value(moved: Any) -> jax.Array:
            return loss(moved) + 0.5 * pace.decay * optax.tree.norm(moved, squared=True)

        extra = {}
        if loss is not None and isinstance(transformation, optax.GradientTransformationExtraArgs):
            extra = {"value": value(state), "grad": gradient, "value_fn": value}
        updates, own = transformation.update(gradient, own, state, **extra)
        return optax.apply_updates(state, updates), own

    return Rule(transformation.init, move)


def _is_traceable(schedule: Callable[[Any], Any]) -> bool:
    """Whether a function of the step number is one of numbers that jax does not know yet."""
    import jax

    try:
        found = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jax.numpy.int32))
    except Exception:  # whatever a function of the user's raises
        return False
    return getattr(found, "shape", None) == ()


def schedule_factors(optimizer: Optimizer, count: int) -> np.ndarray:
    """Factors of all `count` steps of a run, in float64."""
    import jax.numpy as jnp
    import numpy as np

    with precision_context("float64"):
        pace = Pace(*(jnp.asarray(x, jnp.float64) for x in (1.0, 0.0, count)))
        return np.array(schedule_factor(optimizer, pace, jnp.arange(count)), np.float64)


def schedule_attributes(optimizer: Optimizer, count: int) -> dict[str, str]:
    """What tells a schedule from others (`dmft.models.fingerprint.schedule_code`), as far as that is known."""
    if not optimizer.scheduled or count > MOST_COMPARED:
        return {}
    try:
        factors = schedule_factors(optimizer, count)
    except Exception:  # a function that takes one traced number alone
        return {}
    finite = all(map(math.isfinite, factors))
    return {"schedule_factors": schedule_code(factors)} if finite else {}


def schedule_factor(optimizer: Optimizer, pace: Pace, n: Any) -> jax.Array:
    """Factor of the learning rate at step n (0-based): min(1, (n + 1) / (warmup + 1)) times the schedule's."""
    import jax.numpy as jnp

    position = jnp.asarray(n, pace.step.dtype)
    rise = jnp.minimum(1.0, (position + 1.0) / (optimizer.warmup + 1.0))
    if callable(optimizer.schedule):
        return rise * jnp.asarray(optimizer.schedule(n), pace.step.dtype)
    if not isinstance(optimizer.schedule, str):
        return rise * jnp.asarray(optimizer.schedule, pace.step.dtype)[n]
    done = jnp.clip((position - optimizer.warmup) / jnp.maximum(pace.count - optimizer.warmup, 1), 0.0, 1.0)
    shapes = {
        "constant": jnp.ones_like(done),
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + jnp.cos(math.pi * done)),
    }
    return rise * shapes[optimizer.schedule]
