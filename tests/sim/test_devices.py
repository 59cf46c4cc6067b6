"""Seeds over several devices, in a process with four pretended ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model
from sim import Optimizer, simulate

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20, width=12, centered=True)
OPTIMIZER = Optimizer("adam", batch_size=9)

#: Runs of 5 seeds (one more than devices); the second is stopped half-way and goes on from its checkpoint.
SCRIPT = """
import sys
from pathlib import Path
import jax
from dmft.models.model import Model
from sim import Optimizer, simulate
from sim.training import groups as training

assert jax.device_count() == 4
training.OPERATIONS_CPU = 1e5
folder, devices, stopped, original = Path(sys.argv[1]), set(), [], training.run_piece


def run_piece(job, batch, pace, piece, first):
    if first >= 10 and job.request.checkpoint and not stopped:
        stopped.append(first)
        raise InterruptedError
    batch, values = original(job, batch, pace, piece, first)
    devices.add(len(batch.state.sharding.device_set))
    return batch, values


training.run_piece = run_piece
model = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20, width=12, centered=True)
simulate(model, 2.0, seeds=5, step=0.1).to_netcdf(folder / "plain.nc", engine="h5netcdf")
options = {"seeds": 5, "step": 0.1, "optimizer": Optimizer("adam", batch_size=9), "checkpoint": folder / "run.npz"}
try:
    simulate(model, 2.0, **options, checkpoint_every=0.0)
except InterruptedError:
    simulate(model, 2.0, **options).to_netcdf(folder / "adam.nc", engine="h5netcdf")
assert devices == {4} and stopped, (devices, stopped)
"""


@pytest.mark.slow
def test_seeds_over_several_devices_train_as_on_one(tmp_path: Path) -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    for name, optimizer in (("plain", Optimizer()), ("adam", OPTIMIZER)):
        expected = simulate(MODEL, 2.0, seeds=5, step=0.1, optimizer=optimizer)
        dataset = xarray.load_dataset(tmp_path / f"{name}.nc", engine="h5netcdf")
        assert dict(dataset.sizes) == dict(expected.sizes)
        for observable in OBSERVABLES:
            np.testing.assert_allclose(dataset[observable], expected[observable], rtol=1e-10, atol=1e-13)
