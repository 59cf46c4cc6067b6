"""The console command `dmft`: solve the theory, simulate the network, compare the two.

Errors are one line on standard error; with --json standard output holds one JSON object, or nothing if the run fails.
Results appear when the whole command has succeeded; a run that fails on its way leaves its curves up to there in
theory-partial.nc or simulation-partial.nc, and nothing else. jax, xarray and matplotlib are imported inside the
commands, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

import dmft
from compare.cli.answer import Answer
from compare.cli.help import examples
from compare.cli.options import JSON_HELP, AnswerOptions, CompareOptions, PhaseOptions, SimulateOptions, SolveOptions
from compare.cli.settings import PresetSettings, Settings, resolved, settle, settle_phase, settle_preset
from compare.files import finished, output_folder, write_dataset

if TYPE_CHECKING:
    import xarray


app = App(
    name="dmft",
    help="Dynamical mean-field theory of learning in a two-layer network, and simulations of the same network.",
    version=dmft.__version__,
    help_format="plaintext",
    help_epilogue=examples("dmft"),
)
app.register_install_completion_command(help="Install completion for the shell in use, and exit.")


#: What an error nobody can prevent says, by a word of its message.
FAULTS = {
    "RESOURCE_EXHAUSTED": "Out of memory; a smaller --dim, --width, --seeds or --t-max needs less.",
    "Unable to initialize backend": "JAX finds no device: {}",
}


def run_command(arguments: Sequence[str] | None) -> int:
    """Run the command line `arguments` (None: those of the process); the exit code."""
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        with _plain_warnings():
            command(*bound.args, **bound.kwargs)
    except (CycloptsError, dmft.ParameterError) as error:
        return _complain(error, 2)
    except (dmft.RunError, OSError) as error:
        return _complain(error, 1)
    except MemoryError:
        return _complain(FAULTS["RESOURCE_EXHAUSTED"], 1)
    except RuntimeError as error:
        for word, says in FAULTS.items():
            if word in str(error):
                return _complain(says.format(error), 1)
        raise
    return 0


def _complain(error: object, code: int) -> int:
    _say_aside(f"dmft: {' '.join(str(error).split())}")
    return code


def _say_aside(line: str) -> None:
    """A line on standard error, if there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as one line each, without the place in the code."""

    def show(message: object, *_: object, **__: object) -> None:
        _say_aside(f"dmft: warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@app.command(help_epilogue=examples("solve"))
def solve(*, options: SolveOptions | None = None) -> None:
    """Solve the theory and write its curves to DIR/theory.nc.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks.
    """
    options = options or SolveOptions()
    settings = settle(options, simulated=False)
    answer, keys = _answer("solve", options), resolved(options, settings)
    if options.dry_run:
        from compare.cli.estimate import theory_estimate

        return answer.tell_plan(keys, [theory_estimate(settings)])
    from compare.cli.outputs import write_curves

    with output_folder(settings.out) as folder:
        _say_model(answer, settings)
        with _curves_kept(folder / "theory-partial.nc"):
            theory = _solve(settings)
        write_curves(answer, folder / "theory.nc", theory, keys)


@app.command(help_epilogue=examples("simulate"))
def simulate(*, options: SimulateOptions | None = None) -> None:
    """Train the network on random data, several times, and write its curves to DIR/simulation.nc.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks; or --preset for the
    runs behind a figure of the paper, one file each and a picture.
    """
    options = options or SimulateOptions()
    answer = _answer("simulate", options)
    chosen = settle_preset(options)
    if chosen is not None:
        return _simulate_preset(answer, chosen, options)
    settings = settle(options, simulated=True)
    keys = resolved(options, settings)
    if options.dry_run:
        from compare.cli.estimate import simulation_estimate

        return answer.tell_plan(keys, [simulation_estimate(settings)])
    from compare.cli.outputs import write_curves

    with output_folder(settings.out) as folder:
        checkpoint = _checkpoint(answer, settings, folder)
        _say_model(answer, settings)
        with _curves_kept(folder / "simulation-partial.nc"):
            every = settings.checkpoint_every
            simulation = _simulate(
                settings,
                optimizer=settings.optimizer,
                stop_below=settings.stop_below,
                checkpoint=checkpoint,
                **{} if every is None else {"checkpoint_every": every},
            )
        write_curves(answer, folder / "simulation.nc", simulation, keys)
        if checkpoint is not None:
            checkpoint.unlink()


def _checkpoint(answer: Answer, settings: Settings, folder: Path) -> Path | None:
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
        answer.say(f"no checkpoint in {folder}: starting from the beginning")
    return path


def _simulate_preset(answer: Answer, settings: PresetSettings, options: SimulateOptions) -> None:
    """Run a preset, or say what it would take."""
    keys = resolved(options, settings)
    if options.dry_run:
        from compare.cli.estimate import preset_estimate

        return answer.tell_plan(keys, [preset_estimate(settings.preset, settings.seeds)])
    from compare.cli.outputs import write_preset
    from sim.presets import preset, run_preset

    chosen = preset(settings.preset)
    with output_folder(settings.out) as folder:
        answer.say(f"{chosen.name}: {chosen.title}; {len(chosen.runs)} x {chosen.steps} steps")
        results = run_preset(chosen, seeds=settings.seeds, seed=settings.seed, progress=True)
        write_preset(answer, folder, chosen, results, keys)


@app.command(help_epilogue=examples("compare"))
def compare(*, options: CompareOptions | None = None) -> None:
    """Solve and simulate; write both, overlay.png and summary.json into DIR, and print how well they agree.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks.
    """
    options = options or CompareOptions()
    settings = settle(options, simulated=True)
    answer = _answer("compare", options)
    if options.dry_run:
        from compare.cli.estimate import simulation_estimate, theory_estimate

        sides = theory_estimate(settings), simulation_estimate(settings)
        return answer.tell_plan(resolved(options, settings), sides)
    from compare.cli.outputs import write_comparison

    with output_folder(settings.out) as folder:
        _say_model(answer, settings)
        with _curves_kept(folder / "theory-partial.nc"):
            theory, solve_seconds = _timed(lambda: _solve(settings))
        with _curves_kept(folder / "simulation-partial.nc"):
            simulation, simulate_seconds = _timed(lambda: _simulate(settings))
        timings = {"solve_seconds": solve_seconds, "simulate_seconds": simulate_seconds}
        write_comparison(answer, folder, theory, simulation, timings)


@app.command(help_epilogue=examples("phase"))
def phase(*, options: PhaseOptions | None = None) -> None:
    """Sweep one or two fields of the model; write phase.nc and its picture into DIR, and print the regimes found.

    The points are kept in DIR/points: the same command again computes what is missing. With --simulate-every the
    simulation is laid over the theory, point by point, in panels.png (.pdf).
    """
    options = options or PhaseOptions()
    settings = settle_phase(options)
    answer, keys = _answer("phase", options), resolved(options, settings)
    if options.dry_run:
        from compare.cli.estimate import phase_estimates

        return answer.tell_plan(keys, phase_estimates(settings.sweep))
    from compare.cli.outputs import write_phase
    from compare.sweep.phase import run_sweep

    with output_folder(settings.out) as folder:
        fields = [axis.field for axis in settings.sweep.axes]
        answer.say(f"{len(fields)}-dimensional sweep over {' and '.join(fields)}")
        diagram = run_sweep(settings.sweep, folder, progress=True)
        write_phase(answer, folder, diagram, keys)


@app.command(help_epilogue=examples("report"))
def report(
    folder: str, /, *, json: Annotated[bool, Parameter(help=JSON_HELP, negative=(), show_default=False)] = False
) -> None:
    """Write FOLDER/report.html, a page on which a click shows the curves of a point; open it in a browser.

    FOLDER was written by `dmft phase` or by `dmft compare`.
    """
    from compare.report.page import write_report

    Answer("report", as_json=json).finish([write_report(folder)])


def _answer(command: str, options: AnswerOptions) -> Answer:
    return Answer(command, as_json=options.json)


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
        progress=True,
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
        progress=True,
        **more,
    )


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


def _say_model(answer: Answer, settings: Settings) -> None:
    from compare.cli.tables import model_line

    answer.say(f"{model_line(settings.model)}; t_max = {settings.t_max:g}")
