"""Loss against weight norm, and grokking from too large a norm (Liu et al., "Omnigrok", arXiv 2210.01117)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.grokking import RATIO
from compare.lab.pictures import accuracies, curves, landscape, over_decay
from compare.lab.preset import Claim, LabPreset, Results, Run, at, between, claim, slope

if TYPE_CHECKING:
    import xarray

SOURCE = "arXiv 2210.01117"
FACTORS = (0.1, 0.25, 0.4, 0.63, 0.8, 1.0, 1.58, 2.5, 4.0, 10.0)
DECAYS = (0.05, 0.1, 0.2, 0.4)
#: A value is right if its mean square error is at most this.
TOLERANCE = 3e-3


def teacher() -> tuple[Any, Any]:
    """Network and task: a student of a teacher of the same shape, 5-100-100-5 tanh."""
    from sim import networks, tasks

    return networks.mlp((100, 100), activation="tanh"), tasks.student_teacher(tolerance=TOLERANCE)


def _landscape(full: bool) -> dict[str, Run]:
    import optax

    from sim import norm_landscape

    network, task = teacher()
    steps = 10_000 if full else 5000
    settings = {"factors": FACTORS, "optimizer": optax.adam(3e-4 if full else 6e-4)}
    return {"landscape": Run(network, task, steps, settings, norm_landscape)}


def _landscape_claims(results: Results) -> list[Claim]:
    found = results["landscape"]
    factors = found["factor"].to_numpy()
    test, train = (found[name].transpose("seed", "factor").to_numpy() for name in ("test_loss", "train_loss"))
    least = factors[np.argmin(test, axis=1)]
    first = list(factors).index(1.0)
    return [
        claim("w_c: the norm of least test loss, over the initial one", ".6 to 1", least, between(0.6, 1.0)),
        claim(
            "U: test loss at .1 over the least", "1.6e-2 / 8e-5", test[:, 0] / test.min(axis=1), between(10.0, np.inf)
        ),
        claim("U: test loss at 10 over the least", "9.6 / 8e-5", test[:, -1] / test.min(axis=1), between(10.0, np.inf)),
        claim(
            "L: train loss at .1 over that at 1", "1.4e-2 / 1e-6", train[:, 0] / train[:, first], between(10.0, np.inf)
        ),
        claim("L: the train loss at 4", "about 0", train[:, factors.tolist().index(4.0)], between(0.0, 1e-3)),
    ]


def _decay(full: bool) -> dict[str, Run]:
    import optax

    from sim import networks

    network, task = teacher()
    rate, steps = (3e-4, 100_000) if full else (1e-3, 20_000)
    times = np.unique(np.rint(np.geomspace(1, steps, 400)).astype(int))
    return {
        f"decay-{decay:g}": Run(
            networks.scaled(network, 2.0),
            task,
            steps,
            {"optimizer": optax.adamw(rate, weight_decay=decay), "times": np.append(0, times)},
        )
        for decay in DECAYS
    }


def _decay_claims(results: Results) -> list[Claim]:
    test, train = ([times_to(results[f"decay-{decay:g}"], name) for decay in DECAYS] for name in ("test", "train"))
    scaled = np.transpose([times * decay for times, decay in zip(test, DECAYS, strict=True)])
    deviation = np.max(np.abs(scaled / scaled.mean(axis=1, keepdims=True) - 1.0), axis=1)
    return [
        claim(
            "steps to 95 % test accuracy x decay: largest deviation from their mean",
            "proportional to 1/decay: 0",
            deviation,
            between(0.0, 0.25),
        ),
        claim(
            "d ln(steps to 95 % test accuracy) / d ln(decay)",
            "-1",
            slope(DECAYS, np.transpose(test)),
            between(-1.25, -0.75),
        ),
        claim(
            "d ln(steps to 95 % train accuracy) / d ln(decay)",
            "0",
            slope(DECAYS, np.transpose(train)),
            between(-0.25, 0.25),
        ),
    ]


def times_to(dataset: xarray.Dataset, side: str, level: float = 0.95) -> np.ndarray:
    """Steps of every seed to this accuracy, (S,)."""
    from sim.measures import steps_to

    return steps_to(dataset, f"{side}_accuracy", level)


def _mnist(full: bool) -> dict[str, Run]:
    import optax

    from sim import networks, tasks

    task = tasks.mnist(train=1000, test=1000)
    network = networks.scaled(networks.mlp((200, 200)), 8.0)
    steps, decay = (100_000, 0.01) if full else (10_000, 0.1)
    settings = {"optimizer": optax.adamw(1e-3, weight_decay=decay), "batch_size": 200}
    return {"alpha-8": Run(network, task, steps, settings)}


def _mnist_claims(results: Results) -> list[Claim]:
    run = results["alpha-8"]
    norms = at(run, "weight_norm")
    fitted, learnt = times_to(run, "train", 0.99), times_to(run, "test", 0.8)
    return [
        claim("train accuracy at the end", "100 %", at(run, "train_accuracy"), between(0.99, 1.0)),
        claim(
            "test accuracy where the train accuracy first is 99 %",
            "20 %",
            at_steps(run, "test_accuracy", fitted),
            between(0.0, 0.5),
        ),
        claim("test accuracy at the end", "88 %", at(run, "test_accuracy"), between(0.8, 1.0)),
        claim(
            "steps to 80 % test over steps to 99 % train accuracy", "> 5", learnt / fitted, lambda ratio: ratio > 3.0
        ),
        claim(
            "weight norm at the end over that at the start",
            "52 / 93",
            norms / at(run, "weight_norm", 0),
            between(0.0, 0.9),
        ),
    ]


def at_steps(dataset: xarray.Dataset, name: str, steps: np.ndarray) -> np.ndarray:
    """The value of every seed at a step of its own, NaN where there is none, (S,)."""
    found = [dataset[name].isel(seed=i) for i in range(dataset.sizes["seed"])]
    return np.array([one.sel(step=s) if np.isfinite(s) else np.nan for one, s in zip(found, steps, strict=True)], float)


def _sphere(full: bool) -> dict[str, Run]:
    import optax

    from sim import interventions, networks, tasks

    p, fraction, steps = (113, 0.3, 10_000) if full else (31, 0.6, 2000)
    task = tasks.modular("add", p, train_fraction=fraction)
    network = networks.transformer() if full else networks.transformer(64, hidden=256)
    rule = partial(optax.adamw, 1e-3, b2=0.98)
    settings: dict[str, Any] = {"loss": "cross_entropy"}
    sphere = optax.chain(rule(weight_decay=0.0), interventions.on_sphere())
    return {
        "decay-1": Run(network, task, steps, {**settings, "optimizer": rule(weight_decay=1.0)}),
        "sphere": Run(networks.scaled(network, 0.8 if full else 1.0), task, steps, {**settings, "optimizer": sphere}),
    }


def _sphere_claims(results: Results) -> list[Claim]:
    decay, sphere = results["decay-1"], results["sphere"]
    ratios = [late(times_to(run, "test")) / times_to(run, "train") for run in (decay, sphere)]
    return [
        claim(
            "decay 1: steps to 95 % test over steps to 95 % train accuracy",
            "7000 / 150",
            ratios[0],
            lambda r: r > RATIO,
        ),
        claim("sphere: steps to 95 % train accuracy", "290", times_to(sphere, "train"), np.isfinite),
        claim(
            "sphere: steps to 95 % test over steps to 95 % train accuracy", "about 1", ratios[1], between(0.0, RATIO)
        ),
        claim("sphere: test accuracy at the end", "100 %", at(sphere, "test_accuracy"), between(0.95, 1.0)),
    ]


def late(steps: np.ndarray) -> np.ndarray:
    """Steps that were not reached are infinitely many."""
    return np.where(np.isnan(steps), np.inf, steps)


def presets() -> list[LabPreset]:
    """All of this paper."""
    make = partial(LabPreset, source=SOURCE)
    return [
        make(
            name="omnigrok-landscape",
            title="reduced loss against weight norm: an L and a U",
            reduced="5000 steps at rate 6e-4 in place of 10,000 at 3e-4",
            runs=_landscape,
            claims=_landscape_claims,
            draw=landscape,
        ),
        make(
            name="omnigrok-decay",
            title="weight decay sets the time of generalisation, not that of fitting",
            reduced="rate 1e-3, 20,000 steps in place of 3e-4, 100,000",
            runs=_decay,
            claims=_decay_claims,
            draw=over_decay,
        ),
        make(
            name="omnigrok-mnist",
            title="MNIST from eight times the usual norm",
            reduced="decay .1, 10,000 steps in place of .01, 100,000",
            runs=_mnist,
            claims=_mnist_claims,
            draw=partial(curves, names=("weight_norm",)),
        ),
        make(
            name="omnigrok-sphere",
            title="a transformer on a sphere generalises as it fits",
            reduced="p = 31, .6 of pairs, width 64, initial norm, 2000 steps, not 113, .3, 128, .8 of it, 10,000",
            runs=_sphere,
            claims=_sphere_claims,
            draw=accuracies,
        ),
    ]
