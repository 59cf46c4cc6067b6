"""What `--dry-run` says: the settings that a command would run with, and what it would take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from compare.cli.answer import Answer
from compare.cli.estimate import Estimate

#: How far to trust an estimate.
TRUST = "Times are estimates, good to a factor of 2 where nothing else runs; see the documentation of the command line."


def tell_plan(answer: Answer, settings: dict[str, Any], estimates: Sequence[Estimate]) -> None:
    """Print a TOML file of the settings, with the estimates as comments; as JSON, both as objects."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items()]
    lines += [f"# {estimate.describe()}" for estimate in estimates]
    answer.say("\n".join([f"# dmft {answer.command} would run with", *lines, f"# {TRUST}", "# Nothing was run."]))
    found = [dataclasses.asdict(estimate) for estimate in estimates]
    answer.finish([], dry_run=True, settings=settings, estimates=found)


def _toml(value: Any) -> str:
    """A value of TOML: JSON writes booleans, numbers and texts alike."""
    return json.dumps(value, ensure_ascii=False)
