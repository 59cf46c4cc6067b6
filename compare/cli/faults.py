"""How a command ends: an exit code, and one line on standard error for whatever was wrong."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from cyclopts import CycloptsError

from dmft.checks import ParameterError, RunError

#: What an error nobody can prevent says, by a word of its message.
FAULTS = {
    "RESOURCE_EXHAUSTED": "Out of memory; a smaller --dim, --width, --seeds or --t-max needs less.",
    "Unable to initialize backend": "JAX finds no device: {}",
}


def exit_code(run: Callable[[], object]) -> int:
    """0 if `run` does what it should, else what is said of the reason."""
    try:
        with _plain_warnings():
            run()
    except (CycloptsError, ParameterError) as error:
        return _complain(error, 2)
    except (RunError, OSError) as error:
        return _complain(error, 1)
    except MemoryError:
        return _complain(FAULTS["RESOURCE_EXHAUSTED"], 1)
    except RuntimeError as error:
        for word, says in FAULTS.items():
            if word in str(error):
                return _complain(says.format(error), 1)
        raise
    return 0


def _complain(error: object, code: int) -> int:
    _say_aside(f"dmft: {' '.join(str(error).split())}")
    return code


def _say_aside(line: str) -> None:
    """A line on standard error, if there is one."""
    if sys.stderr is not None:
        print(line, file=sys.stderr)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as one line each, without the place in the code."""

    def show(message: object, *_: object, **__: object) -> None:
        _say_aside(f"dmft: warning: {' '.join(str(message).split())}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
