"""What a command will take, before it runs: estimates of its settings, of presets and of sweeps."""

from __future__ import annotations

from compare.cli.settings import Settings
from compare.sweep.request import Sweep
from dmft import dry_run as theory
from dmft.progress import Estimate, on_cpu
from sim import dry_run as simulation

#: Points of a sweep whose simulation is looked at, at most.
PICKED = 8


def theory_estimate(settings: Settings) -> Estimate:
    """The estimate of `dmft.solve` with these settings.

    Raises:
        MemoryLimitError: one replica does not fit into memory, as in the run itself.
    """
    asked = ("t_max", "step", "rtol", "precision", "kernels")
    return theory.estimate(settings.model, **{name: getattr(settings, name) for name in asked})


def simulation_estimate(settings: Settings) -> Estimate:
    """The estimate of `sim.simulate` with these settings; no network is trained.

    Raises:
        MemoryLimitError: one seed does not fit into memory, as in the run itself.
    """
    from sim.request import flow_rtol

    asked = ("t_max", "seeds", "step", "precision", "seed", "optimizer", "stop_below", "form")
    rtol = flow_rtol(settings.rtol, settings.precision)
    return simulation.estimate(settings.model, rtol=rtol, **{name: getattr(settings, name) for name in asked})


def preset_estimate(name: str, seeds: int) -> Estimate:
    """The estimate of the runs behind a figure; following the tangent kernel, where a preset does, is not counted.

    Raises:
        ParameterError: there is no such preset.
    """
    from sim.presets import preset
    from sim.systems.forms import row_count
    from sim.training.optimizers import Optimizer
    from sim.variants.system import choose_experiment_form, experiment_system

    chosen = preset(name)
    seconds, memory = simulation.START, 0.0
    for run in chosen.runs:
        form = choose_experiment_form(run.experiment, "auto", Optimizer())
        system = experiment_system(run.experiment, form, chosen.kernel)
        shape = row_count(run.experiment.model, form), run.experiment.dim, run.experiment.samples
        seconds += seeds * chosen.steps * simulation.seconds_of_step(shape, chosen.precision)
        memory = max(memory, system.drawing_bytes + 8.0 * seeds * system.numbers)
    work = f"{len(chosen.runs)} runs of {seeds} x {'at most ' if chosen.stop_below else ''}{chosen.steps} steps"
    return Estimate(side="simulation", work=work, memory_bytes=simulation.PROCESS + memory, seconds=on_cpu(seconds))


def phase_estimates(sweep: Sweep) -> list[Estimate]:
    """The estimates of both sides of a sweep of which no point is there yet.

    Raises:
        MemoryLimitError: a point does not fit into memory.
    """
    from compare.sweep.workers import CORES, cores

    count = len(sweep.models)
    processes = min(count, sweep.workers or max(1, len(cores()) // CORES))
    elsewhere = sweep.scheduler is not None
    found = []
    if sweep.theory:
        asked = ("t_max", "step", "rtol", "precision")
        cost = theory.theory_cost(sweep.base_model, **{name: getattr(sweep, name) for name in asked})
        seconds = theory.compilation(cost) + count * theory.work(cost) / processes
        memory = processes * theory.memory(cost)
        work = f"{count} points of {cost.describe()}"
        found.append(
            Estimate(side="theory", work=work, memory_bytes=memory, seconds=on_cpu(seconds, elsewhere=elsewhere))
        )
    if sweep.simulate_every:
        found.append(_simulated_points(sweep, processes, elsewhere))
    return found


def _simulated_points(sweep: Sweep, processes: int, elsewhere: bool) -> Estimate:
    """All simulations of a sweep, from some of them, evenly picked."""
    from sim.request import Request

    models, settings = list(sweep.simulated.values()), dict(sweep.simulation_settings)
    form, request = settings.pop("form"), Request(**settings)
    picked = models[:: -(-len(models) // PICKED)]
    steps, memory, seconds = zip(*(simulation.trained(model, form, request) for model in picked), strict=True)
    of = "evaluations" if request.is_flow else "steps"
    total = processes * simulation.START + len(models) * sum(seconds) / len(picked)
    return Estimate(
        side="simulation",
        work=f"{len(models)} points of {request.seeds} x {min(steps)} to {max(steps)} {of}",
        memory_bytes=processes * (simulation.PROCESS + max(memory)),
        seconds=on_cpu(total / processes, elsewhere=elsewhere),
    )
