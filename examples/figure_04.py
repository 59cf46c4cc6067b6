"""Figure 4: two neurons that grok, and the three parts of their test loss.

python examples/figure_04.py [--full]: four times the paper's learning rate, or its own. Most draws of two neurons end
in a local minimum: the draw shown is the first of a stream chosen for it; how others end is printed.
"""

import numpy as np
from matplotlib.figure import Figure

from compare import grokking_delay
from gallery import PARTS, TEST, TRAIN, draw_theory, finish, key, run, times
from sim import preset, simulate

#: Learning rate relative to the paper's, training time, and draws of another stream.
SIZES = {"full": (1.0, 1250.0, 36), "default": (4.0, 1250.0, 12), "quick": (4.0, 5.0, 2)}
START = 0.1


def draw(size: str) -> Figure:
    """Losses, and the parts of the test loss."""
    faster, t_max, draws = SIZES[size]
    paper = preset("fig4")
    (experiment,) = (each.experiment for each in paper.runs)
    step = faster * paper.runs[0].step
    shown = simulate(experiment, t_max, step=step, seeds=1, seed=paper.seed, times=times(t_max, count=200))
    others = simulate(experiment, t_max, step=step, seeds=draws, times=times(t_max))

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    losses, parts = figure.subplots(1, 2)
    curves = {"time": shown["time"], **{name: shown[name][0] for name in shown.data_vars if "seed" in shown[name].dims}}
    for name, (color, line, _) in (("train_loss", TRAIN), ("test_loss", TEST)):
        draw_theory(losses, curves, name, color, line)
    for name, (_, color, line, _) in PARTS.items():
        draw_theory(parts, curves, name, color, line)
    finish(losses, START, t_max, ylabel="mean squared error", ylim=(0.0, None), title="simulation: one draw")
    finish(parts, START, t_max, ylabel="part of the test loss", ylim=(0.0, None))
    key(losses, [("train", *TRAIN[:2], None), ("test", *TEST[:2], None)])
    key(parts, [(label, color, line, None) for label, color, line, _ in PARTS.values()])

    power = curves["linear_power"].to_numpy()
    lowest = int(np.argmax(np.diff(power) > 0.0))  # before its first rise
    print(
        f"linear power: {power[0]:.2f} at first, {power[lowest]:.2f} at t = {float(curves['time'][lowest]):.1f}, then "
        f"{power[lowest:].max():.2f}, at the end {power[-1]:.1e}"
    )
    delay = grokking_delay(shown)
    print(f"train below 0.1 at t = {delay.t_train.value:.0f}, test at t = {delay.t_test.value:.0f}")
    ends = others["test_loss"].to_numpy()[:, -1]
    print(
        f"of {draws} other draws {np.sum(ends < 0.1)} end below a test loss of 0.1; the others at a median of "
        f"{np.median(ends[ends >= 0.1]):.2f}"
    )
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig4")
