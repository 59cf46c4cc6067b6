"""What a command runs with: its options, the TOML file and the defaults merged and checked.

A model is given by all of --alpha, --epsilon and --kappa (what else is left out is as in `dmft.Model`); with none
of them it is the built-in case.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from typing import Any, get_args

from compare.cli.options import (
    BESIDE_VIEW,
    BUILT_IN_CASE,
    BUILT_IN_VIEW,
    DEFAULTS,
    MANY,
    PHASE_AXES,
    PHASE_DEFAULTS,
    CompareOptions,
    ExploreOptions,
    Form,
    ModelOptions,
    PhaseOptions,
    Precision,
    RunOptions,
    SimulateOptions,
)
from compare.sweep.axes import Axis
from compare.sweep.request import Sweep, check_simulated, check_step
from dmft.checks import ParameterError, check_bool, check_choice, check_integer, check_path, check_real, check_seed
from dmft.models.model import Model
from sim.training.optimizers import LINEAR_RULES, Optimizer, schedule_factors

#: Options that are no keys of the TOML file.
NOT_IN_FILE = ("config", "json", "dry_run", "cache")

#: Without these there is no model.
REQUIRED = ("alpha", "epsilon", "kappa")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a command runs with: options, file and defaults merged and checked."""

    model: Model
    t_max: float
    step: float | None
    rtol: float
    atol: float
    seeds: int
    form: str
    kernels: bool
    max_seconds: float | None
    spread: bool
    precision: str
    seed: int
    out: str
    optimizer: Optimizer
    rule: dict[str, Any]
    stop_below: dict[str, float] | None
    checkpoint_every: float | None
    resume: bool


def settle(options: RunOptions, *, simulated: bool) -> Settings:
    """Merge options, TOML file and defaults, and check every value.

    Args:
        options: the options of one command.
        simulated: whether the command simulates, which needs a finite dimension.

    Raises:
        ParameterError: the message names the option or the key, its value and what is allowed.
    """
    given = given_values(options)
    model = given_model(given)
    if simulated:
        check_simulated(model, given.get("form", "auto"))
    rest = DEFAULTS | {name: value for name, value in given.items() if name in DEFAULTS}
    t_max = check_real("t_max", rest["t_max"], above=0.0)
    step, optimizer = check_step("step", rest["step"], t_max), _build_optimizer(given)
    return Settings(
        model=model,
        t_max=t_max,
        step=step,
        rtol=check_real("rtol", rest["rtol"], above=0.0),
        atol=check_real("atol", rest["atol"], at_least=0.0),
        seeds=check_integer("seeds", rest["seeds"], at_least=1),
        form=check_choice("form", rest["form"], get_args(Form)),
        kernels=check_bool("kernels", rest["kernels"]),
        max_seconds=None if rest["max_seconds"] is None else check_real("max_seconds", rest["max_seconds"], above=0.0),
        spread=_check_spread(rest["spread"], model),
        precision=check_choice("precision", rest["precision"], get_args(Precision)),
        seed=check_seed(rest["seed"]),
        out=_check_folder(rest["out"]),
        optimizer=optimizer,
        rule={} if isinstance(options, SimulateOptions) else _theory_rule(optimizer, step, t_max),
        stop_below=None if rest["stop_below"] is None else _read_thresholds(rest["stop_below"]),
        checkpoint_every=None
        if rest["checkpoint_every"] is None
        else check_real("checkpoint_every", rest["checkpoint_every"], at_least=0.0),
        resume=check_bool("resume", rest["resume"]),
    )


def with_built_in_view(options: CompareOptions) -> CompareOptions:
    """The options, with what the built-in case is shown with where it is compared as it is."""
    given = given_values(options)
    if set(given) - set(BESIDE_VIEW):
        return options
    return dataclasses.replace(options, **{name: value for name, value in BUILT_IN_VIEW.items() if name not in given})


def check_second_dim(options: CompareOptions, model: Model) -> int | None:
    """The second D of a comparison, None if there is none.

    Raises:
        ParameterError: it is no size, the model's own, or there are runs of one's own or several `dims`.
    """
    given = given_values(options)
    if "second_dim" not in given:
        return None
    for name in ("measured", "dims"):
        if name in given:
            raise ParameterError(f"Argument `second_dim` must be left out with `{name}`.")
    dim = check_integer("second_dim", given["second_dim"], at_least=2)
    if dim == model.dim:
        raise ParameterError(f"Argument `second_dim` must be another size than dim = {dim}, but is the same.")
    model.replace(dim=dim)  # refused before anything is run
    return dim


#: Options that a preset leaves open.
BESIDE_PRESET = ("preset", "seeds", "seed", "out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetSettings:
    """What `dmft simulate --preset` runs with; a seed of None is the preset's own."""

    preset: str
    seeds: int
    seed: int | None
    out: str


def settle_preset(options: SimulateOptions) -> PresetSettings | None:
    """The settings of a preset, or None if none is asked for.

    Raises:
        ParameterError: something else is given beside it, which the preset fixes.
    """
    given = given_values(options)
    if "preset" not in given:
        return None
    for name in given:
        if name not in BESIDE_PRESET:
            raise ParameterError(
                f"Argument `{name}` must be left out with a preset, which fixes it; allowed beside it: "
                f"{', '.join(BESIDE_PRESET[1:])}."
            )
    return PresetSettings(
        preset=_check_text("preset", given["preset"]),
        seeds=check_integer("seeds", given.get("seeds", 1), at_least=1),
        seed=check_seed(given["seed"]) if "seed" in given else None,
        out=_check_folder(given.get("out", DEFAULTS["out"])),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """What `dmft phase` runs with."""

    sweep: Sweep
    out: str


def settle_phase(options: PhaseOptions) -> PhaseSettings:
    """Merge options, TOML file and defaults, and check every value at every point.

    Raises:
        ParameterError: the message names the option or the key, its value and what is allowed.
    """
    given = given_values(options)
    texts = {name: given[name] for name in ("x", "y") if name in given} or dict(zip("xy", PHASE_AXES, strict=True))
    if "x" not in texts:
        raise ParameterError("Argument `x` must be given too where `y` is.")
    axes = tuple(Axis.parse(name, text) for name, text in texts.items())
    fields = {name: given[name] for name in _names(ModelOptions) if name in given}
    for axis in axes:
        if axis.field in fields:
            raise ParameterError(f"Argument `{axis.field}` must be left out where it is on an axis.")
    named = {**fields, **{axis.field: axis.values[0] for axis in axes}}
    chosen = [name for name in REQUIRED if name in fields]
    model = _build_model(named if chosen else {**BUILT_IN_CASE, **named})
    count = math.prod(len(axis.values) for axis in axes)
    if count > MANY and not check_bool("yes", given.get("yes", False)):
        raise ParameterError(f"Argument `yes` must be given for more than {MANY} points, and these are {count}.")
    out = _check_folder(given.get("out", DEFAULTS["out"]))
    arguments = {name: value for name, value in given.items() if name in _names(Sweep)}
    arguments.setdefault("t_max", PHASE_DEFAULTS["t_max"])
    return PhaseSettings(sweep=Sweep(base_model=model, axes=axes, **arguments), out=out)


def settle_explore(folder: str | None, options: ExploreOptions) -> dict[str, Any]:
    """The arguments of `compare.explore`.

    Raises:
        ParameterError: an option that the folder of a sweep has answered is given beside it, or one is out of range.
    """
    given = {name: value for name in _names(options) if (value := getattr(options, name)) is not None}
    arguments: dict[str, Any] = {"port": given.pop("port", 0)}
    del given["no_browser"]
    if folder is None:
        return arguments | {"model": given_model(given), "t_max": given.get("t_max", DEFAULTS["t_max"])}
    for name in given:
        raise ParameterError(f"Argument `{name}` must be left out with a folder, whose sweep has it.")
    return arguments | {"folder": folder}


def resolved(options: RunOptions, settings: Settings | PresetSettings | PhaseSettings) -> dict[str, Any]:
    """What the command of these options runs with, as keys of a TOML file that stands for them.

    Left out are infinite sizes, a step of gradient flow, and what else has no value.
    """
    values = DEFAULTS | given_values(options)
    if isinstance(settings, PresetSettings):
        values = dataclasses.asdict(settings)
    elif isinstance(settings, PhaseSettings):
        swept = {axis.field: None for axis in settings.sweep.axes}
        axes = {} if "x" in values else dict(zip("xy", PHASE_AXES, strict=True))
        values |= vars(settings.sweep) | axes | vars(settings.sweep.base_model) | swept | {"out": settings.out}
    else:
        trained = {name: value for name, value in vars(settings.optimizer).items() if name != "rule"}
        values |= trained | dataclasses.asdict(settings.model) | {"out": settings.out}
    names = (name for name in _names(options) if name not in NOT_IN_FILE)
    return {name: values[name] for name in names if values.get(name) is not None}


def _names(options: type | object) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(options))  # type: ignore[arg-type]


def given_model(given: dict[str, Any]) -> Model:
    """The model among the values that were given."""
    return _build_model({name: given[name] for name in _names(ModelOptions) if name in given})


def given_values(options: RunOptions) -> dict[str, Any]:
    """The values that were given, by the file or as options; options win."""
    allowed = [name for name in _names(options) if name not in NOT_IN_FILE]
    given = {} if options.config is None else _read_config(options.config, allowed)
    return given | {name: value for name in allowed if (value := getattr(options, name)) is not None}


def _read_config(path: str, allowed: list[str]) -> dict[str, Any]:
    """The flat keys of the TOML file at `path`; ParameterError if it cannot be read or a key is not `allowed`."""
    try:
        content = tomllib.loads(check_path("config", path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ParameterError(
            f"Argument `config` must be a TOML file that can be read, but is {path!r} ({reason})."
        ) from None
    for key in content:
        if key not in allowed:
            raise ParameterError(f"Key `{key}` in {path!r} is no option here; allowed: {', '.join(allowed)}.")
    return content


def _build_model(given: dict[str, Any]) -> Model:
    """The model of these fields: with none of REQUIRED the built-in case, changed where other fields are given."""
    missing = [name for name in REQUIRED if name not in given]
    model = Model(**{**BUILT_IN_CASE, **given} if missing else given)
    if 0 < len(missing) < len(REQUIRED):
        raise ParameterError(
            f"Argument `{missing[0]}` must be given too: all of --alpha, --epsilon and --kappa, or none of them."
        )
    return model


def _build_optimizer(given: dict[str, Any]) -> Optimizer:
    """The optimiser of the options that were given."""
    fields = {name: given[name] for name in _names(Optimizer) if name in given}
    return Optimizer(given.get("optimizer", DEFAULTS["optimizer"]), **fields)


def _theory_rule(optimizer: Optimizer, step: float | None, t_max: float) -> dict[str, Any]:
    """The arguments of `dmft.solve` for the same rule.

    Raises:
        ParameterError: the theory does not know it.
    """
    if optimizer.rule not in LINEAR_RULES:
        raise ParameterError(
            f"Argument `optimizer` must be one of {', '.join(LINEAR_RULES)} where the theory is solved, but is "
            f"{optimizer.name!r}."
        )
    from dmft.twotime.momentum import momentum_of

    schedule: Any = optimizer.schedule
    if optimizer.warmup:
        if step is None:
            raise ParameterError(
                f"Argument `warmup` must be left out of gradient flow, but is {optimizer.warmup}; give `step`."
            )
        count = max(1, round(t_max / step))
        schedule = schedule_factors(optimizer, count)
    momentum = optimizer.momentum or 0.0
    ahead = optimizer.rule == "nesterov" and momentum > 0
    plain = momentum_of(momentum, ahead, schedule, step, t_max) is None  # refused before anything is run
    return {} if plain else {"momentum": momentum, "nesterov": ahead, "schedule": schedule}


def _read_thresholds(text: object) -> dict[str, float]:
    """{"test_loss": 0.1, "train_loss": 0.01} from "test_loss=0.1,train_loss=0.01"; the names are checked later."""
    try:
        pairs = [part.split("=") for part in _check_text("stop_below", text).split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ParameterError(
            f"Argument `stop_below` must be thresholds such as test_loss=0.1,train_loss=0.01, but is {text!r}."
        ) from None


def _check_spread(value: object, model: Model) -> bool:
    if check_bool("spread", value) and model.dim is None:
        raise ParameterError("Argument `dim` must be given with `spread`: data sets have a size.")
    return bool(value)


def _check_folder(value: object) -> str:
    return str(check_path("out", _check_text("out", value)))


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ParameterError(f"Argument `{name}` must be a text that is not empty, but is {value!r}.")
    return value
