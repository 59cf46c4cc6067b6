"""Figure 15: Hermite polynomials of degree two, three and four as targets; closed form of the linear phase.

python examples/figure_15.py [--full]: four draws, or 32. The paper states no parameters of this figure: these are
assumed. For even degree alpha epsilon = 1, without which no weights of the network are the target.

Hermite polynomials are orthogonal to linear functions: the target is noise to the linear feature, which learns first.
"""

from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import Model, limits
from gallery import TEST, TRAIN, draw_simulation, draw_theory, finish, key, last, reached, relative, run, times
from sim import Experiment, simulate

#: Degree, dimension, sample ratio, alpha and epsilon of each panel; draws and training time.
PANELS = [(2, 40, 6.0, 4.0, 0.25), (3, 15, 20.0, 1.0, 0.1), (4, 8, 60.0, 10.0, 0.1)]
SIZES = {"full": (PANELS, 32, 2000.0), "default": (PANELS, 4, 1000.0), "quick": (PANELS[:2], 2, 1.0)}
START, LINEAR_PHASE = 0.1, 20.0


def draw(size: str) -> Figure:
    """Train and test loss relative to their start, one panel for each degree."""
    panels, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axes, (degree, dim, kappa, alpha, epsilon) in zip(
        figure.subplots(1, len(panels), sharey=True), panels, strict=True
    ):
        model = Model(alpha=alpha, epsilon=epsilon, kappa=kappa, dim=dim, width=50, centered=True)
        experiment = Experiment(model=model, activation=f"hermite{degree}", target=f"hermite{degree}")
        network = relative(simulate(experiment, t_max, seeds=seeds, times=times(t_max)))
        at = times(min(LINEAR_PHASE, t_max))
        closed = limits.linear(model.replace(epsilon=0.0), at)
        for name, (color, line, marker) in (("train_loss", TRAIN), ("test_loss", TEST)):
            draw_theory(axes, {"time": at, name: closed[name] / closed[name][0]}, name, "0.5", line)
            draw_simulation(axes, network, name, color, marker, START)
        delay = grokking_delay(network, 0.2)
        peaks = float(network.test_loss.mean("seed").max()), float(closed["test_loss"].max() / 0.75)
        print(
            f"degree {degree}: a fifth of the first loss at t = {reached(delay.t_train)} (train), "
            f"{reached(delay.t_test)} (test); largest test loss {peaks[0]:.3f}, of the linear phase {peaks[1]:.3f}; at "
            f"the end {last(network, 'test_loss')}",
            flush=True,
        )
        finish(axes, START, t_max, ylim=(0.0, 1.4), title=rf"$H_{degree}$, $D = {dim}$, $\kappa = {kappa:g}$")
    figure.axes[0].set_ylabel("loss / initial")
    key(figure.axes[-1], [("train", *TRAIN), ("test", *TEST), ("linear phase", "0.5", "-", None)])
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig15")
