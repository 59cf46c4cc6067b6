"""What is asked of a simulation, whatever the system: how long, how often, how many, by which optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dmft.checks import (
    PRECISIONS,
    ParameterError,
    check_bool,
    check_choice,
    check_integer,
    check_real,
    check_seed,
    check_times,
)
from sim.training.checkpoint import checked_path
from sim.training.optimizers import Optimizer, as_optimizer, needs_value
from sim.training.schedule import observed_steps
from sim.training.stepsize import COARSEST_RTOL, FINEST_RTOL, initial_rate, output_spacing
from sim.training.system import System

#: Seeds that measure the error of gradient flow.
COMPANIONS = 2
#: Step numbers are 32-bit integers on the device.
MOST_STEPS = 2**31 - 1
#: Parts in which progress along gradient flow is shown.
PROGRESS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `sim.simulate` that any system shares, checked; see there for what they mean.

    Raises:
        ParameterError: a field is out of range; the message names it, its value and what is allowed.
    """

    t_max: float
    seeds: int = 8
    step: float | None = None
    rtol: float = 1e-3
    times: Any = None
    precision: str = "float64"
    seed: int = 0
    optimizer: Any = "gd"
    stop_below: Mapping[str, float] | None = None
    checkpoint: Any = None
    checkpoint_every: float = 60.0
    progress: bool | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("t_max", check_real("t_max", self.t_max, above=0.0))
        put("seeds", check_integer("seeds", self.seeds, at_least=1))
        if self.step is not None:
            put("step", check_real("step", self.step, above=0.0))
        if self.times is not None:
            put("times", check_times(self.times, self.t_max))
        check_choice("precision", self.precision, PRECISIONS)
        put("rtol", check_real("rtol", self.rtol, at_least=FINEST_RTOL[self.precision]))
        if self.rtol > COARSEST_RTOL:
            raise ParameterError(f"Argument `rtol` must be at most {COARSEST_RTOL:g}, but is {self.rtol:g}.")
        put("seed", check_seed(self.seed))
        if self.progress is not None:
            put("progress", check_bool("progress", self.progress))
        put("optimizer", as_optimizer(self.optimizer))
        if self.step is None and not self.optimizer.is_flow:
            settings = ", ".join(f"{name} = {value}" for name, value in self.optimizer.to_attributes().items())
            raise ParameterError(
                f"Argument `step` must be given with {settings}: "
                "only plain gradient descent on all samples has a gradient flow, which is followed without a step."
            )
        if self.count is not None:
            put("optimizer", self.optimizer.of_steps(self.count))
        put("checkpoint_every", check_real("checkpoint_every", self.checkpoint_every, at_least=0.0))
        if self.checkpoint is not None:
            put("checkpoint", checked_path(self.checkpoint))

    @property
    def is_flow(self) -> bool:
        """Whether gradient flow is followed, not gradient descent."""
        return self.step is None

    @property
    def count(self) -> int | None:
        """Number of steps; None for gradient flow, which has steps of its own."""
        return None if self.step is None else max(1, round(self.t_max / self.step))

    @property
    def companions(self) -> int:
        """How many of the seeds are followed a second time, at a larger tolerance, for the error of the first."""
        return min(self.seeds, COMPANIONS) if self.is_flow else 0

    @property
    def replicas(self) -> int:
        """Seeds and companions."""
        return self.seeds + self.companions


def flow_rtol(rtol: float, precision: str) -> float:
    """What gradient flow is asked for beside a theory of error `rtol`: a tenth of it, as far as that can be asked."""
    return min(max(rtol / 10.0, FINEST_RTOL[precision]), COARSEST_RTOL)


class Plan(NamedTuple):
    """A request that has been fitted to its system.

    Attributes:
        step: time per step; 0 for gradient flow.
        count: number of steps of the whole run; of gradient flow, which has steps of its own, what progress counts to.
        steps: observed step numbers, strictly increasing; of gradient flow, 0, 1, ... for its times.
        time: their times, float64.
    """

    step: float
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    steps: np.ndarray
    time: np.ndarray


def make_plan(system: System, request: Request) -> Plan:
    """Fix what the request leaves open: the observed steps or times; check it against the system."""
    optimizer, t_max = request.optimizer, request.t_max
    check_optimizer(system, optimizer)
    check_thresholds(system, request.stop_below)
    if request.step is None:
        if system.presence is not None:
            raise ParameterError(
                "Argument `step` must be given where the model's `batch_fraction` is below 1: batches have a meaning "
                "for steps of gradient descent alone."
            )
        if system.steps_only is not None:
            raise ParameterError(
                f"Argument `step` must be given, since {system.steps_only}: gradient flow slides along such jumps."
            )
        time = request.times
        if time is None:
            spacing = output_spacing(initial_rate(system, request.seed), t_max)
            time = observed_steps(round(t_max / spacing), spacing, None) * spacing
            time[-1] = t_max  # n (t_max / n) may differ from t_max in the last bit
        return Plan(0.0, PROGRESS, np.arange(time.size), np.minimum(time, t_max))
    step, count = request.step, request.count
    assert count is not None
    check_presence(system, step)
    if count > MOST_STEPS:
        raise ParameterError(
            f"Argument `step` must be at least t_max / {MOST_STEPS:d} = {t_max / MOST_STEPS:.3g}, but is {step:.3g}."
        )
    steps = observed_steps(count, step, request.times)
    return Plan(step, count, steps, steps * step)


def check_optimizer(system: System, optimizer: Optimizer) -> None:
    """ParameterError if the optimiser, or its batches, do not fit the system."""
    if system.equations.objective is None and needs_value(optimizer.rule):
        raise ParameterError(
            "Argument `optimizer` must be a rule that does without the value of the loss here, but asks for it: "
            "trained readouts have a speed of their own, so that no loss is there whose gradient all parameters follow."
        )
    if system.presence is not None and optimizer.batch_size is not None:
        raise ParameterError(
            f"Argument `batch_size` must be None where the model's `batch_fraction` is below 1, but is "
            f"{optimizer.batch_size}."
        )
    if optimizer.batch_size is None:
        return
    if optimizer.batch_size > system.samples:
        raise ParameterError(
            f"Argument `batch_size` must be an integer between 1 and the number of samples P = {system.samples}, but "
            f"is {optimizer.batch_size}."
        )
    if system.equations.select is None:
        raise ParameterError("Argument `batch_size` must be None: this system needs all samples in every step.")


def check_presence(system: System, step: float) -> None:
    """ParameterError if presence would be drawn anew with a probability above 1."""
    presence = system.presence
    if presence is None or presence.persistence is None:
        return
    longest = presence.fraction * presence.persistence
    if step > longest * (1.0 + 1e-9):
        raise ParameterError(
            f"Argument `step` must be at most batch_fraction x persistence = {longest:g}, but is {step:g}."
        )


def check_thresholds(system: System, stop_below: Mapping[str, float] | None) -> None:
    """ParameterError unless `stop_below` maps observables of the system to numbers > 0."""
    if stop_below is None:
        return
    if not isinstance(stop_below, Mapping) or not stop_below:
        raise ParameterError(
            f"Argument `stop_below` must map losses to thresholds, such as {{'test_loss': 0.1}}, but is {stop_below!r}."
        )
    allowed = [name for name in system.observables if name.endswith("loss")]
    for name, threshold in stop_below.items():
        check_choice("stop_below", name, allowed)
        check_real(f"stop_below[{name}]", threshold, above=0.0)
