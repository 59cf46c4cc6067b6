"""Run the blocks of one page in the current folder, in one process and one namespace, in their order.

    python run_page.py PAGE RESULT [--small]

Python blocks are executed, with `__name__` = "__main__". In shell blocks a `dmft` command is run through the command
line, in this process; a `dask` command that ends in `&` runs beside the rest of the page and ends with it. A toml
block is the file `run.toml` of the page's commands. Everything else is left alone and listed in the result.
`--small` runs every `dmft` command on a small problem, whatever sizes the page gives (see `small`).

RESULT is a JSON file: `outputs`, what was printed, by the line of the block; `left`, the blocks and commands not run.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from blocks import SHELL, Block, blocks, commands  # pyright: ignore[reportMissingImports]

#: The page's address of a scheduler, which gets a free port when it is run.
_PORT = "8786"


def run_page(text: str, shrink: bool) -> dict[str, object]:
    """What the blocks of a page print, and those that are not run."""
    found = blocks(text)
    for block in found:
        if block.language == "toml":
            Path("run.toml").write_text(block.code, encoding="utf-8")
    outputs, left = {}, []
    with contextlib.ExitStack() as stack:
        shell = Shell(stack, shrink)
        namespace = {"__name__": "__main__"}
        for block in found:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                left += _run_block(block, namespace, shell)
            outputs[str(block.line)] = printed.getvalue()
    return {"outputs": outputs, "left": left}


def _run_block(block: Block, namespace: dict[str, object], shell: Shell) -> list[str]:
    """Run one block; returns what of it is not run."""
    if block.not_run:
        return [f"not run: {block.not_run}"]
    if block.language == "python":
        exec(compile("\n" * (block.line + 1) + block.code, "page", "exec"), namespace)
        return []
    if block.language in SHELL:
        return [" ".join(command) for command in commands(block) if not shell.run(command)]
    return [] if block.language == "toml" else [f"block of {block.language or 'no language'}"]


class Shell:
    """Runs the commands of a page."""

    def __init__(self, stack: contextlib.ExitStack, shrink: bool) -> None:
        self._stack, self._shrink = stack, shrink
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])

    def run(self, command: list[str]) -> bool:
        """Run one command; whether it is one that can be run here."""
        command = [word.replace(_PORT, self._port) for word in command]
        if command[:2] == ["dmft", "explore"]:  # which ends by Ctrl-C alone
            return False
        if command[0] == "dmft":
            from compare.cli import main

            arguments = small(command[1:]) if self._shrink else command[1:]
            code = main(arguments)
            if code != 0:
                raise RuntimeError(f"dmft {' '.join(arguments)} ended with exit code {code}")
            return True
        if command[0] == "dask" and command[-1] == "&":
            self._stack.enter_context(_beside(command[:-1]))
            return True
        return False


@contextlib.contextmanager
def _beside(command: list[str]) -> Iterator[None]:
    """A program of dask that runs until the page ends."""
    with open(f"dask-{command[1]}.log", "w") as log:
        program = [sys.executable, "-m", "dask", *command[1:]]
        process = subprocess.Popen(program, stdout=log, stderr=log, start_new_session=True)
        try:
            time.sleep(3.0)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20.0)
            process.kill()


#: What an option is replaced by on a small problem, and what is set in any case.
_SMALLER = {
    "--dim": 12.0,
    "--second-dim": 14.0,
    "--width": 6.0,
    "--batch-size": 4.0,
    "--seeds": 2.0,
    "--simulate-every": 1.0,
    "--t-max": 0.4,
}
_ALWAYS = {
    "solve": {"--t-max": "0.4", "--rtol": "0.5", "--atol": "0.1"},
    "simulate": {"--t-max": "0.4", "--dim": "12", "--seeds": "2"},
    "compare": {"--t-max": "0.4", "--dim": "12", "--seeds": "2", "--rtol": "0.5", "--atol": "0.1"},
    "phase": {"--t-max": "0.4", "--rtol": "0.5", "--atol": "0.1"},
    "sensitivity": {"--t-max": "0.8", "--rtol": "0.5", "--atol": "0.1"},
}


def small(arguments: list[str]) -> list[str]:
    """The same command on a small problem: short, few dimensions and seeds, two points a sweep, loose tolerances.

    Where the theory is solved it takes steps of descent, unless the simulation has a step of its own: the flow's code
    takes ten times as long to compile. Presets have sizes of their own and are left as they are.
    """
    if arguments[0] not in _ALWAYS or "--preset" in arguments:
        return arguments
    words = list(arguments)
    for place, word in enumerate(words[:-1]):
        if word in _SMALLER:
            limit = _SMALLER[word]
            words[place + 1] = f"{min(limit, float(words[place + 1])):g}"
        elif word in ("--x", "--y"):
            words[place + 1] = _first_values(words[place + 1], 2 if word == "--x" else 1)
        elif word == "--dims":
            words[place + 1] = "12,24"
    for option, value in _ALWAYS[arguments[0]].items():
        if "--dims" in words and option in ("--dim", "--atol"):
            continue  # which it fixes
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    if arguments[0] != "simulate" and not {"--step", "--simulation-step", "--config"} & set(words):
        words += ["--step", "0.2"]
    return words


def _first_values(axis: str, count: int) -> str:
    """FIELD=A:B:NUMBER:log as FIELD=A,B, FIELD=A,B,C,... as it is; the first `count` values of it."""
    axis = re.sub(r"^([^:]*):([^:]*):\d+:(log|lin)$", r"\1,\2", axis)
    return ",".join(axis.split(",")[:count])


if __name__ == "__main__":
    result = run_page(Path(sys.argv[1]).read_text(encoding="utf-8"), shrink="--small" in sys.argv[3:])
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
