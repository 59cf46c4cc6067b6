"""The programs of both sides are made for GPU and TPU on a machine that has neither: what would not lower there fails.

The compiler of a device is not asked, so this says that every operation exists on it, not how fast it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from dmft import Committee, Model
from dmft.checks import precision_context
from dmft.compiled.executables import Compilable
from dmft.solver import engine_for
from dmft.twotime import request as theory
from dmft.twotime.steps import multistep
from sim import Experiment, Optimizer, Request
from sim.request import make_plan
from sim.systems.committee import committee_system
from sim.systems.forms import quadratic_system
from sim.training.checkpoint import Checkpoint
from sim.training.descent import Chunk, Layout, advance, begin
from sim.training.flow import Span, begin_flow, follow
from sim.training.groups import Job, draw_batch
from sim.training.optimizers import Pace
from sim.training.schedule import CAPACITY
from sim.training.system import System
from sim.variants.system import experiment_system

#: A function, its arguments and its static arguments.
Work = tuple[Compilable, tuple[Any, ...], dict[str, Any]]

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=12, width=8)
COMMITTEE = Committee(alpha=1.0, kappa=2.0, width=2, activation="relu", teacher="half_square", dim=12)

SYSTEMS = {
    "network": quadratic_system(MODEL, "network"),
    "reduced": quadratic_system(MODEL.replace(width=None), "reduced"),
    "committee": committee_system(COMMITTEE, "auto"),
    "experiment": experiment_system(
        Experiment(model=MODEL, activation="hermite3", target="hermite3"), "network", False
    ),
}
RULES = {
    "descent": Optimizer(),
    "batches": Optimizer("momentum", 0.9, batch_size=6),
    "shuffled": Optimizer("gd", batch_size=6, replacement=True),
    "adamw": Optimizer("adamw", schedule="cosine", warmup=2),
    "flow": None,
}


def trained(system: System, rule: Optimizer | None, precision: str) -> Iterator[Work]:
    """What begins a simulation, and what takes its steps, side by side as on an accelerator."""
    pace: dict[str, Any] = {} if rule is None else {"step": 0.1, "optimizer": rule}
    request = Request(t_max=1.0, seeds=2, precision=precision, **pace)
    layout = Layout(vectorized=True, devices=1)
    job = Job(system, request, make_plan(system, request), layout, Checkpoint(None, 60.0, {}))
    drawn, static = draw_batch(job, range(2)), {"loop": job.loop}
    if rule is None:
        span = Span(*np.asarray([system.decay, 1.0], precision), np.int32(100))
        first: tuple[Any, ...] = (drawn, np.full(2, 1e-3, precision), span)
        windows = np.zeros((2, CAPACITY), precision)
        works = begin_flow, first, follow, (windows, span)
    else:
        shared = Pace(*np.asarray([0.1, system.decay, 10], precision))
        chunk = Chunk(np.int32(0), np.zeros(CAPACITY, np.int32), np.int32(1))
        works = begin, (drawn, shared), advance, (shared, chunk)
    yield works[0], works[1], static
    begun = jax.eval_shape(lambda *arrays: works[0].function(*arrays, **static), *works[1])
    yield works[2], (begun, *works[3]), static


def solved(model: Model | Committee, step: float | None, precision: str) -> Work:
    """The rows of the theory."""
    engine = engine_for(model)
    request = theory.Request(t_max=2.0, step=step, rtol=0.1, precision=precision)
    plan = request.plan(engine, request.first_grid(engine), full=True)
    program = engine.program(plan.grid, plan.sampling, plan.iteration)
    capacity = engine.capacities(plan.grid.size, plan.sampling)[0]
    steps = multistep(plan.grid, capacity, np.dtype(precision))
    state = engine.shapes(plan.sampling, plan.grid.size, capacity)
    return program.function, (program.couplings, steps, state, np.int32(0), np.int32(0)), dict(program.static)


def check_lowers(work: Work, precision: str) -> None:
    """On every platform, with numbers of this precision and no wider ones."""
    function, arguments, static = work
    traced = jax.jit(lambda *arrays: function.function(*arrays, **static)).trace(*arguments)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("f64" in text) == (precision == "float64"), platform


#: Every form by descent and flow, every rule in one form.
PAIRS = [(system, rule) for system in SYSTEMS for rule in RULES if rule in ("descent", "flow") or system == "network"]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("system", "rule"), PAIRS)
def test_simulations_lower_for_accelerators(system: str, rule: str, precision: str) -> None:
    with precision_context(precision):
        for work in trained(SYSTEMS[system], RULES[rule], precision):
            check_lowers(work, precision)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("step", [0.2, None], ids=["descent", "flow"])
@pytest.mark.parametrize("model", [MODEL.replace(width=None), COMMITTEE], ids=["wide", "committee"])
def test_theory_lowers_for_accelerators(model: Model | Committee, step: float | None, precision: str) -> None:
    with precision_context(precision):
        check_lowers(solved(model, step, precision), precision)


def test_what_exists_on_a_cpu_alone_is_seen() -> None:
    """The eigenvalues of a matrix without symmetry are not computed on a TPU."""
    work = Compilable(lambda x: jax.numpy.linalg.eigvals(x), (), {}), (np.eye(2, dtype=np.float32),), {}
    with precision_context("float32"), pytest.raises(NotImplementedError):
        check_lowers(work, "float32")
