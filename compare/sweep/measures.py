"""A point of a phase diagram in numbers: threshold times, delay, losses and regime, each with its error.

A single run at dimension D has curves of its own. Its test loss is taken as

    log L_run(t) = log L(t) + z s(t)/L(t),    z ~ N(0, 1), one number for all times,

with L the theory's test loss and s its spread over data sets; its train loss as the theory's. Then it is at or below
L* at a time from 0 to t exactly if z <= z*(t), and the run groks with probability (THEORY section 12)

    Phi(z*(t_max)) - Phi(z*(ratio t_train)),    z*(t) = max_{t' <= t} (log L* - log L(t')) L(t')/s(t').         (12.3)
"""

from __future__ import annotations

import enum
import itertools
from typing import Any

import numpy as np
import xarray
from scipy.stats import norm

from compare.curves import total_error
from compare.grokking import Duration, Regime, grokking_delay, regime

#: Standard errors by which the losses are moved to see whether the regime stays what it is.
MARGIN = 2.0

#: Numbers of the regimes in a dataset; 0 is for a point without curves.
REGIMES: dict[Regime, int] = {kind: number for number, kind in enumerate(Regime, start=1)}

#: What the variables of theory and simulation begin with in a dataset.
PREFIXES = {"theory": "", "simulation": "simulation_"}


class State(enum.IntEnum):
    """State of a point in a dataset."""

    ABSENT = 0
    DONE = 1
    FAILED = 2


_TIMES = ("t_train", "t_test", "delay")
_LOSSES = ("final_train_loss", "final_test_loss", "peak_test_loss")

#: Names, types and, for those of a point without curves, values of what `measure` returns.
ABSENT: dict[str, Any] = {
    **{name: np.nan for time in _TIMES for name in (time, f"{time}_error")},
    **{f"{time}_reached": np.int8(0) for time in _TIMES},
    **{name: np.nan for loss in _LOSSES for name in (loss, f"{loss}_error")},
    "regime": np.int8(0),
    "regime_certain": np.int8(0),
}

#: Likewise of what `grok_probability` returns.
CHANCE: dict[str, Any] = {"grok_probability": np.nan, "grok_probability_error": np.nan}


def measure(curves: xarray.Dataset, threshold: float, ratio: float, of: str = "loss") -> dict[str, Any]:
    """The values named in ABSENT for the curves of one point.

    A time that was not reached (by every seed) is NaN and its `_reached` 0. Errors are one standard error: for theory
    the total error of the curves, for a simulation that over seeds, NaN for a single seed.

    Args:
        curves: a dataset of `dmft.solve` or `sim.simulate`.
        threshold: L* > 0.
        ratio: a run groks if t_test > ratio * t_train.
        of: "loss" or "accuracy", what times and regime are those of.
    """
    times = grokking_delay(curves, threshold, of=of)
    means = curves.mean("seed") if "seed" in curves.dims else curves
    peak = int(np.argmax(means["test_loss"].to_numpy()))
    values: dict[str, Any] = {}
    for name in _TIMES:
        duration: Duration = getattr(times, name)
        values[name] = duration.value if duration.reached else np.nan
        values[f"{name}_error"] = duration.error if duration.reached else np.nan
        values[f"{name}_reached"] = np.int8(duration.reached)
    for name, loss, at in zip(_LOSSES, ("train_loss", "test_loss", "test_loss"), (-1, -1, peak), strict=True):
        values[name], values[f"{name}_error"] = float(means[loss][at]), float(_errors(curves, loss)[at])
    kind = regime(means, threshold, ratio=ratio, of=of)
    values["regime"] = np.int8(REGIMES[kind])
    values["regime_certain"] = np.int8(_is_certain(curves, means, kind, threshold, ratio, of))
    return values


def _errors(curves: xarray.Dataset, name: str) -> np.ndarray:
    """One total standard error of a curve's (mean) values, (T,); NaN if unknown."""
    error = total_error(curves, name)
    return np.full(curves.sizes["time"], np.nan) if error is None else error.to_numpy()


def _is_certain(
    curves: xarray.Dataset, means: xarray.Dataset, kind: Regime, threshold: float, ratio: float, of: str
) -> bool:
    """Whether the regime is the same with each loss (or accuracy) moved by MARGIN errors, either way."""
    losses = (f"train_{of}", f"test_{of}")
    errors = {name: _errors(curves, name) for name in losses}
    if not all(np.isfinite(error).all() for error in errors.values()):
        return False
    for signs in itertools.product((-MARGIN, MARGIN), repeat=2):
        moved = {
            name: ("time", means[name].to_numpy() + sign * errors[name])
            for name, sign in zip(losses, signs, strict=True)
        }
        if regime(means.assign(moved), threshold, ratio=ratio, of=of) is not kind:
            return False
    return True


def grok_probability(curves: xarray.Dataset, threshold: float, ratio: float) -> dict[str, Any]:
    """The values named in CHANCE: how likely one run groks by t_max, with its standard error.

    For theory this is equation 12.3, with the errors of the test loss and of its spread; NaN without a spread. For a
    simulation it is the share of its runs that grok, with the binomial error of that share, where one run more is
    taken to grok and one not to, so that the error is never 0.

    Args:
        curves: a dataset of `dmft.solve(..., spread=True)` or of `sim.simulate`.
        threshold, ratio: as in `measure`.
    """
    if "seed" in curves.dims:
        kinds = [regime(curves.isel(seed=[run]), threshold, ratio=ratio) for run in range(curves.sizes["seed"])]
        runs, count = len(kinds), sum(kind is Regime.GROKS for kind in kinds)
        likely = (count + 1) / (runs + 2)
        value, error = count / runs, np.sqrt(likely * (1 - likely) / runs)
    elif "test_loss_spread" in curves:
        train, t_max = grokking_delay(curves, threshold).t_train, float(curves["time"][-1])
        latest = min(ratio * train.value, t_max) if train.reached else t_max
        (late, late_error), (early, early_error) = (_chance_by(curves, threshold, t) for t in (t_max, latest))
        value, error = late - early, np.hypot(late_error, early_error)
    else:
        return dict(CHANCE)
    return dict(zip(CHANCE, (float(value), float(error)), strict=True))


def _chance_by(curves: xarray.Dataset, threshold: float, time: float) -> tuple[float, float]:
    """Phi(z*) of equation 12.3 at a time, and its standard error."""
    at = np.append(curves["time"].to_numpy()[curves["time"] < time], time)
    known = curves["test_loss"], _errors(curves, "test_loss"), curves["test_loss_spread"]
    loss, error, spread, spread_error = (
        np.interp(at, curves["time"], values) for values in (*known, curves["test_loss_spread_stderr"])
    )
    away = np.log(threshold / loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, away * loss / spread, np.where(away >= 0, np.inf, -np.inf))
    best = int(np.argmax(z))
    if not np.isfinite(z[best]):
        return float(z[best] > 0), 0.0
    slope = np.hypot(error[best], z[best] * spread_error[best]) / spread[best]
    return float(norm.cdf(z[best])), float(norm.pdf(z[best]) * slope)
