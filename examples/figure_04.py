"""Figure 4: two neurons that grok, the three parts of their test loss, and the theory of two neurons.

python examples/figure_04.py [--full]: the theory to t = 20, or to 60. Most draws of two neurons end
in a local minimum: the draw shown (pale, D = 40) is the first of a stream chosen for it; how others end is printed. The
theory of finite width begins with the overlaps of this very draw, as do the simulations at D = 1600 beside it.
"""

import numpy as np
import xarray
from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import Committee, solve
from gallery import (
    ACCURACY,
    PARTS,
    TEST,
    TRAIN,
    draw_losses,
    draw_simulation,
    draw_theory,
    finish,
    key,
    run,
    say,
    times,
)
from sim import preset, simulate
from sim.systems.draws import draw_replica

#: Training time, draws of another stream; time of the theory and its accuracy, draws beside it.
SIZES = {
    "full": (1250.0, 36, 60.0, ACCURACY, 32),
    "default": (1250.0, 12, 20.0, ACCURACY, 8),
    "quick": (5.0, 2, 0.4, {"points": 8, "rtol": 1.0, "sample_count": 256, "replicas": 4}, 2),
}
START = 0.1
#: Dimension of the simulations beside the theory.
BESIDE = 1600


def with_parts(dataset: xarray.Dataset, committee: Committee) -> xarray.Dataset:
    """The dataset with the parts of the test loss (THEORY section 2), from the overlaps."""
    gain, width = committee.alpha * committee.epsilon, committee.width
    overlap, teacher = dataset["self_overlap"], dataset["teacher_overlap"].isel(direction=0)
    trace = overlap.sum(("neuron", "neuron2")).copy(data=np.trace(overlap, axis1=-2, axis2=-1)) / width
    squares, along = ((each**2).sum(dims) for each, dims in ((overlap, ("neuron", "neuron2")), (teacher, "neuron")))
    parts = {
        "variance_error": 0.25 * (gain * trace - 1.0) ** 2,
        "misalignment_error": 0.5 * (gain**2 * squares / width**2 - 2.0 * gain * along / width + 1.0),
        "linear_power": committee.alpha**2 * overlap.sum(("neuron", "neuron2")) / width**2,
    }
    if "seed" in dataset.dims:
        parts |= {
            f"{name}_stderr": part.std("seed", ddof=1) / dataset.sizes["seed"] ** 0.5 for name, part in parts.items()
        }
    return dataset.assign(parts)


def draw(size: str) -> Figure:
    """Losses, and the parts of the test loss."""
    t_max, draws, horizon, accuracy, seeds = SIZES[size]
    paper = preset("fig4")
    (experiment,) = (each.experiment for each in paper.runs)
    model = experiment.model
    shown = simulate(experiment, t_max, seeds=1, seed=paper.seed, times=times(t_max, count=200))
    others = simulate(experiment, t_max, seeds=draws, times=times(t_max))
    start = draw_replica(model, paper.seed, 0)
    committee = Committee(
        alpha=model.alpha,
        kappa=model.kappa,
        width=2,
        activation="quadratic",
        epsilon=model.epsilon,
        initial_teacher_overlap=(start.weights @ start.beta)[:, None] / model.dim,
        initial_self_overlap=start.weights @ start.weights.T / model.dim,
    )
    theory = with_parts(solve(committee, horizon, **accuracy), committee)
    beside = simulate(committee.replace(dim=BESIDE), horizon, seeds=seeds, times=times(horizon))
    beside = with_parts(beside, committee)

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    losses, parts = figure.subplots(1, 2)
    curves = {"time": shown["time"], **{name: shown[name][0] for name in shown.data_vars if "seed" in shown[name].dims}}
    for name, (color, line, _) in (("train_loss", TRAIN), ("test_loss", TEST)):
        losses.plot(curves["time"][1:], curves[name][1:], color=color, ls=line, lw=2.5, alpha=0.3)
    draw_losses(losses, theory, beside, START)
    for name, (_, color, line, marker) in PARTS.items():
        parts.plot(curves["time"][1:], curves[name][1:], color=color, ls=line, lw=2.5, alpha=0.3)
        draw_theory(parts, theory, name, color, line)
        draw_simulation(parts, beside, name, color, marker, START)
    finish(losses, START, t_max, ylabel="mean squared error", ylim=(0.0, None))
    finish(parts, START, t_max, ylabel="part of the test loss", ylim=(0.0, None))
    title = f"lines: theory, points: D = {BESIDE}\npale: one draw at D = 40"
    key(losses, [("train", *TRAIN), ("test", *TEST)], title=title, title_fontsize=7.5)
    key(parts, PARTS.values())

    power = curves["linear_power"].to_numpy()
    lowest = int(np.argmax(np.diff(power) > 0.0))  # before its first rise
    print(
        f"linear power: {power[0]:.2f} at first, {power[lowest]:.2f} at t = {float(curves['time'][lowest]):.1f}, then "
        f"{power[lowest:].max():.2f}, at the end {power[-1]:.1e}"
    )
    delay = grokking_delay(shown)
    print(f"train below 0.1 at t = {delay.t_train.value:.0f}, test at t = {delay.t_test.value:.0f}")
    ends = others["test_loss"].to_numpy()[:, -1]
    print(
        f"of {draws} other draws {np.sum(ends < 0.1)} end below a test loss of 0.1; the others at a median of "
        f"{np.median(ends[ends >= 0.1]):.2f}"
    )
    say(f"two neurons, D = {BESIDE}", theory, beside)
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig4")
