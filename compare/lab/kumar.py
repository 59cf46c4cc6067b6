"""Lazy and rich training beyond polynomials (Kumar et al., arXiv 2310.06110)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from compare.lab.pictures import curves
from compare.lab.preset import Claim, LabPreset, Results, Run, at, between, claim

SOURCE = "arXiv 2310.06110"


def _modular(full: bool) -> dict[str, Run]:
    import optax

    from sim import networks, tasks

    p, width = 23, 100
    task = tasks.modular("add", p, train_fraction=0.9)
    network = networks.two_embeddings(width, deviation=1.0, scale=1.0 / (2 * p * width))
    found = {}
    for s in (0.5, 1.0, 1.5, 2.0):
        # rate 100/s^2 on the square / s^2: summed over outputs, as the paper's times tell, where ours is the mean
        rule = optax.sgd(p * 100.0 / s**4)
        settings = {"optimizer": rule, "alpha": s**2, "measures": "movement"}
        found[f"alpha-{s**2:g}"] = Run(network, task, 50_000 if full else 10_000, settings)
    return found


def _delays(results: Results, level: float, side_level: float | None = None) -> dict[str, np.ndarray]:
    """Label -> steps from the train to the test accuracy, (S,)."""
    from sim.measures import steps_to

    return {
        label: steps_to(run, "test_accuracy", side_level or level) - steps_to(run, "train_accuracy", level)
        for label, run in results.items()
    }


def _growing(results: Results, labels: list[str], level: float) -> list[Claim]:
    """Whether the delay in test accuracy grows from each label to the next, as far as it is reached."""
    delays = _delays(results, level)
    told = [
        claim(
            f"{label}: steps from {level:.0%} train to {level:.0%} test accuracy",
            "a number",
            delays[label],
            np.isfinite,
        )
        for label in labels
    ]
    late = np.array([np.where(np.isnan(delays[label]), np.inf, delays[label]) for label in labels])
    larger = (late[-1] > late[0]) | (np.isinf(late[-1]) & np.isfinite(late[0]))
    return [*told, claim("the delay at the largest alpha is longer than at the smallest", "longer", larger, bool)]


def _modular_claims(results: Results) -> list[Claim]:
    from sim.measures import steps_to

    run = results["alpha-2.25"]
    norms = at(run, "weight_norm") / at(run, "weight_norm", 0)
    train, test = (steps_to(run, f"{side}_accuracy", 0.99) for side in ("train", "test"))
    return [
        claim("s = 1.5: steps to 99 % train accuracy", "about 2000", train, between(1500, 3000)),
        claim("s = 1.5: steps to 99 % test accuracy", "3000 to 4000", test, between(2500, 5000)),
        claim("weight norm at the end over that at the start, no decay", "rises", norms, lambda value: value > 1.0),
        *_growing(results, list(results), 0.95),
    ]


def _student(full: bool) -> dict[str, Run]:
    import optax

    from sim import networks, tasks

    task = tasks.student_teacher((5, 100, 100, 5), tolerance=1e-2)
    network = networks.scaled(networks.mlp((100, 100), activation="tanh"), 2.0)
    return {
        f"alpha-{alpha:g}": Run(
            network,
            task,
            50_000 if full else 10_000,
            {
                "optimizer": optax.adamw(3e-4 if full else 1e-3, weight_decay=0.05),
                "alpha": alpha,
                "measures": ("movement", "linearized"),
            },
        )
        for alpha in (0.1, 0.3, 1.0, 3.0)
    }


def _student_claims(results: Results) -> list[Claim]:
    labels = list(results)
    tests = [at(results[label], "test_loss") for label in labels]
    moved = [at(results[label], "movement") for label in labels]
    return [
        *_growing(results, labels, 0.95),
        claim(
            "movement at the largest alpha over that at the smallest", "< 1", moved[-1] / moved[0], between(0.0, 1.0)
        ),
        claim(
            "test loss at the largest alpha over that at the smallest", "> 1", tests[-1] / tests[0], lambda r: r > 1.0
        ),
    ]


def _mnist(full: bool) -> dict[str, Run]:
    import optax

    from sim import networks, tasks

    task = tasks.mnist(train=1000, test=1000)
    network = networks.scaled(networks.mlp((200, 200, 200)), 6.0)
    steps, decay = (100_000, 0.01) if full else (3000, 0.25)
    alphas = (1e-3, 1e-2, 0.1, 0.5) if full else (1e-2, 0.1, 0.5)
    return {
        f"alpha-{alpha:g}": Run(
            network,
            task,
            steps,
            {
                "optimizer": optax.adamw(1e-3, weight_decay=decay),
                "batch_size": 200,
                "alpha": alpha,
                "measures": "movement",
            },
        )
        for alpha in alphas
    }


def _mnist_claims(results: Results) -> list[Claim]:
    return _growing(results, list(results), 0.8)


def transformer_run(width: int, p: int, fraction: float, steps: int, rate: float, alpha: float, decay: float) -> Run:
    """One run of figures 6b and 12: centred, AdamW at rate / alpha^2, betas (.9, .98)."""
    import optax

    from sim import networks, tasks

    settings: dict[str, Any] = {"loss": "cross_entropy", "alpha": alpha, "centred": True, "measures": "movement"}
    settings["optimizer"] = optax.adamw(rate / alpha**2, b1=0.9, b2=0.98, weight_decay=decay)
    return Run(
        networks.transformer(width, hidden=4 * width), tasks.modular("add", p, train_fraction=fraction), steps, settings
    )


def _transformer(full: bool) -> dict[str, Run]:
    size = (128, 113, 0.4, 20_000, 6e-6) if full else (64, 31, 0.6, 2000, 1e-4)
    found = {f"alpha-{alpha:g}-decay-1": transformer_run(*size, alpha, 1.0) for alpha in (0.2, 0.5, 1.4)}
    for alpha in (0.5, 1.4):
        found[f"alpha-{alpha:g}-decay-5"] = transformer_run(*size, alpha, 5.0)
    return found


def _transformer_claims(results: Results) -> list[Claim]:
    delays = {label: np.where(np.isnan(delay), np.inf, delay) for label, delay in _delays(results, 0.95).items()}
    one, five, back = (delays[name] for name in ("alpha-0.5-decay-1", "alpha-0.5-decay-5", "alpha-1.4-decay-5"))
    labels = [label for label in results if label.endswith("decay-1")]
    return [
        *_growing(results, labels, 0.95),
        claim("alpha .5: the delay with decay 5 is shorter than with decay 1", "removed", five < one, bool),
        claim("decay 5: the delay at alpha 1.4 is longer than at alpha .5", "restored", back > five, bool),
    ]


def presets() -> list[LabPreset]:
    """All of this paper, beyond `dmft simulate --preset`."""
    make = partial(LabPreset, source=SOURCE)
    draw = partial(curves, names=("movement",))
    return [
        make(
            name="kumar-modular",
            title="modular addition: the delay grows with the output scale (figure 2)",
            reduced="10,000 steps in place of 50,000",
            runs=_modular,
            claims=_modular_claims,
            draw=partial(curves, names=("weight_norm",)),
        ),
        make(
            name="kumar-mnist",
            title="MNIST: the delay grows with the output scale (figure 6a)",
            reduced="initial weights x 6 of PyTorch's scale, decay .25, 3000 steps, in place of the paper's 100,000",
            runs=_mnist,
            claims=_mnist_claims,
            draw=draw,
        ),
        make(
            name="kumar-transformer",
            title="a transformer: output scale against weight decay (figures 6b, 12)",
            reduced="p = 31, .6 of pairs, width 64, 2000 steps at rate 1e-4 / alpha^2 in place of 113, .4, 128, 6e-6",
            runs=_transformer,
            claims=_transformer_claims,
            draw=draw,
        ),
        make(
            name="kumar-student",
            title="student and teacher: the delay grows with the output scale (figure 8)",
            reduced="10,000 steps at rate 1e-3 in place of 50,000 at 3e-4",
            runs=_student,
            claims=_student_claims,
            draw=draw,
        ),
    ]
