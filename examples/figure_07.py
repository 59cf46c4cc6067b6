"""Figure 7: a larger output scale and larger initial weights make training lazy alike.

python examples/figure_07.py [--full] [--dim D]

Three output scales and two weight scales, or the paper's nine and five.

With fixed readouts, weights of scale sigma at (alpha, epsilon) are the same network as weights of scale 1 at
(sigma alpha, sigma epsilon), in the same time: this is how the theory, which knows weights of scale 1 only, reaches
them. The figure's target is (beta.x)^2, twice that of `Model`: the same as half the alpha.
"""

import numpy as np
import xarray
from matplotlib.figure import Figure

from dmft import Model, solve
from gallery import ACCURACY, key, run, solve_with_spread, times
from sim import Experiment, simulate

#: Output scales, weight scales, draws, training time at weight scale 1.
SIZES = {
    "full": ([2.0**-5, 0.25, 0.5, 1, 2, 4, 8, 16, 32], [0.125, 0.25, 0.5, 1, 2], 4, 500.0),
    "default": ([4, 16, 32], [2, 4], 2, 500.0),
    "quick": ([1, 4], [2], 2, 1.0),
}
LOOK = {"alpha": ("#0072B2", "-", "o"), "sigma": ("#D55E00", (0.0, (5.0, 1.5)), "s")}


def movement(theory: xarray.Dataset) -> float:
    """|w - w(0)| / |w(0)| of all weights at the last time, from the two-time correlations of the three sectors."""
    squares = 0.0
    for name in ("correlation_common", "correlation_outlier", "correlation_bulk"):
        kernel = theory[name].to_numpy()
        squares += kernel[-1, -1] - 2.0 * kernel[-1, 0] + kernel[0, 0]
    return float(np.sqrt(squares / theory["trace"].to_numpy()[0]))


def draw(size: str, dim: int | None = None) -> Figure:
    """Movement of the parameters and final test loss against sigma^2 alpha."""
    alphas, sigmas, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    moved, final = figure.subplots(1, 2)
    for swept, values in (("alpha", alphas), ("sigma", sigmas)):
        points, spreads = [], []
        for value in values:
            alpha, sigma = (value, 1.0) if swept == "alpha" else (1.0, value)
            # the paper's learning rate is 0.5 N / sigma^2 on the mean square over alpha^2
            end = t_max / sigma**2
            model = Model(alpha=alpha, epsilon=0.25, kappa=4.5, dim=dim or 100, width=500, centered=True)
            experiment = Experiment(model=model, strengths=(2.0,), weight_scale=sigma)
            network = simulate(experiment, end, seeds=seeds, times=times(end, count=9))
            same = model.replace(alpha=sigma * alpha / 2, epsilon=sigma * 0.25)
            at_end = {"kernels": True, "times": np.array([0.0, end])}
            theory = solve(same, end, **ACCURACY, **at_end) if dim is None else solve_with_spread(same, end, **at_end)
            ends = [network[name].to_numpy()[:, -1] for name in ("parameter_movement", "test_loss")]
            ends[1] = ends[1] / 3.0
            means = [(each.mean(), each.std(ddof=1) / np.sqrt(seeds)) for each in ends]
            points.append((sigma**2 * alpha, movement(theory), 4.0 * float(theory.test_loss[-1]) / 3.0, *means))
            spreads.append(4.0 * float(theory.get("test_loss_spread", [0.0])[-1]) / 3.0)
            predicted, (mean, error) = points[-1][1], means[0]
            print(
                f"alpha {alpha:g}, sigma {sigma:g}: movement {predicted:.3f}, simulation {mean:.3f} +- {error:.3f}; "
                f"final test / initial {points[-1][2]:.4f}, simulation {means[1][0]:.4f} +- {means[1][1]:.4f}",
                flush=True,
            )
        x = [point[0] for point in points]
        color, line, marker = LOOK[swept]
        level, width = np.array([point[2] for point in points]), np.array(spreads)
        final.fill_between(x, level - width, level + width, color=color, alpha=0.12, lw=0)
        for axes, at in ((moved, 1), (final, 2)):
            axes.plot(x, [point[at] for point in points], color=color, ls=line)
            mean, error = np.transpose([point[at + 2] for point in points])
            axes.errorbar(x, mean, yerr=error, color=color, ls="none", marker=marker, ms=4, mec="white", mew=0.4)
    for axes, label in ((moved, r"$|w - w(0)| \,/\, |w(0)|$"), (final, "final test loss / initial")):
        axes.set(xscale="log", yscale="log", xlabel=r"$\sigma^2 \alpha$", ylabel=label)
        axes.grid(which="major", color="0.9", lw=0.6)
        axes.set_axisbelow(True)
    entries = [(r"$\alpha$ varies, $\sigma = 1$", *LOOK["alpha"]), (r"$\sigma$ varies, $\alpha = 1$", *LOOK["sigma"])]
    key(moved, entries, title="lines: theory, points: simulation", title_fontsize=7.5)
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig7")
