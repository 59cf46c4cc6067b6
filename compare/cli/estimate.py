"""What a run will take, before it runs: memory from the sizes of its arrays, time from a measured rule.

Simulation. A step of one seed takes `operations` = 4 P D rows floating-point operations in matrix products of fixed
shape (rows, D) x (D, P). How fast these are is measured on the machine at hand, within TRIAL seconds, in NumPy:

    seconds = START + seeds steps (STEP + operations / (SHARE rate)).

Theory. A replica of S samples on T time points takes about REPLICA S T^2 seconds of one core, and the work on each of
its capacities COMPILE seconds to compile; those of a flow are on two grids (see dmft.wide.estimate). How many replicas
it takes, and whether the grid must be refined, the solver decides as it goes: `seconds` is for what it begins with.

The constants were measured on two cores of an x86-64 machine at about 50 GFlop/s per core in double precision. On such
a machine, with nothing else running, both rules were right within a factor of 2 in the cases of docs/command-line.md.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING

from compare.cli.settings import Settings
from compare.sweep.request import Sweep
from dmft import Model
from dmft.checks import precision_context

if TYPE_CHECKING:
    from dmft.twotime.cost import Cost
    from sim.request import Request
    from sim.training.system import System

#: Seconds of one core for a sample and a squared time point, and to compile the work on one capacity.
REPLICA, COMPILE = 4e-6, 10.0
#: Seconds to import and compile a simulation; of one step beside its products; share of their rate that it reaches.
START, STEP, SHARE = 4.0, 1e-6, 0.85
#: Bytes that a process takes beside its arrays, and what the compiled solver of the theory adds.
PROCESS, SOLVER = 0.5 * 2**30, 0.8 * 2**30
#: Seconds over which the rate of the products is measured, in stretches of at least so many operations.
TRIAL, SHORT = 0.2, 2e7
#: Points of a sweep whose simulation is looked at, at most.
PICKED = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one side of a run will take.

    Attributes:
        side: "theory", "simulation".
        work: its size in words.
        memory_bytes: at the most.
        seconds: of wall-clock time; None where the rule does not hold (an accelerator, somebody else's cluster).
    """

    side: str
    work: str
    memory_bytes: float
    seconds: float | None

    def describe(self) -> str:
        """One line."""
        seconds = "time unknown" if self.seconds is None else f"about {_duration(self.seconds)}"
        return f"{self.side}: {self.work}; about {self.memory_bytes / 2**30:.1f} GiB, {seconds}"


def _duration(seconds: float) -> str:
    if seconds < 90.0:
        return f"{seconds:.2g} s"
    return f"{seconds / 60.0:.2g} min" if seconds < 5400.0 else f"{seconds / 3600.0:.2g} h"


def theory_cost(model: object, t_max: float, step: float | None, rtol: float, precision: str, kernels: bool) -> Cost:
    """What `dmft.solve` begins with.

    Raises:
        MemoryLimitError: one replica does not fit into memory, as in the run itself.
    """
    from dmft.solver import engine_for
    from dmft.twotime.cost import expected_cost
    from dmft.twotime.request import Request

    request = Request(t_max=t_max, step=step, rtol=rtol, precision=precision, kernels=kernels)
    return expected_cost(engine_for(model), request)


def _compilation(cost: Cost) -> float:
    """Seconds to compile all capacities."""
    return COMPILE * cost.programs / cost.side_by_side


def _work(cost: Cost) -> float:
    """Seconds of the first replicas and of their pilot."""
    return REPLICA * cost.sample_rows / cost.side_by_side


def theory_estimate(settings: Settings) -> Estimate:
    """The estimate of `dmft.solve` with these settings.

    Raises:
        MemoryLimitError: one replica does not fit into memory, as in the run itself.
    """
    accuracy = (settings.t_max, settings.step, settings.rtol, settings.precision)
    cost = theory_cost(settings.model, *accuracy, settings.kernels)
    return Estimate(
        side="theory",
        work=cost.describe(),
        memory_bytes=PROCESS + SOLVER + cost.side_by_side * cost.bytes_each,
        seconds=_on_cpu(_compilation(cost) + _work(cost)),
    )


def simulation_estimate(settings: Settings) -> Estimate:
    """The estimate of `sim.simulate` with these settings; no network is trained.

    Raises:
        MemoryLimitError: one seed does not fit into memory, as in the run itself.
    """
    from sim.request import Request, flow_rtol

    asked = ("t_max", "seeds", "step", "precision", "seed", "optimizer", "stop_below")
    rtol = flow_rtol(settings.rtol, settings.precision)
    request = Request(rtol=rtol, **{name: getattr(settings, name) for name in asked})
    steps, memory, seconds = _trained(settings.model, settings.form, request)
    of = "steps" if settings.step else "evaluations"
    work = f"{settings.seeds} x {'at most ' if settings.stop_below else ''}{steps} {of}"
    return Estimate(side="simulation", work=work, memory_bytes=PROCESS + memory, seconds=_on_cpu(START + seconds))


def _trained(model: Model, form: str, request: Request) -> tuple[int, float, float]:
    """Steps or evaluations of each seed, bytes and seconds of a simulation."""
    from sim.request import make_plan
    from sim.systems.forms import choose_form, quadratic_system, row_count
    from sim.training.stepsize import expected_evaluations

    chosen = choose_form(model, form, request.optimizer)
    system = quadratic_system(model, chosen)
    memory = _bytes_side_by_side(system, request)  # refused before anything is drawn
    steps = make_plan(system, request).count
    if request.is_flow:
        assert system.curvature is not None
        steps = expected_evaluations(system.curvature(request.seed, 0, None), request.t_max, request.rtol)
    batch = request.optimizer.batch_size or model.samples
    assert model.dim is not None
    seconds = (
        request.replicas * steps * _seconds_of_step((row_count(model, chosen), model.dim, batch), request.precision)
    )
    return steps, memory, seconds


def _seconds_of_step(shape: tuple[int, int, int], precision: str) -> float:
    """Seconds of one step of one seed, with (rows, D, samples)."""
    rows, dim, samples = shape
    return STEP + 4.0 * rows * dim * samples / (SHARE * product_rate(shape, precision))


def _bytes_side_by_side(system: System, request: Request) -> float:
    """Bytes of the seeds that are trained side by side."""
    import jax
    import numpy as np

    from sim.training.descent import Layout
    from sim.training.driver import group_size

    layout = Layout(vectorized=jax.default_backend() != "cpu", devices=min(jax.device_count(), request.seeds))
    group = group_size(system, request, layout)
    return system.drawing_bytes + group * np.dtype(request.precision).itemsize * system.numbers


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
    seconds, memory = START, 0.0
    for run in chosen.runs:
        form = choose_experiment_form(run.experiment, "auto", Optimizer())
        system = experiment_system(run.experiment, form, chosen.kernel)
        shape = row_count(run.experiment.model, form), run.experiment.dim, run.experiment.samples
        seconds += seeds * chosen.steps * _seconds_of_step(shape, chosen.precision)
        memory = max(memory, system.drawing_bytes + 8.0 * seeds * system.numbers)
    work = f"{len(chosen.runs)} runs of {seeds} x {'at most ' if chosen.stop_below else ''}{chosen.steps} steps"
    return Estimate(side="simulation", work=work, memory_bytes=PROCESS + memory, seconds=_on_cpu(seconds))


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
        cost = theory_cost(sweep.base_model, sweep.t_max, sweep.step, sweep.rtol, sweep.precision, kernels=False)
        seconds = _compilation(cost) + count * _work(cost) / processes
        memory = processes * (PROCESS + SOLVER + cost.side_by_side * cost.bytes_each)
        work = f"{count} points of {cost.describe()}"
        found.append(Estimate(side="theory", work=work, memory_bytes=memory, seconds=_on_cpu(seconds, elsewhere)))
    if sweep.simulate_every:
        found.append(_simulated_points(sweep, processes, elsewhere))
    return found


def _simulated_points(sweep: Sweep, processes: int, elsewhere: bool) -> Estimate:
    """All simulations of a sweep, from some of them, evenly picked."""
    from sim.request import Request

    models, settings = list(sweep.simulated.values()), dict(sweep.simulation_settings)
    form, request = settings.pop("form"), Request(**settings)
    picked = models[:: -(-len(models) // PICKED)]
    steps, memory, seconds = zip(*(_trained(model, form, request) for model in picked), strict=True)
    of = "evaluations" if request.is_flow else "steps"
    total = processes * START + len(models) * sum(seconds) / len(picked)
    return Estimate(
        side="simulation",
        work=f"{len(models)} points of {request.seeds} x {min(steps)} to {max(steps)} {of}",
        memory_bytes=processes * (PROCESS + max(memory)),
        seconds=_on_cpu(total / processes, elsewhere),
    )


def product_rate(shape: tuple[int, int, int], precision: str) -> float:
    """Floating-point operations per second of the products (n, k) x (k, m) x (m, k), here and now."""
    import jax
    import jax.numpy as jnp

    n, k, m = shape
    with precision_context(precision):
        left, right = jnp.ones((n, k)), jnp.ones((k, m))
        repeat = max(1, int(SHORT / (4.0 * n * k * m)))

        @jax.jit
        def products(left: jax.Array, right: jax.Array) -> jax.Array:
            """`repeat` pairs of products, each of which needs the one before."""
            return jax.lax.fori_loop(0, repeat, lambda _, x: left + 1e-9 * (x @ right) @ right.T, left)

        products(left, right).block_until_ready()
        best, start = math.inf, time.perf_counter()
        while time.perf_counter() - start < TRIAL:
            before = time.perf_counter()
            products(left, right).block_until_ready()
            best = min(best, time.perf_counter() - before)
    return 4.0 * n * k * m * repeat / best


def _on_cpu(seconds: float, elsewhere: bool = False) -> float | None:
    """The seconds, if the rule holds where the work is done."""
    import jax

    return None if elsewhere or jax.default_backend() != "cpu" else seconds
