"""Figure 14: targets of one, two and three directions, theory and simulation.

python examples/figure_14.py [--full] [--dim D]

Four draws, or 32. The paper states no parameters of this figure: these are assumed.
"""

from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import Model
from gallery import (
    TEST,
    TRAIN,
    both,
    draw_simulation,
    draw_theory,
    finish,
    key,
    last,
    reached,
    relative,
    run,
    say,
)

#: Number of directions and sample ratio of each panel, draws, training time.
SIZES = {
    "full": ([(1, 6.0), (2, 6.0), (3, 8.0)], 32, 1500.0),
    "default": ([(1, 6.0), (2, 6.0), (3, 8.0)], 4, 1500.0),
    "quick": ([(1, 6.0), (2, 6.0)], 2, 1.0),
}
START = 0.1


def draw(size: str, dim: int | None = None) -> Figure:
    """Train and test loss relative to their start, one panel for each number of directions."""
    panels, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axes, (directions, kappa) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        model = Model(alpha=1.0, epsilon=0.1, kappa=kappa, dim=40, width=100, centered=True)
        model = model.replace(strengths=(1.0,) * directions)
        theory, network = map(relative, both(model, t_max, t_max, seeds, size, dim))
        label = f"{directions} direction{'s' * (directions > 1)}"
        say(label, theory, network)
        for name, (color, line, marker) in (("train_loss", TRAIN), ("test_loss", TEST)):
            draw_theory(axes, theory, name, color, line)
            draw_simulation(axes, network, name, color, marker, START)
        delay = grokking_delay(network, 0.1)
        print(
            f"{label}: a tenth of the first loss at t = {reached(delay.t_train)} (train), "
            f"{reached(delay.t_test)} (test); test at the end {last(network, 'test_loss')}",
            flush=True,
        )
        finish(
            axes,
            START,
            t_max,
            ylim=(0.0, 1.6),
            title=f"{label}, $\\kappa = {kappa:g}$",
        )
    figure.axes[0].set_ylabel("loss / initial")
    key(
        figure.axes[0],
        [("theory", "0.2", "-", None), ("simulation", "0.2", None, "o")],
    )
    key(figure.axes[-1], [("train", *TRAIN), ("test", *TEST)])
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig14")
