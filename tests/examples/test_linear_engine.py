"""A third engine through the public protocol: the two-time machine solves it to tolerance, by steps and by flow."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dmft import DivergenceError, Model, limits, solve
from dmft.solver import ENGINES

PAGE = Path(__file__).parents[2] / "examples" / "linear_engine.py"


@pytest.fixture(scope="module")
def network():
    """The model class of the example; its engine is taken out again."""
    specification = importlib.util.spec_from_file_location("linear_engine", PAGE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module.LinearNetwork
    del ENGINES[module.LinearNetwork]


@pytest.mark.parametrize("kappa", [0.6, 3.0])
@pytest.mark.parametrize("step", [None, 0.1])
def test_a_third_engine_is_solved_to_tolerance(network, kappa, step):
    theory = solve(network(alpha=0.7, kappa=kappa), 6.0, step=step, rtol=1e-3)
    exact = limits.linear(Model(alpha=0.7, epsilon=0.0, kappa=kappa), theory.time.values, step=step)
    assert theory.attrs["tolerance_met"] == 1
    for name in ("train_loss", "test_loss"):
        deviation = np.abs(theory[name].values - exact[name])
        assert (deviation <= 1e-3 * exact[name] + 1e-5 * exact[name][0]).all(), name
    assert bool((theory.train_loss_step_error > 0).any()) == (step is None)


def test_a_third_engine_fails_as_the_others_do(network):
    with pytest.raises(DivergenceError, match="diverges"):
        solve(network(alpha=0.7, kappa=0.5), 60.0, step=1.5)
