"""Figure 3 (e): the delay over laziness and alignment, from theory, with the simulated delay written below.

python examples/figure_03e.py [--full]: three by two points to t = 600, or fourteen by fourteen to the paper's
t = 44,000, which takes hours.
"""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from compare import phase_diagram
from dmft import Model
from gallery import ACCURACY, run

#: Multiples of alpha = 0.4 and of epsilon = 0.02, training time, draws; the paper's learning rate has a step of 0.4.
SIZES = {
    "full": (range(1, 15), range(1, 15), 44_000.0, 4),
    "default": ((1, 2, 3), (3, 8), 600.0, 2),
    "quick": ((7, 14), (6,), 1.0, 2),
}
STEP = 0.4


def delay_in_steps(phase, prefix: str, at: tuple[int, int]) -> str:
    """The delay of a point with its error, or which loss has not got below 0.1."""
    delay, error = (float(phase[f"{prefix}delay{end}"][at]) / STEP for end in ("", "_error"))
    if np.isfinite(delay):
        return f"{delay:.0f}" + (f" $\\pm$ {error:.0f}" if np.isfinite(error) else "")
    return "test not yet" if phase[f"{prefix}t_train_reached"][at] else "train not yet"


def draw(size: str) -> Figure:
    """A map of the delay between train and test loss falling below 0.1, in steps."""
    alphas, epsilons, t_max, seeds = SIZES[size]
    phase = phase_diagram(
        Model(alpha=1.0, epsilon=0.1, kappa=5.5, dim=100, centered=True),
        ("alpha", [0.4 * k for k in alphas]),
        ("epsilon", [0.02 * j for j in epsilons]),
        t_max=t_max,
        **ACCURACY,
        simulate_every=1,
        seeds=seeds,
    )
    delays = np.maximum(phase["delay"].to_numpy() / STEP, 1.0)
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    known = delays[np.isfinite(delays)]
    low, high = (known.min() / 1.5, known.max() * 3.0) if known.size else (1.0, 10.0)
    shown = axes.imshow(delays, origin="lower", aspect="auto", cmap="OrRd", norm=LogNorm(low, high))
    for at in np.ndindex(delays.shape):
        theory, network = (delay_in_steps(phase, prefix, at) for prefix in ("", "simulation_"))
        losses = (float(phase[f"{prefix}final_test_loss"][at]) for prefix in ("", "simulation_"))
        print(
            f"alpha {phase.alpha.values[at[0]]:g}, epsilon {phase.epsilon.values[at[1]]:g}: delay in steps, "
            f"theory {theory}, simulation {network}; final test loss {next(losses):.3f}, {next(losses):.3f}"
        )
        if delays.size <= 36:
            dark = np.isfinite(delays[at]) and delays[at] > low**0.35 * high**0.65
            axes.text(at[1], at[0] + 0.14, theory, ha="center", color="white" if dark else "black", fontsize=8)
            axes.text(
                at[1], at[0] - 0.26, f"sim. {network}", ha="center", color="white" if dark else "0.25", fontsize=7
            )
    axes.set_xticks(range(len(epsilons)), [f"{value:g}" for value in phase.epsilon.values])
    axes.set_yticks(range(len(alphas)), [f"{value:g}" for value in phase.alpha.values])
    axes.set(xlabel=r"alignment $\epsilon$", ylabel=r"laziness $\alpha$")
    figure.colorbar(shown, label="delay in steps, theory")
    return figure


if __name__ == "__main__":
    run(draw, "gallery-fig3e")
