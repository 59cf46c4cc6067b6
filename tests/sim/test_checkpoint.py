"""Runs that are stopped, killed, continued, cut short or diverge."""

import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compare.cli import main
from dmft.checks import DivergenceError, MemoryLimitError, ParameterError
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.committee import Committee
from dmft.models.model import Model
from sim import Optimizer, simulate
from sim.training import driver
from sim.training import groups as training

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=20, width=8)


class Stopped(Exception):
    """The run was stopped on purpose."""


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Cut runs into single steps, and stop them after some of them; `stop_after(None)` lets them run."""
    monkeypatch.setattr(training, "OPERATIONS_CPU", 1.0)
    original = training.run_piece

    def stop(pieces: int | None) -> None:
        left = iter(range(pieces)) if pieces is not None else None

        def run_piece(*arguments: Any) -> Any:
            if left is not None and next(left, None) is None:
                raise Stopped
            return original(*arguments)

        monkeypatch.setattr(training, "run_piece", run_piece)

    return stop


@pytest.mark.parametrize(
    ("optimizer", "precision", "groups"),
    [("gd", "float64", 2), ("adam", "float32", 1), (Optimizer("momentum", 0.5, batch_size=20), "float64", 1)],
    ids=["gd", "adam", "minibatch"],
)
def test_a_run_goes_on_as_if_it_had_never_stopped(
    optimizer: Any, precision: str, groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: Any
) -> None:
    options = {"seeds": 4, "step": 0.1, "optimizer": optimizer, "precision": precision}
    monkeypatch.setattr(driver, "group_size", lambda *_: 4 // groups)
    whole = simulate(MODEL, 3.0, **options)
    path = tmp_path / "run.npz"
    for pieces in (4, 20, 1, 0):
        stop_after(pieces)
        with pytest.raises(Stopped):
            simulate(MODEL, 3.0, **options, checkpoint=path, checkpoint_every=0.0)
        monkeypatch.setattr(driver, "group_size", lambda *_: 4)  # as with other memory: the run keeps its groups
    stop_after(None)
    assert simulate(MODEL, 3.0, **options, checkpoint=path, checkpoint_every=0.0).identical(whole)
    stop_after(0)  # a finished run is read, not run
    assert simulate(MODEL, 3.0, **options, checkpoint=path).identical(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path: Path, stop_after: Any) -> None:
    path = tmp_path / "run.npz"
    stop_after(5)
    with pytest.raises(Stopped):
        simulate(MODEL, 1.0, seeds=2, step=0.1, checkpoint=path, checkpoint_every=0.0)
    before = path.read_bytes()
    other = {"t_max": 1.0, "seeds": 2, "step": 0.1, "checkpoint": path}
    for changes, words in [
        ({"seeds": 3}, "seeds = 2 there, 3 here"),
        ({"step": 0.05}, "step = 0.1 there, 0.05 here; steps = 10 there, 20 here"),
        ({"model": MODEL.replace(alpha=2.0)}, "alpha = 1.0 there, 2.0 here"),
        ({"optimizer": "adam"}, "optimizer = gd there, adam here"),
        ({"optimizer": Optimizer(batch_size=5)}, "batch_size = None there, 5 here"),
        ({"optimizer": Optimizer(schedule=lambda n: 1.0 / (1.0 + n))}, "schedule = None there, function here"),
        ({"precision": "float32"}, "precision = float64 there, float32 here"),
        ({"form": "reduced"}, "form = network there, reduced here"),
        ({"times": [0.0, 0.5]}, "observed_steps"),
        ({"stop_below": {"train_loss": 0.1}}, "stop_below"),
    ]:
        with pytest.raises(ParameterError, match=r"^Argument `checkpoint` must be of this very run") as caught:
            simulate(**{"model": MODEL, **other, **changes})
        assert words in str(caught.value)
    assert path.read_bytes() == before


def leaky(h: Any, slope: float = 0.1) -> Any:
    return jnp.where(h > 0.0, h, slope * h)


class Scaled:
    """A function with a value of its own, which cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, u: Any) -> Any:
        return self.scale * u[..., 0]


@pytest.mark.parametrize(
    ("name", "first", "same", "other"),
    [
        ("optimizer", optax.rmsprop(0.1), optax.rmsprop(0.1), optax.rmsprop(0.2)),
        ("schedule", lambda n: 1 / (1 + n), lambda n: 1 / (1 + n), lambda n: 1 / (2 + n)),
        ("activation", partial(leaky, slope=0.1), partial(leaky, slope=0.1), partial(leaky, slope=0.9)),
        ("activation", lambda h: jnp.tanh(h), lambda h: jnp.tanh(h), lambda h: jnp.tanh(2 * h)),
        ("teacher", Scaled(1.0), Scaled(1.0), Scaled(2.0)),
    ],
    ids=["rule", "schedule", "partial", "lambda", "object"],
)
def test_code_handed_in_is_told_apart_by_its_numbers(
    name: str, first: Any, same: Any, other: Any, tmp_path: Path
) -> None:
    def run(function: Any) -> Any:
        model, optimizer = MODEL, Optimizer()
        if name in ("activation", "teacher"):
            own: dict[str, Any] = {"activation": "erf", name: function}
            model = Committee(alpha=1.0, kappa=2.0, width=2, dim=10, **own)
        else:
            optimizer = Optimizer(function) if name == "optimizer" else Optimizer(schedule=function)
        return simulate(model, 0.3, seeds=1, step=0.1, checkpoint=tmp_path / "run.npz", optimizer=optimizer)

    assert run(first).identical(run(same))
    with pytest.raises(ParameterError, match=f"of another: .*{name}_code = [0-9a-f]+ there"):
        run(other)


def test_a_function_whose_code_cannot_be_compared_is_refused_by_name(tmp_path: Path) -> None:
    lock = threading.Lock()
    model = Committee(alpha=1.0, kappa=2.0, width=2, activation="erf", dim=10, teacher=lambda u: u[..., 0] * bool(lock))
    assert "code unknown" in simulate(model, 0.2, seeds=1, step=0.1).attrs["teacher"]
    with pytest.raises(ParameterError, match=r"^Argument `checkpoint` must be left out with this `teacher`.*lock"):
        simulate(model, 0.2, seeds=1, step=0.1, checkpoint=tmp_path / "run.npz")


def test_the_random_numbers_of_an_optimiser_go_on(tmp_path: Path, stop_after: Any) -> None:
    rule = optax.noisy_sgd(0.1, 0.01, key=jax.random.key(3))
    options: dict[str, Any] = {"seeds": 2, "step": 0.1, "optimizer": rule}
    whole, path = simulate(MODEL, 1.0, **options), tmp_path / "run.npz"
    stop_after(3)
    with pytest.raises(Stopped):
        simulate(MODEL, 1.0, **options, checkpoint=path, checkpoint_every=0.0)
    stop_after(None)
    assert simulate(MODEL, 1.0, **options, checkpoint=path).identical(whole)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "header"])
def test_a_damaged_checkpoint_is_refused_and_kept(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    run = {"model": MODEL, "t_max": 1.0, "seeds": 2, "step": 0.1, "checkpoint": path}
    simulate(**run)
    content = path.read_bytes()
    if damage == "header":
        with np.load(path) as file:
            arrays = dict(file)
        header = json.loads(arrays["header"].tobytes())
        header["run"]["seeds"] = 3
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(path, **arrays)
        content = path.read_bytes()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        content = {"empty": b"", "cut": content[:-200], "flipped": flipped, "text": b"no checkpoint"}[damage]
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"^Argument `checkpoint` .* is damaged .* left as it is"):
        simulate(**run)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/run.npz", "No such file or directory"),
        ("", "not empty, but is ''"),
        (".", "is a folder"),
        ("x" * 252, "File name too long"),  # fits, but not what is written beside it
        ("nul\0", "but is 'nul"),
        (3, "but is 3"),
        ("~nobody-of-that-name/run.npz", "but is '~nobody"),
    ],
    ids=["folder", "empty", "is-folder", "long", "nul", "number", "user"],
)
def test_bad_names_of_checkpoints_are_refused_before_the_run(
    name: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "train_groups", None)
    with pytest.raises(ParameterError, match=f"^Argument `checkpoint` must be .*{reason}"):
        simulate(MODEL, 1.0, step=0.1, checkpoint=name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ParameterError, match=r"^Argument `checkpoint_every`"):
        simulate(MODEL, 1.0, step=0.1, checkpoint_every=-1.0)


def test_a_home_folder_is_found_and_a_full_disk_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = simulate(MODEL, 0.5, seeds=1, step=0.1, checkpoint="~/run.npz")
    assert (tmp_path / "run.npz").exists()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sim.training.checkpoint.np.savez", full)
    with pytest.warns(UserWarning, match="could not be written .*No space left on device.*the run goes on"):
        result = simulate(MODEL, 0.5, seeds=1, step=0.1, checkpoint="~/other.npz", checkpoint_every=0.0)
    assert result.identical(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_a_run_stops_where_every_seed_is_below_every_threshold() -> None:
    full = simulate(MODEL, 20.0, seeds=3, step=0.1)
    thresholds = {"train_loss": 0.05, "test_loss": 0.55}
    below = [(full[name] < level).all("seed").values for name, level in thresholds.items()]
    last = int(np.argmax(below[0] & below[1]))
    assert 0 < last < 200
    short = simulate(MODEL, 20.0, seeds=3, step=0.1, stop_below=thresholds)
    assert short.sizes["time"] == last + 1
    for name in OBSERVABLES:
        np.testing.assert_array_equal(short[name], full[name][:, : last + 1])
    assert (short.attrs["stopped"], short.attrs["t_max"], short.attrs["stop_below_test_loss"]) == (1, 20.0, 0.55)
    never = simulate(MODEL, 2.0, seeds=3, step=0.1, stop_below={"test_loss": 1e-6})
    assert (never.attrs["stopped"], float(never.time[-1])) == (0, 2.0)
    assert "stopped" not in full.attrs


def test_stopping_early_needs_all_seeds_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "group_size", lambda *_: 2)
    with pytest.raises(MemoryLimitError, match=r"`stop_below` needs all 3 seeds in memory at once, but only 2 fit"):
        simulate(MODEL, 1.0, seeds=3, step=0.1, stop_below={"train_loss": 0.1})


@pytest.mark.parametrize(
    ("stop_below", "words"),
    [
        ({}, "`stop_below` must map"),
        (0.1, "`stop_below` must map"),
        ({"trace": 1.0}, "train_loss, test_loss"),
        ({"test_loss": 0.0}, "> 0"),
        ({"test_loss": "low"}, "'low'"),
    ],
    ids=str,
)
def test_bad_thresholds_are_refused(stop_below: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=r"^Argument `stop_below") as caught:
        simulate(MODEL, 1.0, step=0.1, stop_below=stop_below)
    assert words in str(caught.value)


@pytest.mark.parametrize("groups", [1, 2])
def test_divergence_leaves_the_curves_up_to_there(groups: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver, "group_size", lambda *_: 4 // groups)
    path = tmp_path / "run.npz"
    with pytest.raises(DivergenceError, match=r"\(step \d+, seed \d: ") as caught:
        simulate(MODEL, 400.0, seeds=4, step=4.0, checkpoint=path, checkpoint_every=0.0)
    curves = caught.value.curves
    failed = int(str(caught.value).split("(step ")[1].split(",")[0])
    np.testing.assert_array_equal(curves.time, 4.0 * np.arange(failed))
    assert curves.attrs["complete"] == 0
    assert curves.sizes["seed"] in (4 // groups, 4)
    assert np.isfinite(curves.train_loss).all()
    assert not path.exists()
    start = simulate(MODEL, 4.0, seeds=4, step=4.0)
    np.testing.assert_array_equal(curves.train_loss[:, 0], start.train_loss[: curves.sizes["seed"], 0])
    assert start.attrs["complete"] == 1


@pytest.mark.parametrize("optimizer", ["nesterov", Optimizer("momentum", batch_size=10)], ids=["nesterov", "batches"])
def test_the_step_advised_is_stable_for_the_optimiser_too(optimizer: Any) -> None:
    with pytest.raises(DivergenceError) as caught:
        simulate(MODEL, 400.0, seeds=2, step=20.0, optimizer=optimizer)
    advised = float(str(caught.value).split("stable one is step = ")[1].rstrip("."))
    result = simulate(MODEL, 400 * advised, seeds=2, step=advised, optimizer=optimizer)
    assert float(result.train_loss[:, -1].max()) < float(result.train_loss[:, 0].max())


#: About a second of work.
KILLED = ["--dim", "40", "--width", "60", "--t-max", "60", "--step", "0.02", "--seeds", "4", "--optimizer", "adam"]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_times_ends_in_the_same_file(kills: int, tmp_path: Path) -> None:
    """By SIGKILL, at any time after it has saved something for the first time; byte for byte the same."""
    assert main(["simulate", *KILLED, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    arguments = ["simulate", *KILLED, "--out", str(out), "--resume", "--checkpoint-every", "0.05"]
    checkpoint, generator, interrupted = out / "simulation.checkpoint.npz", np.random.default_rng(kills), 0
    for _ in range(kills):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        command = [sys.executable, "-m", "compare.cli", *arguments]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
                time.sleep(0.01)
            time.sleep(float(generator.uniform(0.0, 1.0 / kills)))
            interrupted += process.poll() is None
            process.kill()
    assert interrupted > 0
    assert main(arguments) == 0
    assert (out / "simulation.nc").read_bytes() == (tmp_path / "whole" / "simulation.nc").read_bytes()
    assert not checkpoint.exists()
