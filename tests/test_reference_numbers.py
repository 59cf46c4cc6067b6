"""The stored numbers of theory, simulation and comparison come out again, and the guard notices what differs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "reference_numbers.py"


def load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("reference_numbers", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


script = load()
STORED = json.loads(script.FILE.read_text())
#: What takes seconds to compile and shares nothing with the rest.
SLOW = {
    "wide_flow_kernels",
    "wide_flow_long",
    "committee_quadratic_flow",
    "committee_relu_steps",
    "committee_relu_flow",
    "committee_erf_steps",
    "committee_erf_flow",
    "committee_readout_steps",
    "committee_readout_flow",
    "committee_random_weights",
    "overlay",
    "sweep_theory",
    "sweep_simulation",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in script.CASES]
)
def test_numbers_are_those_stored(name: str) -> None:
    now, then = script.CASES[name](), STORED["cases"][name]
    found = {
        variable: excess
        for variable, excess in script.deviations(then, now, script.floor_of(name)).items()
        if excess > 1
    }
    assert not found, (
        f"{name}: these differ from tests/reference/numbers.json, by so many times what is allowed: {found}. If they "
        "are meant to, raise NUMERICS in dmft/version.py and run benchmarks/reference_numbers.py."
    )


def test_every_stored_case_is_compared_and_of_this_version() -> None:
    assert set(STORED["cases"]) == set(script.CASES)
    assert set(script.CASES) >= SLOW
    assert STORED["numerics"] == script.numerics(), (
        "NUMERICS in dmft/version.py was raised: run benchmarks/reference_numbers.py to store the new numbers."
    )


def test_a_change_of_one_part_in_a_hundred_million_is_noticed() -> None:
    then = {"loss": [2.0, 1e-3, None], "loss_stderr": [1e-3, 1e-4, 0.0]}
    assert max(script.deviations(then, then).values()) == 0

    def worst(**changed: list[float | None]) -> float:
        return max(script.deviations(then, then | changed).values())

    assert worst(loss=[2.0 * (1 + 1e-8), 1e-3, None]) > 5
    assert worst(loss_stderr=[1e-3 * (1 + 1e-7), 1e-4, 0.0]) > 4
    assert worst(loss_stderr=[1e-3 + 1e-12, 1e-4, 0.0]) < 1  # below the rounding of the loss itself
    assert worst(loss=[2.0, 1e-3, 0.5]) == np.inf
    assert worst(loss=[2.0, 1e-3]) == np.inf
    assert script.deviations(then, {"loss": then["loss"]})["loss_stderr"] == np.inf
