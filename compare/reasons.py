"""Why a run of one's own differs: the usual slips, each tried on the curves.

A slip changes the run's losses V(t) and its time in a known way: another convention of the loss, train and test
exchanged, a stretched time, an offset of one step. It is undone, and what is left of the difference from the reference
is

    residual = sqrt(mean (ln V - ln V_reference)^2)

over both losses and over times of the run that are about even in their number and in ln t. Slips may come together:
while the residual is above SMALL, one more of them is believed where it lowers the residual by the factor BETTER. What
is left must be small, by MUCH and as the errors of the run allow. Nothing is changed in what is compared.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from compare.curves import Side
from compare.measured import LOSSES
from compare.own_run import CONVENTIONS

#: One slip more must make the residual this many times smaller, unless it is below SMALL (or what errors explain).
BETTER, SMALL = 2.0, 0.12
#: As many slips at most.
TOGETHER = 3.1
#: All of them must make it this many times smaller, more where one loss is meant or time is stretched beyond PACE, ...
MUCH, MUCH_FITTED = 4.0, 6.5
#: ... and leave at most this; where errors are known, SLACK and so many of these, relative to the losses.
CLOSE, SLACK, ERRORS = 0.3, 0.04, 2.0
#: Times of the run that are looked at, at most and at least; of the reference, between which ln V is linear.
MOST, LEAST, FINE = 60, 4, 300
#: ln of the largest factor by which a time may be stretched; factors that are tried.
WIDEST, TRIED = math.log(1e7), 561
#: The part of the smaller curve's range of ln V that the compared times must see of the reference.
SEEN = 0.5
#: A stretch within this of a known number (in ln) is called by its name.
NEAR = 0.1
#: What a rare slip counts as: a common one that explains as much is named before it. That of one loss alone counts as
#: more than two.
RARE, ONE_LOSS = 1.1, 2.2
#: A factor in the initial losses within this (in ln) is that of a known slip, or that of the output's centring.
START, CENTRED = 0.35, 0.2
#: ln of the factors by which another model of the same kind may be faster or slower.
PACE = math.log(12.0)
#: ln of the stretch, times D^1/2, by which one draw of the data may be faster or slower than the mean (seen at D = 60).
DRAW = 2.3


@dataclasses.dataclass(frozen=True)
class Reason:
    """What would make a run agree.

    Attributes:
        slips: short names of the slips, such as "half", "time", "exchanged"; "pace" is a stretch of time that another
            model may have as well.
        says: the same in a sentence, with its evidence.
        residual: what is left of the difference, rms of ln(loss); None where the evidence is another one.
        residual_before: what it is as the run stands; None where losses are negative.
    """

    slips: tuple[str, ...]
    says: str
    residual: float | None
    residual_before: float | None


class Losses(NamedTuple):
    """Both losses, (2, T), over time, (T,); the parameters of their model; the relative error, rms, None if unknown."""

    time: np.ndarray
    values: np.ndarray
    parameters: Mapping[str, Any]
    error: float | None = None


class _Slip(NamedTuple):
    """A change of ln V, (2, T), the number of slips it counts as, and what undoes it in words."""

    name: str
    values: np.ndarray
    count: float  # pyright: ignore[reportIncompatibleMethodOverride]
    words: str


class _Fit(NamedTuple):
    """The slips that were undone, what was left, also of the first test loss, and ln of the stretch of time."""

    residual: float
    start: float
    count: float  # pyright: ignore[reportIncompatibleMethodOverride]
    slips: tuple[_Slip, ...]
    stretch: float
    stretched: bool


def reasons(first: Side, second: Side) -> tuple[Reason, ...]:
    """What would make a measured side agree with the other one; empty if nothing would, or if neither is measured."""
    run, reference = (second, first) if second.kind == "measurement" else (first, second)
    if run.kind != "measurement" or any(name not in side.curves for side in (run, reference) for name in LOSSES):
        return ()
    parameters = {**_numbers(run.attributes), **_numbers(reference.attributes)}
    return explain(_losses(run, parameters), _losses(reference, parameters))


def explain(run: Losses, reference: Losses) -> tuple[Reason, ...]:
    """The reason why `run` is off `reference`, if one of the usual slips explains it."""
    if found := _accuracy(run):
        return (found,)
    fits = list(_fits(run, reference))
    if not fits:
        return _few_times(run, reference)
    best = as_is = _Fit(_residual_as_is(run, reference), 0.0, 0.0, (), 0.0, False)
    small = SMALL if run.error is None else min(SMALL, SLACK / 2.0 + 2.0 * run.error)
    if best.residual < small:
        return ()
    for _, level in itertools.groupby(sorted(fits, key=lambda fit: fit.count), key=lambda fit: fit.count):
        candidate = min(level, key=lambda fit: fit.residual)
        if best.residual > small and candidate.residual * BETTER < best.residual:
            best = candidate
    allowed = CLOSE if run.error is None else min(CLOSE, SLACK + ERRORS * run.error)
    much_stretched = abs(best.stretch) >= PACE and not _counts(run.time)
    much = MUCH_FITTED if much_stretched or any(slip.count == ONE_LOSS for slip in best.slips) else MUCH
    explained = best.residual < allowed and best.residual * much < as_is.residual
    if best.count and explained and not best.start > START and not _is_draw(best, run):
        return (_told(best, as_is.residual, run),)
    return _start(run, reference) or _few_times(run, reference)


def _numbers(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if isinstance(value, (int, float))}


def _losses(side: Side, parameters: Mapping[str, Any]) -> Losses:
    values = np.stack([side.curves[name].to_numpy() for name in LOSSES])
    kept = np.isfinite(values).any(axis=0)
    errors = np.stack([side.curves[f"{name}_stderr"].to_numpy() for name in LOSSES])
    known = np.isfinite(errors) & np.isfinite(values) & (values != 0.0)
    error = float(np.sqrt(np.mean((errors[known] / values[known]) ** 2))) if known.any() else None
    return Losses(side.time[kept], values[:, kept], parameters, error)


def _thinned(time: np.ndarray) -> np.ndarray:
    """Indices of at most MOST times: half of them even in number, half in ln t."""
    if time.size <= MOST:
        return np.arange(time.size)
    even = np.linspace(0, time.size - 1, MOST // 2).astype(int)
    positive = time[time > 0.0]
    at = np.geomspace(positive[0], positive[-1], MOST // 2)
    return np.unique([*even, *np.clip(np.searchsorted(time, at), 0, time.size - 1)])


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _logarithm(values: np.ndarray) -> np.ndarray:
    """ln V; NaN where V is not positive."""
    return np.where(values > 0.0, np.log(np.where(values > 0.0, values, 1.0)), np.nan)


def _fine(reference: Losses) -> tuple[np.ndarray, np.ndarray]:
    """ln t, (FINE,), from far below the first positive time, and ln V there, (2, FINE), linear in t in between."""
    time, logs = reference.time, _logarithm(reference.values)
    positive = time[time > 0.0]
    grid = np.linspace(math.log(positive[0]) - 4.0, math.log(positive[-1]), FINE)
    known = [np.isfinite(row) for row in logs]
    return grid, np.stack(
        [
            np.interp(np.exp(grid), time[k], row[k]) if k.any() else grid * np.nan
            for row, k in zip(logs, known, strict=True)
        ]
    )


def _fits(run: Losses, reference: Losses) -> Iterator[_Fit]:
    """Every combination of slips, undone, with what is left."""
    if min(np.sum(run.time > 0.0), np.sum(reference.time > 0.0)) < LEAST:
        return
    grid, logs = _fine(reference)
    kept = _thinned(run.time)
    for offset in _offsets(run.time):
        time = run.time[kept] + offset.values
        x = np.log(np.maximum(time, 1e-300))
        usable = time >= 0.0
        for free in (False, True) if _counts(run.time) or not offset.count else (False,):
            shifts = np.linspace(-WIDEST, WIDEST, TRIED) if free else np.zeros(1)
            expected, inside = _shifted(grid, logs, x, usable, shifts)
            for loss in _conventions(run.values[:, kept], run.parameters):
                for swap in (False, True):
                    y = loss.values[::-1] if swap else loss.values
                    residual, place = _smallest(y, expected, inside, logs)
                    if free and np.isfinite(residual):
                        step = shifts[1] - shifts[0]
                        near = shifts[place] + np.linspace(-step, step, 41)
                        residual, place = _smallest(y, *_shifted(grid, logs, x, usable, near), logs)
                        shift = near[place]
                    else:
                        shift = shifts[place]
                    exchanged = _Slip("exchanged", y, 1.0, "train and test loss were exchanged")
                    slips = tuple(slip for slip in (loss, offset, *([exchanged] if swap else [])) if slip.count)
                    count = sum(slip.count for slip in slips) + free
                    if 0 < count <= TOGETHER and np.isfinite(residual):
                        start = abs(y[1, 0] - np.interp(x[0] + shift, grid, logs[1]))
                        yield _Fit(residual, float(start), count, slips, float(shift), free)


def _shifted(
    grid: np.ndarray, logs: np.ndarray, x: np.ndarray, usable: np.ndarray, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ln V of the reference at ln t = x + shift, (M, 2, T), and where it is known, (M, T)."""
    at = x + shifts[:, None]
    expected = np.stack([np.interp(at, grid, row) for row in logs], axis=1)
    return expected, (at <= grid[-1] + 1e-6) & usable


def _smallest(y: np.ndarray, expected: np.ndarray, inside: np.ndarray, logs: np.ndarray) -> tuple[float, int]:
    """The smallest residual of ln V = y, (2, T), over the shifts, and its place; infinite where too little is seen."""
    if np.isfinite(y).mean() < 0.8:
        return math.inf, 0
    there = inside[:, None, :] & np.isfinite(y) & np.isfinite(expected)
    squares = np.where(there, (y - expected) ** 2, 0.0).sum(axis=(1, 2))
    count = there.sum(axis=(1, 2))
    ranges = [
        max((np.ptp(row[np.isfinite(row)]) for row in curve if np.isfinite(row).any()), default=0.0)
        for curve in (y, logs)
    ]
    high = np.where(there, expected, -np.inf).max(axis=2)
    low = np.where(there, expected, np.inf).min(axis=2)
    with np.errstate(invalid="ignore"):
        seen = (high - low).max(axis=1) >= SEEN * min(ranges)
    enough = (there.sum(axis=2).min(axis=1) >= LEAST) & seen
    residual = np.where(enough, np.sqrt(squares / np.maximum(count, 1)), np.inf)
    place = int(np.argmin(residual))
    return float(residual[place]), place


def _residual_as_is(run: Losses, reference: Losses) -> float:
    """The residual with nothing undone; infinite where losses are not positive, or hardly a time is common."""
    grid, logs = _fine(reference)
    kept = _thinned(run.time)
    x, y = np.log(np.maximum(run.time[kept], 1e-300)), _logarithm(run.values[:, kept])
    expected, inside = _shifted(grid, logs, x, run.time[kept] >= 0.0, np.zeros(1))
    there = inside[:, None, :] & np.isfinite(y) & np.isfinite(expected)
    if np.isfinite(y).mean() < 0.8 or there.sum(axis=2).min() < LEAST:
        return math.inf
    return float(np.sqrt(np.mean((y - expected)[there] ** 2)))


def _offsets(time: np.ndarray) -> list[_Slip]:
    """No offset, and one step of a run that reports every step, either way."""
    none = _Slip("", np.zeros(1), 0.0, "")
    steps = np.diff(time[:8])
    if steps.size < LEAST or np.ptp(steps) > 1e-3 * steps[0]:
        return [none]
    words = "its times were one step ({:g}) {} (the first loss is that after {})"
    return [
        none,
        _Slip("offset", steps[:1], 1.0, words.format(steps[0], "later", "one step, not at the start")),
        _Slip("offset", -steps[:1], 1.0, words.format(steps[0], "earlier", "no step, not after one")),
    ]


def _conventions(values: np.ndarray, parameters: Mapping[str, Any]) -> Iterator[_Slip]:
    """ln V, (2, T), under every convention that the run's losses may be in."""
    logs = _logarithm(values)
    yield _Slip("", logs, 0.0, "")
    for name in ("root", "log", "log10"):
        with np.errstate(over="ignore", invalid="ignore"):
            value = _logarithm(CONVENTIONS[name].value(values))
        words = f"its losses were turned into mean squares (are they {CONVENTIONS[name].words}? loss={name!r})"
        yield _Slip(name, value, 1.0, words)
    for name, factor, words in _factors(parameters):
        shift = math.log(factor)
        yield _Slip(name, logs + shift, RARE if "alpha" in name else 1.0, f"both losses were multiplied by {words}")
    for row, loss in enumerate(LOSSES):
        for name, factor in (("half", 2.0), ("twice", 0.5)):
            one = logs.copy()
            one[row] += math.log(factor)
            yield _Slip(f"{loss} {name}", one, ONE_LOSS, f"{loss} alone was multiplied by {factor:g}")


def _factors(parameters: Mapping[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Name, number and words of factors by which losses are multiplied to become mean squares."""
    yield "half", 2.0, "2 (is a factor 1/2 in them? loss='half')"
    yield "twice", 0.5, "1/2 (loss=2)"
    alpha, dim = parameters.get("alpha", 1.0), parameters.get("dim")
    if abs(math.log(alpha)) > NEAR:
        square = alpha**2
        yield "1/alpha^2", square, f"alpha^2 = {square:g} (are they divided by it? loss=1/alpha**2)"
        yield "1/2 alpha^2", 2.0 * square, f"2 alpha^2 = {2 * square:g} (loss=1/(2*alpha**2))"
    if dim and dim > 3:
        yield "1/D", float(dim), f"D = {dim} (are they divided by it? loss=1/D)"
        yield "D", 1.0 / dim, f"1/D = {1 / dim:g} (loss=D)"
        yield "inputs", float(dim) ** -2, f"1/D^2 = {dim**-2:.3g} (are the inputs not scaled by D^-1/2?)"


def _stretch_in_words(factor: float, run: Losses, pace: bool) -> str:
    """What a time that must be multiplied by `factor` counts; or whether that is the pace of another model."""
    sizes = {"D": run.parameters.get("dim"), "N": run.parameters.get("width")}
    alpha = run.parameters.get("alpha", 1.0)
    if sizes["D"] and "kappa" in run.parameters:
        sizes["P"] = round(run.parameters["kappa"] * sizes["D"])
    if sizes["D"] and sizes["N"]:
        sizes["N D"] = sizes["N"] * sizes["D"]
    known = {"2": 2.0, "1/2": 0.5, "alpha^2": alpha**2, "1/alpha^2": alpha**-2}
    for name, size in sizes.items():
        known |= {name: float(size), f"1/({name})" if " " in name else f"1/{name}": 1.0 / size} if size else {}
    near = [name for name, value in known.items() if value != 1.0 and abs(math.log(factor / value)) < NEAR]
    called = f"near {' or '.join(near)}; " if near else ""
    asks = "is the learning rate or the unit of time another one?"
    if pace:
        asks = (
            "is the learning rate or the unit of time another one, such as loss_factor=2 for the gradient of the mean "
            "square, or the model: alpha, epsilon, kappa?"
        )
    if _counts(run.time):
        asks = f"does it count steps or epochs? One then lasts {factor:.3g}"
        if sizes["D"] and sizes["N"]:
            asks += f", which is a learning rate of {factor * sizes['N'] * sizes['D'] / alpha**2:.3g}"
    return f"its time were multiplied by {factor:.3g} ({called}{asks})"


def _counts(time: np.ndarray) -> bool:
    """Whether these are steps, or epochs."""
    return time.size > LEAST and bool(np.all(time == np.rint(time)))


def _is_draw(fit: _Fit, run: Losses) -> bool:
    """Whether all that is undone is what one draw of the data does to the pace of a run without errors."""
    dim = run.parameters.get("dim")
    alone = fit.stretched and not fit.slips and run.error is None and _may_be_pace(fit, run)
    return bool(alone and dim and abs(fit.stretch) < DRAW / math.sqrt(dim))


def _may_be_pace(fit: _Fit, run: Losses) -> bool:
    """Whether another model may be faster or slower by the stretch."""
    return abs(fit.stretch) < PACE and not _counts(run.time)


def _told(fit: _Fit, before: float, run: Losses) -> Reason:
    words = [slip.words for slip in fit.slips]
    names = [slip.name for slip in fit.slips]
    if fit.stretched:
        pace = _may_be_pace(fit, run)
        words.append(_stretch_in_words(math.exp(fit.stretch), run, pace))
        names.append("pace" if pace else "time")
    instead = f"instead of {before:.2g}" if math.isfinite(before) else "where as it is it cannot be compared"
    says = f"The run would agree if {' and '.join(words)}."
    left = f"The rms difference of ln(loss) would be {fit.residual:.2g}, {instead}."
    return Reason(tuple(names), f"{says} {left}", fit.residual, before if math.isfinite(before) else None)


def _accuracy(run: Losses) -> Reason | None:
    """Curves that rise within [0, 1] are accuracies."""
    for row, name in enumerate(LOSSES):
        curve = run.values[row][np.isfinite(run.values[row])]
        if curve.size < LEAST or curve.min() < 0.0 or curve.max() > 1.0:
            continue
        quarter = max(1, curve.size // 4)
        begin, end = curve[0], float(np.mean(curve[-quarter:]))
        if end > begin + 0.3 and end > 0.9:
            says = f"{name} rises from {begin:.2g} to {end:.2g} and stays within [0, 1]: is it an accuracy, not a loss?"
            return Reason(("accuracy",), says, None, None)
    return None


def _few_times(run: Losses, reference: Losses) -> tuple[Reason, ...]:
    """Too few times in common for any verdict."""
    common = run.time[(run.time > 0.0) & (run.time <= reference.time[-1])]
    if common.size >= LEAST:
        return ()
    says = (
        f"Only {common.size} times after t = 0 are common: the run has {run.time.size} from {run.time[0]:g} to "
        f"{run.time[-1]:g}, and it is compared with curves up to {reference.time[-1]:g}."
    )
    return (Reason(("few times",), says, None, None),)


def _start(run: Losses, reference: Losses) -> tuple[Reason, ...]:
    """Slips that show in the first test loss: inputs not scaled, an output centred on one side alone."""
    if (
        run.time[0] > 0.0
        or reference.time[0] > 0.0
        or not np.all(np.isfinite([run.values[1, 0], reference.values[1, 0]]))
    ):
        return ()
    begins, expected, dim = run.values[1, 0], reference.values[1, 0], run.parameters.get("dim")

    def near(value: float) -> bool:
        return begins > 0.0 and abs(math.log(begins / value)) < CENTRED

    if dim and near(expected * dim**2):
        says = (
            f"The run begins at test_loss = {begins:.3g}, about D^2 = {dim**2:g} times the {expected:.3g} of what it "
            "is compared with: are its inputs not scaled by D^-1/2?"
        )
        return (Reason(("inputs",), says, None, None),)
    other = _other_start(reference.parameters)
    if other is not None and near(other) and abs(math.log(begins / expected)) > 2.0 * START:
        centred = bool(reference.parameters.get("centered"))
        what = "f(t=0) not subtracted from its output" if centred else "f(t=0) subtracted from its output"
        says = (
            f"The run begins at test_loss = {begins:.3g}, the curves that it is compared with at {expected:.3g}; with "
            f"{what} they would at {other:.3g} (centered={not centred})."
        )
        return (Reason(("centred",), says, None, None),)
    return ()


def _other_start(parameters: Mapping[str, Any]) -> float | None:
    """The test loss at t = 0 of the same model, centred if it is not, and not if it is (THEORY section 2)."""
    if "alpha" not in parameters or "epsilon" not in parameters:
        return None
    if "strengths" in parameters or isinstance(parameters.get("initial_overlap", 0.0), str):
        return None  # several directions
    if not parameters.get("centered"):
        return 0.75
    scale, planted = parameters["alpha"] * parameters["epsilon"], parameters.get("initial_overlap", 0.0)
    linear = parameters["alpha"] ** 2 / parameters["width"] if parameters.get("width") else 0.0
    return (
        0.25 * (scale * (1.0 + planted) - 1.0) ** 2
        + 0.5 * ((scale * planted - 1.0) ** 2 + scale**2 / parameters.get("dim", math.inf))
        + linear
    )
