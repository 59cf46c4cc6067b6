"""Measured curves for a fit: logarithms of losses over time or steps, what is known of their errors, and runs apart."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from compare.curves import read_side
from compare.measured import LOSSES, gather, missing, read_file
from compare.own_run import mean_squares
from dmft.checks import ParameterError

#: Independent points that a curve over log t counts as at most: neighbours carry the same random number.
INDEPENDENT = 25


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Curves to be fitted.

    Attributes:
        time: (T,) as they are given: times, or steps.
        names: of the losses, C of them.
        log: natural logarithms of their means over runs, (C, T); NaN where there is no value.
        error: relative standard errors of these, (C, T); NaN where unknown.
        deviations: of each run from the mean, relative, (R, C, T); None of fewer than 4 runs.
        runs: how many, 1 if they do not say.
        in_steps: whether `time` counts steps.
        notes: sentences for the reader.
    """

    time: np.ndarray
    names: tuple[str, ...]
    log: np.ndarray
    error: np.ndarray
    deviations: np.ndarray | None
    runs: int
    in_steps: bool
    notes: tuple[str, ...]

    @property
    def known(self) -> np.ndarray:
        """Where there is a value, (C, T)."""
        return np.isfinite(self.log)

    @property
    def share(self) -> np.ndarray:
        """Independent points over points of each curve, (C, 1), at most 1."""
        counts = self.known.sum(axis=1)
        return np.minimum(1.0, INDEPENDENT / np.maximum(counts, 1))[:, None]


def read_curves(source: Any, *, time: str | None, train: str, test: str, loss: str | float, steps: bool) -> Measured:
    """Curves in any form that `compare.overlay` takes, of which one of the losses may be missing.

    Args:
        time: the column of times or steps; None for "time", or "step" where there is no time, or `steps`.
        train, test, loss: as in `compare.read_run`.
        steps: whether a learning rate is known, so that a column "step" is to be preferred.

    Raises:
        ParameterError: a column is missing (which), or a curve is not positive (where).
    """
    source = _opened(source)
    held = _held(source[0] if isinstance(source, list) else source)
    prefers = ("step", "time") if steps else ("time", "step")
    column = time or next((name for name in prefers if name in held), "time")
    for given, usual in ((train, "train_loss"), (test, "test_loss")):
        if given not in held and given != usual:
            raise missing("curves", given, held)
    if train not in held and test not in held:
        raise missing("curves", train, held)
    names = {"time": column} | {own: one for own, one in (("train_loss", train), ("test_loss", test)) if one in held}
    dataset, notes = gather("curves", source, names, needed=("time",))
    return _measured(mean_squares(dataset, loss), steps or column == "step", notes)


def _opened(source: Any) -> Any:
    """The source with its files read."""
    if isinstance(source, (str, os.PathLike)):
        return read_file("curves", source)
    return [_opened(one) for one in source] if isinstance(source, (list, tuple)) and source else source


def _held(source: Any) -> list[str]:
    """The names of what it holds."""
    if isinstance(source, xarray.Dataset):
        return [str(name) for name in source.variables]
    if isinstance(source, Mapping):
        return [str(name) for name in source]
    if hasattr(source, "columns"):
        index = [] if source.index.names == [None] else source.index.names
        return [str(name) for name in (*source.columns, *index)]
    return [name for name in ("time", "step", *LOSSES) if hasattr(source, name)]


def _measured(dataset: xarray.Dataset, in_steps: bool, notes: list[str]) -> Measured:
    names = tuple(name for name in LOSSES if name in dataset)
    for name in names:
        values = dataset[name].astype(float)
        wrong = (values <= 0.0).any([dim for dim in values.dims if dim != "time"]).to_numpy()
        if wrong.any():
            at = float(dataset["time"].astype(float)[int(np.argmax(wrong))])
            raise ParameterError(
                f"Argument `curves` must hold `{name}` > 0, whose logarithm is fitted, but it is "
                f"{float(values.isel(time=int(np.argmax(wrong))).min()):g} at {at:g}."
            )
    for name in LOSSES:  # a side has both
        if name not in dataset:
            dataset[name] = xarray.full_like(dataset[names[0]], 1.0)
    side = read_side("curves", dataset)
    if side.time[0] < 0.0:
        raise ParameterError(f"Argument `curves` must hold `time` >= 0, but it begins at {side.time[0]:g}.")
    parts = [side.parts(name) for name in names]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.stack([part[0].to_numpy() for part in parts])
        errors = np.stack([part[1].to_numpy() for part in parts]) / values
    deviations = None
    if side.each is not None and (side.runs or 0) >= 4:
        each = np.stack([side.each[name].transpose("seed", "time").to_numpy() for name in names], axis=1)
        deviations = np.nan_to_num(each / values - 1.0)
    log = np.where(np.isfinite(values), np.log(np.where(values > 0, values, 1.0)), np.nan)
    return Measured(side.time, names, log, errors, deviations, side.runs or 1, in_steps, tuple(notes))
