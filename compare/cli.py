"""The console command `dmft`: solve the theory, simulate the network, compare the two.

Exit codes: 0 done, 1 the run failed, 2 bad usage, 130 interrupted. Errors are one line on standard error. Results
appear when the whole command has succeeded; a run that fails on its way leaves its curves up to there in
theory-partial.nc or simulation-partial.nc, and nothing else. jax, xarray and matplotlib are imported
inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError

import dmft
from compare.files import FIGURE_FORMATS, finished, output_folder, write_dataset, write_figure, write_json
from compare.options import CompareOptions, PhaseOptions, SimulateOptions, SolveOptions
from compare.settings import PresetSettings, Settings, settle, settle_phase, settle_preset

if TYPE_CHECKING:
    import xarray

app = App(
    name="dmft",
    help="Dynamical mean-field theory of learning in a two-layer network, and simulations of the same network.",
    version=dmft.__version__,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (without the program's name; None: those of the process); the exit code."""
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        with _plain_warnings():
            command(*bound.args, **bound.kwargs)
    except (CycloptsError, dmft.ParameterError) as error:
        return _complain(error, 2)
    except (dmft.RunError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        if arguments is None:  # the process is ours: do not wait for threads still at work
            sys.stdout.flush()
            os._exit(130)
        return 130
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            return _complain("Out of memory; a smaller --dim, --width, --seeds or --t-max needs less.", 1)
        raise
    return 0


def _complain(error: object, code: int) -> int:
    print(f"dmft: {' '.join(str(error).split())}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as one line each, without the place in the code."""

    def show(message: object, *_: object, **__: object) -> None:
        print(f"dmft: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@app.command
def solve(*, options: SolveOptions | None = None) -> None:
    """Solve the theory and write its curves to DIR/theory.nc.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks.
    """
    settings = settle(options or SolveOptions(), simulated=False)
    with output_folder(settings.out) as folder:
        _say_model(settings)
        with _curves_kept(folder / "theory-partial.nc"):
            theory = _solve(settings)
        with finished(folder / "theory.nc") as part:
            write_dataset(part, theory)
        _say_files(folder, "theory.nc")


@app.command
def simulate(*, options: SimulateOptions | None = None) -> None:
    """Train the network on random data, several times, and write its curves to DIR/simulation.nc.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks; or --preset for the
    runs behind a figure of the paper, one file each and a picture.
    """
    options = options or SimulateOptions()
    chosen = settle_preset(options)
    if chosen is not None:
        return _simulate_preset(chosen)
    settings = settle(options, simulated=True)
    with output_folder(settings.out) as folder:
        checkpoint = _checkpoint(settings, folder)
        _say_model(settings)
        with _curves_kept(folder / "simulation-partial.nc"):
            simulation = _simulate(
                settings,
                optimizer=settings.optimizer,
                stop_below=settings.stop_below,
                checkpoint=checkpoint,
                checkpoint_every=60.0 if settings.checkpoint_every is None else settings.checkpoint_every,
            )
        with finished(folder / "simulation.nc") as part:
            write_dataset(part, simulation)
        if checkpoint is not None:
            checkpoint.unlink()
        _say_files(folder, "simulation.nc")


def _checkpoint(settings: Settings, folder: Path) -> Path | None:
    """Where the run is saved as it goes; None if it is not.

    Raises:
        ParameterError: there is a checkpoint already, and nobody said to go on from it.
    """
    if settings.checkpoint_every is None and not settings.resume:
        return None
    path = folder / "simulation.checkpoint.npz"
    if path.exists() and not settings.resume:
        raise dmft.ParameterError(
            f"Argument `resume` must be given to go on from the checkpoint {str(path)!r}, but is not; remove the file "
            "to start from the beginning."
        )
    if settings.resume and not path.exists():
        print(f"no checkpoint in {folder}: starting from the beginning", flush=True)
    return path


@app.command
def compare(*, options: CompareOptions | None = None) -> None:
    """Solve and simulate; write both, overlay.png and summary.json into DIR, and print how well they agree.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks.
    """
    settings = settle(options or CompareOptions(), simulated=True)
    with output_folder(settings.out) as folder:
        _say_model(settings)
        with _curves_kept(folder / "theory-partial.nc"):
            theory, solve_seconds = _timed(lambda: _solve(settings))
        with _curves_kept(folder / "simulation-partial.nc"):
            simulation, simulate_seconds = _timed(lambda: _simulate(settings))
        timings = {"solve_seconds": solve_seconds, "simulate_seconds": simulate_seconds}
        _write_comparison(folder, theory, simulation, timings)


@app.command
def phase(*, options: PhaseOptions | None = None) -> None:
    """Sweep one or two fields of the model; write phase.nc and its picture into DIR, and print the regimes found.

    The points are kept in DIR/points: the same command again computes what is missing. With --simulate-every the
    simulation is laid over the theory, point by point, in panels.png (.pdf).
    """
    settings = settle_phase(options or PhaseOptions())
    from compare.phase import phase_diagram

    with output_folder(settings.out) as folder:
        axes = [(axis.field, axis.values) for axis in settings.axes]
        print(f"{len(axes)}-dimensional sweep over {' and '.join(field for field, _ in axes)}", flush=True)
        diagram = phase_diagram(
            settings.model, *axes, **settings.arguments, folder=folder, progress=sys.stderr.isatty()
        )
        _write_phase(folder, diagram)


def _write_phase(folder: Path, diagram: xarray.Dataset) -> None:
    """Write phase.nc and the pictures, all or none, and print how many points are in which regime."""
    from compare.panels import panels_figure
    from compare.phase_plots import phase_figure
    from compare.store import Store, both_sides
    from compare.tables import regimes_table

    figures = {"phase": phase_figure(diagram)}
    pairs = both_sides(Store(folder / "points"), diagram)
    if pairs:
        figures["panels"] = panels_figure(pairs, diagram.attrs["x"], diagram.attrs["y"])
    names = [f"{name}.{form}" for name in figures for form in FIGURE_FORMATS]
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(finished(folder / name)) for name in (*names, "phase.nc")}
        write_dataset(parts["phase.nc"], diagram)
        for name in names:
            stem, form = name.split(".")
            write_figure(parts[name], figures[stem], form)
    print(f"\n{regimes_table(diagram)}\n")
    _say_files(folder, "phase.nc", *names)


@app.command
def report(folder: str, /) -> None:
    """Write FOLDER/report.html, a page on which a click shows the curves of a point; open it in a browser.

    FOLDER was written by `dmft phase` or by `dmft compare`.
    """
    from compare.report import write_report

    print(f"wrote {write_report(folder)}")


def _write_comparison(
    folder: Path, theory: xarray.Dataset, simulation: xarray.Dataset, timings: dict[str, float]
) -> None:
    """Write the four files of `dmft compare`, all or none, and print its tables."""
    from compare.agreement import overlay
    from compare.grokking import grokking_delay, regime, regime_record
    from compare.tables import agreement_table, grokking_table

    agreement = overlay(theory, simulation)
    measures = {
        name: (grokking_delay(dataset), regime(dataset))
        for name, dataset in (("theory", theory), ("simulation", simulation))
    }
    summary = agreement.summary()
    summary["grokking"] = {name: regime_record(*measure) for name, measure in measures.items()}
    summary["timings"] = {name: round(seconds, 3) for name, seconds in timings.items()}
    with contextlib.ExitStack() as stack:
        # Moved to their places in reverse order, the summary last.
        parts = {
            name: stack.enter_context(finished(folder / name))
            for name in ("summary.json", "overlay.png", "simulation.nc", "theory.nc")
        }
        write_dataset(parts["theory.nc"], theory)
        write_dataset(parts["simulation.nc"], simulation)
        write_figure(parts["overlay.png"], agreement.figure(), "png")
        write_json(parts["summary.json"], summary)
    for note in summary["notes"]:
        print(f"note: {note}")
    print(f"\n{agreement_table(summary)}\n\n{grokking_table(measures)}\n")
    _say_files(folder, "theory.nc", "simulation.nc", "overlay.png", "summary.json")


def _solve(settings: Settings) -> xarray.Dataset:
    return dmft.solve(
        settings.model,
        settings.t_max,
        step=settings.step,
        rtol=settings.rtol,
        atol=settings.atol,
        precision=settings.precision,
        seed=settings.seed,
        kernels=settings.kernels,
        progress=sys.stderr.isatty(),
    )


def _simulate(settings: Settings, **more: Any) -> xarray.Dataset:
    import sim

    return sim.simulate(
        settings.model,
        settings.t_max,
        seeds=settings.seeds,
        step=settings.step,
        form=settings.form,
        precision=settings.precision,
        seed=settings.seed,
        progress=sys.stderr.isatty(),
        **more,
    )


def _simulate_preset(settings: PresetSettings) -> None:
    """Run a preset; write DIR/NAME-RUN.nc for every run, DIR/NAME.png and DIR/NAME.json."""
    from compare.paper import preset_figure, preset_summary
    from sim.presets import preset, run_preset

    chosen = preset(settings.preset)
    with output_folder(settings.out) as folder:
        print(f"{chosen.name}: {chosen.title}; {len(chosen.runs)} x {chosen.steps} steps", flush=True)
        progress = sys.stderr.isatty()
        results = run_preset(chosen, seeds=settings.seeds, seed=settings.seed, progress=progress)
        figure, summary = preset_figure(chosen, results), preset_summary(chosen, results)
        files = {f"{chosen.name}-{label}.nc": dataset for label, dataset in results.items()}
        with contextlib.ExitStack() as stack:
            parts = {name: stack.enter_context(finished(folder / name)) for name in files}
            for name, dataset in files.items():
                write_dataset(parts[name], dataset)
            write_figure(stack.enter_context(finished(folder / f"{chosen.name}.png")), figure, "png")
            write_json(stack.enter_context(finished(folder / f"{chosen.name}.json")), summary)
        _say_files(folder, *files, f"{chosen.name}.png", f"{chosen.name}.json")


@contextlib.contextmanager
def _curves_kept(path: Path) -> Iterator[None]:
    """If the run in this block fails on its way, write the curves up to there to `path`, and say so."""
    try:
        yield
    except dmft.RunError as error:
        if error.curves is None:
            raise
        with finished(path) as part:
            write_dataset(part, error.curves)
        raise type(error)(f"{error} The curves so far are in {path}.") from None


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` returns, and the seconds it took."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def _say_model(settings: Settings) -> None:
    from compare.tables import model_line

    print(f"{model_line(settings.model)}; t_max = {settings.t_max:g}", flush=True)


def _say_files(folder: Path, *names: str) -> None:
    print("wrote " + ", ".join(str(folder / name) for name in names))


if __name__ == "__main__":
    sys.exit(main())
