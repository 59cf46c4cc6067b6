"""Errors a user can act on, argument checks, and the local precision context.

Every message names the argument, the value it had and what is allowed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

PRECISIONS = ("float64", "float32")


class ParameterError(ValueError):
    """An argument is out of range. The command line exits with code 2."""


class RunError(RuntimeError):
    """A run that was well posed could not be completed. The command line exits with code 1.

    Attributes:
        curves: the dataset up to where the run failed, with the attribute `complete` = 0; None if there is none.
    """

    curves: Any = None


class DivergenceError(RunError):
    """The loss grew without bound. Says at which time, and which step would be stable."""


class StiffnessError(RunError):
    """Gradient flow has rates too fast for the time asked for. Says when, and what to change."""


class ConvergenceError(RunError):
    """The self-consistency iteration did not converge. Says where, and what to change."""


class MemoryLimitError(RunError):
    """The run would need more memory than the machine has. Raised before it starts."""


def check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    finite: bool = True,
) -> float:
    """Return `value` as float; ParameterError unless `above` < value or `at_least` <= value."""
    allowed = "a finite number" if finite else "a number"
    if above is not None:
        allowed += f" > {above:g}"
    if at_least is not None:
        allowed += f" >= {at_least:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ParameterError(f"Argument `{name}` must be {allowed}, but is {value!r}.")
    number = float(value)
    fails = (
        math.isnan(number)
        or (finite and math.isinf(number))
        or (above is not None and not number > above)
        or (at_least is not None and not number >= at_least)
    )
    if fails:
        raise ParameterError(f"Argument `{name}` must be {allowed}, but is {number:g}.")
    return number


def check_integer(name: str, value: object, *, at_least: int) -> int:
    """Return `value` as int; ParameterError unless it is an integer >= `at_least`."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or int(value) < at_least:  # type: ignore[arg-type]
        raise ParameterError(f"Argument `{name}` must be an integer >= {at_least}, but is {value!r}.")
    return int(value)  # type: ignore[arg-type]


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value`; ParameterError unless it is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ParameterError(f"Argument `{name}` must be one of {', '.join(allowed)}, but is {value!r}.")
    return value


def available_memory() -> float:
    """Bytes of memory this process may still take (machine and container limit), or infinity if unknown."""
    import os

    limits = []
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        limits.append(1024.0 * float(fields["MemAvailable"].split()[0]))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            limits.append(float(file.read()))
    if not limits:
        with contextlib.suppress(AttributeError, ValueError, OSError):
            limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    return min(limits, default=math.inf)


def check_memory(what: str, needed: float, remedy: str) -> None:
    """MemoryLimitError if `needed` bytes exceed what the machine has free."""
    free = available_memory()
    if needed > free:
        raise MemoryLimitError(
            f"{what} needs about {needed / 2**30:.3g} GiB of memory, but only {free / 2**30:.3g} GiB are free; "
            f"{remedy}."
        )


@contextlib.contextmanager
def precision_context(precision: str) -> Iterator[None]:
    """Run jax code in "float64" or "float32" inside this block only; global settings stay untouched."""
    import jax

    check_choice("precision", precision, PRECISIONS)
    wide = precision == "float64"
    if hasattr(jax, "enable_x64"):  # jax >= 0.8
        context = jax.enable_x64(wide)
    else:
        from jax import experimental

        context = getattr(experimental, "enable_x64" if wide else "disable_x64")()
    # On GPU and TPU the default matrix product rounds its inputs; a theory curve must not.
    with context, jax.default_matmul_precision("highest"):
        yield
