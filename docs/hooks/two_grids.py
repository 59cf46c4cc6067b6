"""Draw docs/assets/two-grids.svg: the times of the two grids of the flow, and which replicas are solved on which.

python docs/hooks/two_grids.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from dmft.twotime.grid import graded_times

TARGET = Path(__file__).parents[1] / "assets" / "two-grids.svg"
POINTS, T_MAX = 44, 60.0
MANY, FEW = 12, 12
FINE, COARSE = "#1f77b4", "#d95f02"


def draw_times(axes) -> None:
    """Every other time of the fine grid is one of the coarse grid."""
    fine, coarse = graded_times(T_MAX, POINTS), graded_times(T_MAX, POINTS // 2)
    for height, times, colour in ((1, fine, FINE), (0, coarse, COARSE)):
        axes.vlines(times, height - 0.25, height + 0.25, color=colour, linewidth=1.5)
    axes.set(xlim=(-1, T_MAX + 1), ylim=(-0.6, 1.6), xlabel="time", title="times solved, to t = 60 at 1 %", yticks=[])
    axes.text(T_MAX, 1.34, f"fine grid, {POINTS} points", color=FINE, ha="right")
    axes.text(T_MAX, 0.34, f"coarse grid, {POINTS // 2} points", color=COARSE, ha="right")
    axes.spines[["left", "right", "top"]].set_visible(False)


def draw_replicas(axes) -> None:
    """Large squares have S samples, small ones S/4; a line joins the same samples and noise on both grids."""
    many, few = np.arange(MANY), MANY + 1.5 + 0.7 * np.arange(FEW)
    axes.plot(many, np.zeros(MANY), "s", color=COARSE, markersize=9)
    axes.plot(few, np.zeros(FEW), "s", color=COARSE, markersize=4.5)
    axes.plot(few, np.ones(FEW), "s", color=FINE, markersize=4.5)
    axes.vlines(few, 0.1, 0.9, color="0.6", linewidth=0.8)
    axes.text(many.mean(), -0.5, "replicas of S samples:\nthe mean", ha="center", va="top")
    axes.text(
        few.mean(), -0.5, "pilot, S/4 samples, on both:\nthe mean of the difference is added", ha="center", va="top"
    )
    axes.set(xlim=(-1, few[-1] + 1), ylim=(-1.4, 1.6), title="replicas solved")
    axes.set_axis_off()


def main() -> None:
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "two grids", "svg.fonttype": "path"}):
        figure = Figure(figsize=(9, 2.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
        draw_times(left)
        draw_replicas(right)
        figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
