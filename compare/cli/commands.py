"""The console command `dmft`: solve the theory, simulate the network, compare the two.

Errors are one line on standard error; with --json standard output holds one JSON object, or nothing if the run fails.
Results appear when the whole command has succeeded. Until then finished parts are kept in a folder of their own; a run
that fails on its way leaves its curves up to there in theory-partial.nc or simulation-partial.nc. jax, xarray and
matplotlib are imported inside the commands, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

import dmft
from compare.cli.answer import Answer
from compare.cli.backwards import find_sensitivity, fit_curves, fit_settings, sensitivity_settings
from compare.cli.faults import exit_code
from compare.cli.help import examples
from compare.cli.kept import not_served, nothing_kept, parts_kept, points_kept, run_kept
from compare.cli.measured import with_measured
from compare.cli.options import (
    JSON_HELP,
    AnswerOptions,
    CompareOptions,
    ExploreOptions,
    FitOptions,
    PhaseOptions,
    SensitivityOptions,
    SimulateOptions,
    SolveOptions,
    TrainOptions,
)
from compare.cli.process import when_interrupted
from compare.cli.runs import kept_simulation, kept_theory, simulate_network, solve_theory, training_arguments
from compare.cli.second import at_two_dims, second_estimates
from compare.cli.settings import (
    PresetSettings,
    Settings,
    check_second_dim,
    given_values,
    resolved,
    settle,
    settle_explore,
    settle_phase,
    settle_preset,
    with_built_in_view,
)
from compare.cli.sizes import WITHOUT, compare_sizes, given_dims, requested, sizes_estimates, sizes_kept
from compare.files import output_folder
from compare.parts import Parts
from dmft.compiled.folder import VARIABLE

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


def run_command(arguments: Sequence[str] | None) -> int:
    """Run the command line `arguments` (None: those of the process); the exit code."""

    def run() -> None:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        command(*bound.args, **bound.kwargs)

    return exit_code(run)


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

    when_interrupted(nothing_kept)
    with output_folder(settings.out) as folder:
        _say_model(answer, settings)
        write_curves(answer, folder / "theory.nc", solve_theory(settings, folder), keys)


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
        training = training_arguments(answer, settings, folder)
        when_interrupted(lambda: run_kept(training["checkpoint"]))
        _say_model(answer, settings)
        simulation = simulate_network(settings, folder, **training)
        write_curves(answer, folder / "simulation.nc", simulation, keys)
        if training["checkpoint"] is not None:
            training["checkpoint"].unlink()


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
        parts = _parts(answer, folder)
        answer.say(f"{chosen.name}: {chosen.title}; {len(chosen.runs)} x {chosen.steps} steps")
        results = run_preset(chosen, seeds=settings.seeds, seed=settings.seed, progress=True, keep=parts.get)
        write_preset(answer, folder, chosen, results, keys, parts)


@app.command(help_epilogue=examples("compare"))
def compare(*, options: CompareOptions | None = None) -> None:
    """Solve and simulate; write both, overlay.png and summary.json into DIR, and print how well they agree.

    With --measured, runs of your own take the place of the simulation. With --dims, simulations at several D are
    extrapolated to infinite D, and with --dim to that D, where --measured are judged by it; each part is kept in DIR as
    soon as it is done.

    Give all of --alpha, --epsilon and --kappa, or none of them for the built-in case, which groks. It is shown at two
    D, with the spread over data sets.
    """
    options = with_built_in_view(options or CompareOptions())
    dims = given_dims(options)
    options, measured, runs = with_measured(options)
    settings = settle(options, simulated=measured is None and dims is None)
    second = check_second_dim(options, settings.model)
    answer = _answer("compare", options)
    if dims is not None:
        return _compare_sizes(answer, settings, dims, options, measured, runs)
    if options.dry_run:
        from compare.cli.estimate import simulation_estimate, theory_estimate

        sides = theory_estimate(settings), *([simulation_estimate(settings)] if measured is None else [])
        if second is not None:
            sides = *sides, *second_estimates(settings, second)
        return answer.tell_plan(resolved(options, settings), sides)
    from compare.cli.outputs import write_comparison

    with output_folder(settings.out) as folder:
        parts = _parts(answer, folder)
        _say_model(answer, settings)
        start = time.perf_counter()
        theory = kept_theory(settings, folder, parts)
        middle = time.perf_counter()
        timings, others = {"solve_seconds": middle - start}, None
        if measured is None:
            if second is None:
                measured = kept_simulation(settings, folder, parts)
            else:
                measured, solved, simulated = at_two_dims(settings, second, theory, folder, parts)
                others = second, solved, simulated
            timings["simulate_seconds"] = time.perf_counter() - middle
        write_comparison(answer, folder, theory, measured, timings, parts, runs, others)


def _compare_sizes(
    answer: Answer,
    settings: Settings,
    dims: tuple[int, ...],
    options: CompareOptions,
    measured: xarray.Dataset | None,
    runs: int | None,
) -> None:
    """Compare at several D, or say what it would take."""
    seeds = settings.seeds if "seeds" in given_values(options) else None
    if options.dry_run:
        keys = {name: value for name, value in resolved(options, settings).items() if name not in WITHOUT}
        return answer.tell_plan(keys, sizes_estimates(settings, dims, seeds))
    requested(settings, dims, seeds)  # refused before the folder is made
    with output_folder(settings.out) as folder:
        when_interrupted(lambda: sizes_kept(folder))
        _say_model(answer, dataclasses.replace(settings, model=settings.model.replace(dim=None)))
        compare_sizes(answer, settings, dims, seeds, folder, measured, runs)


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
        when_interrupted(lambda: points_kept(settings.sweep, folder))
        fields = [axis.field for axis in settings.sweep.axes]
        answer.say(f"{len(fields)}-dimensional sweep over {' and '.join(fields)}")
        diagram = run_sweep(settings.sweep, folder, progress=True)
        write_phase(answer, folder, diagram, keys)


@app.command(help_epilogue=examples("sensitivity"))
def sensitivity(*, options: SensitivityOptions | None = None) -> None:
    """Differentiate the theory's curves by its parameters; write sensitivity.nc and a picture into DIR.

    Prints which parameter moves the times at which train and test loss reach the threshold, and by how much.
    """
    options = options or SensitivityOptions()
    settings, asked = sensitivity_settings(options)
    answer = _answer("sensitivity", options)
    if options.dry_run:
        from compare.cli.estimate import theory_estimate

        one = theory_estimate(settings)
        times = 1 + len(asked["wrt"])
        several = dataclasses.replace(one, seconds=None if one.seconds is None else times * one.seconds)
        return answer.tell_plan(resolved(options, settings), [several])
    when_interrupted(nothing_kept)
    with output_folder(settings.out) as folder:
        _say_model(answer, settings)
        find_sensitivity(answer, settings, asked, folder)


@app.command(help_epilogue=examples("fit"))
def fit(*curves: str, options: FitOptions | None = None) -> None:
    """Find the parameters of measured curves; write fit.json and fit.png into DIR.

    CURVES are files of one run or several (.csv, .tsv, .nc, .npz, .jsonl) with columns time or step, train_loss and/or
    test_loss, and their errors <name>_stderr, if known. --alpha and so on are where the fit starts; what is not --free
    stays as it is there.
    """
    options = options or FitOptions()
    model, asked, out = fit_settings(options, curves)
    answer = _answer("fit", options)
    if options.dry_run:
        raise dmft.ParameterError(
            "Argument `dry_run` must be left out: how many steps a fit takes is not known before."
        )
    when_interrupted(nothing_kept)
    with output_folder(out) as folder:
        fit_curves(answer, model, asked, list(curves), folder)


@app.command(help_epilogue=examples("train"))
def train(*, options: TrainOptions | None = None) -> None:
    """Run an experiment of one of four papers on networks without a theory, and judge what the paper claims of it.

    Writes a file for every run, the picture NAME.png and claims.json into DIR, and prints what agrees. Needs the extra
    `lab`.
    """
    from compare.cli.training import chosen_preset, list_presets, plan, run_preset
    from dmft.checks import check_integer, check_seed

    options = options or TrainOptions()
    answer = Answer("train", as_json=options.json)
    if options.list:
        return list_presets(answer)
    preset = chosen_preset(options.preset)
    seeds, seed = check_integer("seeds", options.seeds, at_least=1), check_seed(options.seed)
    if options.dry_run:
        keys = {name: getattr(options, name) for name in ("preset", "full", "seeds", "seed", "out")}
        return answer.tell_plan(keys, [plan(preset, full=options.full, seeds=seeds)])
    with output_folder(options.out) as folder:
        run_preset(answer, preset, _parts(answer, folder), folder, full=options.full, seeds=seeds, seed=seed)


@app.command(help_epilogue=examples("report"))
def report(
    folder: str, /, *, json: Annotated[bool, Parameter(help=JSON_HELP, negative=(), show_default=False)] = False
) -> None:
    """Write FOLDER/report.html, a page on which a click shows the curves of a point; open it in a browser.

    FOLDER was written by `dmft phase` or by `dmft compare`.
    """
    from compare.report.page import write_report

    Answer("report", as_json=json).finish([write_report(folder)])


@app.command(help_epilogue=examples("explore"))
def explore(folder: str | None = None, /, *, options: ExploreOptions | None = None) -> None:
    """Show the theory on a page whose sliders move alpha, epsilon, kappa, the planted overlap and the time.

    The page is served to this machine alone, until Ctrl-C. With FOLDER, written by `dmft phase`, the sliders are the
    sweep's axes, and nothing is computed. Give all of --alpha, --epsilon and --kappa, or none of them for the
    built-in case.
    """
    options = options or ExploreOptions()
    arguments = settle_explore(folder, options)
    from compare.report.serve import explore as serve

    page = serve(**arguments)
    when_interrupted(not_served)
    opened = not options.no_browser and page.open()
    print(f"{'shown' if opened else 'to be opened'} in a browser: {page.url} (Ctrl-C ends it)", flush=True)
    page.wait()


def _answer(command: str, options: AnswerOptions) -> Answer:
    if options.cache is not None:
        os.environ[VARIABLE] = options.cache  # which the workers of a sweep inherit
    return Answer(command, as_json=options.json)


def _parts(answer: Answer, folder: Path) -> Parts:
    """Where the parts of a command are kept until all of it is done."""
    parts = Parts(folder, answer.say)
    when_interrupted(lambda: parts_kept(parts))
    return parts


def _say_model(answer: Answer, settings: Settings) -> None:
    from compare.cli.tables import model_line

    answer.say(f"{model_line(settings.model)}; t_max = {settings.t_max:g}")
