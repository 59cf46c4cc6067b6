"""When train and test loss reach a threshold, the delay between them, and the regime that makes (THEORY section 10)."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import numpy as np
import xarray

from compare.curves import Side, read_side
from compare.measured import ACCURACIES, LOSSES, missing
from compare.verdicts import aligned
from dmft.checks import ParameterError, check_choice, check_real, spelt

#: What the times are those of.
MEASURES = ("loss", "accuracy")
#: The loss that counts as learnt, and the factor between the threshold times from which a run groks, if not given.
THRESHOLD, RATIO = 0.1, 3.0


class Duration(NamedTuple):
    """A time, or a difference of times, in the units of training time.

    Attributes:
        value: the time; the mean over the runs that reached it; NaN if none did.
        error: its standard error; NaN if unknown (not reached, reached by a single seed, or a curve without errors).
        reached: whether every run (seed) reached it by t_max. If only some did, `value` is the mean over those,
            and the mean over all of them is later than that.
        runs_reached: how many runs reached it.
        runs: how many runs there are; 1 for theory and for measured curves.
    """

    value: float
    error: float
    reached: bool
    runs_reached: int
    runs: int


@dataclasses.dataclass(frozen=True)
class GrokkingDelay:
    """Times at which the losses first reach `threshold`, delay = max(0, t_test - t_train), and notes on the curves."""

    threshold: float
    t_train: Duration
    t_test: Duration
    delay: Duration
    notes: tuple[str, ...] = ()


class Regime(enum.StrEnum):
    """How a run ends, by its threshold times."""

    GROKS = "groks"
    GENERALISES = "generalises"
    MEMORISES = "memorises"
    NOT_TRAINED = "not trained"
    UNDECIDED = "undecided at t_max"


@spelt
def grokking_delay(dataset: object, threshold: float = THRESHOLD, *, of: str = "loss") -> GrokkingDelay:
    """Times to reach a loss of `threshold`, and the delay of the test loss behind the train loss.

    With of="accuracy" the share of wrong signs, 1 - accuracy, stands for the loss: a threshold of 0.1 is an accuracy of
    0.9.

    A crossing is the first time at which the curve is at or below the threshold, interpolated linearly in log t
    (in t for the first interval, which begins at t = 0). A loss that never gets there has time NaN and
    `reached=False`: that is not a delay of zero. Values that are missing or not finite are left out, and named in
    the notes.

    For several runs (seeds) the times are those of each; the value is their mean, the error their standard error. For
    theory (or a mean curve) the error is that of the loss at the crossing, its total standard error
    (`compare.curves`), divided by the slope there, and the error of the delay takes those of the two times as
    independent.

    Args:
        dataset: train_loss and test_loss over time, or runs and time, in any form that `compare.overlay` takes.
        threshold: L* > 0.
        of: "loss" or "accuracy"; then the dataset must have train_accuracy and test_accuracy too.

    Raises:
        ParameterError: the threshold is no positive number, or the dataset lacks a curve or increasing times.
    """
    threshold = check_threshold(threshold, of)
    return _delay(_with_losses(dataset, of), threshold)


@spelt
def regime(
    dataset: object,
    threshold: float = THRESHOLD,
    *,
    of: str = "loss",
    ratio: float = RATIO,
    plateau_change: float = 0.05,
    plateau_span: float = 3.0,
) -> Regime:
    """Which regime the run is in, judged on the mean curves (over seeds), where every seed has a finite value.

    - groks: both losses reach `threshold`, and t_test > ratio * t_train;
    - generalises: both do, and t_test <= ratio * t_train;
    - memorises: the train loss does, and the test loss has levelled off above it;
    - not trained: the train loss does not, and has levelled off;
    - undecided at t_max: anything else.

    "Levelled off" is a change of less than `plateau_change` (a fraction of the final value) over the last factor
    `plateau_span` in time.

    Args:
        dataset: as in `grokking_delay`.
        threshold: L* > 0.
        of: as there.
        ratio: > 0.
        plateau_change: > 0.
        plateau_span: > 1.

    Raises:
        ParameterError: an argument is out of range.
    """
    ratio = check_real("ratio", ratio, above=0.0)
    plateau_change = check_real("plateau_change", plateau_change, above=0.0)
    plateau_span = check_real("plateau_span", plateau_span, above=1.0)
    threshold = check_threshold(threshold, of)
    means = dataclasses.replace(_with_losses(dataset, of), each=None)
    times = _delay(means, threshold)
    if times.t_train.reached and times.t_test.reached:
        return Regime.GROKS if times.t_test.value > ratio * times.t_train.value else Regime.GENERALISES
    decisive, ending = ("test_loss", Regime.MEMORISES) if times.t_train.reached else ("train_loss", Regime.NOT_TRAINED)
    time, (curve,) = _known(means.curves, decisive)
    level = _has_levelled_off(time, curve, change=plateau_change, span=plateau_span)
    return ending if level else Regime.UNDECIDED


def _has_levelled_off(time: np.ndarray, curve: np.ndarray, *, change: float, span: float) -> bool:
    """Whether `curve` (T,) stays within `change` of its last value, as a range, since t_max / span."""
    start = time[-1] / span
    late = np.append(np.interp(start, time, curve), curve[time >= start])
    return bool(np.ptp(late) < change * abs(curve[-1]))


def check_threshold(threshold: float, of: str) -> float:
    """The threshold; ParameterError unless it is > 0, and of accuracies < 1."""
    threshold = check_real("threshold", threshold, above=0.0)
    if check_choice("of", of, MEASURES) == "accuracy" and threshold >= 1.0:
        raise ParameterError(
            f"Argument `threshold` must be < 1 with of = 'accuracy', a share of wrong signs, but is {threshold:g}."
        )
    return threshold


def _with_losses(source: object, of: str) -> Side:
    """The side that `source` holds; ParameterError unless it has both losses. Wrong signs stand for accuracies."""
    side = read_side("dataset", source)
    for name in LOSSES if of == "loss" else ACCURACIES:
        if name not in side.observables:
            raise missing("dataset", name, side.observables)
    if of == "loss":
        return side
    each = None if side.each is None else side.each.assign(wrong_signs(side.each))
    return dataclasses.replace(side, curves=side.curves.assign(wrong_signs(side.curves)), each=each)


def wrong_signs(curves: xarray.Dataset) -> dict[str, xarray.DataArray]:
    """1 - accuracy, and its errors, under the names of the losses."""
    found = {}
    for loss, own in zip(LOSSES, ACCURACIES, strict=True):
        found[loss] = 1.0 - curves[own]
        errors = [str(name) for name in curves.data_vars if str(name).startswith(f"{own}_")]
        found |= {name.replace(own, loss): curves[name] for name in errors}
    return found


def _known(curves: xarray.Dataset, *names: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Times and curves (T,), where the first of these is known."""
    values = [curves[name].to_numpy() for name in names]
    there = np.isfinite(values[0])
    return curves["time"].to_numpy()[there], [value[there] for value in values]


def _delay(side: Side, threshold: float) -> GrokkingDelay:
    """Threshold times of every run, or of the mean where only that is known."""
    if side.each is not None:
        train, test = (
            np.array([_crossing_of_run(side.each.isel(seed=run), name, threshold) for run in range(side.runs or 0)])
            for name in LOSSES
        )
        durations = _over_runs(train), _over_runs(test), _over_runs(np.maximum(0.0, test - train))
        return GrokkingDelay(threshold, *durations, side.notes)
    first, second = (_crossing_of_mean(side.curves, name, threshold) for name in LOSSES)
    both = first.reached and second.reached
    delay = Duration(
        max(0.0, second.value - first.value) if both else np.nan,
        float(np.hypot(first.error, second.error)),
        both,
        int(both),
        1,
    )
    return GrokkingDelay(threshold, first, second, delay, side.notes)


def _crossing_of_run(run: xarray.Dataset, name: str, threshold: float) -> float:
    time, (curve,) = _known(run, name)
    return _crossing(time, curve, threshold)[0]


def _over_runs(times: np.ndarray) -> Duration:
    """Mean and standard error of `times` (runs,), NaN where a run never got there."""
    reached = times[~np.isnan(times)]
    count = reached.size
    value = float(reached.mean()) if count else np.nan
    error = float(reached.std(ddof=1) / np.sqrt(count)) if count > 1 else np.nan
    return Duration(value, error, count == times.size, count, times.size)


def _crossing_of_mean(curves: xarray.Dataset, name: str, threshold: float) -> Duration:
    time, (curve, errors) = _known(curves, name, f"{name}_stderr")
    value, slope = _crossing(time, curve, threshold)
    if np.isnan(value):
        return Duration(np.nan, np.nan, False, 0, 1)
    at_once = value == time[0] and not np.all(np.isnan(errors))
    error = 0.0 if at_once else float(np.interp(value, time, errors)) / abs(slope)
    return Duration(value, error, True, 1, 1)


def _crossing(time: np.ndarray, curve: np.ndarray, threshold: float) -> tuple[float, float]:
    """First time at which `curve` (T,) is at or below `threshold`, and d curve / d time there; NaN if there is none."""
    below = np.flatnonzero(curve <= threshold)
    if below.size == 0:
        return np.nan, np.nan
    after = int(below[0])
    if after == 0:
        return float(time[0]), np.nan
    before = after - 1
    drop = curve[before] - curve[after]
    part = (curve[before] - threshold) / drop
    if time[before] > 0.0:
        log_ratio = np.log(time[after] / time[before])
        value = float(time[before] * np.exp(part * log_ratio))
        return value, float(-drop / (log_ratio * value))
    return float(time[before] + part * (time[after] - time[before])), float(-drop / (time[after] - time[before]))


def regime_record(times: GrokkingDelay, ending: Regime) -> dict[str, Any]:
    """Threshold times, delay and regime as plain JSON-able values; what was not reached is None."""

    def record(duration: Duration) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in duration._asdict().items()}

    named = {name: record(getattr(times, name)) for name in ("t_train", "t_test", "delay")}
    return {"threshold": times.threshold, **named, "regime": str(ending)}


def grokking_table(sides: dict[str, tuple[GrokkingDelay, Regime]], of: str = "loss") -> str:
    """Threshold times, delay and regime, one column for each side; `of` as in `grokking_delay`."""
    curve = "loss" if of == "loss" else "share of wrong signs"
    threshold = next(iter(sides.values()))[0].threshold
    rows: list[tuple[str, ...]] = [("", *sides)]
    for label, name in (
        (f"train {curve} reaches {threshold:g} at", "t_train"),
        (f"test {curve} reaches {threshold:g} at", "t_test"),
        ("delay", "delay"),
    ):
        rows.append((label, *(_duration(getattr(times, name)) for times, _ in sides.values())))
    rows.append(("regime", *(str(ending) for _, ending in sides.values())))
    return aligned(rows)


def _duration(duration: Duration) -> str:
    if np.isnan(duration.value):
        return "not reached"
    text = f"{duration.value:.4g}"
    if not np.isnan(duration.error):
        text += f" +- {duration.error:.2g}"
    if not duration.reached:
        text += f" ({duration.runs_reached} of {duration.runs} seeds)"
    return text
