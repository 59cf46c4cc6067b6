"""Figure 1: a network that groks, the closed form of its linearisation, and the theory of the network.

python examples/figure_01.py [--full] [--dim D]

Four draws, or sixteen.
"""

import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import Model, limits, solve
from gallery import (
    ACCURACY,
    TEST,
    TRAIN,
    both,
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

#: Draws and training time, the paper's: 100,000 steps.
SIZES = {"full": (16, 2000.0), "default": (4, 2000.0), "quick": (2, 4.0)}
START = 0.1


def draw(size: str, dim: int | None = None) -> Figure:
    """Losses of network and linearisation; alignment and movement of the tangent kernel. Of another D, losses alone."""
    seeds, t_max = SIZES[size]
    (paper,) = preset("fig1").runs
    experiment, model = paper.experiment, paper.experiment.model
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    if dim is None:
        theory = solve(model, t_max, **ACCURACY)
        network = simulate(experiment, t_max, seeds=seeds, times=times(t_max), kernel=True, linearized=True)
        losses, aligned, moved = figure.subplot_mosaic(
            [["losses", "aligned"], ["losses", "moved"]], width_ratios=[1.5, 1]
        ).values()
        draw_kernel(aligned, moved, network, t_max)
    else:
        theory, network = both(model, t_max, t_max, seeds, size, dim)
        losses = figure.subplots()
    draw_losses(losses, theory, network, START)
    lazy = {"time": theory["time"], **limits.lazy(model, theory["time"])}
    entries = [("train", *TRAIN), ("test", *TEST)]
    for label, (_, line, marker) in (("train", TRAIN), ("test", TEST)):
        draw_theory(losses, lazy, f"{label}_loss", "0.55", line)
        if dim is None:
            draw_simulation(losses, network, f"linearized_{label}_loss", "0.35", marker, START)
        entries.append((f"linearised, {label}", "0.45", line, marker if dim is None else None))
    if dim is None:
        losses.axhline(float(network["kernel_regression_test_loss"].mean()), color="#CC79A7", ls="-.", lw=1.0)
        entries.append(("regression, initial kernel", "#CC79A7", "-.", None))
    finish(
        losses, START, t_max, ylim=(0.0, None), ylabel="mean squared error", title="" if dim is None else f"$D = {dim}$"
    )
    key(losses, entries, loc="lower left", title="lines: theory, points: simulation", title_fontsize=7.5)

    say("network", theory, network)
    print("theory:    ", grokking_delay(theory).t_train, grokking_delay(theory).t_test)
    print("simulation:", grokking_delay(network).t_train, grokking_delay(network).t_test)
    if dim is None:
        say_linearised(network, theory, model)
    return figure


def draw_kernel(aligned: Axes, moved: Axes, network: xarray.Dataset, t_max: float) -> None:
    """How far the tangent kernel is aligned with the target, and how far kernel and parameters have moved."""
    draw_simulation(aligned, network, "kernel_alignment_centered", "#009E73", "o", START)
    finish(aligned, START, t_max, ylabel="kernel alignment", xlabel="")
    for name, color, marker in (("kernel_distance", "0.35", "s"), ("parameter_movement", "#E69F00", "o")):
        draw_simulation(moved, network, name, color, marker, START)
    key(moved, [("kernel", "0.35", None, "s"), ("parameters", "#E69F00", None, "o")])
    finish(moved, START, t_max, yscale="log", ylabel="distance from start")


def say_linearised(network: xarray.Dataset, theory: xarray.Dataset, model: Model) -> None:
    """How well the closed form is the linearised network, and where regression with the initial kernel ends."""
    for name in ("train_loss", "test_loss"):
        ratio = network[f"linearized_{name}"].mean("seed").to_numpy() / limits.lazy(model, network["time"])[name]
        print(f"linearised network / closed form, {name}: {ratio.min():.3f} to {ratio.max():.3f}")
    print(
        f"regression with the initial kernel: {float(network['kernel_regression_test_loss'].mean()):.3f}; network at "
        f"the end: {float(network.test_loss.mean('seed')[-1]):.4f}, theory {float(theory.test_loss[-1]):.4f}"
    )


if __name__ == "__main__":
    run(draw, "gallery-fig1")
