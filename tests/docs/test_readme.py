"""The README: a picture, a sentence, two commands. Its blocks are run by test_blocks.py."""

import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_it_opens_with_a_picture_that_exists():
    picture = re.match(r"!\[[^\]]+\]\(([^)]+)\)\n", README)
    assert picture is not None
    assert (ROOT / picture[1]).is_file()


def test_it_has_exactly_two_commands_of_one_line_that_install_for_themselves():
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        words = shlex.split(command)
        assert words[:4] == ["python3", "-m", "venv", ".venv"]
        assert ".venv/bin/pip" in words
        assert not any(word.startswith("/") for word in words)
    assert shlex.split(commands[0])[-2:] == [".venv/bin/dmft", "compare"]
    assert ".venv/bin/pytest" in shlex.split(commands[1])
    assert ".[test]" in shlex.split(commands[1])


def test_continuous_integration_runs_the_second_command():
    """The script extracts it in the shell; here the same lines are run without executing the command."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extract = next(line for line in script.splitlines() if line.startswith("command="))
    result = subprocess.run(
        ["bash", "-c", f'{extract}; echo "$command"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == blocks("sh")[1]
