"""Phase diagrams: theory and simulation over a grid of models, from a store of finished points."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import xarray

import dmft
from compare.files import finished, write_dataset
from compare.sweep.axes import Axis
from compare.sweep.measures import ABSENT, CHANCE, PREFIXES, REGIMES, State, grok_probability, measure
from compare.sweep.points import Failure, Point
from compare.sweep.request import SHARED, Sweep
from compare.sweep.store import Store
from compare.sweep.workers import Runner, dask_runner, local_runner
from dmft.checks import ParameterError, check_path, spelt
from dmft.models.committee import Committee
from dmft.models.model import Model
from dmft.progress import progress_report
from dmft.version import numerics

AxisLike = tuple[str, Sequence[float] | np.ndarray]


#: What a sweep is about that is not done: the names of all its points, over its axes. Removed when it is done.
UNFINISHED = "unfinished.nc"


class PointFailedWarning(UserWarning):
    """A point of a sweep has no curves; the others go on."""


@spelt
def phase_diagram(
    base_model: Model | Committee,
    x: AxisLike,
    y: AxisLike | None = None,
    *,
    t_max: float,
    threshold: float = Sweep.threshold,
    of: str = Sweep.of,
    ratio: float = Sweep.ratio,
    step: float | None = None,
    rtol: float = Sweep.rtol,
    atol: float = Sweep.atol,
    precision: str = Sweep.precision,
    seed: int = Sweep.seed,
    theory: bool = True,
    spread: bool = False,
    simulate_every: int = 0,
    simulation_step: float | None = None,
    seeds: int = Sweep.seeds,
    form: str = Sweep.form,
    solve_options: Mapping[str, Any] | None = None,
    simulate_options: Mapping[str, Any] | None = None,
    folder: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: bool | None = None,
) -> xarray.Dataset:
    """When do networks memorise, grok or generalise: threshold times, delay, losses and regime over a grid of models.

    Every point is computed once and kept as a file of `folder`, under a name made from all that determines it. A run
    that was interrupted, or has more values, computes what is missing; other settings, and other versions of the code,
    have other names. A point that fails is recorded and does not stop the others.

    Args:
        base_model: what the points share; a committee must know its activation, teacher and loss by name.
        x: a numeric field of the model and its values, as ("alpha", [0.5, 1, 2]).
        y: a second one; None for a sweep along a line.
        t_max: last time of every point, > 0.
        threshold: L* > 0, the loss that counts as learnt (THEORY section 10).
        of: "loss", or "accuracy": times and regime are then those of the share of wrong signs, 1 - accuracy.
        ratio: a run groks if t_test > ratio * t_train, and generalises at once if not.
        step: None for gradient flow, or the step of discrete gradient descent.
        rtol, atol: tolerance of the theory, see `dmft.solve`; looser than there, as thresholds and delays need it.
        precision: "float64" or "float32".
        seed: random stream of theory and simulation.
        theory: solve the theory at every point.
        spread: predict also how likely a single run groks by t_max, which needs `dim`, and the theory's spread over
            data sets at every point (THEORY section 12): it costs about as much as the curves.
        simulate_every: simulate at every so many values of each axis, from the first on; 0: nowhere. Needs `dim`.
        simulation_step: step of the simulation alone, where `step` is None; None: it follows gradient flow too.
        seeds, form: of the simulation, see `sim.simulate`.
        solve_options, simulate_options: further arguments of `dmft.solve` and `sim.simulate`, such as
            {"optimizer": "adam"}; plain numbers and texts.
        folder: where points are kept (in its subfolder `points`); None keeps nothing.
        workers: processes on this machine; None for one per two cores.
        scheduler: address of a dask scheduler, whose workers then compute the points.
        retry_failed: compute those points again that failed before.
        progress: True shows a bar in a terminal or a notebook, False nothing. None shows one there if the run is
            expected to take more than 20 s, and elsewhere prints a line a minute to standard error.

    Returns:
        Dataset over the fields x and y. For theory, under plain names, and for simulation with the prefix
        `simulation_`: `t_train`, `t_test`, `delay` with `_error` and `_reached` (0 where the threshold was not
        reached by t_max: the time is then NaN, never zero), `final_train_loss`, `final_test_loss`, `peak_test_loss`
        with `_error`, `regime` with `regime_certain` (whether it stays when the losses move by two errors),
        `state`, `message` (why a point failed) and `point` (its file); for theory also `tolerance_met`. With `spread`
        also `grok_probability` with `_error`: for theory equation 12.3, for simulation the share of the runs.

    Raises:
        ParameterError: an argument is out of range, at any point, or nobody answers at `scheduler`.
        RunError: the processes that would compute cannot be started, or compute with other numerics.

    Examples:
        >>> from dmft import Model
        >>> phase = phase_diagram(Model(alpha=1.0, epsilon=0.0, kappa=2.0), ("alpha", [1, 2]), t_max=0.4, step=0.2)
        >>> dict(phase.sizes)
        {'alpha': 2}
    """
    given = dict(locals())  # every argument, by its name
    if not isinstance(base_model, Model | Committee):
        raise ParameterError(f"Argument `base_model` must be a dmft.Model or dmft.Committee, but is {base_model!r}.")
    settings = {name: value for name, value in given.items() if name not in ("x", "y", "folder", "progress")}
    return run_sweep(Sweep(axes=_axes(x, y), **settings), folder, progress=progress)


def run_sweep(sweep: Sweep, folder: str | PathLike[str] | None, *, progress: bool | None) -> xarray.Dataset:
    """The phase diagram of `sweep`; see `phase_diagram`."""
    sides = points_of(sweep)
    runner = local_runner(sweep.workers) if sweep.scheduler is None else dask_runner(sweep.scheduler)
    with _store(folder) as store:
        points = {point.name: point for side in sides.values() for point in side.values()}
        begun = store.folder.parent / UNFINISHED
        if folder is not None:
            with finished(begun) as part:
                write_dataset(part, _diagram(lambda name: None, sweep, sides))  # noqa: ARG005
        passing = _complete(store, points, runner, retry_failed=sweep.retry_failed, progress=progress)
        diagram = _diagram(lambda name: passing.get(name) or store.read(name), sweep, sides)
        begun.unlink(missing_ok=True)
        return diagram


def points_of(sweep: Sweep) -> dict[str, dict[tuple[int, ...], Point]]:
    """By side, the points of a sweep by their place on its grid."""
    sides: dict[str, dict[tuple[int, ...], Point]] = {}
    if sweep.theory:
        settings = sweep.theory_settings
        sides["theory"] = {
            at: Point(side="theory", model=model, settings=settings) for at, model in sweep.models.items()
        }
    if sweep.simulate_every:
        settings = sweep.simulation_settings
        sides["simulation"] = {
            at: Point(side="simulation", model=model, settings=settings) for at, model in sweep.simulated.items()
        }
    return sides


def _diagram(
    read: Callable[[str], Any], sweep: Sweep, sides: Mapping[str, Mapping[tuple[int, ...], Point]]
) -> xarray.Dataset:
    """The phase diagram of the points that can be read by their names; `read` gives None for the others."""
    variables: dict[str, Any] = {}
    for side, of_side in sides.items():
        variables |= _side_variables(read, sweep, side, of_side)
    coordinates = {axis.field: (axis.field, np.asarray(axis.values)) for axis in sweep.axes}
    return xarray.Dataset(variables, coordinates, _attributes(sweep))


def _axes(x: Any, y: Any) -> tuple[Axis, ...]:
    axes = []
    for name, given in (("x", x), ("y", y)):
        if name == "y" and given is None:
            continue
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
            raise ParameterError(f"Argument `{name}` must be a pair such as ('alpha', [0.5, 1, 2]), but is {given!r}.")
        axes.append(Axis.of(name, *given))
    return tuple(axes)


@contextlib.contextmanager
def _store(folder: str | PathLike[str] | None) -> Iterator[Store]:
    if folder is not None:
        place = check_path("folder", folder)
        try:
            store = Store(place / "points")
        except OSError as error:
            reason = error.strerror or error
            raise ParameterError(
                f"Argument `folder` must be a folder that can be written, but is {str(place)!r} ({reason})."
            ) from None
        yield store
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Store(temporary)


def _complete(
    store: Store, points: Mapping[str, Point], runner: Runner, *, retry_failed: bool, progress: bool | None
) -> dict[str, Failure]:
    """Compute the points, by name, that the store lacks; return the failures that it does not keep."""
    known = {name: store.read(name) for name in points}
    missing = [
        point
        for name, point in points.items()
        if known[name] is None or (retry_failed and isinstance(known[name], Failure))
    ]
    del known
    passing: dict[str, Failure] = {}
    if not missing:
        return passing
    done = len(points) - len(missing)
    with progress_report("points", progress) as report, contextlib.closing(runner(missing)) as run:
        report(done, len(points))
        for point, outcome in run:
            done += 1
            report(done, len(points))
            if isinstance(outcome, Failure):
                warnings.warn(f"{point.describe()} failed: {outcome.message}", PointFailedWarning, stacklevel=4)
                if not outcome.lasting:
                    passing[point.name] = outcome
                    continue
            store.write(point, outcome)
    return passing


def _side_variables(
    read: Callable[[str], Any], sweep: Sweep, side: str, points: Mapping[tuple[int, ...], Point]
) -> dict[str, Any]:
    """The variables of theory or simulation over the grid."""
    shape, dims = tuple(len(axis.values) for axis in sweep.axes), [axis.field for axis in sweep.axes]
    absent = ABSENT | CHANCE if sweep.spread else ABSENT
    arrays: dict[str, np.ndarray] = {name: np.full(shape, value) for name, value in absent.items()}
    arrays |= {name: np.zeros(shape, np.int8) for name in ("state", "tolerance_met")}
    arrays |= {name: np.full(shape, "", object) for name in ("message", "point")}
    for at, point in points.items():
        arrays["point"][at] = point.name
        curves = read(point.name)
        if curves is None:
            continue
        if isinstance(curves, Failure):
            arrays["state"][at], arrays["message"][at] = State.FAILED, curves.message
            continue
        arrays["state"][at] = State.DONE
        arrays["tolerance_met"][at] = curves.attrs.get("tolerance_met", 0)
        found = measure(curves, sweep.threshold, sweep.ratio, sweep.of)
        if sweep.spread:
            found |= grok_probability(curves, sweep.threshold, sweep.ratio)
        for name, value in found.items():
            arrays[name][at] = value
    if side == "simulation":
        del arrays["tolerance_met"]
    meanings = {"state": [state.name.lower() for state in State], "regime": ["absent", *map(str, REGIMES)]}
    flags = {
        name: {
            "flag_values": np.arange(len(words), dtype=np.int8),
            "flag_meanings": " ".join(word.replace(" ", "_") for word in words),
        }
        for name, words in meanings.items()
    }
    prefix = PREFIXES[side]
    return {prefix + name: (dims, array, flags.get(name, {})) for name, array in arrays.items()}


def _attributes(sweep: Sweep) -> dict[str, Any]:
    """All that a second run needs; nothing that depends on when or where it ran."""
    swept = [axis.field for axis in sweep.axes]
    fields = {f"model_{name}": value for name, value in sweep.base_model.to_attributes().items() if name not in swept}
    settings = {name: getattr(sweep, name) for name in (*SHARED, "rtol", "atol", "seeds", "form")}
    settings["simulation_step"] = sweep.simulation_settings["step"]
    options = {f"{name}_options": getattr(sweep, f"{name}_options") for name in ("solve", "simulate")}
    return {
        "x": swept[0],
        "y": swept[1] if len(swept) == 2 else "",
        **fields,
        **{name: "flow" if value is None else value for name, value in settings.items()},
        **{name: json.dumps(value, sort_keys=True) for name, value in options.items() if value},
        "threshold": sweep.threshold,
        **({"of": sweep.of} if sweep.of != "loss" else {}),
        "ratio": sweep.ratio,
        "simulate_every": sweep.simulate_every,
        **({"spread": 1} if sweep.spread else {}),
        "version": dmft.__version__,
        "numerics": ", ".join(" ".join(pair) for pair in numerics().items()),
    }
