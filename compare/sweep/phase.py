"""Phase diagrams: theory and simulation over a grid of models, from a store of finished points."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray

import dmft
from compare.sweep.axes import Axis
from compare.sweep.measures import ABSENT, REGIMES, STATES, measure
from compare.sweep.points import Failure, Point, numerics
from compare.sweep.store import Store
from compare.sweep.workers import Runner, dask_runner, local_runner
from dmft import Model, ParameterError
from dmft.checks import PRECISIONS, check_choice, check_integer, check_real
from sim.request import flow_rtol

AxisLike = tuple[str, Sequence[float] | np.ndarray]


class PointFailedWarning(UserWarning):
    """A point of a sweep has no curves; the others go on."""


def phase_diagram(
    base_model: Model,
    x: AxisLike,
    y: AxisLike | None = None,
    *,
    t_max: float,
    threshold: float = 0.1,
    ratio: float = 3.0,
    step: float | None = None,
    rtol: float = 0.03,
    atol: float = 1e-3,
    precision: str = "float64",
    seed: int = 0,
    theory: bool = True,
    simulate_every: int = 0,
    simulation_step: float | None = None,
    seeds: int = 8,
    form: str = "auto",
    folder: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: bool = False,
) -> xarray.Dataset:
    """When do networks memorise, grok or generalise: threshold times, delay, losses and regime over a grid of models.

    Every point is computed once and kept as a file of `folder`, under a name made from all that determines it. A run
    that was interrupted, or has more values, computes what is missing; other settings, and other versions of the code,
    have other names. A point that fails is recorded and does not stop the others.

    Args:
        base_model: what the points share.
        x: a numeric field of the model and its values, as ("alpha", [0.5, 1, 2]).
        y: a second one; None for a sweep along a line.
        t_max: last time of every point, > 0.
        threshold: L* > 0, the loss that counts as learnt (THEORY section 10).
        ratio: a run groks if t_test > ratio * t_train, and generalises at once if not.
        step: None for gradient flow, or the step of discrete gradient descent.
        rtol, atol: tolerance of the theory, see `dmft.solve`; looser than there, as thresholds and delays need it.
        precision: "float64" or "float32".
        seed: random stream of theory and simulation.
        theory: solve the theory at every point.
        simulate_every: simulate at every so many values of each axis, from the first on; 0: nowhere. Needs `dim`.
        simulation_step: step of the simulation alone, where `step` is None: late in a run of gradient flow steps far
            larger than the default one give the same curves.
        seeds, form: of the simulation, see `sim.simulate`.
        folder: where points are kept (in its subfolder `points`); None keeps nothing.
        workers: processes on this machine; None for one per two cores.
        scheduler: address of a dask scheduler, whose workers then compute the points.
        retry_failed: compute those points again that failed before.
        progress: show a progress bar if standard error is a terminal.

    Returns:
        Dataset over the fields x and y. For theory, under plain names, and for simulation with the prefix
        `simulation_`: `t_train`, `t_test`, `delay` with `_error` and `_reached` (0 where the threshold was not
        reached by t_max: the time is then NaN, never zero), `final_train_loss`, `final_test_loss`, `peak_test_loss`
        with `_error`, `regime` with `regime_certain` (whether it stays when the losses move by two errors),
        `state`, `message` (why a point failed) and `point` (its file); for theory also `tolerance_met`.

    Raises:
        ParameterError: an argument is out of range, at any point, or nobody answers at `scheduler`.

    Example:
        >>> from dmft import Model
        >>> phase = phase_diagram(Model(alpha=1.0, epsilon=0.0, kappa=2.0), ("alpha", [1, 2]), t_max=0.4, step=0.2)
        >>> dict(phase.sizes)
        {'alpha': 2}
    """
    if not isinstance(base_model, Model):
        raise ParameterError(f"Argument `base_model` must be a dmft.Model, but is {base_model!r}.")
    axes = _axes(x, y)
    threshold, ratio = check_real("threshold", threshold, above=0.0), check_real("ratio", ratio, above=0.0)
    every = check_integer("simulate_every", simulate_every, at_least=0)
    if not theory and not every:
        raise ParameterError("Argument `simulate_every` must be >= 1 without theory, but is 0: nothing is left to do.")
    common = _common_settings(t_max, step, precision, seed)
    theory_settings = common | {
        "rtol": check_real("rtol", rtol, above=0.0),
        "atol": check_real("atol", atol, at_least=0.0),
    }
    simulation_settings = common | {
        "rtol": flow_rtol(theory_settings["rtol"], precision),
        "seeds": check_integer("seeds", seeds, at_least=1),
        "form": check_choice("form", form, ("auto", "network", "reduced")),
        "step": common["step"] if simulation_step is None else _check_step("simulation_step", simulation_step, t_max),
    }
    models = models_on(base_model, axes)
    sides: dict[str, dict[tuple[int, ...], Point]] = {}
    if theory:
        sides["theory"] = {
            at: Point(side="theory", model=model, settings=theory_settings) for at, model in models.items()
        }
    if every:
        sides["simulation"] = {
            at: Point(side="simulation", model=_simulated(model, form), settings=simulation_settings)
            for at, model in models.items()
            if all(index % every == 0 for index in at)
        }
    runner = dask_runner(scheduler) if scheduler is not None else local_runner(_count(workers))
    with _store(folder) as store:
        points = {point.name: point for side in sides.values() for point in side.values()}
        _complete(store, list(points.values()), runner, retry_failed=retry_failed, progress=progress)
        variables: dict[str, Any] = {}
        for side, of_side in sides.items():
            variables |= _side_variables(store, axes, side, of_side, threshold, ratio)
    coordinates = {axis.field: (axis.field, np.asarray(axis.values)) for axis in axes}
    settings = simulation_settings | theory_settings | {"simulation_step": simulation_settings["step"]}
    attributes = _attributes(base_model, axes, settings, threshold, ratio, every)
    return xarray.Dataset(variables, coordinates, attributes)


def _axes(x: Any, y: Any) -> list[Axis]:
    axes = []
    for name, given in (("x", x), ("y", y)):
        if name == "y" and given is None:
            continue
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
            raise ParameterError(f"Argument `{name}` must be a pair such as ('alpha', [0.5, 1, 2]), but is {given!r}.")
        axes.append(Axis.of(name, *given))
    if len(axes) == 2 and axes[0].field == axes[1].field:
        raise ParameterError(f"Argument `y` must be another field than x = {axes[0].field!r}, but is the same.")
    return axes


def _common_settings(t_max: float, step: float | None, precision: str, seed: int) -> dict[str, Any]:
    """What theory and simulation share, checked."""
    t_max = check_real("t_max", t_max, above=0.0)
    return {
        "t_max": t_max,
        "step": None if step is None else _check_step("step", step, t_max),
        "precision": check_choice("precision", precision, PRECISIONS),
        "seed": check_integer("seed", seed, at_least=0),
    }


def _check_step(name: str, step: float, t_max: float) -> float:
    step = check_real(name, step, above=0.0)
    if step > t_max:
        raise ParameterError(f"Argument `{name}` must be a number > 0 and <= t_max = {t_max:g}, but is {step:g}.")
    return step


def _count(workers: int | None) -> int | None:
    return None if workers is None else check_integer("workers", workers, at_least=1)


def models_on(base: Model, axes: list[Axis]) -> dict[tuple[int, ...], Model]:
    """The model at every index of the grid, x first."""
    models = {(): base}
    for axis in axes:
        models = {(*at, i): changed for at, model in models.items() for i, changed in enumerate(axis.models(model))}
    return models


def _simulated(model: Model, form: str) -> Model:
    if model.dim is None:
        raise ParameterError("Argument `dim` must be an integer >= 2 to simulate, but is not given (infinite).")
    if model.width is None and form == "network":
        raise ParameterError("Argument `form` must be auto or reduced at infinite width, but is 'network'.")
    return model


@contextlib.contextmanager
def _store(folder: str | PathLike[str] | None) -> Iterator[Store]:
    if folder is not None:
        yield Store(Path(folder) / "points")
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Store(temporary)


def _complete(store: Store, points: list[Point], runner: Runner, *, retry_failed: bool, progress: bool) -> None:
    """Compute the points that the store lacks."""
    known = {point.name: store.read(point.name) for point in points}
    missing = [
        point
        for point in points
        if known[point.name] is None or (retry_failed and isinstance(known[point.name], Failure))
    ]
    del known
    if not missing:
        return
    with _bar(progress, len(points), len(points) - len(missing)) as advance, contextlib.closing(runner(missing)) as run:
        for point, outcome in run:
            store.write(point, outcome)
            if isinstance(outcome, Failure):
                warnings.warn(f"{point.describe()} failed: {outcome.message}", PointFailedWarning, stacklevel=3)
            advance()


@contextlib.contextmanager
def _bar(wanted: bool, total: int, done: int) -> Iterator[Callable[[], None]]:
    """A function to call when a point is done; it moves a bar if `wanted` on a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("points"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda: bar.advance(task)


def _side_variables(
    store: Store, axes: list[Axis], side: str, points: dict[tuple[int, ...], Point], threshold: float, ratio: float
) -> dict[str, Any]:
    """The variables of theory or simulation over the grid."""
    shape, dims = tuple(len(axis.values) for axis in axes), [axis.field for axis in axes]
    arrays: dict[str, np.ndarray] = {name: np.full(shape, value) for name, value in ABSENT.items()}
    arrays |= {name: np.zeros(shape, np.int8) for name in ("state", "tolerance_met")}
    arrays |= {name: np.full(shape, "", object) for name in ("message", "point")}
    for at, point in points.items():
        curves = store.read(point.name)
        if curves is None:
            continue
        arrays["point"][at] = point.name
        if isinstance(curves, Failure):
            arrays["state"][at], arrays["message"][at] = STATES.index("failed"), curves.message
            continue
        arrays["state"][at] = STATES.index("done")
        arrays["tolerance_met"][at] = curves.attrs.get("tolerance_met", 0)
        for name, value in measure(curves, threshold, ratio).items():
            arrays[name][at] = value
    if side == "simulation":
        del arrays["tolerance_met"]
    flags = {
        "state": ("absent done failed", np.arange(len(STATES), dtype=np.int8)),
        "regime": (
            " ".join(["absent", *(str(kind).replace(" ", "_") for kind in REGIMES)]),
            np.arange(len(REGIMES) + 1, dtype=np.int8),
        ),
    }
    prefix = "" if side == "theory" else "simulation_"
    return {
        prefix + name: (
            dims,
            array,
            {"flag_values": flags[name][1], "flag_meanings": flags[name][0]} if name in flags else {},
        )
        for name, array in arrays.items()
    }


def _attributes(
    base: Model, axes: list[Axis], settings: dict[str, Any], threshold: float, ratio: float, every: int
) -> dict[str, Any]:
    """All that a second run needs; nothing that depends on when or where it ran."""
    swept = [axis.field for axis in axes]
    fields = {f"model_{name}": value for name, value in base.to_attributes().items() if name not in swept}
    return {
        "x": swept[0],
        "y": swept[1] if len(swept) == 2 else "",
        **fields,
        **{name: "flow" if value is None else value for name, value in settings.items()},
        "threshold": threshold,
        "ratio": ratio,
        "simulate_every": every,
        "version": dmft.__version__,
        "numerics": numerics(),
    }
