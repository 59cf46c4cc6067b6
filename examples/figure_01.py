"""Figure 1: a network that groks, the closed form of its linearisation, and the theory of the network.

python examples/figure_01.py [--full]: four draws, or sixteen.
"""

from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import limits, solve
from gallery import ACCURACY, TEST, TRAIN, draw_losses, draw_simulation, draw_theory, finish, key, run, say, times
from sim import preset, simulate

#: Draws and training time, the paper's: 100,000 steps.
SIZES = {"full": (16, 2000.0), "default": (4, 2000.0), "quick": (2, 4.0)}
START = 0.1


def draw(size: str) -> Figure:
    """Losses of network and linearisation; alignment and movement of the tangent kernel."""
    seeds, t_max = SIZES[size]
    (paper,) = preset("fig1").runs
    network = simulate(paper.experiment, t_max, seeds=seeds, times=times(t_max), kernel=True, linearized=True)
    model = paper.experiment.model
    theory = solve(model, t_max, **ACCURACY)
    lazy = {"time": theory["time"], **limits.lazy(model, theory["time"])}

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    losses, aligned, moved = figure.subplot_mosaic(
        [["losses", "aligned"], ["losses", "moved"]], width_ratios=[1.5, 1]
    ).values()
    draw_losses(losses, theory, network, START)
    for name, (_, line, marker) in (("train_loss", TRAIN), ("test_loss", TEST)):
        draw_theory(losses, lazy, name, "0.55", line)
        draw_simulation(losses, network, f"linearized_{name}", "0.35", marker, START)
    regression = float(network["kernel_regression_test_loss"].mean())
    losses.axhline(regression, color="#CC79A7", ls="-.", lw=1.0)
    entries = [("train", *TRAIN), ("test", *TEST), ("linearised, train", "0.45", *TRAIN[1:])]
    entries += [("linearised, test", "0.45", *TEST[1:]), ("regression, initial kernel", "#CC79A7", "-.", None)]
    finish(losses, START, t_max, ylim=(0.0, None), ylabel="mean squared error")
    key(losses, entries, loc="lower left", title="lines: theory, points: simulation", title_fontsize=7.5)
    draw_simulation(aligned, network, "kernel_alignment_centered", "#009E73", "o", START)
    finish(aligned, START, t_max, ylabel="kernel alignment", xlabel="")
    for name, color, marker in (("kernel_distance", "0.35", "s"), ("parameter_movement", "#E69F00", "o")):
        draw_simulation(moved, network, name, color, marker, START)
    key(moved, [("kernel", "0.35", None, "s"), ("parameters", "#E69F00", None, "o")])
    finish(moved, START, t_max, yscale="log", ylabel="distance from start")

    say("network", theory, network)
    print("theory:    ", grokking_delay(theory).t_train, grokking_delay(theory).t_test)
    print("simulation:", grokking_delay(network).t_train, grokking_delay(network).t_test)
    for name in ("train_loss", "test_loss"):
        ratio = network[f"linearized_{name}"].mean("seed").to_numpy() / limits.lazy(model, network["time"])[name]
        print(f"linearised network / closed form, {name}: {ratio.min():.3f} to {ratio.max():.3f}")
    print(
        f"regression with the initial kernel: {regression:.3f}; network at the end: "
        f"{float(network.test_loss.mean('seed')[-1]):.4f}, theory {float(theory.test_loss[-1]):.4f}"
    )
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig1")
