"""What is compared with what: parameters that must be the same on both sides, sizes that may differ."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from compare.curves import Side
from dmft.checks import ParameterError
from dmft.models import committee, model

#: Fields that are sizes of the experiment, not its physics; the width of a committee is physics.
SIZES = ("dim", "width")


def paired(first: Side, second: Side, *, mixed: bool) -> list[str]:
    """Notes on what differs between the two sides: parameters, sizes, optimisers, and what a theory neglects.

    A side that does not say its parameters (measured curves) is taken to have those of the other.

    Raises:
        ParameterError: physical parameters differ, and not `mixed`.
    """
    notes = []
    found = differences(first.attributes, second.attributes)
    if found and not mixed:
        raise ParameterError(
            f"Argument `second` must be of the same model as `first`, but {' and '.join(found)}; give mixed=True "
            "to compare them all the same."
        )
    if found:
        notes.append(f"Different models are compared: {', '.join(found)}.")
    return [*notes, *_neglected(first, second), *_optimizers(first, second)]


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], called: tuple[str, str] = ("the first", "the second")
) -> list[str]:
    """Such as "alpha is 0.7 in the first and 1 in the second", of the physics in the attributes of two datasets."""
    one, other = _physics(first), _physics(second)
    if not one or not other:
        return []
    return [
        f"{name} is {_shown(one.get(name))} in {called[0]} and {_shown(other.get(name))} in {called[1]}"
        for name in dict.fromkeys([*one, *other])
        if not _same(one.get(name), other.get(name))
    ]


def _physics(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The physical parameters of a model by name, those left out at their defaults; empty if none are there."""
    if "alpha" not in attributes or "kappa" not in attributes:
        return {}
    if attributes.get("model") == "committee":
        fields = [name for name in committee.field_names() if name != "dim"]
        return (
            {"model": "committee"} | committee.LATER | {name: attributes[name] for name in fields if name in attributes}
        )
    fields = {field.name: field.default for field in dataclasses.fields(model.Model) if field.name not in SIZES}
    fields["strengths"] = _EXPERIMENT["strengths"]
    if "target" in attributes:  # an experiment: a model with more to choose
        fields |= _EXPERIMENT
    found = {name: attributes.get(name, default) for name, default in fields.items()}
    return {"model": "wide"} | {name: value for name, value in found.items() if value != _EXPERIMENT.get(name)}


#: What an experiment (`sim.Experiment`) has beside its model; these values are those of the model's own network.
_EXPERIMENT = {
    "activation": "quadratic",
    "target": "quadratic",
    "strengths": json.dumps([1.0]),
    "weight_scale": 1.0,
    "interpolation": 0.0,
    "readouts": "fixed",
}


def _same(one: Any, other: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in (one, other))
    return math.isclose(one, other, rel_tol=1e-6) if numbers else one == other


def _shown(value: Any) -> str:
    return "the usual one" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _neglected(first: Side, second: Side) -> list[str]:
    """Notes on sizes that differ, above all on a theory that takes the dimension as infinite."""
    dims = [side.attributes.get("dim") for side in (first, second)]
    if None in dims or dims[0] == dims[1]:
        return []
    infinite = next((side for side, dim in zip((first, second), dims, strict=True) if dim == "infinite"), None)
    if infinite is None or infinite.kind != "theory":
        return [f"Sizes differ: D = {dims[0]} in the first and {dims[1]} in the second."]
    finite = next(dim for dim in dims if dim != "infinite")
    note = f"The theory is at infinite D, the other side at D = {finite}"
    if starts_at_random(infinite.attributes):
        return [
            f"{note}: a random start has an overlap with the target of order 1/D there, from which it grows; at "
            f"infinite D overlap(0) = 0, and what grows from it alone stays 0. Give the theory dim = {finite}."
        ]
    return [f"{note}: differences of order 1/D are not contained in z."]


def starts_at_random(attributes: Mapping[str, Any]) -> bool:
    """Whether the initial weights have no overlap with the target but by chance."""
    if attributes.get("model") == "committee":
        given = ("initial_teacher_overlap", "initial_self_overlap")
        return all(attributes.get(name, "none") == "none" for name in given)
    overlaps = attributes.get("initial_overlap", 0.0)
    return 0.0 in (json.loads(overlaps) if isinstance(overlaps, str) else [float(overlaps)])


def _rule(attributes: Mapping[str, Any], scheduled: bool) -> str:
    """Such as "momentum 0.9, cosine to t = 10", from the attributes of a dataset; the schedule only if asked for."""
    words = [str(attributes.get("optimizer", "gd"))]
    if "momentum" in attributes:
        words[0] += f" {attributes['momentum']:g}"
    if scheduled and attributes.get("schedule", "constant") != "constant":
        words.append(str(attributes["schedule"]))
        if "t_max" in attributes:
            words[-1] += f" to t = {attributes['t_max']:g}"
    if scheduled and attributes.get("warmup", 0):
        words.append(f"{attributes['warmup']} steps of warmup")
    if "batch_size" in attributes:
        words.append(f"minibatches of {attributes['batch_size']}")
    return ", ".join(words)


def _factors(attributes: Mapping[str, Any]) -> str | None:
    """What tells the factors of the steps from others; None if it is not known."""
    plain = attributes.get("schedule", "constant") == "constant" and not attributes.get("warmup", 0)
    return attributes.get("schedule_factors", "constant" if plain else None)


def _optimizers(first: Side, second: Side) -> list[str]:
    """A note where the two sides are trained by different rules, or by steps of different size.

    Schedules by name are told apart by their names, others by their factors, as far as both sides have them.
    """
    sides = [side.attributes for side in (first, second)]
    if "measurement" in (first.kind, second.kind):
        return []
    notes = []
    listed = any(side.get("schedule") in ("array", "function") for side in sides)
    factors = [_factors(side) for side in sides]
    others = listed and None not in factors and factors[0] != factors[1]
    rules = [_rule(side, others or not listed) for side in sides]
    if others and rules[0] == rules[1]:
        notes.append(f"Optimisers differ: both are {rules[0]}, with other factors.")
    elif rules[0] != rules[1]:
        notes.append(f"Optimisers differ: {rules[0]} and {rules[1]}.")
    steps = [side.get("step") for side in sides]
    if None not in steps and not _same(*steps):
        words = ["gradient flow" if step == "flow" else f"steps of {step:g}" for step in steps]
        notes.append(f"Steps differ: {words[0]} and {words[1]}.")
    return notes
