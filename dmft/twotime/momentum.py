"""Momentum and schedules of gradient descent (THEORY section 13): linear rules that are exact in the theory too.

With G(n) = F(n) + lambda X(n), factors s_n of the step dt, and a velocity U(0) = 0, every row X of an order parameter
obeys, as the weights do,

    U(n+1) = mu U(n) + dt G(n),     X(n+1) = X(n) - s_n U(n+1)                    heavy ball
                                    X(n+1) = X(n) - s_n (dt G(n) + mu U(n+1))     Nesterov

because averages over the data are exact for any recursion that is linear in weights and forces of the past. (Nesterov's
weights are those that the gradient is taken at.) Both read X(n+1) = X(n) - push_n dt G(n) - glide_n U(n), with push = s
and glide = s mu, or push = s (1 + mu) and glide = s mu^2.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dmft.checks import (
    ParameterError,
    check_bool,
    check_factors,
    check_momentum,
    check_schedule,
    tabulated,
)
from dmft.models.fingerprint import schedule_code


def glided(x: Any, pull: Any, velocity: Any, push: Any, glide: Any, mu: Any) -> tuple[Any, Any]:
    """X(n+1) and U(n+1) from X(n), dt G(n) and U(n)."""
    return x - push * pull - glide * velocity, mu * velocity + pull


@dataclasses.dataclass(frozen=True)
class Momentum:
    """How descent moves beyond a plain step.

    Attributes:
        momentum: mu in [0, 1).
        nesterov: whether the gradient is taken ahead.
        schedule: what the factors were asked for as, for the records.
        factors: s_n >= 0 of every step.
    """

    momentum: float
    nesterov: bool
    schedule: str
    factors: np.ndarray

    @property
    def push(self) -> np.ndarray:
        """Weight of dt G(n) in step n."""
        return self.factors * (1 + self.momentum if self.nesterov else 1.0)

    @property
    def glide(self) -> np.ndarray:
        """Weight of U(n) in step n."""
        return self.factors * (self.momentum**2 if self.nesterov else self.momentum)

    def step(self, rows: np.ndarray, force: np.ndarray, n: int, step: float, decay: float) -> np.ndarray:
        """X(n) from X and F at all times before, time first."""
        pull = step * (force[:n] + decay * rows[:n])
        weights = self.glide[n - 1] * self.momentum ** np.arange(n - 2, -1, -1.0)
        velocity = np.tensordot(weights, pull[: n - 1], 1)
        return rows[n - 1] - self.push[n - 1] * pull[n - 1] - velocity

    def stretched(self, ratio: float, count: int) -> Momentum:
        """The same schedule in time for `count` steps that are `ratio` times as long."""
        at = np.minimum(ratio * np.arange(count), len(self.factors) - 1)
        return dataclasses.replace(self, factors=np.interp(at, np.arange(len(self.factors)), self.factors))

    def to_attributes(self) -> dict[str, Any]:
        """As the simulator's optimisers write them."""
        name = "gd" if self.momentum == 0 else "nesterov" if self.nesterov else "momentum"
        attributes: dict[str, Any] = {"optimizer": name}
        if self.momentum:
            attributes["momentum"] = self.momentum
        if self.schedule == "constant":
            return attributes
        return attributes | {"schedule": self.schedule, "schedule_factors": schedule_code(self.factors)}


def momentum_of(momentum: Any, nesterov: Any, schedule: Any, step: float | None, t_max: float) -> Momentum | None:
    """The rule that the arguments ask for; None for plain descent and for the flow.

    Args:
        momentum: mu in [0, 1).
        nesterov: with momentum only.
        schedule: factors of the step: one of SCHEDULES ("linear" and "cosine" fall from 1 to 0 along the run), a
            function of the step number (an optax schedule, for one), or an array with one factor a step.
        step: None for the flow, which has neither momentum nor schedule.
        t_max: last time.

    Raises:
        ParameterError: an argument is out of range.
    """
    mu = check_momentum(momentum)
    if check_bool("nesterov", nesterov) and mu == 0.0:
        raise ParameterError("Argument `nesterov` must be False without `momentum`, but is True.")
    plain = isinstance(schedule, str) and schedule == "constant"
    if mu == 0.0 and plain:
        return None
    if step is None:
        name, value = ("schedule", schedule) if mu == 0.0 else ("momentum", mu)
        raise ParameterError(
            f"Argument `{name}` must be left out of gradient flow, to which it adds nothing but a scale of time, but "
            f"is {value!r}; give `step`."
        )
    count = max(1, round(t_max / step))
    return Momentum(mu, bool(nesterov), *_factors(schedule, count))


def _factors(schedule: Any, count: int) -> tuple[str, np.ndarray]:
    """Name and factors, (count,)."""
    schedule = check_schedule(schedule)
    at = np.arange(count) / count
    shapes = {"constant": np.ones(count), "linear": 1 - at, "cosine": 0.5 * (1 + np.cos(np.pi * at))}
    if isinstance(schedule, str):
        return schedule, shapes[schedule]
    if callable(schedule):
        return "function", check_factors(tabulated(schedule, count), count)
    return "array", check_factors(schedule, count)
