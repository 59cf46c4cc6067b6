"""On an accelerator: products are not rounded to fewer bits, and the numbers are those of a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from dmft import Model, solve
from sim import Optimizer, simulate

pytestmark = pytest.mark.gpu
MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=40, width=30, initial_overlap=0.1)

#: Both runs in a process without accelerators.
ON_CPU = """
import sys
from pathlib import Path
from tests.test_accelerator import runs

for name, dataset in runs("float64").items():
    dataset.to_netcdf(Path(sys.argv[1]) / f"{name}.nc", engine="h5netcdf")
"""


def runs(precision: str) -> dict[str, xarray.Dataset]:
    """A simulation with minibatches, and the theory of the same model."""
    batches = Optimizer("momentum", 0.5, batch_size=30)
    return {
        "simulation": simulate(MODEL, 2.0, step=0.1, seeds=3, optimizer=batches, precision=precision),
        "theory": solve(MODEL, 2.0, step=0.2, sample_count=128, replicas=4, rtol=1.0, precision=precision),
    }


def test_numbers_are_those_of_a_cpu(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", ON_CPU, str(tmp_path)], env=environment, cwd=root, check=True)
    for name, found in runs("float64").items():
        expected = xarray.load_dataset(tmp_path / f"{name}.nc", engine="h5netcdf")
        for variable in ("train_loss", "test_loss"):
            np.testing.assert_allclose(found[variable], expected[variable], rtol=1e-8, err_msg=name)


def test_single_precision_is_not_less() -> None:
    """Products of 10 bits, the default of some accelerators, would be off by 1e-3."""
    double, single = runs("float64"), runs("float32")
    for name, expected in double.items():
        np.testing.assert_allclose(single[name].train_loss, expected.train_loss, rtol=1e-4, err_msg=name)
