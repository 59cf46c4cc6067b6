"""What is compiled is kept, until it would end the process."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from dmft import Committee, solve
from dmft.twotime import compiled as compilation
from sim import simulate


def test_a_shape_is_compiled_once():
    function = jax.jit(lambda x: 2 * x)
    first = compilation.executable(function, (jnp.ones(3),), {})
    assert compilation.executable(function, (jnp.zeros(3),), {}) is first
    assert compilation.executable(function, (jnp.ones(4),), {}) is not first
    assert float(first(jnp.ones(3))[0]) == 2.0


@pytest.mark.parametrize(("allowed", "forgotten"), [("1", True), ("1000000000", False), ("", False)])
def test_all_is_forgotten_when_the_maps_are_many(allowed, forgotten, tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    monkeypatch.setattr(compilation, "LIMIT", tmp_path / "limit")
    monkeypatch.setattr(compilation, "MAPS", tmp_path / "maps")
    monkeypatch.setattr(compilation, "_executables", {"some": "work"})
    (tmp_path / "maps").write_text("one\ntwo\n")
    if allowed:
        (tmp_path / "limit").write_text(allowed)
    compilation.forget_if_many()
    assert bool(cleared) == forgotten
    assert bool(compilation._executables) != forgotten


MANY_SHAPES = """
import gc, warnings
from pathlib import Path
from dmft import Model, solve
from dmft.twotime import compiled as compilation
from sim import simulate

warnings.simplefilter("ignore")
compilation.SHARE = 0.06  # of 65530
counts = []
for points in (16, 20, 24, 28):
    solve(Model(alpha=1.0, epsilon=0.5, kappa=2.0), 0.5, points=points, sample_count=128, replicas=4)
    gc.collect()
    counts.append(len(Path("/proc/self/maps").read_text().splitlines()))
compilation.SHARE = 0.0
simulate(Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20), 1.0, seeds=2, step=0.1)
counts.append(len(Path("/proc/self/maps").read_text().splitlines()))
print(*counts)
"""


@pytest.mark.slow
@pytest.mark.skipif(not compilation.MAPS.exists(), reason="needs /proc")
def test_many_shapes_do_not_need_ever_more_maps():
    done = subprocess.run([sys.executable, "-c", MANY_SHAPES], capture_output=True, text=True, check=True)
    counts = [int(word) for word in done.stdout.split()]
    assert max(counts) < 6000  # they would need some 4000 each
    assert counts[-1] < 0.7 * counts[-2]


def test_a_sweep_over_epsilon_compiles_once():
    """Theory, its test losses and simulation of a quadratic committee: epsilon is a number like alpha."""
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: lowered.append(event))
    model = Committee(alpha=1.0, kappa=2.0, width=1, activation="quadratic", epsilon=0.4, dim=12)

    def run(epsilon: float) -> tuple[float, float]:
        one = model.replace(epsilon=epsilon)
        theory = solve(one, 0.4, step=0.2, sample_count=128, replicas=4, rtol=1.0)
        return float(theory.test_loss[-1]), float(simulate(one, 0.4, step=0.2, seeds=1).test_loss[0, -1])

    first = run(0.4)
    del lowered[:]
    second = run(0.8)
    assert [event for event in lowered if "jaxpr_to_mlir" in event] == []
    assert abs(second[0] - first[0]) > 1e-3
    assert abs(second[1] - first[1]) > 1e-3
