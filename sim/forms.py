"""The two exact arrangements of the same gradient descent, and which one is cheaper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dmft.checks import ParameterError, check_choice
from dmft.model import Model
from sim import network, reduced

CHOICES = ("auto", "network", "reduced")


class Form(NamedTuple):
    """One arrangement: how the state starts, gives outputs, moves by one step, and gives M and wbar."""

    name: str
    initial: Callable[..., Any]
    forward: Callable[..., Any]
    descend: Callable[..., Any]
    moments: Callable[..., Any]


NETWORK = Form("network", network.initial, network.forward, network.descend, network.moments)
REDUCED = Form("reduced", reduced.initial, reduced.forward, reduced.descend, reduced.moments)


def choose_form(model: Model, form: str) -> Form:
    """The form asked for; "auto" is the one with fewer rows: N for the network, min(N, D + 1) for the reduced one."""
    check_choice("form", form, CHOICES)
    if form == "network" and model.width is None:
        raise ParameterError(
            "Argument `form` must be auto or reduced when the model's `width` is None (infinite), but is 'network'."
        )
    assert model.dim is not None
    if form == "auto":
        return NETWORK if model.width is not None and model.width <= model.dim + 1 else REDUCED
    return NETWORK if form == "network" else REDUCED


def row_count(model: Model, form: Form) -> int:
    """Number of weight vectors that a step moves."""
    assert model.dim is not None
    if form is NETWORK:
        assert model.width is not None
        return model.width
    return model.dim + 1 if model.width is None else min(model.width, model.dim + 1)
