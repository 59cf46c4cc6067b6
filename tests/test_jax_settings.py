"""Settings of jax that a user may have made: none changes a number or stops a run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft import Committee, Model, solve
from sim import Experiment, Optimizer, simulate

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=12, width=4)
COMMITTEE = Committee(
    alpha=1.0, kappa=2.0, width=1, dim=12, activation=lambda h: jnp.tanh(h), teacher=lambda u: u[..., 0] ** 2
)
SMALL: dict[str, Any] = {"step": 0.2, "sample_count": 128, "replicas": 4}


def datasets() -> list[Any]:
    """One run of each kind; flows choose their steps outside of compiled code."""
    return [
        simulate(MODEL, 0.4, seeds=2),
        simulate(MODEL, 0.4, seeds=2, step=0.2, optimizer=Optimizer("adam", batch_size=5, schedule="cosine")),
        simulate(COMMITTEE, 0.4, seeds=2),
        simulate(Experiment(model=MODEL), 0.4, step=0.2, seeds=1, kernel=True, linearized=True),
        solve(MODEL.replace(dim=None, width=None), 0.4, **SMALL),
        solve(COMMITTEE.replace(dim=None), 0.4, **SMALL),
    ]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return datasets()


@pytest.fixture
def setting(request: pytest.FixtureRequest) -> Iterator[None]:
    name, value = request.param
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    yield
    jax.config.update(name, before)


@pytest.mark.parametrize(
    "setting",
    [
        ("jax_enable_x64", True),
        pytest.param(("jax_debug_nans", True), marks=pytest.mark.slow),
        pytest.param(("jax_debug_infs", True), marks=pytest.mark.slow),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_transfer_guard", "disallow"),
        ("jax_disable_jit", True),
        ("jax_threefry_partitionable", False),
        pytest.param(("jax_default_prng_impl", "rbg"), marks=pytest.mark.slow),
        pytest.param(("jax_random_seed_offset", 7), marks=pytest.mark.slow),  # everything is compiled again
        ("jax_default_matmul_precision", "bfloat16"),
    ],
    indirect=True,
    ids=lambda value: str(value[0]),
)
@pytest.mark.usefixtures("setting")
def test_numbers_are_the_same_under_any_setting(expected: list[Any]) -> None:
    for found, wanted in zip(datasets(), expected, strict=True):
        for name in wanted.data_vars:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.slow
def test_the_tests_compiler_differs_from_the_users_by_rounding(expected: list[Any], tmp_path: Path) -> None:
    """What tests/conftest.py asks of XLA, against XLA as it is."""
    program = (
        "import numpy, runpy, sys\n"
        "for k, found in enumerate(runpy.run_path(sys.argv[1])['datasets']()):\n"
        "    numpy.savez(f'{k}.npz', **{name: found[name].values for name in found.data_vars})"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).resolve())]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"XLA_FLAGS": ""}, check=True)
    for k, wanted in enumerate(expected):
        with np.load(tmp_path / f"{k}.npz") as found:
            assert set(found) == set(wanted.data_vars)
            for name in found:
                scale = np.abs(wanted[name].to_numpy()).max()
                np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, atol=1e-9 * scale, err_msg=name)
