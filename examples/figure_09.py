"""Figure 9: too little data, enough, and plenty, with the parts of the test loss.

python examples/figure_09.py [--full] [--dim D]

Eight draws, or 32, of the networks of 100 neurons that a public copy of the paper's code trains for this figure (the
text does not state their number).
"""

from matplotlib.figure import Figure

from compare import grokking_delay, regime
from dmft import Model
from gallery import (
    PARTS,
    TEST,
    TRAIN,
    both,
    draw_losses,
    draw_simulation,
    draw_theory,
    finish,
    key,
    last,
    run,
    say,
)

#: Samples, draws and training time (the code's 50,000 steps last 1250).
SIZES = {
    "full": ([50, 120, 500], 32, 1250.0),
    "default": ([50, 120, 500], 8, 1250.0),
    "quick": ([50, 120], 2, 1.0),
}
START = 0.1
#: Last time of the theory: later, where both losses have levelled off, it would take minutes.
HORIZON = 30.0


def draw(size: str, dim: int | None = None) -> Figure:
    """Above, train and test loss; below, the parts of the test loss; one column for each number of samples."""
    numbers, seeds, t_max = SIZES[size]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    panels = figure.subplots(2, len(numbers), sharex=True, sharey="row")
    for samples, (losses, parts) in zip(numbers, panels.T, strict=True):
        model = Model(alpha=1.0, epsilon=0.5, kappa=samples / 40, dim=40, width=100, centered=True)
        theory, network = both(model, min(t_max, HORIZON), t_max, seeds, size, dim)
        draw_losses(losses, theory, network, START)
        for name, (_, color, line, marker) in PARTS.items():
            draw_theory(parts, theory, name, color, line)
            draw_simulation(parts, network, name, color, marker, START)
        finish(
            losses,
            START,
            t_max,
            ylim=(0.0, 2.0),
            xlabel="",
            title=f"$P = {samples}$" if dim is None else rf"$P = {samples / 40:g}\, D$, $D = {dim}$",
        )
        finish(parts, START, t_max, ylim=(0.0, None))
        label = f"P = {samples}" if dim is None else f"P = {samples / 40:g} D"
        say(label, theory, network)
        print(
            f"{label}: test loss, theory {last(theory, 'test_loss')} at t = {float(theory.time[-1]):g}; "
            f"simulation {regime(network)}, {last(network, 'test_loss')} at the end, below 0.1 in "
            f"{grokking_delay(network).t_test.runs_reached} of {network.sizes['seed']} draws",
            flush=True,
        )
    panels[0, 0].set_ylabel("mean squared error")
    panels[1, 0].set_ylabel("part of the test loss")
    entries = [("train", *TRAIN), ("test", *TEST)]
    key(panels[0, -1], entries, title="lines: theory\npoints: simulation", title_fontsize=7.5)
    key(panels[1, -1], PARTS.values())
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig9")
