"""Where the theory reaches: a committee trained by `sim.train`, against `dmft.solve` of the same committee."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from compare import overlay
from dmft import Committee, solve
from sim import tasks, train

pytestmark = pytest.mark.slow

MODEL = Committee(alpha=1.0, kappa=4.0, width=2, activation="quadratic", epsilon=0.5, dim=300)
STEP, STEPS = 0.2, 20


def draw(index: int) -> tasks.Arrays:
    """x ~ N(0, I/D), y = (beta.x)^2 / 2 with |beta|^2 = D; 3000 test inputs."""
    assert MODEL.dim is not None
    assert MODEL.samples is not None
    generator = np.random.default_rng([11, index])
    x = generator.standard_normal((MODEL.samples + 3000, MODEL.dim)) / np.sqrt(MODEL.dim)
    beta = generator.standard_normal(MODEL.dim)
    y = (x @ beta * np.sqrt(MODEL.dim) / np.linalg.norm(beta)) ** 2 / 2.0
    return tasks.split(x, y[:, None], MODEL.samples)


def init(key: Any) -> Any:
    return {"w": jax.random.normal(key, (MODEL.width, MODEL.dim))}


def apply(parameters: Any, x: Any) -> Any:
    h = x @ parameters["w"].T
    return MODEL.alpha / MODEL.width * (h + 0.25 * h**2).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("factor", [1.0, 1.15])
def test_a_committee_is_trained_as_the_theory_says(factor: float) -> None:
    """And is told from it where its learning rate is another by a sixth."""
    assert MODEL.dim is not None
    rate = factor * STEP * MODEL.width * MODEL.dim / (2.0 * MODEL.alpha**2)
    task = tasks.Task(name="half_square", draw=draw, outputs=1, classes=False, tolerance=0.1)
    run = train((init, apply), task, STEPS, optimizer=optax.sgd(rate), seeds=16, precision="float64", times=range(21))
    theory = solve(MODEL, STEP * STEPS, step=STEP)
    curves = {"time": STEP * run["step"].to_numpy()}
    curves |= {name: run[name].to_numpy() for name in ("train_loss", "test_loss")}
    runs = [{**curves, **{name: curves[name][i] for name in ("train_loss", "test_loss")}} for i in range(16)]
    rows = overlay(theory, runs).summary()["observables"]
    verdicts = {name: rows[name]["verdict"] for name in ("train_loss", "test_loss")}
    assert (set(verdicts.values()) == {"agrees"}) == (factor == 1.0), rows
