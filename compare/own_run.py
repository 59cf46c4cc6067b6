"""`read_run`: runs of one's own, in the time and with the losses of the theory (THEORY section 1).

Conventions of the theory: inputs x ~ N(0, I/D), |beta|^2 = D, w ~ N(0, I); a loss is the mean of squared residuals,
without 1/2; gradient descent with learning rate eta on half of it takes dt = eta alpha^2 / (N D) of time per step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compare.measured import LOSSES, checked_time, gather
from dmft.checks import ParameterError, check_choice, check_integer, check_real, plain, spelt
from dmft.models.units import Units

if TYPE_CHECKING:
    import xarray


class Convention(NamedTuple):
    """What a run may report in place of a mean square: how that follows, its derivative, and what it is in words."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    words: str


#: By name, as `read_run` takes them.
CONVENTIONS = {
    "mean": Convention(lambda x: x, lambda x: 0.0 * x + 1.0, "mean squares"),
    "half": Convention(lambda x: 2.0 * x, lambda x: 0.0 * x + 2.0, "half of a mean square"),
    "root": Convention(lambda x: x**2, lambda x: 2.0 * x, "roots of a mean square"),
    "log": Convention(np.exp, np.exp, "natural logarithms"),
    "log10": Convention(lambda x: 10.0**x, lambda x: np.log(10.0) * 10.0**x, "logarithms to base 10"),
}


@spelt
def read_run(
    source: object,
    *,
    time: str | None = None,
    train: str = "train_loss",
    test: str = "test_loss",
    loss: str | float = "mean",
    learning_rate: float | None = None,
    loss_factor: float = 1.0,
    test_samples: int | None = None,
    model: Any = None,
) -> xarray.Dataset:
    """Runs of one's own with other names and conventions, as a dataset for `overlay`, `grokking_delay` and `regime`.

    Args:
        source: one run or several, as `compare.overlay` takes them: a path, a table, a mapping, a list.
        time: the column of times; left out: `time`, or `step` where a learning rate is given.
        train: the column of train losses.
        test: the column of test losses.
        loss: what these are: "mean" of squared residuals, "half" of that mean, its "root", "log" or "log10"; or a
            number > 0, how many times the mean square they are.
        learning_rate: eta > 0, of gradient descent: the column of times counts its steps, n, and
            t = n loss_factor eta alpha^2 / (N D).
        loss_factor: eta multiplies the gradient of this times half the mean square: 2 for that of the mean square.
        test_samples: how many inputs the test loss is a mean over: its error is more than the spread over data sets.
        model: the `dmft.Model` that was trained, whose parameters the dataset then carries unless it has its own; for
            a learning rate its `dim` D and `width` N must be set.

    Returns:
        Dataset over ("time",) or ("seed", "time") of train_loss and test_loss, their errors, and what else is known.

    Raises:
        ParameterError: an argument is out of range, or the source is not as `compare.overlay` takes it.

    Examples:
        >>> from dmft import Model
        >>> log = {"step": [0, 10], "loss": [0.4, 0.2], "val": [0.5, 0.4]}
        >>> model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=10, width=10)
        >>> run = read_run(log, train="loss", test="val", loss="half", learning_rate=5.0, model=model)
        >>> run.time.values.tolist(), run.train_loss.values.tolist()
        ([0.0, 0.5], [0.8, 0.4])
    """
    columns = {"time": time or ("time" if learning_rate is None else "step"), "train_loss": train, "test_loss": test}
    check_columns(columns)
    _convention(loss)  # refused before anything is read
    unit = _unit_of_time(learning_rate, loss_factor, model)
    dataset, notes = gather("source", source, columns)
    checked_time("source", dataset)
    if learning_rate is not None:
        dataset = dataset.assign_coords(time=unit * dataset["time"].astype(float))
    tested = {} if test_samples is None else {"test_samples": check_integer("test_samples", test_samples, at_least=1)}
    known = tested | ({} if model is None else model.to_attributes()) | dict(dataset.attrs)
    attributes = {"kind": "measurement"} | known
    dataset = mean_squares(dataset, loss)
    return dataset.assign_attrs(attributes | ({"notes": notes} if notes else {}))


def check_columns(columns: Mapping[str, object]) -> None:
    """ParameterError unless these are names."""
    for argument, name in zip(("time", "train", "test"), columns.values(), strict=True):
        if not isinstance(name, str):
            raise ParameterError(f"Argument `{argument}` must be the name of a column, but is {name!r}.")


def mean_squares(dataset: xarray.Dataset, loss: str | float) -> xarray.Dataset:
    """The losses that are there, and their errors, as mean squares; `loss` as in `read_run`."""
    convention = _convention(loss)
    for name in LOSSES:
        if name not in dataset:
            continue
        given = dataset[name].astype(float)
        with np.errstate(over="ignore", invalid="ignore"):
            dataset[name] = convention.value(given)
            for part in (f"{name}_{end}" for end in ("stderr", "error", "spread")):
                if part in dataset:
                    over = given.mean("seed") if "seed" in given.dims and "seed" not in dataset[part].dims else given
                    dataset[part] = dataset[part] * abs(convention.slope(over))
    return dataset


def _convention(loss: object) -> Convention:
    """The convention of this name, or of losses that are `loss` times the mean square."""
    if isinstance(loss, str):
        return CONVENTIONS[check_choice("loss", loss, tuple(CONVENTIONS))]
    factor = 1.0 / check_real("loss", plain(loss), above=0.0)
    return Convention(lambda x: factor * x, lambda x: 0.0 * x + factor, "")


def _unit_of_time(learning_rate: float | None, loss_factor: float, model: Any) -> float:
    """Time per step, 1 without a learning rate."""
    if model is not None and not isinstance(model, Units):
        raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
    if learning_rate is None:
        return 1.0
    if model is None:
        raise ParameterError("Argument `model` must be given with `learning_rate`: a step lasts eta alpha^2 / (N D).")
    return model.step_from_learning_rate(learning_rate, loss_factor=loss_factor)
