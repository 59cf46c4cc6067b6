"""How a command ends: an exit code, and one line on standard error for whatever was wrong."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator

from cyclopts import CycloptsError

from dmft.checks import ELSEWHERE, ParameterError, RunError

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
    except CycloptsError as error:
        return _complain(_meant(str(error)), 2)
    except ParameterError as error:
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


def _meant(message: str) -> str:
    """The message; of an option that other programs have, with its name here."""
    found = re.match(r'(Unknown option: "?--([\w-]+)"?\.)', message)
    name = ELSEWHERE.get(found[2].replace("-", "_")) if found else None
    return f"{found[1]} Did you mean --{name.replace('_', '-')}?" if found and name else message


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
