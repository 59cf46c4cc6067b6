"""Simulated curves against exact limits and against tabulated means, in standard errors."""

import numpy as np
import pytest
import xarray
from scipy import stats

from dmft.models.model import Model
from sim import simulate
from sim.systems.draws import draw_replica

NAMES = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
#: Smallest two-sided p-value let pass; a test looks at up to 15 numbers.
LEVEL = 1e-4


def marchenko_pastur(kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the bulk for kappa > 1, s = 1 + 1/kappa - 2 cos(theta) / sqrt(kappa) (THEORY section 7)."""
    theta = (np.arange(4000) + 0.5) * np.pi / 4000
    s = 1.0 + 1.0 / kappa - 2.0 * np.cos(theta) / np.sqrt(kappa)
    return s, 2.0 * np.sin(theta) ** 2 / s / 4000


def assert_means_agree(result: xarray.Dataset, time: float, table: dict[str, tuple[float, float]], seeds: int) -> None:
    """Welch's t-test of the simulated mean of each observable against (mean, standard error) from `seeds` seeds."""
    ours = result.sizes["seed"]
    for name, (mean, error) in table.items():
        point = result[name].sel(time=time, method="nearest")
        own = float(result[f"{name}_stderr"].sel(time=time, method="nearest"))
        variance = own**2 + error**2
        freedom = variance**2 / (own**4 / (ours - 1) + error**4 / (seeds - 1))
        p_value = 2.0 * stats.t.sf(abs(float(point.mean()) - mean) / np.sqrt(variance), freedom)
        assert p_value > LEVEL, f"{name} at t = {time}: {float(point.mean()):.4g} +- {own:.2g}, table {mean} +- {error}"


def rows(*lines: str) -> list[dict[str, tuple[float, float]]]:
    """Tables of THEORY section 9: "value error" pairs in the order of NAMES."""
    numbers = [[float(word) for word in line.split()] for line in lines]
    return [dict(zip(NAMES, zip(line[::2], line[1::2], strict=True), strict=True)) for line in numbers]


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("kappa", [0.5, 2.0])
def test_linear_network_follows_its_own_spectrum(kappa: float, weight_decay: float) -> None:
    """eps = 0: Delta_n from the eigenvalues of each draw's own X X^T / kappa, to rounding (THEORY section 7a)."""
    model = Model(alpha=1.3, epsilon=0.0, kappa=kappa, dim=30, width=4, label_noise=0.5, weight_decay=weight_decay)
    step = 0.1
    result = simulate(model, 3.0, seeds=2, step=step)
    for index in range(2):
        draw = draw_replica(model, 0, index)
        left, singular, right = np.linalg.svd(draw.inputs)
        s = np.zeros(model.dim)
        s[: singular.size] = singular**2 / kappa
        labels = np.zeros(model.dim)
        labels[: singular.size] = (left.T @ draw.labels)[: singular.size]
        mean_weight, along = draw.weights.mean(axis=0), np.sqrt(kappa * s)
        for n in (0, 1, 30):
            decay = (1.0 - step * (s + weight_decay)) ** n
            target = along * labels / kappa / np.maximum(s + weight_decay, 1e-30) / model.alpha
            weights = right.T @ (decay * (right @ mean_weight) + (1.0 - decay) * target)
            residual = model.alpha * draw.inputs @ weights - draw.labels
            np.testing.assert_allclose(result.train_loss[index, n], np.mean(residual**2), rtol=1e-9)
            test = 0.75 + model.alpha**2 * weights @ weights / model.dim
            np.testing.assert_allclose(result.test_loss[index, n], test, rtol=1e-9)


@pytest.mark.parametrize("label_noise", [0.0, 0.7])
def test_linear_network_follows_marchenko_pastur(label_noise: float) -> None:
    """eps = 0, centred, so that one neuron is the wide network: discrete closed form of THEORY section 7a."""
    kappa, dim, step, seeds = 2.0, 600, 0.2, 24
    model = Model(alpha=1.0, epsilon=0.0, kappa=kappa, dim=dim, width=1, centered=True, label_noise=label_noise)
    result = simulate(model, 8.0, seeds=seeds, step=step, times=[0.2, 1.0, 8.0])
    s, weight = marchenko_pastur(kappa)
    power = 0.75 + label_noise**2
    for i, n in enumerate((1, 5, 40)):
        decay = (1.0 - s * step) ** n
        train = power * (1.0 - 1.0 / kappa + weight @ decay**2 / kappa)
        test = 0.75 + power / kappa * (weight @ ((1.0 - decay) ** 2 / s))
        for name, expected in (("train_loss", train), ("test_loss", test)):
            # the label is not independent of the linear features at finite D: O(1/D), measured to be below 3/D
            error = np.hypot(float(result[f"{name}_stderr"][i]), 3.0 / dim * expected)
            z = (float(result[name][:, i].mean()) - expected) / error
            assert abs(z) < 4.0, (name, n, z)


def test_random_initialisation_reproduces_the_table() -> None:
    """THEORY section 9a, D = 200."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=200)
    result = simulate(model, 10.0, seeds=16, step=0.1, times=[0.0, 2.0, 5.0, 10.0])
    table = rows(
        ".1386 .0013 .6019 .0015 1.7085 .0096 .0473 .0014 .1138 .0020",
        ".0407 .0003 .5606 .0017 2.0675 .0104 .1162 .0033 .1042 .0016",
        ".0160 .0001 .5282 .0021 2.1443 .0100 .1757 .0048 .0943 .0015",
    )
    for time, row in zip((2.0, 5.0, 10.0), table, strict=True):
        assert_means_agree(result, time, row, seeds=100)


@pytest.mark.slow
def test_planted_overlap_reproduces_the_table() -> None:
    """THEORY section 9b, D = 400."""
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=400, initial_overlap=0.1)
    result = simulate(model, 12.0, seeds=6, step=0.2, times=[0.0, 2.4, 6.0, 12.0])
    table = rows(
        ".0557 .0004 .3795 .0023 1.8978 .0100 .4374 .0067 .0631 .0008",
        ".0169 .0001 .3080 .0025 2.0478 .0084 .6064 .0079 .0490 .0006",
        ".0065 .0001 .2701 .0026 2.0755 .0081 .7078 .0087 .0430 .0006",
    )
    for time, row in zip((2.4, 6.0, 12.0), table, strict=True):
        assert_means_agree(result, time, row, seeds=40)


@pytest.mark.parametrize("width", [None, pytest.param(500, marks=pytest.mark.slow)])
def test_grokking_case_reproduces_the_table(width: int | None) -> None:
    """THEORY section 9d, D = 100; by section 4 a width of 500 differs from an infinite one by less than a per cent."""
    model = Model(alpha=1.0, epsilon=0.25, kappa=5.5, dim=100, width=width)
    result = simulate(model, 20.0, seeds=20, step=0.2, times=[0.0, 20.0])
    assert_means_agree(result, 20.0, {"test_loss": (0.3005, 0.0109), "overlap": (1.265, 0.060)}, seeds=20)
