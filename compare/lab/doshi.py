"""Modular arithmetic with corrupted labels (Doshi et al., arXiv 2310.13061)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.lab.pictures import accuracies, curves, histogram, phase_maps, pruning
from compare.lab.preset import Claim, LabPreset, Results, Run, at, between, claim, near

if TYPE_CHECKING:
    import xarray

SOURCE = "arXiv 2310.13061"
#: Modulus and width, of the paper and reduced.
FULL, SMALL = (97, 500), (47, 200)
STEPS = np.array([0, 5, 10, 15, 20, 25, 32, 40, 48, 60, 80, *range(100, 3000, 20)])
DECAYS = (0.0, 5.0, 15.0, 20.0)
SMALL_SIZE = f"p = {SMALL[0]}, N = {SMALL[1]} in place of {FULL[0]}, {FULL[1]}"


def arithmetic(
    size: tuple[int, int],
    corruption: float,
    decay: float,
    steps: int,
    *,
    fraction: float = 0.5,
    network: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Run:
    """One run at the paper's settings: AdamW 0.01, betas (.9, .98), mean square on one-hot."""
    import optax

    from sim import networks, tasks

    p, width = size
    task = tasks.modular("add", p, train_fraction=fraction, corruption=corruption)
    rule = optax.adamw(0.01, b1=0.9, b2=0.98, weight_decay=decay)
    chosen = {"optimizer": rule, "loss": "square", "times": STEPS[steps >= STEPS], **settings}
    return Run(networks.two_embeddings(width, **(network or {})), task, steps, chosen)


def floor_of(dataset: xarray.Dataset) -> float:
    """1 - xi (1 - 1/p): train accuracy of a network that ignores wrong labels."""
    return 1.0 - float(dataset.attrs["task_corruption"]) * (1.0 - 1.0 / int(dataset.attrs["task_p"]))


def mean_ipr(dataset: xarray.Dataset) -> np.ndarray:
    """Mean inverse participation ratio at the end, (S,)."""
    return at(dataset, "ipr").mean(axis=1)


def phase_of(train: float, test: float, corruption: float) -> str:
    """The phase by accuracies at the end, as the paper has it."""
    if test >= 0.9:
        if train >= 0.9:
            return "coexistence"
        return "partial inversion" if train >= 1.05 - corruption else "full inversion"
    return "memorisation" if train >= 0.9 else "forgetting or confusion"


def _coexistence(_: bool) -> dict[str, Run]:
    return {
        "clean": arithmetic(FULL, 0.0, 5.0, 200, measures=("ipr", "movement")),
        "corrupted": arithmetic(FULL, 0.35, 0.0, 1000, measures=("ipr", "movement")),
    }


def _coexistence_claims(results: Results) -> list[Claim]:
    clean, wrong = results["clean"], results["corrupted"]
    spread = at(wrong, "ipr")
    return [
        claim(
            "without corruption, decay 5: train accuracy at step 20",
            "99 %",
            at(clean, "train_accuracy", 20),
            between(0.95, 1.0),
        ),
        claim("its test accuracy at step 32", "41 %", at(clean, "test_accuracy", 32), between(0.2, 0.7)),
        claim("its test accuracy at step 48", "100 %", at(clean, "test_accuracy", 48), between(0.99, 1.0)),
        claim(
            "xi = .35, no decay: train accuracy at step 20",
            "99.6 %",
            at(wrong, "train_accuracy", 20),
            between(0.97, 1.0),
        ),
        claim("its test accuracy at step 240", "55 %", at(wrong, "test_accuracy", 240), between(0.35, 0.75)),
        claim("its test accuracy at step 480", "98.8 %", at(wrong, "test_accuracy", 480), between(0.95, 1.0)),
        claim("coexistence at step 1000: train accuracy", "97.8 %", at(wrong, "train_accuracy"), between(0.95, 1.0)),
        claim("and test accuracy", "98.3 %", at(wrong, "test_accuracy"), between(0.95, 1.0)),
        claim("mean IPR", "about .28", mean_ipr(wrong), near(0.28, 0.05)),
        claim(
            "IPR bimodal: neurons between .15 and .35, over those below and above by the average bin (below 1)",
            "< 1",
            [_dip(row) for row in spread],
            between(0.0, 0.999),
        ),
    ]


def _dip(ratios: np.ndarray) -> float:
    """Density of neurons between .15 and .35, over the smaller of the largest densities on either side."""
    density, edges = np.histogram(ratios, bins=20, range=(0.0, 1.0))
    inside = (edges[:-1] >= 0.15) & (edges[1:] <= 0.351)
    low, high = density[edges[1:] <= 0.151].max(), density[edges[:-1] >= 0.349].max()
    return float(density[inside].min() / max(min(low, high), 1))


def _inversion(_: bool) -> dict[str, Run]:
    return {f"decay-{decay:g}": arithmetic(FULL, 0.35, decay, 500, measures="ipr") for decay in (5.0, 15.0)}


def _inversion_claims(results: Results) -> list[Claim]:
    part, whole = results["decay-5"], results["decay-15"]
    return [
        claim(
            "partial inversion, decay 5: test accuracy at step 160",
            "100 %",
            at(part, "test_accuracy", 160),
            between(0.99, 1.0),
        ),
        claim("its train accuracy at step 500", "78.6 %", at(part, "train_accuracy"), between(0.7, 0.9)),
        claim("its test accuracy then", "100 %", at(part, "test_accuracy"), between(0.99, 1.0)),
        claim("its mean IPR", ".41", mean_ipr(part), near(0.41, 0.05)),
        claim(
            "full inversion, decay 15: test accuracy at step 160",
            "99.96 %",
            at(whole, "test_accuracy", 160),
            between(0.99, 1.0),
        ),
        claim(
            "its train accuracy at step 500 minus the floor 1 - xi (1 - 1/p)",
            "0 within .01",
            at(whole, "train_accuracy") - floor_of(whole),
            near(0.0, 0.01),
        ),
        claim("its test accuracy then", "100 %", at(whole, "test_accuracy"), between(0.99, 1.0)),
        claim("its mean IPR", ".62", mean_ipr(whole), near(0.62, 0.05)),
    ]


def _forgetting(_: bool) -> dict[str, Run]:
    return {"decay-20": arithmetic(FULL, 0.35, 20.0, 2400, measures="ipr")}


def _forgetting_claims(results: Results) -> list[Claim]:
    run = results["decay-20"]
    norms = at(run, "weight_norm") / at(run, "weight_norm", 0)
    return [
        claim("decay 20: test accuracy at step 400", ">= 99.9 %", at(run, "test_accuracy", 400), between(0.99, 1.0)),
        claim("test accuracy at step 1000", "70 %", at(run, "test_accuracy", 1000), between(0.4, 0.95)),
        claim("test accuracy at step 2400", "1 %", at(run, "test_accuracy"), between(0.0, 0.1)),
        claim("weight norm at the end over that at the start", "to 0", norms, between(0.0, 0.1)),
    ]


def _phases(full: bool) -> dict[str, Run]:
    fractions = np.arange(0.1, 0.95, 0.1) if full else (0.3, 0.6, 0.9)
    corruptions = np.arange(0.0, 0.95, 0.1) if full else (0.0, 0.2, 0.4, 0.6)
    return {
        f"decay-{decay:g}-fraction-{fraction:.2g}-corruption-{corruption:.2g}": arithmetic(
            SMALL, corruption, decay, 500, fraction=fraction, times=(0, 100, 500)
        )
        for decay in DECAYS
        for fraction in fractions
        for corruption in corruptions
    }


def _phases_claims(results: Results) -> list[Claim]:
    def phases(decay: float) -> dict[tuple[float, float], str]:
        return {place[1:]: phase for place, phase in phase_points(results).items() if place[0] == decay}

    found = {decay: list(phases(decay).values()) for decay in DECAYS}

    def count(decay: float, *names: str) -> int:
        return sum(phase in names for phase in found[decay])

    inverted = [count(decay, "partial inversion", "full inversion") for decay in DECAYS]
    return [
        claim("points of coexistence without decay", "some", count(0.0, "coexistence"), between(1, np.inf)),
        claim(
            "points of inversion with decay 5 and 15, over those without",
            "more",
            np.array(inverted[1:3]) - inverted[0],
            lambda d: d > 0,
        ),
        claim(
            "points of full inversion with decay 15 minus those with 5",
            "more",
            count(15.0, "full inversion") - count(5.0, "full inversion"),
            lambda d: d > 0,
        ),
        claim(
            "points of memorisation with decay 15 minus those without",
            "fewer",
            count(15.0, "memorisation") - count(0.0, "memorisation"),
            lambda d: d < 0,
        ),
    ]


def phase_points(results: Results) -> dict[tuple[float, float, float], str]:
    """(decay, data fraction, corruption) -> phase of the mean over seeds."""
    found = {}
    for label, run in results.items():
        corruption = float(run.attrs["task_corruption"])
        train, test = (float(at(run, f"{name}_accuracy").mean()) for name in ("train", "test"))
        place = float(label.split("-")[1]), float(run.attrs["task_train_fraction"]), corruption
        found[place] = phase_of(train, test, corruption)
    return found


def _batchnorm(full: bool) -> dict[str, Run]:
    steps = 9500 if full else 2400  # a hundred epochs, or 25
    common: dict[str, Any] = {"fraction": 0.65, "batch_size": 64, "times": np.linspace(0, steps, 41).round()}
    return {
        "without": arithmetic(FULL, 0.2, 0.0, steps, measures="ipr", **common),
        "batchnorm": arithmetic(
            FULL, 0.2, 0.0, steps, network={"batchnorm": True}, measures="ipr", weights=True, **common
        ),
    }


def _batchnorm_claims(results: Results) -> list[Claim]:
    plain, norm = results["without"], results["batchnorm"]
    weights, ratios = np.abs(norm["weights_norm_weight"].to_numpy()), at(norm, "ipr")
    correlation = [np.corrcoef(rank(w), rank(r))[0, 1] for w, r in zip(weights, ratios, strict=True)]
    return [
        claim("with BatchNorm: train accuracy at the end", "80.4 %", at(norm, "train_accuracy"), near(0.804, 0.03)),
        claim("and test accuracy", "100 %", at(norm, "test_accuracy"), between(0.99, 1.0)),
        claim("without: train accuracy at the end", "81.8 %", at(plain, "train_accuracy"), near(0.818, 0.03)),
        claim("and test accuracy", "100 %", at(plain, "test_accuracy"), between(0.99, 1.0)),
        claim("rank correlation of BatchNorm's weights with IPR", "> 0", correlation, lambda value: value > 0.3),
    ]


def rank(values: np.ndarray) -> np.ndarray:
    """The rank of every value."""
    return np.argsort(np.argsort(values))


def _prune(_: bool) -> dict[str, Run]:
    return {"trained": arithmetic(FULL, 0.35, 0.0, 1000, measures="ipr", weights=True)}


def _pruned(runs: Mapping[str, Run], results: Results) -> dict[str, Any]:
    """Accuracies over the fraction of neurons pruned, in three orders."""
    import xarray

    from sim import measures

    run, dataset = runs["trained"], results["trained"]
    found = {}
    for order in measures.ORDERS:
        seeds = [
            measures.pruning_curve(measures.trained(dataset, run.network, run.task, index), order, seed=index)
            for index in range(dataset.sizes["seed"])
        ]
        names = ("train", "test", "clean", "corrupted")
        columns = {f"{name}_accuracy": (("seed", "pruned"), np.array([one[name] for one in seeds])) for name in names}
        found[order] = xarray.Dataset(columns, {"pruned": seeds[0]["pruned"]}, dict(dataset.attrs))
    return found


def _prune_claims(results: Results) -> list[Claim]:
    low, high, control = (results[order] for order in ("low", "high", "random"))

    def value(run: xarray.Dataset, name: str, pruned: float) -> np.ndarray:
        return run[f"{name}_accuracy"].sel(pruned=pruned, method="nearest").to_numpy()

    area = [run["corrupted_accuracy"].mean("pruned").to_numpy() for run in (low, control, high)]
    tests = [run["test_accuracy"].mean("pruned").to_numpy() for run in (low, control, high)]
    return [
        claim(
            "low IPR first: accuracy on wrong labels, a quarter gone",
            "50 %",
            value(low, "corrupted", 0.25),
            between(0.3, 0.7),
        ),
        claim("accuracy on wrong labels, .6 gone", "2 %", value(low, "corrupted", 0.6), between(0.0, 0.1)),
        claim(
            "test accuracy, .6 gone, minus that before",
            "rises, 98 to 100 %",
            value(low, "test", 0.6) - value(low, "test", 0.0),
            between(0.001, 0.1),
        ),
        claim("high IPR first: test accuracy, .15 gone", "50 %", value(high, "test", 0.15), between(0.25, 0.75)),
        claim("accuracy on wrong labels then", ">= 97 %", value(high, "corrupted", 0.15), between(0.95, 1.0)),
        claim(
            "random order: accuracy on wrong labels lies between (area)",
            "low < random < high",
            (area[0] < area[1]) & (area[1] < area[2]),
            bool,
        ),
        claim("and test accuracy (area)", "high < random < low", (tests[2] < tests[1]) & (tests[1] < tests[0]), bool),
    ]


TITLES = {
    "doshi-coexistence": "a network generalises while it keeps wrong labels in neurons of their own",
    "doshi-inversion": "weight decay removes the wrong labels, in part or all of them",
    "doshi-forgetting": "too much weight decay removes what was learnt",
    "doshi-phases": "phases over data fraction and corruption, for four rates of decay",
    "doshi-batchnorm": "BatchNorm weights the neurons that are waves",
    "doshi-prune": "pruning neurons by their inverse participation ratio",
}


def presets() -> list[LabPreset]:
    """All of this paper."""
    make = partial(LabPreset, source=SOURCE)
    named = [(name, {"name": name, "title": title, "reduced": ""}) for name, title in TITLES.items()]
    parts: dict[str, dict[str, Any]] = {
        "doshi-coexistence": {"runs": _coexistence, "claims": _coexistence_claims, "draw": histogram},
        "doshi-inversion": {"runs": _inversion, "claims": _inversion_claims, "draw": histogram},
        "doshi-forgetting": {
            "runs": _forgetting,
            "claims": _forgetting_claims,
            "draw": partial(curves, names=("weight_norm",)),
        },
        "doshi-phases": {
            "runs": _phases,
            "claims": _phases_claims,
            "draw": partial(phase_maps, phases=phase_points),
            "reduced": f"{SMALL_SIZE}, 3 x 4 points in place of 9 x 10 (--full: all of these, at that size)",
        },
        "doshi-batchnorm": {
            "runs": _batchnorm,
            "claims": _batchnorm_claims,
            "draw": accuracies,
            "reduced": "25 epochs in place of 100",
        },
        "doshi-prune": {"runs": _prune, "claims": _prune_claims, "draw": pruning, "derive": _pruned},
    }
    return [make(**{**common, **parts[name]}) for name, common in named]
