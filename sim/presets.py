"""The runs behind the paper's figures, in the paper's own conventions (arXiv 2310.06110).

Learning rates are for the losses that the paper descends: the plain mean square (loss factor 2 relative to
(1/2P) sum Delta^2), or that divided by alpha^2 (loss factor 2/alpha^2). The target of figure 3 (a, b) is (beta.x)^2,
without the 1/2. Everywhere |beta|^2 = D exactly, where the paper's beta is drawn from N(0, I).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dmft.checks import DivergenceError, ParameterError
from dmft.models.model import Model
from sim.variants.experiment import Experiment

if TYPE_CHECKING:
    import xarray

#: Of draws of two neurons only about one in four generalises; this stream's first does (figures 4 and 9).
GROKKING_DRAW = 8
#: Observed step numbers of a preset: about so many, evenly spread over log(step).
OBSERVATIONS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class PresetRun:
    """One curve of a figure.

    Attributes:
        label: short name, part of file names.
        experiment: what is trained.
        learning_rate: of gradient descent, in the paper's convention.
        loss_factor: what is descended, relative to (1/2P) sum Delta^2.
    """

    label: str
    experiment: Experiment
    learning_rate: float
    loss_factor: float

    @property
    def step(self) -> float:
        """Time per step, in the units of THEORY section 1."""
        return self.experiment.model.step_from_learning_rate(self.learning_rate, loss_factor=self.loss_factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """The runs behind one figure.

    Attributes:
        name: of the preset.
        title: what the figure shows.
        runs: its curves.
        steps: gradient-descent steps of each.
        kernel: whether the tangent kernel is followed.
        linearized: whether the linearised network is trained beside.
        stop_below: losses at which a run may end early, because the figure shows nothing later.
        flow: whether gradient flow is followed, for as long as the steps would take.
        precision: of the training.
        seed: random stream that is taken when none is given.
        assumed: what the paper does not state, and what is taken instead.
    """

    name: str
    title: str
    runs: tuple[PresetRun, ...]
    steps: int
    kernel: bool = False
    linearized: bool = False
    stop_below: dict[str, float] | None = None
    flow: bool = False
    precision: str = "float64"
    seed: int = 0
    assumed: str = ""


def _experiment(*, dim: int, samples: int, strengths: Sequence[float] = (1.0,), **model: Any) -> Experiment:
    return Experiment(model=Model(dim=dim, kappa=samples / dim, **model), strengths=strengths)


def _figure_1() -> Preset:
    experiment = _experiment(dim=100, samples=550, width=500, alpha=1.0, epsilon=0.02, centered=True)
    return Preset(
        name="fig1",
        title="grokking: the network first behaves as its linearisation, then leaves it",
        runs=(PresetRun(label="network", experiment=experiment, learning_rate=500.0, loss_factor=2.0),),
        steps=100_000,
        kernel=True,
        linearized=True,
    )


def _figure_3(name: str, title: str, field: str, values: Sequence[float]) -> Preset:
    runs = []
    for value in values:
        model = {"alpha": 1.0, "epsilon": 0.25} | {field: value}
        experiment = _experiment(dim=100, samples=450, width=500, centered=True, strengths=(2.0,), **model)
        factor = 2.0 / model["alpha"] ** 2
        label = f"{field}-{value:g}"
        runs.append(PresetRun(label=label, experiment=experiment, learning_rate=250.0, loss_factor=factor))
    return Preset(
        name=name,
        title=title,
        runs=tuple(runs),
        steps=60_000,
        assumed="The figure's loss is divided by its first value; the target is (beta.x)^2, without the 1/2.",
    )


def _figure_3a() -> Preset:
    values = (2.0**-5, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    return _figure_3("fig3a", "laziness: a larger output scale delays generalisation", "alpha", values)


def _figure_3b() -> Preset:
    values = (0.25, 0.5, 1.0, 2.0, 4.0)
    return _figure_3("fig3b", "alignment: a weaker quadratic feature delays generalisation", "epsilon", values)


def _figure_3e(name: str, numbers: Sequence[int], *, flow: bool = False) -> Preset:
    runs = []
    for k in numbers:
        for j in numbers:
            alpha, epsilon = 0.4 * k, 0.02 * j
            experiment = _experiment(dim=100, samples=550, width=500, alpha=alpha, epsilon=epsilon, centered=True)
            rate = 20.0 * 500 / alpha**2
            label = f"alpha-{alpha:g}-epsilon-{epsilon:g}"
            runs.append(PresetRun(label=label, experiment=experiment, learning_rate=rate, loss_factor=2.0))
    return Preset(
        name=name,
        title="steps between the train and the test loss falling below 0.1",
        runs=tuple(runs),
        steps=110_000,
        stop_below={"train_loss": 0.1, "test_loss": 0.1},
        flow=flow,
        precision="float64" if flow else "float32",
        assumed=f"{len(numbers)} x {len(numbers)} points (the paper: 14 x 14); colours are delays in steps.",
    )


def _figure_4() -> Preset:
    experiment = _experiment(dim=40, samples=120, width=2, alpha=1.0, epsilon=0.25)
    return Preset(
        name="fig4",
        title="two neurons: the parts of the test loss",
        runs=(PresetRun(label="network", experiment=experiment, learning_rate=1.0, loss_factor=2.0),),
        steps=50_000,
        seed=GROKKING_DRAW,
    )


def _figure_9() -> Preset:
    runs = []
    for samples in (50, 120, 500):
        experiment = _experiment(dim=40, samples=samples, width=2, alpha=1.0, epsilon=0.25)
        label = f"samples-{samples}"
        runs.append(PresetRun(label=label, experiment=experiment, learning_rate=1.0, loss_factor=2.0))
    return Preset(
        name="fig9",
        title="too little, enough and plenty of data",
        runs=tuple(runs),
        steps=50_000,
        seed=GROKKING_DRAW,
        assumed="The number of neurons and all else are those of figure 4.",
    )


#: How each preset is made, by name.
PRESETS: dict[str, Callable[[], Preset]] = {
    "fig1": _figure_1,
    "fig3a": _figure_3a,
    "fig3b": _figure_3b,
    "fig3e": lambda: _figure_3e("fig3e", (1, 5, 10, 14)),
    "fig3e-full": lambda: _figure_3e("fig3e-full", range(1, 15)),
    "fig3e-flow": lambda: _figure_3e("fig3e-flow", range(1, 15), flow=True),
    "fig4": _figure_4,
    "fig9": _figure_9,
}


def preset(name: str) -> Preset:
    """The preset `name`.

    Raises:
        ParameterError: there is none of that name; the message lists those there are.
    """
    if name not in PRESETS:
        raise ParameterError(f"Argument `preset` must be one of {', '.join(PRESETS)}, but is {name!r}.")
    return PRESETS[name]()


def run_preset(
    chosen: Preset | str,
    *,
    seeds: int = 1,
    seed: int | None = None,
    steps: int | None = None,
    progress: bool = False,
    keep: Callable[[str, dict[str, Any], Callable[[], xarray.Dataset]], xarray.Dataset] | None = None,
) -> dict[str, xarray.Dataset]:
    """Train the runs of a preset.

    Args:
        chosen: a preset, or its name.
        seeds: draws per run; the paper shows one.
        seed: random stream; None: the preset's.
        steps: fewer or more steps than the paper's; None: as many.
        progress: show a progress bar per run if standard error is a terminal.
        keep: called with the label of a run, all that determines it, and what computes it; gives its dataset, from
            where finished runs are kept or computed.

    Returns:
        Label -> dataset (`sim.simulate`), with the preset's name, the learning rate, the loss factor and the paper's
        time per step among the attributes. Of several runs, one that diverges is warned of, and kept up to there
        (attribute `complete` = 0).

    Raises:
        ParameterError: there is no such preset, or an argument is out of range.
        DivergenceError: the only run diverged.
    """
    made = preset(chosen) if isinstance(chosen, str) else chosen
    count = made.steps if steps is None else steps
    draw = made.seed if seed is None else seed
    results = {}
    for run in made.runs:
        compute = partial(_train, made, run, count, seeds, draw, progress)
        about = vars(run) | {"preset": made.name, "steps": count, "seeds": seeds, "seed": draw}
        dataset = compute() if keep is None else keep(run.label, about, compute)
        paper = {"preset": made.name, "learning_rate": run.learning_rate, "loss_factor": run.loss_factor}
        paper["paper_step"] = run.step
        results[run.label] = dataset.assign_attrs(paper)
    return results


def _train(made: Preset, run: PresetRun, count: int, seeds: int, seed: int, progress: bool) -> xarray.Dataset:
    """One run; of a sweep, one that diverges is warned of."""
    from sim.simulation import simulate

    try:
        return simulate(
            run.experiment,
            count * run.step,
            step=None if made.flow else run.step,
            kernel=made.kernel,
            linearized=made.linearized,
            seeds=seeds,
            seed=seed,
            times=observed_steps(count) * run.step,
            stop_below=made.stop_below,
            precision=made.precision,
            progress=progress,
        )
    except DivergenceError as error:  # of a sweep the other points are worth having
        if error.curves is None or len(made.runs) == 1:
            raise
        warnings.warn(f"{made.name}, {run.label}: {error}", stacklevel=3)
        return error.curves


def observed_steps(count: int) -> np.ndarray:
    """Step numbers 0 .. count, evenly spread over log(step), about OBSERVATIONS of them."""
    return np.unique(np.concatenate([[0], np.rint(np.geomspace(1, count, OBSERVATIONS)).astype(np.int64)]))
