"""Four explanations of delayed generalisation, side by side: one modular network under one intervention each.

    python examples/four_explanations.py [--full]

Each column is the same network on the same pairs with the same learning rate. Writes four-explanations.png, and prints
for each column when it fits the training set and when it generalises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
import xarray
from matplotlib.figure import Figure

from gallery import run
from sim import interventions, networks, tasks, train
from sim.measures import steps_to

#: Modulus, steps, seeds.
SIZES = {"full": (31, 10_000, 8), "default": (31, 2000, 3), "quick": (7, 40, 1)}
RATE = 5e-3
ROWS = {
    "train_loss": ("train loss", "log"),
    "test_accuracy": ("accuracy (dashed: train)", "linear"),
    "weight_norm": ("norm / initial norm", "log"),
    "kernel_alignment": ("kernel alignment", "linear"),
    "collapse": ("collapsed softmax", "linear"),
}
COLORS = ("0.3", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")


def columns(p: int) -> dict[str, dict[str, Any]]:
    """Title -> what differs from plain AdamW on the cross-entropy."""
    plain = optax.adamw(RATE, b2=0.99, eps=1e-25, weight_decay=0.0)
    network, task = networks.two_embeddings(100, deviation=0.25), tasks.modular("add", p, train_fraction=0.7)
    wrong = tasks.modular("add", p, train_fraction=0.7, corruption=0.2)
    common = {"network": network, "task": task, "optimizer": plain, "loss": "cross_entropy_float32"}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "lazier: alpha 8": {"alpha": 8.0, "centred": True},
        "richer: alpha 1/8": {"alpha": 0.125, "centred": True},
        "weight decay 1": {"optimizer": optax.adamw(RATE, b2=0.99, eps=1e-25, weight_decay=1.0)},
        "sphere": {"optimizer": optax.chain(plain, interventions.on_sphere())},
        "orthogonal": {"optimizer": optax.chain(interventions.orthogonal(), plain)},
        "StableMax": {"loss": "stablemax"},
        "wrong labels, decay 1": {
            "task": wrong,
            "optimizer": optax.adamw(RATE, b2=0.99, eps=1e-25, weight_decay=1.0),
        },
    }
    return {title: common | change for title, change in changes.items()}


def told(title: str, dataset: xarray.Dataset) -> str:
    """One line of numbers: mean over the seeds that get there, and how many do."""
    words = []
    for side in ("train", "test"):
        steps = steps_to(dataset, f"{side}_accuracy", 0.95)
        there = steps[np.isfinite(steps)]
        words.append(f"{side} {there.mean():.0f} ({there.size})" if there.size else f"{side} never")
    ends = {name: float(dataset[name].isel(step=-1).mean()) for name in ("test_accuracy", "collapse")}
    grown = float((dataset.weight_norm.isel(step=-1) / dataset.weight_norm.isel(step=0)).mean())
    aligned = dataset.kernel_alignment.mean("seed").to_numpy()
    ended = f"test {ends['test_accuracy']:.2f}, norm x {grown:.2f}, collapsed {ends['collapse']:.2f}"
    ended += f", alignment {aligned[0]:.3f} to {aligned[-1]:.3f}"
    return f"{title:22} steps to 95 %: {', '.join(words)}; at the end: {ended}"


def draw(size: str) -> Figure:
    """One column for each intervention, one row for each measure."""
    p, steps, seeds = SIZES[size]
    times = np.unique(np.concatenate([[0], np.rint(np.geomspace(1, steps, 50))]))
    made = columns(p)
    figure = Figure(figsize=(14.0, 8.0), layout="constrained")
    panels = figure.subplots(len(ROWS), len(made), sharex=True, sharey="row")
    for column, (title, settings) in zip(panels.T, made.items(), strict=True):
        dataset = train(steps=steps, seeds=seeds, measures=("kernel", "collapse"), times=times, **settings)
        print(told(title, dataset), flush=True)
        for axes, (name, (label, scale)) in zip(column, ROWS.items(), strict=True):
            draw_row(axes, dataset, name)
            axes.set(xscale="log", yscale=scale)
            if axes is column[0]:
                axes.set_title(title)
            if axes in panels[:, 0]:
                axes.set_ylabel(label)
        column[-1].set_xlabel("steps")
    panels[0, 0].set_ylim(1e-8, 20.0)
    return figure


def draw_row(axes: Any, dataset: xarray.Dataset, name: str) -> None:
    """Every seed, without step 0."""
    steps = dataset["step"].to_numpy()[1:]
    for color, seed in zip(COLORS, dataset["seed"].to_numpy(), strict=False):
        values = dataset[name].sel(seed=seed).to_numpy()
        values = values / values[0] if name == "weight_norm" else values
        values = np.maximum(values, 1e-9) if name == "train_loss" else values
        axes.plot(steps, values[1:], color=color, lw=1.0)
        if name == "test_accuracy":
            axes.plot(steps, dataset["train_accuracy"].sel(seed=seed)[1:], color=color, lw=0.8, ls="--")


if __name__ == "__main__":
    run(draw, "four-explanations")
