"""Small synthetic datasets in the shape of theory and simulation, with known statistics."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray

from dmft import Model
from dmft.losses.dataset import build_dataset
from dmft.losses.quadratic import OBSERVABLES

MODEL = Model(alpha=2.0, epsilon=0.25, kappa=4.0, dim=100, initial_overlap=0.1)


def mean_curves(time: np.ndarray) -> dict[str, np.ndarray]:
    """Smooth curves (T,) that look like a grokking run."""
    train = 1.5 * np.exp(-time) + 1e-3
    parts = {
        "variance_error": 0.05 * np.exp(-time / 5.0),
        "misalignment_error": 0.6 / (1.0 + (time / 20.0) ** 3) + 0.01,
        "linear_power": 0.9 * (1.0 - np.exp(-time)) * np.exp(-time / 10.0) + 1e-4,
    }
    return {
        "train_loss": train,
        "test_loss": sum(parts.values()),
        **parts,
        "trace": 1.0 + 0.5 * time / (time + 10.0),
        "overlap": 0.1 + 1.5 * (1.0 - np.exp(-time / 20.0)),
        "mean_weight_norm": parts["linear_power"] / 4.0,
    }


@pytest.fixture(scope="session")
def make_theory() -> Callable[..., xarray.Dataset]:
    def make(time: Any = None, relative_error: float = 0.01, **attributes: Any) -> xarray.Dataset:
        grid = np.concatenate([[0.0], np.geomspace(0.05, 100.0, 200)]) if time is None else np.asarray(time, float)
        curves = mean_curves(grid)
        errors = {name: relative_error * np.abs(curve) for name, curve in curves.items()}
        return build_dataset(("time",), grid, curves, errors, {**MODEL.to_attributes(), "kind": "theory", **attributes})

    return make


@pytest.fixture(scope="session")
def make_simulation() -> Callable[..., xarray.Dataset]:
    def make(
        time: Any = None, seeds: int = 8, scatter: float = 0.05, random: int = 0, shift: float = 0.0, **attributes: Any
    ) -> xarray.Dataset:
        """Seeds scatter by Gaussian curves smooth in log time, relative size `scatter`; the mean is off by `shift`."""
        grid = np.concatenate([[0.0], np.geomspace(0.1, 100.0, 60)]) if time is None else np.asarray(time, float)
        generator = np.random.default_rng(random)
        phases = np.log1p(grid)[None, :] * np.arange(1.0, 5.0)[:, None]
        modes = np.concatenate([np.cos(phases), np.sin(phases)]) / 2.0
        values = {}
        for name, curve in mean_curves(grid).items():
            noise = generator.standard_normal((seeds, len(modes))) @ modes
            values[name] = curve * (1.0 + shift + scatter * noise)
        errors = {
            name: np.std(value, axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(grid.shape, np.nan)
            for name, value in values.items()
        }
        assert set(values) == set(OBSERVABLES)
        attributes = {**MODEL.to_attributes(), "kind": "simulation", "seeds": seeds, **attributes}
        dataset = build_dataset(("seed", "time"), grid, values, errors, attributes)
        return dataset.assign_coords(seed=np.arange(seeds))

    return make


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that keeps a log of its console and of every request."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "window-size=1400,1000"),
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()
