"""Functions known by what they do: what changes a fingerprint, what does not, and that the numbers follow."""

import functools
import math
import subprocess
import sys
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import interpolate, special

from dmft import Committee, ParameterError, solve
from dmft.compiled.executables import COUNTS
from dmft.models.fingerprint import Known, UnknownCode, describe, fingerprint
from sim import simulate

SLOPE = 0.1


def reads_a_global(h: Any) -> Any:
    return SLOPE * h


class Line:
    """An object whose attribute decides what it does; it cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self, h: Any) -> Any:
        return self.slope * h

    def applied(self, h: Any) -> Any:
        return self.slope * h


class Steeper(Line):
    """The same attribute, other code."""

    def __call__(self, h: Any) -> Any:
        return 2.0 * self.slope * h


def closure(slope: float) -> Any:
    return lambda h: slope * h


def default(slope: float) -> Any:
    return lambda h, by=slope: by * h


def array(slope: float) -> Any:
    weights = slope * np.ones(3)
    return lambda h: weights[0] * h


def device_array(slope: float) -> Any:
    weights = jnp.full(3, slope)
    return lambda h: weights[0] * h


def nested(slope: float) -> Any:
    return lambda h: closure(1.0)(h) + default(slope)(h)


def compiled(slope: float) -> Any:
    return jax.jit(lambda h: slope * h)


def differentiated(slope: float) -> Any:
    function = jax.custom_jvp(lambda h: h)
    function.defjvp(lambda h, t: (h[0], slope * t[0]))
    return function


MAKERS = [
    closure, default, array, device_array, nested, compiled, differentiated, Line, lambda slope: Line(slope).applied,
    lambda slope: functools.partial(jax.nn.leaky_relu, negative_slope=slope),
    lambda slope: functools.lru_cache(lambda h: slope * h),
    lambda slope: np.polynomial.Polynomial([0.0, slope]),
    lambda slope: interpolate.CubicSpline([0.0, 1.0], [0.0, slope]),
    lambda slope: np.random.default_rng(int(10 * slope)).normal,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=range(len(MAKERS)))
def test_equal_values_are_the_same_and_others_are_not(make: Any) -> None:
    assert fingerprint(make(0.1)) == fingerprint(make(0.1)) != fingerprint(make(0.9))


def test_code_counts_and_names_and_places_do_not() -> None:
    first, second = (lambda h: jnp.tanh(h)), (lambda h: jnp.tanh(h))
    assert fingerprint(first) == fingerprint(second) != fingerprint(lambda h: jnp.sinh(h))
    assert fingerprint(Line(1.0)) != fingerprint(Steeper(1.0))
    assert len({fingerprint(f) for f in (special.erf, special.erfc, np.exp, jnp.exp, math.exp, jax.nn.relu)}) == 6


def test_a_global_a_closure_and_an_attribute_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(reads_a_global)
    monkeypatch.setattr(sys.modules[__name__], "SLOPE", 0.2)
    assert fingerprint(reads_a_global) != before
    line = Line(1.0)
    known = Known(line)
    line.slope = 2.0
    assert Known(line) != known
    assert Known(Line(1.0)) == known


def test_using_a_function_does_not_change_it() -> None:
    function = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)
    before = fingerprint(function)
    vars(function), jax.jit(function)(jnp.ones(3))
    assert fingerprint(function) == before

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    before = fingerprint(recursive)
    for _ in range(50):
        recursive(3)
    assert fingerprint(recursive) == before


def test_another_process_finds_the_same() -> None:
    code = (
        "import jax.numpy as jnp; from dmft.models.fingerprint import fingerprint;"
        "print(fingerprint(lambda h: jnp.where(h in {'a', 'b'}, jnp.tanh(h), 0.1)))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout != ""


def test_what_cannot_be_compared_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(UnknownCode, match=r"an object of type _thread\.lock"):
        fingerprint(lambda u: bool(lock) * u)


def committee(**own: Any) -> Committee:
    return Committee(**{"alpha": 1.0, "kappa": 2.0, "width": 2, "activation": "erf", "dim": 12} | own)


class Bent:
    """max(h, slope h), with an attribute that a test changes."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def __call__(self, h: Any) -> Any:
        return jnp.tanh(h) + self.slope * h


def test_a_changed_attribute_is_traced_again_by_the_simulation() -> None:
    bent = Bent(0.1)
    model = committee(activation=bent)
    first = simulate(model, 0.4, step=0.2, seeds=1)
    bent.slope = 0.9
    changed = simulate(model, 0.4, step=0.2, seeds=1)
    pure = simulate(committee(activation=Bent(0.9)), 0.4, step=0.2, seeds=1)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(changed[name], pure[name])
        assert not np.allclose(changed[name], first[name], rtol=1e-3)
    assert first.attrs["activation"] != changed.attrs["activation"] == pure.attrs["activation"]


def test_a_changed_attribute_is_traced_again_by_the_theory() -> None:
    bent, how = Bent(0.1), {"step": 0.2, "sample_count": 128, "replicas": 4}
    model = committee(activation=bent, dim=None, width=1)
    solve(model, 0.2, **how)
    bent.slope = 0.9
    changed, pure = solve(model, 0.2, **how), solve(committee(activation=Bent(0.9), dim=None, width=1), 0.2, **how)
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(changed[name], pure[name])


def test_fresh_lambdas_in_a_loop_share_what_is_compiled() -> None:
    def run() -> None:
        own = {"activation": lambda h: jnp.tanh(h), "teacher": lambda u: u[..., 0] ** 3}
        simulate(committee(**own), 0.4, step=0.2, seeds=1)

    run()
    before = COUNTS.copy()
    for _ in range(3):
        run()
    assert set(COUNTS - before) == {"reused"}


def test_models_compare_by_what_their_functions_do() -> None:
    first, same, other = (committee(activation=Bent(slope)) for slope in (0.1, 0.1, 0.2))
    assert first == same != other
    assert hash(first) == hash(same)
    attributes = first.to_attributes()
    assert attributes["activation"].startswith(f"function {describe(Bent(0.1))}, code ")
    assert Committee.from_attributes(attributes, activation=Bent(0.1)) == first
    with pytest.raises(ParameterError, match="`activation` must be given: it was the function "):
        Committee.from_attributes(attributes)
