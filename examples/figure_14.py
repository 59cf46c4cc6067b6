"""Figure 14: targets of two and three directions; the theory knows one direction, and the linear phase of any target.

python examples/figure_14.py [--full]: four draws, or 32. The paper states no parameters of this figure: these are
assumed.

At first a network with a weak quadratic feature is a linear one, to which a target even in its directions is noise: the
closed form of the linear network holds, in units of the mean square of the labels.
"""

from matplotlib.figure import Figure

from compare import grokking_delay
from dmft import Model, limits, solve
from gallery import (
    ACCURACY,
    TEST,
    TRAIN,
    draw_simulation,
    draw_theory,
    finish,
    key,
    last,
    reached,
    relative,
    run,
    say,
    times,
)
from sim import Experiment, simulate

#: Number of directions and sample ratio of each panel, draws, training time.
SIZES = {
    "full": ([(1, 6.0), (2, 6.0), (3, 8.0)], 32, 1500.0),
    "default": ([(1, 6.0), (2, 6.0), (3, 8.0)], 4, 1500.0),
    "quick": ([(1, 6.0), (2, 6.0)], 2, 1.0),
}
START, LINEAR_PHASE = 0.1, 20.0


def draw(size: str) -> Figure:
    """Train and test loss relative to their start, one panel for each number of directions."""
    panels, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axes, (directions, kappa) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        model = Model(alpha=1.0, epsilon=0.1, kappa=kappa, dim=40, width=100, centered=True)
        experiment = Experiment(model=model, strengths=(1.0,) * directions)
        network = relative(simulate(experiment, t_max, seeds=seeds, times=times(t_max)))
        if directions == 1:
            theory = relative(solve(model, t_max, **ACCURACY))
            say("one direction", theory, network)
        at = times(min(LINEAR_PHASE, t_max))
        closed = limits.linear(model.replace(epsilon=0.0), at)
        for name, (color, line, marker) in (("train_loss", TRAIN), ("test_loss", TEST)):
            if directions == 1:
                draw_theory(axes, theory, name, color, line)
            draw_theory(axes, {"time": at, name: closed[name] / closed[name][0]}, name, "0.5", line)
            draw_simulation(axes, network, name, color, marker, START)
            ratio = network[name].mean("seed").interp(time=at) / (closed[name] / closed[name][0])
            early = ", ".join(f"{float(ratio.interp(time=t)):.3f} at t = {t}" for t in (0.5, 2.0) if t < t_max)
            print(f"{directions} directions, {name}, simulation / linear phase: {early}")
        delay = grokking_delay(network, 0.1)
        print(
            f"{directions} directions: a tenth of the first loss at t = {reached(delay.t_train)} (train), "
            f"{reached(delay.t_test)} (test); test at the end {last(network, 'test_loss')}",
            flush=True,
        )
        finish(
            axes,
            START,
            t_max,
            ylim=(0.0, 1.6),
            title=f"{directions} direction{'s' * (directions > 1)}, $\\kappa = {kappa:g}$",
        )
    figure.axes[0].set_ylabel("loss / initial")
    key(
        figure.axes[0],
        [("theory", "0.2", "-", None), ("linear phase", "0.5", "-", None), ("simulation", "0.2", None, "o")],
    )
    key(figure.axes[-1], [("train", *TRAIN), ("test", *TEST)])
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig14")
