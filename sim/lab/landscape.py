"""Reduced loss against weight norm: the L of the train and the U of the test loss (arXiv 2210.01117, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optax

from dmft.checks import ParameterError, check_real
from sim.interventions import on_sphere
from sim.lab.training import chosen_rule, train
from sim.networks import scaled
from sim.tasks import Task

if TYPE_CHECKING:
    import xarray


def norm_landscape(
    network: Any, task: Task, steps: int, *, factors: Sequence[float], optimizer: Any = None, **settings: Any
) -> xarray.Dataset:
    """f~(w) = f(argmin of the train loss at |theta| = w), for w = factor |theta_0|.

    The initial parameters are multiplied by the factor, and after every step all parameters, biases included, are
    rescaled to that norm. Of the observed steps the one with the least train loss is taken.

    Args:
        network: as in `sim.train`.
        task: of `sim.tasks`.
        steps: of each run.
        factors: of the norm, > 0, strictly increasing.
        optimizer: before the rescaling; left out: optax.adam(1e-3).
        **settings: further arguments of `sim.train`.

    Returns:
        A dataset over ("seed", "factor") of train_loss, test_loss, train_accuracy, test_accuracy, weight_norm and
        `best_step`, the step taken.

    Raises:
        ParameterError: see `sim.train`.
    """
    import xarray

    factors = [check_real("factors", factor, above=0.0) for factor in factors]
    if not factors or any(np.diff(factors) <= 0.0):
        raise ParameterError(f"Argument `factors` must be strictly increasing numbers > 0, but is {factors!r}.")
    rule = optax.chain(chosen_rule(optimizer), on_sphere())
    found = []
    for factor in factors:
        dataset = train(scaled(network, factor), task, steps, optimizer=rule, **settings)
        best = dataset["train_loss"].argmin("step")
        names = ["train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm"]
        taken = dataset[names].isel(step=best)
        found.append(taken.reset_coords("step").rename(step="best_step"))
    axis = xarray.DataArray(factors, dims="factor", attrs={"long_name": "norm / initial norm"})
    return xarray.concat(found, dim=axis.rename("factor")).transpose("seed", "factor").assign_attrs(found[-1].attrs)
