"""What is asked of a sweep, checked before anything runs; free of numpy, so that the command line checks it at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compare.sweep.axes import Axis
from dmft.checks import (
    PRECISIONS,
    MemoryLimitError,
    ParameterError,
    check_bool,
    check_choice,
    check_integer,
    check_real,
    check_seed,
)
from dmft.models.model import Model

if TYPE_CHECKING:
    from dmft.models.committee import Committee

FORMS = ("auto", "network", "reduced")
#: Arguments that theory and simulation share.
SHARED = ("t_max", "step", "precision", "seed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of models and what is computed at each: the arguments of `compare.phase_diagram`, see there.

    Raises:
        ParameterError: an argument is out of range, at any point; the message names it, its value and what is allowed.
    """

    base_model: Model | Committee
    axes: tuple[Axis, ...]
    t_max: float
    threshold: float = 0.1
    of: str = "loss"
    ratio: float = 3.0
    step: float | None = None
    rtol: float = 0.03
    atol: float = 1e-3
    precision: str = "float64"
    seed: int = 0
    theory: bool = True
    spread: bool = False
    simulate_every: int = 0
    simulation_step: float | None = None
    seeds: int = 8
    form: str = "auto"
    workers: int | None = None
    scheduler: str | None = None
    retry_failed: bool = False
    solve_options: Mapping[str, Any] | None = None
    simulate_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        fields = [axis.field for axis in self.axes]
        if len(set(fields)) < len(fields):
            raise ParameterError(f"Argument `y` must be another field than x = {fields[0]!r}, but is the same.")
        t_max = check_real("t_max", self.t_max, above=0.0)
        values: dict[str, Any] = {
            "t_max": t_max,
            "threshold": check_real("threshold", self.threshold, above=0.0),
            "of": self._check_of(),
            "ratio": check_real("ratio", self.ratio, above=0.0),
            "step": check_step("step", self.step, t_max),
            "rtol": check_real("rtol", self.rtol, above=0.0),
            "atol": check_real("atol", self.atol, at_least=0.0),
            "precision": check_choice("precision", self.precision, PRECISIONS),
            "seed": check_seed(self.seed),
            "theory": check_bool("theory", self.theory),
            "spread": check_bool("spread", self.spread),
            "simulate_every": check_integer("simulate_every", self.simulate_every, at_least=0),
            "simulation_step": check_step("simulation_step", self.simulation_step, t_max),
            "seeds": check_integer("seeds", self.seeds, at_least=1),
            "form": check_choice("form", self.form, FORMS),
            "workers": None if self.workers is None else check_integer("workers", self.workers, at_least=1),
            "retry_failed": check_bool("retry_failed", self.retry_failed),
            "solve_options": _check_options("solve", self.solve_options),
            "simulate_options": _check_options("simulate", self.simulate_options),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.scheduler is not None and not isinstance(self.scheduler, str):
            raise ParameterError(
                f"Argument `scheduler` must be an address such as tcp://host:8786, but is {self.scheduler!r}."
            )
        if not self.theory and not self.simulate_every:
            raise ParameterError(
                "Argument `simulate_every` must be >= 1 without theory, but is 0: nothing is left to do."
            )
        if self.spread:
            self._check_spread()
        for model in self.simulated.values():
            check_simulated(model, self.form)
        self._check_requests()

    def _check_spread(self) -> None:
        """ParameterError unless the theory knows the spread over data sets at every point."""
        if not isinstance(self.base_model, Model):
            raise ParameterError(
                f"Argument `spread` must be False for a {type(self.base_model).__name__}, whose is not known."
            )
        if not self.theory:
            raise ParameterError("Argument `spread` must be False without theory, which predicts it.")
        asked = self.solve_options or {}
        if asked.get("momentum") or asked.get("schedule", "constant") != "constant":
            raise ParameterError("Argument `spread` must be False with momentum or a schedule, where it is not known.")
        if any(model.dim is None for model in self.models.values()):
            raise ParameterError("Argument `dim` must be given with `spread`: data sets have a size.")

    def _check_requests(self) -> None:
        """ParameterError where `dmft.solve` or `sim.simulate` refuses one of its further arguments, at any point."""
        if self.theory and self.solve_options:
            from dmft.twotime.request import Request

            request = Request(**self.theory_settings)
            if request.sample_count is not None:
                self._check_samples(request)
        if self.simulate_every and self.simulate_options:
            from sim.request import Request as Simulated
            from sim.request import check_optimizer, check_thresholds
            from sim.simulation import prepared

            known = {field.name for field in dataclasses.fields(Simulated)}
            settings = self.simulation_settings
            asked = Simulated(**{name: value for name, value in settings.items() if name in known})
            more = {name: value for name, value in settings.items() if name not in known}
            for model in self.simulated.values():
                system, _, _ = prepared(model, request=asked, **more)
                check_optimizer(system, asked.optimizer)
                check_thresholds(system, asked.stop_below)

    def _check_samples(self, request: Any) -> None:
        """ParameterError unless the number of samples suits the theory of every point."""
        from dmft.solver import engine_for

        sizes = ("width", "teacher_dim")  # of a committee; a Model asks the same of all
        different = {tuple(getattr(model, size, 0) for size in sizes): model for model in self.models.values()}
        for model in different.values():
            engine = engine_for(model)
            with contextlib.suppress(MemoryLimitError):  # this point's own
                grid = request.first_grid(engine)
                engine.choose_sampling(grid, request.precision, request.rtol, request.sample_count)

    def _check_of(self) -> str:
        """What times are those of; ParameterError unless the models have it."""
        if check_choice("of", self.of, ("loss", "accuracy")) == "accuracy":
            if not getattr(self.base_model, "classifies", False):
                raise ParameterError(
                    "Argument `of` must be loss unless labels are signs (a Committee with labels = 'sign' or "
                    "'probability'), but is 'accuracy'."
                )
            if self.threshold >= 1.0:
                raise ParameterError(
                    f"Argument `threshold` must be < 1 with of = 'accuracy', a share of wrong signs, but is "
                    f"{self.threshold:g}."
                )
        return self.of

    @functools.cached_property
    def models(self) -> dict[tuple[int, ...], Any]:
        """The model at every index of the grid, x first."""
        models: dict[tuple[int, ...], Any] = {(): self.base_model}
        for axis in self.axes:
            models = {(*at, i): changed for at, model in models.items() for i, changed in enumerate(axis.models(model))}
        return models

    @property
    def simulated(self) -> dict[tuple[int, ...], Any]:
        """Those of them that are simulated: at every so many values of each axis, from the first on."""
        every = self.simulate_every
        return {at: model for at, model in self.models.items() if every and all(index % every == 0 for index in at)}

    @property
    def theory_settings(self) -> dict[str, Any]:
        """Arguments of `dmft.solve`."""
        spread = {"spread": True} if self.spread else {}
        return self._common | {"rtol": self.rtol, "atol": self.atol, **spread, **(self.solve_options or {})}

    @property
    def simulation_settings(self) -> dict[str, Any]:
        """Arguments of `sim.simulate`."""
        from sim.request import flow_rtol  # which needs numpy

        step = self.step if self.simulation_step is None else self.simulation_step
        rtol = flow_rtol(self.rtol, self.precision)
        return self._common | {
            "rtol": rtol,
            "seeds": self.seeds,
            "form": self.form,
            "step": step,
            **(self.simulate_options or {}),
        }

    @property
    def _common(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SHARED}


def check_simulated(model: Any, form: str) -> None:
    """ParameterError if `sim.simulate` cannot take this model in this form."""
    if model.dim is None:
        raise ParameterError("Argument `dim` must be an integer >= 2 to simulate, but is not given (infinite).")
    if model.width is None and form == "network":
        raise ParameterError("Argument `form` must be auto or reduced at infinite width, but is 'network'.")


def check_step(name: str, step: float | None, t_max: float) -> float | None:
    """The step if it is None (gradient flow) or at most t_max."""
    if step is None:
        return None
    step = check_real(name, step, above=0.0)
    if step > t_max:
        raise ParameterError(f"Argument `{name}` must be a number > 0 and <= t_max = {t_max:g}, but is {step:g}.")
    return step


def _check_options(name: str, options: Any) -> dict[str, Any]:
    """Further arguments of `dmft.solve` or `sim.simulate`; ParameterError unless a file can hold them."""
    if options is None:
        return {}
    import dmft
    import sim

    known = inspect.signature({"solve": dmft.solve, "simulate": sim.simulate}[name]).parameters
    fixed = {field.name for field in dataclasses.fields(Sweep)}
    # nor what depends on how fast the machine is
    fixed |= {"model", "progress", "checkpoint", "checkpoint_every", "max_seconds"}
    allowed = [parameter for parameter in known if parameter not in fixed]
    wrong = [option for option in options if option not in allowed] if isinstance(options, Mapping) else [options]
    if wrong:
        raise ParameterError(
            f"Argument `{name}_options` must map arguments of {name} among {', '.join(allowed)} to their values, but "
            f"has {wrong[0]!r}."
        )
    try:
        return json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError):
        raise ParameterError(
            f"Argument `{name}_options` must hold plain numbers and texts, as files keep them, but is {options!r}."
        ) from None
