"""Figure 3 (a): the larger the output scale alpha, the longer the test loss lags behind.

python examples/figure_03a.py [--full] [--dim D]

Three values of alpha, or the paper's nine. The figure's target is (beta.x)^2, twice that of `Model`: the same as a
model of output scale alpha/2, with every loss four times as large, step for step.
"""

from matplotlib.figure import Figure

from dmft import Model
from gallery import both, draw_simulation, draw_theory, finish, key, relative, run, say, shades

#: Values of alpha, draws and training time; the paper has t = 600 (60,000 steps).
SIZES = {
    "full": ([2.0**-5, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 4, 600.0),
    "default": ([1.0, 4.0, 32.0], 3, 600.0),
    "quick": ([1.0, 4.0], 2, 1.0),
}
START = 0.1


def draw(size: str, dim: int | None = None) -> Figure:
    """Train and test loss relative to their start, one colour for each alpha."""
    values, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    panels = dict(zip(("train_loss", "test_loss"), figure.subplots(1, 2, sharey=True), strict=True))
    for alpha, color in zip(values, shades(len(values)), strict=True):
        model = Model(alpha=alpha / 2, epsilon=0.25, kappa=4.5, dim=100, width=500, centered=True)
        horizon = t_max * min(1.0, alpha)  # the richer, the sooner it is over
        theory, simulation = both(model, horizon, t_max, seeds, size, dim)
        say(f"alpha = {alpha:g}", theory, simulation)
        for name, axes in panels.items():
            draw_theory(axes, relative(theory), name, color, "-")
            draw_simulation(axes, relative(simulation), name, color, "o", START)
    for name, axes in panels.items():
        finish(axes, START, t_max, ylim=(0.0, 1.6), title=f"{name.replace('_', ' ')} / initial")
    colors = zip(values, shades(len(values)), strict=True)
    entries = [(rf"$\alpha = {alpha:g}$", color, "-", "o") for alpha, color in colors]
    key(panels["train_loss"], entries, title="lines: theory, points: simulation", title_fontsize=7.5)
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig3a")
