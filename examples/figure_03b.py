"""Figure 3 (b): the weaker the quadratic feature epsilon, the later the test loss falls, and the lower it ends.

python examples/figure_03b.py [--full] [--dim D]

Three values of epsilon to half the paper's time, or its five to the end. The figure's target is (beta.x)^2, twice
that of `Model`: the same as a model of output scale alpha/2, with every loss four times as large, step for step.
"""

from matplotlib.figure import Figure

from dmft import Model
from gallery import both, draw_simulation, draw_theory, finish, key, relative, run, say, shades

#: Values of epsilon, draws and training time; the paper has t = 600 (60,000 steps).
SIZES = {
    "full": ([0.25, 0.5, 1.0, 2.0, 4.0], 4, 600.0),
    "default": ([0.25, 1.0, 4.0], 2, 300.0),
    "quick": ([0.25, 1.0], 2, 1.0),
}
START = 0.1


def draw(size: str, dim: int | None = None) -> Figure:
    """Train and test loss relative to their start, one colour for each epsilon."""
    values, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    panels = dict(zip(("train_loss", "test_loss"), figure.subplots(1, 2, sharey=True), strict=True))
    for epsilon, color in zip(values, shades(len(values)), strict=True):
        model = Model(alpha=0.5, epsilon=epsilon, kappa=4.5, dim=100, width=500, centered=True)
        horizon = min(t_max, 30.0 / epsilon)  # the richer, the sooner it is over
        theory, simulation = both(model, horizon, t_max, seeds, size, dim)
        say(f"epsilon = {epsilon:g}", theory, simulation)
        for name, axes in panels.items():
            draw_theory(axes, relative(theory), name, color, "-")
            draw_simulation(axes, relative(simulation), name, color, "o", START)
    for name, axes in panels.items():
        finish(axes, START, t_max, ylim=(0.0, 1.6), title=f"{name.replace('_', ' ')} / initial")
    colors = zip(values, shades(len(values)), strict=True)
    entries = [(rf"$\epsilon = {epsilon:g}$", color, "-", "o") for epsilon, color in colors]
    key(panels["train_loss"], entries, title="lines: theory, points: simulation", title_fontsize=7.5)
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig3b")
