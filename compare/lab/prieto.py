"""Softmax collapse, StableMax and orthogonal gradients (Prieto et al., arXiv 2501.04697)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from compare.lab.pictures import accuracies, curves
from compare.lab.preset import Claim, LabPreset, Results, Run, at, between, claim

SOURCE = "arXiv 2501.04697"
BITS = ("float16", "float32", "float64")


def modular(p: int, fraction: float, steps: int, rule: Any, loss: str, **settings: Any) -> Run:
    """One run: p tokens one-hot twice, two ReLU layers without biases, cross-entropy, all samples in a step."""
    from sim import networks, tasks

    task = tasks.modular("add", p, train_fraction=fraction)
    chosen = {"optimizer": rule, "loss": loss, "measures": ("collapse", "descent_cosine"), **settings}
    return Run(networks.mlp((200, 200), bias=False), task, steps, chosen)


def adamw(rate: float, decay: float = 0.0) -> Any:
    """AdamW at the paper's settings: betas (.9, .99), eps 1e-25."""
    import optax

    return optax.adamw(rate, b1=0.9, b2=0.99, eps=1e-25, weight_decay=decay)


def _collapse(full: bool) -> dict[str, Run]:
    from sim import networks

    p, steps, rate = (113, 20_000, 5e-4) if full else (31, 6500, 5e-3)
    network = {} if full else {"network": networks.two_embeddings(100, deviation=0.25)}
    return {
        bits: modular(p, 0.7, steps, adamw(rate), f"cross_entropy_{bits}", measures="collapse")._replace(**network)
        for bits in BITS
    }


def _collapse_claims(results: Results) -> list[Claim]:
    from sim.measures import steps_to

    half = [steps_to(results[bits], "collapse", 0.5) for bits in BITS]
    tests = [at(results[bits], "test_accuracy") for bits in BITS]
    gaps = [gap_at_half(results[bits]) for bits in BITS]
    last = [np.where(np.isnan(steps), np.inf, steps) for steps in half]
    told = [
        claim(f"{bits}: steps until half of the samples collapsed", expected, steps, np.isfinite)
        for bits, expected, steps in zip(BITS, ("2.0k", "3.0k", "7.0k"), half, strict=True)
    ]
    told += [
        claim(f"{bits}: logit gap then", f"about {gap:g}", found, between(0.8 * gap, 1.3 * gap))
        for bits, gap, found in zip(BITS, (7.6, 16.6, 36.7), gaps, strict=True)
    ]
    told += [
        claim(f"{bits}: test accuracy at the end", expected, test, between(low, high))
        for bits, expected, test, low, high in zip(
            BITS, ("49 %", "67 %", "93 %"), tests, (0.3, 0.5, 0.8), (0.65, 0.85, 1.0), strict=True
        )
    ]
    told += [
        claim(
            "collapse comes later in higher precision",
            "16 < 32 < 64 bits",
            (last[0] < last[1]) & (last[1] < last[2]),
            bool,
        ),
        claim(
            "test accuracy ends higher in higher precision",
            "16 < 32 < 64 bits",
            (tests[0] < tests[1]) & (tests[1] < tests[2]),
            bool,
        ),
    ]
    return told


def gap_at_half(dataset: Any) -> np.ndarray:
    """Mean logit gap at the first observation with half of the samples collapsed, (S,); NaN if there is none."""
    collapse, gap = (dataset[name].transpose("seed", "step").to_numpy() for name in ("collapse", "logit_gap"))
    reached = collapse >= 0.5
    rows = np.arange(len(gap))
    return np.where(reached.any(axis=1), gap[rows, reached.argmax(axis=1)], np.nan)


def _stablemax(full: bool) -> dict[str, Run]:
    from sim import networks, tasks

    task, network = tasks.parity(3, 40, inputs="bits"), networks.mlp((200, 200), bias=False)
    steps = 20_000 if full else 5000
    return {
        loss: Run(network, task, steps, {"optimizer": adamw(0.01), "loss": loss, "measures": ("collapse",)})
        for loss in ("stablemax", "cross_entropy_float32")
    }


def _stablemax_claims(results: Results) -> list[Claim]:
    stable = results["stablemax"]
    last = int(stable["step"].max())
    norms = at(stable, "weight_norm") / at(stable, "weight_norm", 0)
    told = [
        claim(
            f"StableMax without decay: test accuracy at step {step}",
            expected,
            at(stable, "test_accuracy", step),
            between(low, 1.0),
        )
        for step, expected, low in ((5000, "82 %", 0.75), (10_000, "91 %", 0.85), (20_000, ">= 98 %", 0.98))
        if step <= last
    ]
    told += [
        claim("its weight norm at the end over that at the start", "grows", norms, between(1.0, np.inf)),
        claim("share of zero losses at the end", "0", at(stable, "zero_loss"), between(0.0, 0.0)),
        claim(
            "its test accuracy at the end minus that of cross-entropy",
            "> 0",
            at(stable, "test_accuracy") - at(results["cross_entropy_float32"], "test_accuracy"),
            lambda value: value > 0,
        ),
    ]
    return told


def _orthogonal(full: bool) -> dict[str, Run]:
    import optax

    from sim import interventions

    rule = optax.chain(interventions.orthogonal(), adamw(0.01))
    common: dict[str, Any] = {"loss": "cross_entropy_float32"}
    return {
        "orthogonal": modular(113, 0.4, 300, rule, **common),
        "plain": modular(113, 0.4, 5000 if full else 500, adamw(0.01), **common),
    }


def _orthogonal_claims(results: Results) -> list[Claim]:
    good, plain = results["orthogonal"], results["plain"]
    cosine = at(plain, "descent_cosine", 300)[:, -1]
    return [
        claim(
            "orthogonal AdamW: train accuracy at step 60", "100 %", at(good, "train_accuracy", 60), between(0.99, 1.0)
        ),
        claim("its test accuracy at step 100", "63 %", at(good, "test_accuracy", 100), between(0.3, 0.95)),
        claim("its test accuracy at step 180", "100 % by 120-180", at(good, "test_accuracy", 180), between(0.99, 1.0)),
        claim("its test accuracy at step 300", "100 %", at(good, "test_accuracy"), between(0.99, 1.0)),
        claim(
            f"plain AdamW: test accuracy at step {plain.attrs['steps']}",
            "no grokking",
            at(plain, "test_accuracy"),
            between(0.0, 0.5),
        ),
        claim("plain: cos(-gradient, theta) of the readout at step 300", "about .9", cosine, between(0.7, 1.0)),
    ]


def presets() -> list[LabPreset]:
    """All of this paper."""
    make = partial(LabPreset, source=SOURCE)
    return [
        make(
            name="prieto-collapse",
            title="generalisation stops where the softmax collapses, later in higher precision",
            reduced="W (U e_m + V e_n)^2, p = 31, 6500 steps at rate 5e-3 in place of ReLU, 113, 20,000 at 5e-4",
            runs=_collapse,
            claims=_collapse_claims,
            draw=partial(curves, names=("collapse",)),
        ),
        make(
            name="prieto-stablemax",
            title="sparse parity without weight decay: StableMax generalises",
            reduced="5000 steps in place of 20,000",
            runs=_stablemax,
            claims=_stablemax_claims,
            draw=partial(curves, names=("zero_loss",)),
        ),
        make(
            name="prieto-orthogonal",
            title="without steps along the weights generalisation follows at once",
            reduced="plain AdamW for 500 steps in place of 5000",
            runs=_orthogonal,
            claims=_orthogonal_claims,
            draw=accuracies,
        ),
    ]
