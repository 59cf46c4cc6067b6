"""The two exact arrangements of the same gradient descent as systems, and which one is cheaper."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dmft.checks import ParameterError, check_choice
from dmft.losses.quadratic import observables
from dmft.models.model import Model
from sim.systems import quadratic
from sim.systems.draws import draw_replica
from sim.training.optimizers import LINEAR_RULES, Optimizer
from sim.training.stepsize import batch_curvature
from sim.training.system import System

CHOICES = ("auto", "network", "reduced")


def choose_form(model: Model, form: str, optimizer: Optimizer) -> str:
    """The form asked for; "auto" is the one with fewer rows: N for the network, min(N, D + 1) for the reduced one.

    Raises:
        ParameterError: there is no such form of this model, or the optimiser treats rotated rows differently.
    """
    check_choice("form", form, CHOICES)
    if form == "network" and model.width is None:
        raise ParameterError(
            "Argument `form` must be auto or reduced when the model's `width` is None (infinite), but is 'network'."
        )
    if optimizer.rule not in LINEAR_RULES:  # it would not be the same descent in rotated coordinates
        if form == "reduced" or model.width is None:
            what = "`form` must be network" if form == "reduced" else "`width` of the model must be finite"
            raise ParameterError(
                f"Argument {what} with optimizer {optimizer.name}, which depends on the coordinates of the weights, "
                f"but is {form if form == 'reduced' else None!r}; the reduced form allows {', '.join(LINEAR_RULES)}."
            )
        return "network"
    if form != "auto":
        return form
    assert model.dim is not None
    return "network" if model.width is not None and model.width <= model.dim + 1 else "reduced"


def quadratic_system(model: Model, form: str) -> System:
    """The system of a model with `dim` set, in the form "network" or "reduced"."""
    assert model.dim is not None
    dim, samples, rows = model.dim, model.samples, row_count(model, form)

    def draw(seed: int, index: int) -> tuple[np.ndarray, Any]:
        return quadratic.start(model, draw_replica(model, seed, index), form)

    def steepest(seed: int, index: int, batch_size: int | None) -> float:
        bound = partial(quadratic.curvature, model)
        return batch_curvature(bound, draw_replica(model, seed, index), batch_size) + model.weight_decay

    return System(
        equations=quadratic.EQUATIONS,
        draw=draw,
        observables=observables(model),
        samples=samples,
        operations=4.0 * samples * dim * rows,
        # inputs twice (host and device), the state before, after and in between, references and M, fields and forces
        numbers=2.0 * samples * dim + 4.0 * rows * dim + 3.0 * dim**2 + 2.0 * samples * rows,
        drawing_bytes=8.0 * (2.0 * samples * dim + 3.0 * (model.width or dim) * dim),
        sizes=f"dim = {dim}, samples = {samples}, width = {model.width or 'infinite'}",
        description={**model.to_attributes(), "form": form},
        decay=model.weight_decay,
        curvature=steepest,
    )


def row_count(model: Model, form: str) -> int:
    """Number of weight vectors that a step moves."""
    assert model.dim is not None
    if form == "network":
        assert model.width is not None
        return model.width
    return model.dim + 1 if model.width is None else min(model.width, model.dim + 1)
