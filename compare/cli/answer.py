"""What a command says on standard output: lines of text as it goes, or one JSON object when it is done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmft.progress import Estimate

#: How far to trust an estimate.
TRUST = "Times are estimates, good to a factor of 2 where nothing else runs; see the documentation of the command line."


class Answer:
    """The answer of one command.

    Args:
        command: its name.
        as_json: say nothing before the end, and then one JSON object: `command`, `files`, and what the command found.
    """

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.command, self.as_json = command, as_json

    def say(self, text: str) -> None:
        """A text for a reader."""
        if not self.as_json:
            print(text, flush=True)

    def finish(self, files: Sequence[Path], **found: Any) -> None:
        """The files written, and for a program also what was `found`, JSON-able (None for what does not exist)."""
        if self.as_json:
            content = {"command": self.command, "files": [str(path) for path in files], **found}
            print(_json(content), flush=True)
        elif files:
            print("wrote " + ", ".join(map(str, files)), flush=True)

    def tell_plan(self, settings: dict[str, Any], estimates: Sequence[Estimate]) -> None:
        """What --dry-run says: settings as a TOML file, estimates as its comments; or both as JSON."""
        # JSON writes booleans, numbers and texts as TOML does.
        lines = [f"{name} = {_json(value)}" for name, value in settings.items()]
        lines += [f"# {estimate.describe()}" for estimate in estimates]
        self.say("\n".join([f"# dmft {self.command} would run with", *lines, f"# {TRUST}", "# Nothing was run."]))
        found = [dataclasses.asdict(estimate) for estimate in estimates]
        self.finish([], dry_run=True, settings=settings, estimates=found)


def _json(value: Any) -> str:
    """As JSON; arrays, such as a schedule of a configuration file, as lists."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=lambda array: array.tolist())
