"""`simulate`: train the real network on freshly drawn data, several times over, and report the theory's observables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmft.checks import ParameterError, check_bool, spelt
from dmft.models.committee import Committee
from dmft.models.model import Model
from sim.experiment_simulation import run_experiment
from sim.request import Request
from sim.systems.committee import committee_system
from sim.systems.forms import choose_form, quadratic_system
from sim.training.driver import run
from sim.training.system import System
from sim.variants.experiment import Experiment

if TYPE_CHECKING:
    import xarray


@spelt
def simulate(
    model: Model | Committee | Experiment,
    t_max: float,
    *,
    seeds: int = 8,
    step: float | None = None,
    rtol: float = 1e-3,
    form: str = "auto",
    times: Any = None,
    precision: str = "float64",
    seed: int = 0,
    optimizer: Any = "gd",
    stop_below: Mapping[str, float] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool | None = None,
    kernel: bool = False,
    linearized: bool = False,
) -> xarray.Dataset:
    """Gradient descent or gradient flow of the real network (THEORY sections 1 to 3), on several fresh draws.

    Every seed draws new inputs, target direction, label noise and initial weights. Draw k depends on `seed` and k
    alone: more seeds add to those already there, and both forms and both precisions see the same draws.

    Args:
        model: the network and its task; `dim` must be set, `width` may be infinite (None). An `Experiment` has
            observables of its own. A
            `dmft.Committee` has those of `dmft.losses.committee`; its `batch_fraction` below 1 needs a `step`.
        t_max: training time > 0, in the units of THEORY section 1.
        seeds: number S >= 1 of draws.
        step: time per gradient-descent step, > 0; the run takes max(1, round(t_max / step)) of them. None: gradient
            flow, by Runge-Kutta-Chebyshev steps that are chosen as it goes (`sim.training.flow`).
        rtol: relative error of the losses of gradient flow, from 1e-9 (float32: 1e-4) to 0.1, down to 1e-5 of their
            start. What was reached is measured: `<name>_step_error`. With `step` it has no meaning.
        form: "network" moves the N x D weights of a finite width; "reduced" is the exact form of at most D + 1 rows,
            for any width; "auto" takes the cheaper one. A committee has the network form alone.
        times: times to report, strictly increasing in [0, t_max]; with `step` each is answered by the nearest step, of
            which no two may be the same. None reports every step up to 1000 of them, beyond that, and of gradient flow,
            enough for linear interpolation to err by under 0.3 %.
        precision: "float64" or "float32".
        seed: random stream, an integer >= 0.
        optimizer: "gd" (plain gradient descent on all samples, the counterpart of the theory), "momentum", "nesterov",
            "adam", "adamw", an optax.GradientTransformation, or a `sim.Optimizer` with batches and a schedule. `step`
            is their learning rate, in time per step. Rules that depend on the coordinates of the weights (adam,
            adamw, those of optax) need a finite width and the network form.
        stop_below: losses and thresholds, such as {"test_loss": 0.1}: the run ends at the first reported time at
            which every seed is below all of them, instead of at t_max. All seeds must fit into memory at once.
        checkpoint: path of a file in which the run is saved as it goes, and from which it goes on if it exists, with
            the same numbers to the last bit on the same device. The file stays when the run is done.
        checkpoint_every: seconds between two saves, >= 0.
        progress: True shows a bar in a terminal or a notebook, False nothing. None shows one there if the run is
            expected to take more than 20 s, and elsewhere prints a line a minute to standard error.
        kernel: of an `Experiment`: follow the tangent kernel, its alignment with the labels and its distance from the
            start.
        linearized: of an `Experiment`: train the linearised network beside it, and add regression with the initial
            kernel, over ("seed",); only for plain gradient descent without weight decay.

    Returns:
        A dataset over ("seed", "time") of the `dmft.losses.quadratic.OBSERVABLES`, exact for the weights reached, and
        over ("time",) their `<name>_stderr`: standard deviation over seeds (ddof 1) / sqrt(S), NaN for one seed. For a
        committee: train_loss, test_loss, teacher_overlap over ("seed", "time", "neuron", "direction"), self_overlap
        over ("seed", "time", "neuron", "neuron2") and, if trained, readouts over ("seed", "time", "neuron"). With
        `stop_below`, the attribute `stopped` says whether the time axis ends before t_max. Gradient flow adds
        `<name>_step_error` over ("time",), by how much its steps may be off, and the attributes `integrator`,
        `evaluations` (of the gradient, the mean over seeds), `rejected` (steps, of all seeds) and `tolerance_met`.

    Raises:
        ParameterError: an argument is out of range, or the checkpoint is damaged or of another run.
        DivergenceError: the loss grew without bound; the message names a stable step, and the error's `curves` are
            the dataset up to there, with the attribute `complete` = 0.
        StiffnessError: gradient flow is too stiff to be followed; with `curves` likewise.
        MemoryLimitError: one draw does not fit into memory.

    Examples:
        >>> from dmft import Model
        >>> dict(simulate(Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20), 1.0, seeds=2, step=0.1).sizes)
        {'seed': 2, 'time': 11}
    """
    request = Request(
        t_max=t_max,
        seeds=seeds,
        step=step,
        rtol=rtol,
        times=times,
        precision=precision,
        seed=seed,
        optimizer=optimizer,
        stop_below=stop_below,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    kernel, linearized = check_bool("kernel", kernel), check_bool("linearized", linearized)
    if isinstance(model, Experiment):
        return run_experiment(model, form, request, kernel=kernel, linearized=linearized)
    return run(*prepared(model, form, request, kernel=kernel, linearized=linearized))


def prepared(
    model: Any, form: str, request: Request, *, kernel: bool = False, linearized: bool = False
) -> tuple[System, Request, dict[str, Any]]:
    """What `simulate` runs of a model that is no Experiment: its system, the request and its attributes.

    Raises:
        ParameterError: the model cannot be simulated, not in this form, or not by this optimiser.
    """
    if kernel or linearized:
        name = "kernel" if kernel else "linearized"
        raise ParameterError(f"Argument `{name}` must be False unless the model is a sim.Experiment, but is True.")
    if isinstance(model, Committee):
        settings = {"samples": model.samples, "form": "network", "form_requested": form} if model.dim else {}
        return committee_system(model, form), request, model.to_attributes() | settings
    if not isinstance(model, Model):
        raise ParameterError(
            f"Argument `model` must be a dmft.Model, a dmft.Committee or a sim.Experiment, but is {model!r}."
        )
    if model.dim is None:
        raise ParameterError("Argument `dim` of the model must be an integer >= 2 to simulate, but is None (infinite).")
    chosen = choose_form(model, form, request.optimizer)
    attributes = {**model.to_attributes(), "form": chosen, "form_requested": form}
    return quadratic_system(model, chosen), request, attributes
