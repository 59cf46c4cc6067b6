"""Figure 10: weights that begin nearer to the solution; the rise of the test loss vanishes.

python examples/figure_10.py [--full] [--dim D]

Three shares of the solution, or the paper's six; left for its two neurons, right for infinitely many, which the
theory describes.

Weights (1 - s) w + s w_solution of a wide network are weights of scale 1 - s with a planted overlap
s^2 / (alpha epsilon). In the same time they are weights of scale 1 at (1 - s) alpha and (1 - s) epsilon with an overlap
larger by 1 / (1 - s)^2.
"""

from matplotlib.figure import Figure

from dmft import Model
from gallery import both, draw_simulation, draw_theory, finish, key, run, say, shades, times
from sim import preset, simulate

#: Shares of the solution, draws and dimension of the wide network, time.
SIZES = {
    "full": ([0.0, 0.05, 0.2, 0.5, 0.75, 0.95], 8, 100, 500.0),
    "default": ([0.0, 0.2, 0.5], 8, 100, 500.0),
    "quick": ([0.0, 0.2], 2, 20, 1.0),
}
START = 0.1


def interpolated(share: float, dim: int) -> Model:
    """The wide network of figure 4's parameters whose weights begin as this share of the solution."""
    alpha, epsilon = 1.0, 0.25
    overlap = (share / (1.0 - share)) ** 2 / (alpha * epsilon) + 1.0 / dim if share else 0.0  # 0: as drawn, 1/D
    return Model(alpha=(1 - share) * alpha, epsilon=(1 - share) * epsilon, kappa=3, dim=dim, initial_overlap=overlap)


def draw(size: str, dim: int | None = None) -> Figure:
    """Test loss, and train loss dashed, one colour for each share of the solution."""
    shares, seeds, usual, t_max = SIZES[size]
    paper = preset("fig4")
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    two, wide = figure.subplots(1, 2, sharey=True)
    for share, color in zip(shares, shades(len(shares)), strict=True):
        experiment = paper.runs[0].experiment.replace(interpolation=share)
        pair = simulate(experiment, t_max, seeds=1, seed=paper.seed, times=times(t_max, count=150))
        curves = {"time": pair["time"], **{name: pair[name][0] for name in ("train_loss", "test_loss")}}
        theory, network = both(interpolated(share, dim or usual), t_max, t_max, seeds, size, dim)
        for name, line, marker in (("train_loss", (0.0, (5.0, 1.5)), "s"), ("test_loss", "-", "o")):
            draw_theory(two, curves, name, color, line)
            draw_theory(wide, theory, name, color, line)
            draw_simulation(wide, network, name, color, marker, START)
        peaks = [
            float(each.max() / each[0])
            for each in (pair.test_loss[0], theory.test_loss, network.test_loss.mean("seed"))
        ]
        print(
            f"share {share:g}: largest test loss / first, two neurons {peaks[0]:.2f}, theory {peaks[1]:.2f}, "
            f"simulation {peaks[2]:.2f}"
        )
        say(f"share {share:g}", theory, network)
    title = "two neurons, simulation: one draw"
    finish(two, START, t_max, ylabel="mean squared error", ylim=(0.0, None), title=title)
    finish(wide, START, t_max, title=f"infinitely many, $D = {dim or usual}$")
    entries = [
        (f"{share:.0%} solution", color, "-", None) for share, color in zip(shares, shades(len(shares)), strict=True)
    ]
    key(two, [*entries, ("train", "0.3", (0.0, (5.0, 1.5)), None), ("test", "0.3", "-", None)])
    key(wide, [("theory", "0.3", "-", None), ("simulation", "0.3", None, "o")])
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig10")
