"""What a simulation will take, before it runs: memory from the sizes of its arrays, time from a measured rule.

A step of one seed takes `operations` = 4 P D rows floating-point operations in matrix products of fixed shape
(rows, D) x (D, P). How fast these are is measured on the machine at hand, within TRIAL seconds, in NumPy:

    seconds = START + seeds steps (STEP + operations / (SHARE rate)).

It was right within a factor of 2 in the cases of docs/command-line.md, with nothing else running.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from dmft.checks import ParameterError, precision_context, spelt
from dmft.models.model import Model
from dmft.progress import Estimate, on_cpu

if TYPE_CHECKING:
    from sim.request import Request
    from sim.training.system import System

#: Seconds to import and compile a simulation; of one step beside its products; share of their rate that it reaches.
START, STEP, SHARE = 4.0, 1e-6, 0.85
#: Bytes that a process takes beside its arrays.
PROCESS = 0.5 * 2**30
#: Seconds over which the rate of the products is measured, in stretches of at least so many operations.
TRIAL, SHORT = 0.2, 2e7


def estimate(model: Model, t_max: float, *, form: str = "auto", **arguments: Any) -> Estimate:
    """Memory and time of `sim.simulate(model, t_max, form=form, **arguments)` of a dmft.Model; no network is trained.

    Raises:
        ParameterError: an argument is out of range.
        MemoryLimitError: one seed does not fit into memory, as in the run itself.
    """
    from sim.request import Request

    if not isinstance(model, Model) or model.dim is None:
        raise ParameterError(f"Argument `model` must be a dmft.Model with `dim`, but is {model!r}.")
    request = spelt(Request, "estimate")(t_max=t_max, **arguments)
    steps, memory, seconds = trained(model, form, request)
    of = "evaluations" if request.is_flow else "steps"
    work = f"{request.seeds} x {'at most ' if request.stop_below else ''}{steps} {of}"
    return Estimate(side="simulation", work=work, memory_bytes=PROCESS + memory, seconds=on_cpu(START + seconds))


def trained(model: Model, form: str, request: Request) -> tuple[int, float, float]:
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
        request.replicas * steps * seconds_of_step((row_count(model, chosen), model.dim, batch), request.precision)
    )
    return steps, memory, seconds


def seconds_of_step(shape: tuple[int, int, int], precision: str) -> float:
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
