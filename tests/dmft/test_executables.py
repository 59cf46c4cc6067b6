"""What is compiled is kept in memory, until it would end the process, and in the cache folder for the next one."""

import importlib
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmft import Committee, Model, solve, version
from dmft.compiled import executables, folder, kind
from dmft.compiled.executables import COUNTS, compilable, executable
from sim import simulate

TOY = """
import jax.numpy as jnp
from dmft.compiled.executables import compilable

traced = []

@compilable(donated=["state"])
def advance(factor, state, *, power):
    traced.append(power)
    singular = jnp.linalg.svd(state, compute_uv=False)
    return factor * jnp.sin(state) ** power + singular.sum()

@compilable()
def passed(held, x):
    return held, 2 * x
"""


@pytest.fixture
def counted(monkeypatch):
    """What has been compiled, loaded and reused since the test began; it begins with nothing in memory.

    What other tests have compiled takes maps as well: their number counts only where a test is about it.
    """
    monkeypatch.setattr(executables, "LIMIT", Path("/nowhere"))
    executables.forget()
    before = COUNTS.copy()
    yield lambda: dict(COUNTS - before)
    executables.forget()


@pytest.fixture
def toy(tmp_path, monkeypatch, counted):  # noqa: ARG001
    """A package of one function, whose executables may be kept in an empty folder."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kind, "OURS", ("dmft", "sim", "toy"))
    monkeypatch.setattr(version, "IMPORTED", math.inf)
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path / "cache"))
    yield importlib.import_module("toy")
    del sys.modules["toy"]


def entries(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def arguments(size=6):
    return jnp.asarray(1.5), jnp.asarray(np.random.default_rng(1).standard_normal((size, size)))


# In memory


def test_each_kind_is_compiled_once(counted):
    double = compilable()(lambda x, *, times: 2 * times * x)
    first = executable(double, (jnp.ones(3),), {"times": 1})
    assert float(first(jnp.ones(3))[0]) == 2.0
    assert executable(double, (jax.ShapeDtypeStruct((3,), np.float32),), {"times": 1}) is first
    others = [
        executable(double, (jnp.ones(4),), {"times": 1}),
        executable(double, (jnp.ones(3, np.int32),), {"times": 1}),
        executable(double, (jnp.ones(3),), {"times": 2}),
        executable(double, (jnp.ones(3),), {"times": 1}, {"xla_backend_optimization_level": 0}),
    ]
    with jax.default_matmul_precision("highest"):
        others.append(executable(double, (jnp.ones(3),), {"times": 1}))
    assert len({id(each) for each in [first, *others]}) == 6
    assert float(double(jnp.ones(3), times=5)[0]) == 10.0
    assert counted() == {"compiled": 7, "reused": 1}


def test_several_threads_compile_once(counted):
    function = compilable()(lambda x: jnp.sort(x) + 1)
    found = []
    threads = [threading.Thread(target=lambda: found.append(function(jnp.ones(5)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert counted() == {"compiled": 1, "reused": 7}


@pytest.mark.usefixtures("counted")
def test_what_was_not_used_for_the_longest_time_is_dropped(monkeypatch):
    monkeypatch.setattr(executables, "KEPT", 3)
    function = compilable()(lambda x: x + 1)
    kept = {size: executable(function, (jnp.ones(size),), {}) for size in (1, 2, 3)}
    assert executable(function, (jnp.ones(1),), {}) is kept[1]
    executable(function, (jnp.ones(4),), {})
    assert executable(function, (jnp.ones(1),), {}) is kept[1]
    assert executable(function, (jnp.ones(3),), {}) is kept[3]
    assert executable(function, (jnp.ones(2),), {}) is not kept[2]


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(("allowed", "left"), [("3", 1), ("1000000000", 5), ("", 5)])
def test_where_maps_are_many_ours_alone_are_dropped(allowed, left, tmp_path, monkeypatch):
    monkeypatch.setattr(executables, "LIMIT", tmp_path / "limit")
    monkeypatch.setattr(executables, "MAPS", tmp_path / "maps")
    (tmp_path / "maps").write_text("one\ntwo\n")
    if allowed:
        (tmp_path / "limit").write_text(allowed)
    traced = []
    theirs = jax.jit(lambda x: traced.append(x) or x + 2)
    theirs(jnp.ones(2))
    function = compilable()(lambda x: x + 1)
    for size in range(1, 6):
        function(jnp.ones(size))
    assert len(executables._slots) == left
    theirs(jnp.ones(2))
    assert len(traced) == 1


@pytest.mark.usefixtures("counted")
@pytest.mark.skipif(not executables.MAPS.exists(), reason="needs /proc")
def test_what_is_dropped_gives_its_maps_back(monkeypatch):
    monkeypatch.setenv(folder.VARIABLE, "off")

    @compilable()
    def large(x):
        for i in range(12):
            x = jnp.sort(jnp.sin(x @ x) + i, axis=0)
        return x

    def maps():
        """Those of code that is in no file; a third of all that an executable takes."""
        return executables.MAPS.read_bytes().count(b"r-xp 00000000 00:00 0 \n")

    large(np.ones((3, 3)))  # and what jax needs for the first time
    executables.forget()
    before = maps()
    for size in (4, 5, 6):
        large(np.ones((size, size)))
    taken = maps() - before
    executables.forget()
    assert taken > 9
    assert maps() <= before


# In the folder


def test_another_process_loads_and_does_not_trace(toy, tmp_path, counted):
    script = """
import math
from dmft import version
version.IMPORTED = math.inf
from dmft.compiled import kind
kind.OURS += ("toy",)
import jax, jax.numpy as jnp, numpy as np, toy
from dmft.compiled.executables import COUNTS
state = jnp.asarray(np.random.default_rng(1).standard_normal((6, 6)))
value = np.asarray(toy.advance(jnp.asarray(1.5), state, power=2))
print(dict(COUNTS), toy.traced, state.is_deleted(), value.tobytes().hex())
"""
    here = np.asarray(toy.advance(*arguments(), power=2))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert counted() == {"compiled": 1}
    assert done.stdout.split() == ["{'loaded':", "1}", "[]", "True", here.tobytes().hex()]
    assert tmp_path.joinpath("cache").stat().st_mode & 0o777 == 0o700


def test_what_is_loaded_is_what_was_compiled(toy, counted):
    """In both precisions, with options, from several threads: the same bits, and donated memory is taken."""
    options = {"xla_backend_optimization_level": 1}
    results = []
    for _ in range(2):
        with jax.enable_x64(True):
            factor, state = arguments()
            results.append(np.asarray(executable(toy.advance, (factor, state), {"power": 3}, options)(factor, state)))
            assert state.is_deleted()
        outcomes = []
        threads = [
            threading.Thread(target=lambda to: to.append(toy.advance(*arguments(), power=3)), args=(outcomes,))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results.extend(map(np.asarray, outcomes))
        executables.forget()
    assert counted() == {"compiled": 2, "loaded": 2, "reused": 6}
    assert [result.dtype.name for result in results] == 2 * ["float64", *4 * ["float32"]]
    for one, other in zip(results[:5], results[5:], strict=True):
        np.testing.assert_array_equal(one, other)


def damage(path, how):
    content = path.read_bytes()
    if how == "a bit":
        content = content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]
    elif how == "the end":
        content = content[: len(content) // 2]
    elif how == "everything":
        content = b""
    else:  # whole, but no executable
        folder.write(path.stem, b"nonsense")
        return
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["a bit", "the end", "everything", "whole"])
def test_a_damaged_entry_is_made_again(how, toy, tmp_path, counted):
    value = np.asarray(toy.advance(*arguments(), power=2))
    (entry,) = entries(tmp_path)
    damage(entry, how)
    executables.forget()
    np.testing.assert_array_equal(toy.advance(*arguments(), power=2), value)
    assert counted() == {"compiled": 2}
    executables.forget()
    np.testing.assert_array_equal(toy.advance(*arguments(), power=2), value)
    assert counted() == {"compiled": 2, "loaded": 1}
    assert entries(tmp_path) == [entry]


def test_an_entry_under_another_name_is_not_taken(toy, tmp_path, counted):
    first = np.asarray(toy.advance(*arguments(), power=2))
    toy.advance(*arguments(), power=3)
    one, other = entries(tmp_path)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    executables.forget()
    np.testing.assert_array_equal(toy.advance(*arguments(), power=2), first)
    assert counted() == {"compiled": 3}


def test_without_a_folder_nothing_is_kept(toy, tmp_path, monkeypatch, counted):
    monkeypatch.setenv(folder.VARIABLE, "off")
    toy.advance(*arguments(), power=2)
    executables.forget()
    toy.advance(*arguments(), power=2)
    assert counted() == {"compiled": 2}
    assert not (tmp_path / "cache").exists()


def test_what_cannot_be_written_down_is_compiled(toy, tmp_path, monkeypatch, counted):
    def refuse(_):
        raise ValueError("Compilation does not support serialization")

    monkeypatch.setattr(executables.serialize_executable, "serialize", refuse)
    toy.advance(*arguments(), power=2)
    assert counted() == {"compiled": 1}
    assert not (tmp_path / "cache").exists()


# The solvers and the simulator


PAIR = Committee(
    alpha=1.0, kappa=3.0, width=2, activation="erf", teacher="half_square", initial_teacher_overlap=[[0.6], [0.2]]
)


def descent(alpha):
    return solve(Model(alpha=alpha, epsilon=0.5, kappa=2.0), 1.0, step=0.25, sample_count=128, replicas=4)


def pair(alpha):
    return solve(PAIR.replace(alpha=alpha), 1.0, step=0.25, sample_count=128, replicas=4)


def training(alpha):
    return simulate(Model(alpha=alpha, epsilon=0.5, kappa=2.0, dim=10), 1.0, step=0.25, seeds=2)


def flow(alpha):
    return solve(Model(alpha=alpha, epsilon=0.5, kappa=2.0, initial_overlap=0.1), 0.5 * alpha, rtol=0.3)


@pytest.mark.parametrize(
    ("run", "large"),
    [
        (descent, {"advance_explicit": 2}),
        pytest.param(pair, {"advance_explicit": 2}, marks=pytest.mark.slow),
        (training, {"advance": 1, "begin": 1}),
        pytest.param(flow, {"advance_implicit": 2}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:Tolerance not reached")
def test_another_model_needs_no_other_executable(run, large, counted):
    """And the next process, nothing in memory, compiles none of them."""
    result = run(1.0)
    names = [kind.function.__name__ for kind in executables._slots]
    assert {name: names.count(name) for name in large} == large
    made = counted()
    assert made.get("compiled", 0) + made.get("loaded", 0) == len(names)
    run(2.0)
    assert counted() == made | {"reused": counted()["reused"]}
    executables.forget()
    again = run(1.0)
    assert counted().get("compiled", 0) == made.get("compiled", 0)
    assert counted()["loaded"] == made.get("loaded", 0) + len(names)
    for name in result.data_vars:
        np.testing.assert_array_equal(result[name], again[name])


MANY_SHAPES = """
import json, warnings
import jax, jax.numpy as jnp
from dmft import Model, solve
from dmft.compiled import executables
from sim import simulate

warnings.simplefilter("ignore")
traced = []
theirs = jax.jit(lambda x: traced.append(x) or x + 1)
theirs(jnp.ones(2))
executables.SHARE = 0.06  # of 65530
counts = []
for points in (16, 20, 24, 28):
    solve(Model(alpha=1.0, epsilon=0.5, kappa=2.0), 0.5, points=points, sample_count=128, replicas=4)
    counts.append(executables.MAPS.read_bytes().count(b"\\n"))
executables.SHARE = 0.0
simulate(Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20), 1.0, seeds=2, step=0.1)
counts.append(executables.MAPS.read_bytes().count(b"\\n"))
theirs(jnp.ones(2))
print(json.dumps([counts, len(traced)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not executables.MAPS.exists(), reason="needs /proc")
def test_many_shapes_do_not_need_ever_more_maps():
    done = subprocess.run([sys.executable, "-c", MANY_SHAPES], capture_output=True, text=True, check=True)
    counts, traced = json.loads(done.stdout)
    assert max(counts) < 6000  # they would need some 4000 each
    assert counts[-1] < 0.7 * counts[-2]
    assert traced == 1


# What an executable depends on


def name_of(function, *arrays, **static):
    return kind.Kind.of(function.function, function.donated, arrays, static, {}).name()


def test_other_sources_are_another_name(toy, tmp_path):
    name = name_of(toy.advance, *arguments(), power=2)
    assert name is not None
    assert name.startswith("advance-")
    assert name_of(toy.advance, *arguments(), power=2) == name
    source = tmp_path / "toy" / "__init__.py"
    source.write_text(TOY.replace("1.5", "2.5") + "\n# changed\n")
    kind._content.cache_clear()
    assert name_of(toy.advance, *arguments(), power=2) != name
    source.write_text(TOY)
    kind._content.cache_clear()
    assert name_of(toy.advance, *arguments(), power=2) == name
    (tmp_path / "toy" / "more.py").write_text("")
    assert name_of(toy.advance, *arguments(), power=2) != name


def test_sources_changed_since_they_were_imported_have_no_name(toy, monkeypatch):
    newest = max(path.stat().st_mtime for path in Path(toy.__file__).parent.iterdir())
    monkeypatch.setattr(version, "IMPORTED", newest + 1.0)
    assert name_of(toy.advance, *arguments(), power=2) is not None
    monkeypatch.setattr(version, "IMPORTED", newest - 1.0)
    assert name_of(toy.advance, *arguments(), power=2) is None


def test_the_name_depends_on_machine_versions_flags_and_settings(toy, monkeypatch):
    names = [name_of(toy.advance, *arguments(), power=2)]
    with jax.default_matmul_precision("highest"):
        names.append(name_of(toy.advance, *arguments(), power=2))
    changes = [
        (kind, "_processor", lambda: ["flags: sse2"]),
        (version, "numerics", lambda: {"jaxlib": "0.0.1"}),
        (jax, "device_count", lambda: 3),
    ]
    for where, what, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(where, what, value)
            kind._machine.cache_clear()
            names.append(name_of(toy.advance, *arguments(), power=2))
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
        kind._machine.cache_clear()
        names.append(name_of(toy.advance, *arguments(), power=2))
    kind._machine.cache_clear()
    assert len(set(names)) == len(names)
    assert name_of(toy.advance, *arguments(), power=2) == names[0]


def test_functions_of_ones_own_are_told_apart_by_what_they_do(toy):
    def name(static):
        return name_of(toy.advance, *arguments(), power=static)

    def scaled(factor):
        inside = jax.jit(lambda h: jnp.tanh(h) + jnp.sum(jnp.full(3, factor)))
        return PAIR.replace(activation=lambda h: inside(h) - 3 * factor).phi

    def importing(h):
        import toy as module  # which may be another one in the next process

        return module.TOY * h

    known = [PAIR.phi, PAIR.psi, jnp.tanh, PAIR.replace(activation="tanh").phi, scaled(0.25), scaled(0.5)]
    names = [name(static) for static in known]
    assert None not in names
    assert len(set(names)) == len(names)
    assert name(scaled(0.25)) == names[4]
    assert [name(static) for static in (importing, threading.Lock())] == [None, None]


def test_what_the_arguments_hold_beside_arrays_counts(toy):
    """An activation as an argument: its epsilon is a number, its functions are part of the name."""

    def name(activation):
        return name_of(toy.advance, activation, jnp.ones(3), power=1)

    quadratic = [PAIR.replace(activation="quadratic", epsilon=epsilon).phi for epsilon in (0.1, 0.2)]
    assert name(quadratic[0]) == name(quadratic[1]) is not None
    assert len({name(activation) for activation in (quadratic[0], PAIR.phi, PAIR.replace(activation="tanh").phi)}) == 3


def test_a_result_may_hold_functions_of_its_arguments(toy, counted):
    own = PAIR.replace(activation=lambda h: h + 0.1 * h**2).phi
    for _ in range(2):
        activation, twice = toy.passed(own, jnp.ones(2))
        assert float(twice[0]) == 2.0
        assert activation.functions is own.functions
        executables.forget()
    assert counted() == {"compiled": 1, "loaded": 1}


@pytest.mark.usefixtures("toy")
def test_a_function_that_stands_in_a_function_has_no_name():
    assert name_of(compilable()(lambda x: x + 1), jnp.ones(3)) is None
    local = compilable()(lambda x: x + 1)
    local.function.__module__ = "toy"
    assert name_of(local, jnp.ones(3)) is None


@pytest.mark.usefixtures("toy")
def test_where_jax_keeps_executables_too_ours_are_whole(tmp_path):
    """What jax loads from its own folder lacks functions when it is written down again: it is not."""
    script = """
import jax, numpy as np, toy
from dmft import version
from dmft.compiled import kind
from dmft.compiled.executables import COUNTS
version.IMPORTED, kind.OURS = float("inf"), ("dmft", "sim", "toy")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
state = np.random.default_rng(1).standard_normal((6, 6)).astype("float32")
print(dict(COUNTS), np.asarray(toy.advance(np.float32(1.5), state, power=2)).tobytes().hex(), dict(COUNTS))
"""
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
    }
    outputs, kept = set(), []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        outputs.add(done.stdout.split()[1])
        kept.append(len(entries(tmp_path)))
        for path in entries(tmp_path):
            path.unlink()
    assert len(outputs) == 1
    assert kept == [1, 0]
