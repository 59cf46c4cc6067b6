"""Errors a user can act on, argument checks, and the local precision context.

Every message names the argument, the value it had and what is allowed.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import numpy as np

PRECISIONS = ("float64", "float32")
#: Learning rates along a run that have a name.
SCHEDULES = ("constant", "linear", "cosine")


class ParameterError(ValueError):
    """An argument is out of range. The command line exits with code 2."""


class RunError(RuntimeError):
    """A run that was well posed could not be completed. The command line exits with code 1.

    Attributes:
        curves: the dataset up to where the run failed, with the attribute `complete` = 0 (1 if only the spread over
            data sets is missing); None if there is none.
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


P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

#: What an argument is called elsewhere, and here.
ELSEWHERE = {
    **dict.fromkeys(("lr", "eta", "learning_rate"), "step"),
    **dict.fromkeys(("epochs", "steps", "time", "horizon"), "t_max"),
}


def neighbour(name: str, names: Iterable[str]) -> str | None:
    """The name that is meant by, or looks most like, `name`; None if none does."""
    known = {"".join(filter(str.isalnum, one.lower())): one for one in names}
    if ELSEWHERE.get(name) in known.values():
        return ELSEWHERE[name]
    found = difflib.get_close_matches("".join(filter(str.isalnum, name.lower())), known, n=1, cutoff=0.75)
    return known[found[0]] if found else None


def spelt(function: Callable[P, R], called: str = "") -> Callable[P, R]:
    """The function, whose callers are told which argument a misspelt one may be, and which ones need their names.

    Args:
        function: with named arguments alone beyond those that may be given by position.
        called: its name, for messages.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [one.name for one in parameters if one.name != "self"]
    free = [one.name for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    label = called or function.__name__

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                near = neighbour(name, names)
                says = f"did you mean `{near}`?" if near else f"allowed: {', '.join(names)}."
                raise ParameterError(f"Argument `{name}` is none of {label}; {says}")
        surplus, further = args[len(free) :], [name for name in names if name not in free]
        if surplus and len(surplus) <= len(further):
            given = ", ".join(f"{name}={value!r}" for name, value in zip(further, surplus, strict=False))
            raise ParameterError(f"Arguments of {label} must be given by name, such as {given}, but have none.")
        return function(*args, **kwargs)

    return checked


def spelt_fields(kind: C) -> C:
    """The class, of whose fields the same holds."""
    kind.__init__ = spelt(kind.__init__, kind.__name__)
    return kind


def plain(value: Any) -> Any:
    """A scalar of numpy, jax or xarray, or an array without dimensions, as plain Python; all else as it is."""
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        with contextlib.suppress(Exception):  # a traced number has no value: the check that follows names it
            return value.item()
    return value


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
    value = plain(value)
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


def check_integer(name: str, value: object, *, at_least: int, below: int | None = None) -> int:
    """Return `value` as int; ParameterError unless it is a whole number (100.0 is one) >= `at_least`, < `below`."""
    number = plain(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    if not whole or int(number) < at_least or (below is not None and int(number) >= below):
        allowed = f"an integer >= {at_least}" + (f" and < {below}" if below is not None else "")
        raise ParameterError(f"Argument `{name}` must be {allowed}, but is {value!r}.")
    return int(number)


def check_seed(seed: object) -> int:
    """Return a random seed as int; ParameterError unless it fits into 63 bits: files and random keys hold no more."""
    return check_integer("seed", seed, at_least=0, below=2**63)


def check_bool(name: str, value: object) -> bool:
    """Return `value` as bool; ParameterError unless it is True or False."""
    flag = plain(value)
    if not isinstance(flag, bool):
        raise ParameterError(f"Argument `{name}` must be True or False, but is {value!r}.")
    return flag


def check_times(times: Any, t_max: float) -> np.ndarray:
    """`times` as float64 (T,); ParameterError unless 1-D, not empty, finite, strictly increasing within [0, t_max]."""
    import numpy as np

    allowed = f"be a one-dimensional, strictly increasing sequence of numbers between 0 and t_max = {t_max:g}"
    try:
        array = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError(f"Argument `times` must {allowed}, but is {times!r}.") from None
    if array.ndim != 1 or array.size == 0:
        raise ParameterError(f"Argument `times` must {allowed}, but has shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        raise ParameterError(f"Argument `times` must {allowed}, but contains {array[~np.isfinite(array)][0]}.")
    if not np.all(np.diff(array) > 0.0):
        first = int(np.argmin(np.diff(array) > 0.0))
        raise ParameterError(
            f"Argument `times` must {allowed}, but {array[first]:g} is followed by {array[first + 1]:g}."
        )
    outside = array[(array < 0.0) | (array > t_max * (1.0 + 1e-12))]
    if outside.size:
        raise ParameterError(f"Argument `times` must {allowed}, but contains {outside[0]:g}.")
    return array


def nearest_steps(times: np.ndarray, step: float, count: int) -> np.ndarray:
    """Numbers of the steps nearest to `times`, (T,), integers in 0 .. count.

    Raises:
        ParameterError: one step is nearest to two of them, so that fewer would come back than were asked for.
    """
    import numpy as np

    steps = np.clip(np.rint(times / step), 0, count).astype(np.int64)
    if not np.all(np.diff(steps) > 0):
        first = int(np.argmin(np.diff(steps) > 0))
        raise ParameterError(
            f"Argument `times` must lie nearest to different steps, but {times[first]:g} and {times[first + 1]:g} are "
            f"both nearest to t = {steps[first] * step:g}: steps of {step:g} up to {count * step:g} are all there are."
        )
    return steps


def check_momentum(value: object) -> float:
    """Return a momentum mu, 0 <= mu < 1."""
    number = check_real("momentum", value, at_least=0.0)
    if number >= 1.0:
        raise ParameterError(f"Argument `momentum` must be a number >= 0 and < 1, but is {number:g}.")
    return number


def check_schedule(schedule: Any) -> Any:
    """A name out of SCHEDULES or a function as it is; factors of the steps as float64 (n,), finite and >= 0."""
    if callable(schedule) or (isinstance(schedule, str) and schedule in SCHEDULES):
        return schedule
    import numpy as np

    factors = None
    with contextlib.suppress(TypeError, ValueError):
        factors = np.array(schedule)
    if factors is None or factors.ndim != 1 or factors.dtype.kind not in "iuf":  # nor complex, nor texts of digits
        raise ParameterError(
            f"Argument `schedule` must be one of {', '.join(SCHEDULES)}, a function of the step number or an array "
            f"with one factor a step, but is {schedule!r}."
        )
    factors = factors.astype(np.float64)
    factors.setflags(write=False)
    return check_factors(factors)


def check_factors(factors: np.ndarray, count: int | None = None) -> np.ndarray:
    """The factors of a schedule, (n,); ParameterError unless finite, >= 0 and, if `count` is given, as many."""
    import numpy as np

    if count is not None and len(factors) != count:
        raise ParameterError(
            f"Argument `schedule` must have a factor for each of {count} steps, but has {len(factors)}."
        )
    bad = ~(np.isfinite(factors) & (factors >= 0))
    if bad.any():
        n = int(np.argmax(bad))
        raise ParameterError(f"Argument `schedule` must be finite and >= 0, but is {factors[n]:g} at step {n}.")
    return factors


def tabulated(schedule: Callable[[Any], Any], count: int) -> np.ndarray:
    """A function of the step number at all of them, (count,), in one call if it takes arrays.

    Raises:
        ParameterError: it does not return a number.
    """
    import numpy as np

    with precision_context("float64"):
        try:
            together = np.asarray(schedule(np.arange(count)), np.float64)
            if together.shape == (count,):
                return together
        except Exception:  # written for one number
            pass
        return np.array([_factor(schedule(n), n) for n in range(count)])


def _factor(value: Any, n: int) -> float:
    """What a function returned at step n."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ParameterError(f"Argument `schedule` must return a number, but returns {value!r} at step {n}.") from None


def check_path(name: str, value: object) -> Path:
    """Return `value` as a path, `~` expanded; ParameterError unless it is a text, or a path, that names something."""
    path = None
    with contextlib.suppress(TypeError, RuntimeError):  # no path; a user nobody knows
        path = Path(value).expanduser()  # type: ignore[arg-type]
    if path is None or str(value) == "" or "\0" in str(value):
        raise ParameterError(f"Argument `{name}` must be a path, not empty, but is {value!r}.")
    return path


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value`; ParameterError unless it is one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ParameterError(f"Argument `{name}` must be one of {', '.join(allowed)}, but is {value!r}.")
    return value


def available_memory() -> float:
    """Bytes of memory this process may still take (machine and container limit), or infinity if unknown."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        limits.append(1024.0 * float(fields["MemAvailable"].split()[0]))
    limits += [free for folder in _control_groups() if (free := _free_in(folder)) is not None]
    if not limits:
        with contextlib.suppress(AttributeError, ValueError, OSError):
            limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    return min(limits, default=math.inf)


#: Where Linux says to which control groups this process belongs, and where these are.
OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
#: Files of a control group: its limit, what is in use, and the word for pages that are given back when asked for.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _control_groups() -> list[Path]:
    """The folders of the process' control groups that may limit its memory, up to the outermost."""
    groups = [(GROUPS, "/"), (GROUPS / "memory", "/")]
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                groups.append((GROUPS / "memory", path))
            elif not controllers:
                groups.append((GROUPS, path))
    inside = [(root, root / path.lstrip("/")) for root, path in groups]
    return list(dict.fromkeys(at for root, own in inside for at in (own, *own.parents) if at.is_relative_to(root)))


def _free_in(folder: Path) -> float | None:
    """Bytes that the control group in `folder` may still take; None if it has no limit."""
    for limit, usage, given_back in GROUP_FILES:
        with contextlib.suppress(OSError, ValueError):
            most, used = float((folder / limit).read_text()), float((folder / usage).read_text())
            with contextlib.suppress(OSError, ValueError, KeyError):
                rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                used -= float(rows[given_back])
            return max(most - used, 0.0)
    return None


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
    """Run jax code in "float64" or "float32" inside this block only; global settings stay untouched.

    Settings of the user's that would change the numbers (the random stream, the precision of products), or stop code
    that is right (strict promotion, guarded transfers, no compilation), do not reach inside.
    """
    import jax

    check_choice("precision", precision, PRECISIONS)
    wide = precision == "float64"
    if hasattr(jax, "enable_x64"):  # jax >= 0.8
        context = jax.enable_x64(wide)
    else:
        from jax import experimental

        context = getattr(experimental, "enable_x64" if wide else "disable_x64")()
    with contextlib.ExitStack() as stack:
        stack.enter_context(context)
        # On GPU and TPU the default matrix product rounds its inputs; a theory curve must not.
        stack.enter_context(jax.default_matmul_precision("highest"))
        stack.enter_context(jax.threefry_partitionable(True))
        # What diverges is looked for, and reported in words.
        stack.enter_context(jax.debug_nans(False))
        stack.enter_context(jax.debug_infs(False))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.transfer_guard("allow"))
        stack.enter_context(jax.disable_jit(False))
        yield
