"""The command line that repeats a run, from the settings that its file records."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from dmft import Model
from dmft.checks import SCHEDULES
from dmft.models.model import field_names
from sim.training.optimizers import LINEAR_RULES, RULES

#: Options beside the model's, by who takes them.
COMMON = ("t_max", "step", "rtol", "precision", "seed")
OF_SIDE = {"theory": ("atol",), "simulation": ("seeds", "form")}
#: How descent moves, for all commands and for a simulation alone; and what is left out, as it is so without options.
RULE, BATCHES = ("optimizer", "momentum", "schedule", "warmup"), ("batch_size", "replacement")
USUAL = {"optimizer": "gd", "schedule": "constant", "warmup": 0, "replacement": 0}


def settings_of(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """What was asked for, from the attributes of a dataset of `dmft.solve` or `sim.simulate`, in plain Python.

    Where the simulation chose the form itself, that is what was asked for; and its own `rtol` is a tenth of the
    command line's.
    """
    plain = {
        str(name): value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
        for name, value in attributes.items()
    }
    if plain.get("kind") == "simulation" and "rtol" in plain:
        plain["rtol"] = 10.0 * plain["rtol"]
    if "form_requested" in plain:
        plain["form"] = plain["form_requested"]
    return plain


def sayable(settings: Mapping[str, Any], *, theory: bool) -> bool:
    """Whether options can say how descent moves: rules and schedules by name and, of a theory, without batches."""
    rules = LINEAR_RULES if theory else RULES
    named = settings.get("optimizer", "gd") in rules and settings.get("schedule", "constant") in SCHEDULES
    return named and not (theory and "batch_size" in settings)


def command(settings: Mapping[str, Any], *, theory: bool, simulation: bool) -> str:
    """`dmft compare`, `dmft solve` or `dmft simulate` with every setting given, digit by digit.

    Where the simulation has steps of its own (`simulation_step`), theory and simulation are two commands.

    Args:
        settings: the model as in `Model.to_attributes`, `t_max`, `step` (None or "flow" for gradient flow), and what
            the command takes of `precision`, `seed`, `rtol`, `atol`, `seeds` and `form`; what is missing is left out.
        theory, simulation: what the command runs.
    """
    own_step = settings.get("simulation_step", settings.get("step"))
    if own_step != settings.get("step") and theory and simulation:
        return " && ".join(command(settings, theory=side, simulation=not side) for side in (True, False))
    if simulation:
        settings = {**settings, "step": own_step}
    name = "compare" if theory and simulation else "solve" if theory else "simulate"
    model = Model.from_attributes(settings).to_attributes()
    words = ["dmft", name]
    for field in field_names():
        value = model.get(field, "infinite")
        if field == "centered":
            words += ["--centered"] if value else []
        elif value != "infinite" and (value or field in ("alpha", "epsilon", "kappa")):
            words += _option(field, value)
    sides = [side for side, wanted in (("theory", theory), ("simulation", simulation)) if wanted]
    for option in (*COMMON, *(option for side in sides for option in OF_SIDE[side])):
        value = settings.get(option)
        if value is not None and not (option == "step" and value == "flow"):
            words += _option(option, value)
    for option in (*RULE, *(BATCHES if simulation else ())):
        value = settings.get(option)
        if value is not None and value != USUAL.get(option):
            words += ["--replacement"] if option == "replacement" else _option(option, value)
    words += ["--spread"] if theory and "spread_draws" in settings else []
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value).strip("[]").replace(" ", "")
    return [f"--{name.replace('_', '-')}", text]
