"""What the checks at the door allow and refuse by name, and how much memory they take for free."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from dmft import Committee, Model, checks, solve
from dmft.checks import (
    ParameterError,
    check_bool,
    check_integer,
    check_real,
    check_seed,
    check_times,
    nearest_steps,
    precision_context,
)
from sim import Experiment, Optimizer, simulate

KINDS = [np.float64, np.float32, np.asarray, jnp.asarray, xarray.DataArray]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_scalars_of_every_kind_are_numbers(kind: Any) -> None:
    assert type(check_real("x", kind(1.5))) is float
    assert check_real("x", kind(1.5)) == 1.5
    assert type(check_integer("n", kind(100.0), at_least=2)) is int
    assert check_integer("n", kind(100), at_least=2) == 100
    model = Model(alpha=kind(1.0), epsilon=kind(0.5), kappa=kind(2), dim=kind(20.0), width=kind(4))
    assert model == Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20, width=4)
    assert all(type(value) in (int, float) for value in model.to_attributes().values())
    committee = Committee(alpha=kind(1.0), kappa=kind(2.0), width=kind(2.0), activation="erf", dim=kind(20))
    assert committee == Committee(alpha=1.0, kappa=2.0, width=2, activation="erf", dim=20)


def test_a_run_takes_scalars_of_every_kind() -> None:
    model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20, width=4, centered=np.bool_(True))
    plain = simulate(model, 1.0, step=0.5, seeds=2, seed=3)
    other = simulate(model, jnp.asarray(1.0), step=np.float32(0.5), seeds=np.asarray(2.0), seed=np.uint64(3))
    assert other.identical(plain)
    assert model.to_attributes()["centered"] == 1


@pytest.mark.parametrize("flag", [np.True_, jnp.asarray(True), np.asarray(True), True])
def test_flags_of_every_kind(flag: Any) -> None:
    assert check_bool("flag", flag) is True


@pytest.mark.parametrize("flag", ["no", 1, 0, None, 1.0, np.ones(1, bool), float("nan")])
def test_what_is_no_flag_is_refused(flag: Any) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `flag` must be True or False, but is "):
        check_bool("flag", flag)


@pytest.mark.parametrize("value", [True, np.True_, 1.5, "3", None, np.ones(1), float("inf"), 1j, Fraction(3, 2)])
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `n` must be an integer >= 1, but is "):
        check_integer("n", value, at_least=1)


def test_a_traced_number_is_refused_in_words() -> None:
    with pytest.raises(ParameterError, match=r"^Argument `x` must be a finite number"):
        jax.jit(lambda x: check_real("x", x))(1.0)


def test_seeds_hold_63_bits_everywhere() -> None:
    assert check_seed(2**63 - 1) == 2**63 - 1
    model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20, width=4)
    calls = [
        lambda seed: check_seed(seed),
        lambda seed: solve(model, 1.0, step=0.5, seed=seed),
        lambda seed: simulate(model, 1.0, step=0.5, seed=seed),
        lambda seed: simulate(Experiment(model=model), 1.0, step=0.5, seed=seed),
    ]
    for call in calls:
        with pytest.raises(ParameterError, match=rf"^Argument `seed` must be an integer >= 0 and < {2**63}, but is"):
            call(2**63)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (lambda value: solve(MODEL, 1.0, step=0.5, kernels=value), "kernels"),
        (lambda value: simulate(MODEL, 1.0, step=0.5, progress=value), "progress"),
        (lambda value: simulate(Experiment(model=MODEL), 1.0, step=0.5, kernel=value), "kernel"),
        (lambda value: Optimizer(batch_size=2, replacement=value), "replacement"),
        (lambda value: Experiment(model=MODEL, train_readout=value), "train_readout"),
        (lambda value: MODEL.replace(centered=value), "centered"),
    ],
    ids=["kernels", "progress", "kernel", "replacement", "train_readout", "centered"],
)
def test_words_are_no_flags(where: Any, name: str) -> None:
    with pytest.raises(ParameterError, match=f"^Argument `{name}` must be True or False, but is 'no'"):
        where("no")


MODEL = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20, width=4)


def test_each_time_has_a_step_of_its_own() -> None:
    np.testing.assert_array_equal(nearest_steps(np.array([0.0, 0.31, 0.98, 9.0]), 0.1, 20), [0, 3, 10, 20])
    message = "but 0.98 and 0.99 are both nearest to t = 1: steps of 0.1 up to 2 are all there are"
    with pytest.raises(ParameterError, match=re.escape(message)):
        nearest_steps(np.array([0.31, 0.98, 0.99, 1.01]), 0.1, 20)
    for run in (solve, simulate):
        with pytest.raises(ParameterError, match=re.escape(message)):
            run(MODEL, 2.0, step=0.1, times=[0.31, 0.98, 0.99])


def test_both_datasets_say_what_was_asked_for_and_what_was_reached() -> None:
    theory = solve(MODEL, 0.9, step=0.4, sample_count=64, replicas=4, rtol=1.0)
    simulation = simulate(MODEL, 0.9, step=0.4, seeds=1)
    for dataset in (theory, simulation):
        assert (dataset.attrs["t_max"], dataset.attrs["t_reached"]) == (0.9, 0.8)
        assert float(dataset.time[-1]) == 0.8
        assert dataset.time.attrs["units"] == "steps x learning rate x alpha^2 / (N D)"


@pytest.mark.parametrize("times", [[], [[1.0]], [0.0, 0.0], [1.0, 0.5], [-0.1], [2.1], [float("nan")], ["a"], 1.0])
def test_bad_times_are_refused(times: Any) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `times` must be a one-dimensional, strictly increasing"):
        check_times(times, 2.0)


def test_the_context_leaves_no_trace() -> None:
    before = dict(jax.config.values)
    with precision_context("float64"):
        assert jnp.ones(1).dtype == np.float64
    assert dict(jax.config.values) == before
    assert jnp.ones(1).dtype == np.float32


GROUP = {  # of both versions of Linux' control groups: limit, use, and what of the use is given back when asked for
    2: {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 200\n"},
    1: {
        "memory.limit_in_bytes": "1000\n",
        "memory.usage_in_bytes": "700\n",
        "memory.stat": "cache 5\ntotal_inactive_file 200\n",
    },
}


@pytest.fixture
def make_group(tmp_path, monkeypatch):
    """Control groups in a folder, this process in the group `own`."""
    monkeypatch.setattr(checks, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(checks, "OWN_GROUPS", tmp_path / "own")

    def make(version: int, place: str, own: str, **files: str) -> Path:
        (tmp_path / "own").write_text(f"4:memory:{own}\n1:cpu:/elsewhere\n" if version == 1 else f"0::{own}\n")
        folder = tmp_path / "groups" / ("memory" if version == 1 else "") / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (GROUP[version] | files).items():
            (folder / name).write_text(text)
        return folder

    return make


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("place", ["/", "/job", "/job/step"])
def test_a_group_s_free_memory_is_its_limit_less_what_is_in_use(make_group, version, place):
    """In the process' own group and in every one round it; pages of files that are given back count as free."""
    make_group(version, place, own="/job/step")
    assert checks.available_memory() == 1000.0 - (700.0 - 200.0)


def test_the_tightest_group_counts_and_one_without_a_limit_does_not(make_group):
    make_group(2, "/job", own="/job/step", **{"memory.current": "999\n"})
    make_group(2, "/job/step", own="/job/step", **{"memory.max": "max\n"})
    make_group(2, "/other", own="/job/step", **{"memory.max": "1\n"})
    assert checks.available_memory() == 1000.0 - (999.0 - 200.0)


def test_more_in_use_than_allowed_leaves_nothing(make_group):
    make_group(2, "/", own="/", **{"memory.current": "5000\n"})
    assert checks.available_memory() == 0.0


def test_a_path_has_its_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert checks.check_path("out", "~/x") == Path("/home/somebody/x")
    assert checks.check_path("out", Path("a/~")) == Path("a/~")
