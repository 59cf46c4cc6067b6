"""The README does what it says: two commands, and an example that runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("source", ["README.md", pytest.param("docs/index.md", marks=pytest.mark.slow)])
def test_the_python_example_runs(source, tmp_path):
    text = (ROOT / source).read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "overlay.png").stat().st_size > 10_000
    assert "verdict" in result.stdout
