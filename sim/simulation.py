"""`simulate`: train the real network on freshly drawn data, several times over, and report the theory's observables."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import dmft
from dmft.checks import PRECISIONS, ParameterError, check_choice, check_integer, check_real, precision_context
from dmft.model import Model
from dmft.order_parameters import OBSERVABLES, build_dataset
from sim.data import draw_replica
from sim.forms import choose_form
from sim.schedule import check_times, observed_steps
from sim.stepsize import default_step
from sim.training import Plan, group_size, train_group

if TYPE_CHECKING:
    import xarray


def simulate(
    model: Model,
    t_max: float,
    *,
    seeds: int = 8,
    step: float | None = None,
    form: str = "auto",
    times: Any = None,
    precision: str = "float64",
    seed: int = 0,
    progress: bool = False,
) -> xarray.Dataset:
    """Full-batch gradient descent on the real network (THEORY sections 1 to 3), on several fresh draws.

    Every seed draws new inputs, target direction, label noise and initial weights. Draw k depends on `seed` and k
    alone: more seeds add to those already there, and both forms and both precisions see the same draws.

    Args:
        model: the network and its task; `dim` must be set, `width` may be infinite (None).
        t_max: training time > 0, in the units of THEORY section 1.
        seeds: number S >= 1 of draws.
        step: time per gradient-descent step, > 0; the run takes max(1, round(t_max / step)) of them. None stands for
            gradient flow: a small step that divides t_max (`sim.stepsize.default_step`).
        form: "network" moves the N x D weights of a finite width; "reduced" is the exact form of at most D + 1 rows,
            for any width; "auto" takes the cheaper one.
        times: times to report, strictly increasing in [0, t_max], each answered by the nearest step. None reports
            every step up to 1000 of them, beyond that enough for linear interpolation to err by under 0.3 %.
        precision: "float64" or "float32".
        seed: random stream, an integer >= 0.
        progress: show a progress bar if standard error is a terminal.

    Returns:
        A dataset over ("seed", "time") of the `dmft.order_parameters.OBSERVABLES`, exact for the weights reached, and
        over ("time",) their `<name>_stderr`: standard deviation over seeds (ddof 1) / sqrt(S), NaN for one seed.

    Raises:
        ParameterError: an argument is out of range; the message names it.
        DivergenceError: the loss grew without bound; the message names a stable step.
        MemoryLimitError: one draw does not fit into memory.

    Example:
        >>> from dmft import Model
        >>> dict(simulate(Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20), 1.0, seeds=2, step=0.1).sizes)
        {'seed': 2, 'time': 11}
    """
    t_max = check_real("t_max", t_max, above=0.0)
    seeds = check_integer("seeds", seeds, at_least=1)
    plan = make_plan(model, t_max, seeds, step, form, times, precision, seed)
    groups = [range(first, min(first + plan.group, seeds)) for first in range(0, seeds, plan.group)]
    with precision_context(precision), reporter(progress, seeds * plan.count) as report:
        values = np.concatenate([train_group(plan, indices, report) for indices in groups])
    time = plan.steps * plan.step
    if step is None:
        time[plan.steps == plan.count] = t_max  # n (t_max / n) may differ from t_max in the last bit
    settings = {
        "kind": "simulation",
        "t_max": t_max,
        "step": plan.step,
        "step_chosen": int(step is None),
        "form": plan.form.name,
        "form_requested": form,
        "seeds": seeds,
        "seed": plan.seed,
        "precision": precision,
        "backend": jax.default_backend(),
        "package_version": dmft.__version__,
    }
    return assemble(time, values, model.to_attributes() | settings)


def make_plan(
    model: Model, t_max: float, seeds: int, step: float | None, form: str, times: Any, precision: str, seed: int
) -> Plan:
    """Check the arguments of `simulate` and fix what they leave open: form, step, observed steps, group size."""
    if not isinstance(model, Model):
        raise ParameterError(f"Argument `model` must be a dmft.Model, but is {model!r}.")
    if model.dim is None:
        raise ParameterError("Argument `dim` of the model must be an integer >= 2 to simulate, but is None (infinite).")
    check_choice("precision", precision, PRECISIONS)
    seed = check_integer("seed", seed, at_least=0)
    if seed >= 2**63:
        raise ParameterError(f"Argument `seed` must be an integer below 2^63, but is {seed}.")
    wanted = None if times is None else check_times(times, t_max)
    chosen = choose_form(model, form)
    group = group_size(model, chosen, seeds, precision)  # before anything is drawn
    if step is None:
        count = math.ceil(t_max / default_step(model, draw_replica(model, seed, 0)))
        step = t_max / count
    else:
        step = check_real("step", step, above=0.0)
        count = max(1, round(t_max / step))
    return Plan(model, chosen, step, count, observed_steps(count, step, wanted), precision, seed, group)


def assemble(time: np.ndarray, values: np.ndarray, attributes: dict[str, Any]) -> xarray.Dataset:
    """The dataset of observables `values`, (S, T, 8), at `time`, (T,), with standard errors over the S seeds."""
    seeds = values.shape[0]
    deviation = np.std(values, axis=0, ddof=1) if seeds > 1 else np.full(values.shape[1:], np.nan)
    columns = {name: values[:, :, i] for i, name in enumerate(OBSERVABLES)}
    errors = {name: deviation[:, i] / math.sqrt(seeds) for i, name in enumerate(OBSERVABLES)}
    dataset = build_dataset(("seed", "time"), time, columns, errors, attributes)
    return dataset.assign_coords(seed=("seed", np.arange(seeds), {"long_name": "independent draw"}))


@contextlib.contextmanager
def reporter(progress: bool, total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the steps done; it moves a bar of length `total` if `progress` on a terminal."""
    if not (progress and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.advance(task, steps)
