"""`train`: any network on any task, by any loss and optimiser, with its measures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.checks import DivergenceError, ParameterError, check_bool, check_integer, check_real, spelt
from sim.interventions import apart
from sim.lab.losses import fitting_loss
from sim.lab.system import lab_system
from sim.networks import as_network
from sim.request import Request
from sim.tasks import Task
from sim.training.driver import run
from sim.training.optimizers import Optimizer, is_transformation

if TYPE_CHECKING:
    import xarray


#: Observed steps: about so many, evenly spread over log(step).
OBSERVATIONS = 200
#: Attributes of the driver that have another name here.
OTHERS = ("t_max", "step", "t_reached")


@spelt
def train(
    network: Any,
    task: Task,
    steps: int,
    *,
    optimizer: Any = None,
    loss: str = "square",
    alpha: float = 1.0,
    centred: bool = False,
    seeds: int = 4,
    seed: int = 0,
    measures: Any = (),
    batch_size: int | None = None,
    precision: str = "float32",
    times: Sequence[int] | None = None,
    stop_below: dict[str, float] | None = None,
    weights: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
) -> xarray.Dataset:
    """Train a network on a task: the mean over samples of loss(alpha (f - f_0), y) is descended.

    Every seed draws its own data and weights; those of seed k depend on the streams and on k alone.

    Args:
        network: of `sim.networks`, or an Equinox module, a function of a random key that makes one, or a pair (init,
            apply) (`sim.networks.as_network`).
        task: of `sim.tasks`.
        steps: how many, >= 1.
        optimizer: an optax.GradientTransformation with its own learning rate; left out: optax.adam(1e-3). Weight decay,
            orthogonal gradients and the sphere are part of it (`sim.interventions`).
        loss: square, cross_entropy (in the run's precision), cross_entropy_float16, _float32, _float64, stablemax or
            logistic (`sim.lab.losses`).
        alpha: output scale > 0. The optimiser's learning rate is not changed with it.
        centred: f_0 is subtracted; else it is not there.
        seeds: number S >= 1 of replicas.
        seed: random stream of weights, batches and dropout; the task has its own.
        measures: names among movement, linearized, kernel, ipr, collapse, descent_cosine, or functions of a
            `sim.lab.watch.View`.
        batch_size: samples of a step, drawn as in `sim.Optimizer`; None: all.
        precision: of weights and arithmetic, float32 or float64.
        times: steps to observe, strictly increasing, in 0 .. steps; None: about 200, evenly over the logarithm.
        stop_below: as in `sim.simulate`.
        weights: add the weights after the last step, `weights_<name>` over ("seed", ...). All seeds must fit into
            memory at once.
        checkpoint: path of a file in which the run is saved, and from which it goes on to the same bits.
        checkpoint_every: seconds between two saves.
        progress: as in `sim.simulate`.

    Returns:
        A dataset over ("seed", "step"): train_loss, test_loss, train_accuracy, test_accuracy, clean_accuracy and
        corrupted_accuracy (NaN if no label is wrong), weight_norm and what `measures` asks for; and over ("step",) the
        standard errors `<name>_stderr`.

    Raises:
        ParameterError: an argument is out of range, or does not fit another; the message names it.
        DivergenceError: the loss grew without bound or is no number: at which step, in which seed; with `curves`.
        MemoryLimitError: one replica does not fit into memory.

    Examples:
        >>> from sim import networks, tasks, train
        >>> task = tasks.modular("add", 7, train_fraction=0.8)
        >>> dict(train(networks.two_embeddings(20), task, 10, seeds=2, times=[0, 10]).sizes)["step"]
        2
    """
    steps = check_integer("steps", steps, at_least=1)
    if not isinstance(task, Task):
        raise ParameterError(f"Argument `task` must be one of sim.tasks, but is {task!r}.")
    made, fitting = as_network(network), fitting_loss(loss, task)
    alpha, centred = check_real("alpha", alpha, above=0.0), check_bool("centred", centred)
    asked = {"t_max": float(steps), "step": 1.0, "seeds": seeds, "seed": seed, "precision": precision}
    asked |= {"times": observed(steps, times), "stop_below": stop_below, "progress": progress}
    asked |= {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every}
    rule = chosen_rule(optimizer)
    request = Request(**asked, optimizer=Optimizer(rule, batch_size=batch_size))
    system = lab_system(
        made,
        task,
        fitting,
        alpha=alpha,
        centred=centred,
        watched=measures,
        precision=request.precision,
        seed=request.seed,
    )
    if "linearized_train_loss" in system.observables:
        request = Request(**asked, optimizer=Optimizer(apart(rule), batch_size=batch_size))
    kept: list[Any] = []
    keep = kept.append if check_bool("weights", weights) else None
    try:
        dataset = run(system, request, dict(system.description), keep)
    except DivergenceError as error:
        error.curves = None if error.curves is None else over_steps(error.curves, steps)
        raise
    dataset = over_steps(dataset, steps)
    return with_weights(dataset, kept[0]["network"]) if kept else dataset


def chosen_rule(optimizer: Any) -> Any:
    """An optax transformation; ParameterError if it is none."""
    import optax

    if optimizer is None:
        return optax.adam(1e-3)
    if not is_transformation(optimizer):
        raise ParameterError(
            "Argument `optimizer` must be an optax.GradientTransformation, such as optax.adamw(0.01), but is "
            f"{optimizer!r}."
        )
    return optimizer


def observed(steps: int, times: Sequence[int] | None) -> np.ndarray:
    """The observed steps: 0, `steps`, and evenly over the logarithm between, if they are not given."""
    if times is not None:
        return np.asarray(times, np.float64)
    return np.unique(np.concatenate([[0], np.rint(np.geomspace(1, steps, OBSERVATIONS))]))


def over_steps(dataset: xarray.Dataset, steps: int) -> xarray.Dataset:
    """The driver's dataset, whose time is the number of steps."""
    dataset = dataset.rename(time="step")
    number = np.rint(dataset["step"].to_numpy()).astype(np.int64)
    dataset = dataset.assign_coords(step=("step", number, {"long_name": "steps of the optimiser"}))
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if name not in OTHERS} | {"steps": steps}
    if "corrupted_accuracy" not in dataset:
        dataset["clean_accuracy"] = dataset["train_accuracy"]
        dataset["corrupted_accuracy"] = dataset["train_accuracy"] * np.nan
    return dataset


def with_weights(dataset: xarray.Dataset, parameters: dict[str, Any]) -> xarray.Dataset:
    """The dataset with the weights of every seed, (S, ...)."""
    added = {}
    for name, values in parameters.items():
        inner = [f"{name}_{axis}" for axis in range(np.ndim(values) - 1)]
        added[f"weights_{name}"] = (("seed", *inner), np.asarray(values)[: dataset.sizes["seed"]])
    return dataset.assign(added)
