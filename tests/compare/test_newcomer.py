"""Someone new to it: an empty folder, a network trained in plain NumPy, a CSV, and a verdict with its reason.

The commands are those of docs/tutorials/own-run.md, each in a process of its own, with an empty cache of compiled
programs. What they take together is the program's share of the newcomer's five minutes.
"""

import importlib.util
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "own-run.md"
#: Seconds for all of it, most of them the compiler's.
LIMIT = 150.0

pytestmark = pytest.mark.slow


def blocks():
    """The code of the page, by language."""
    specification = importlib.util.spec_from_file_location("blocks", ROOT / "docs" / "hooks" / "blocks.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = {}
    for block in module.blocks(PAGE.read_text(encoding="utf-8")):
        found.setdefault(block.language, []).append(block.code)
    return found


def test_from_an_empty_folder_to_a_verdict_with_its_reason(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DMFT_CACHE": str(tmp_path / "cache")}

    def run(*words):
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    start = time.monotonic()
    train, log = [code for code in blocks()["python"] if "np.savetxt" in code or "log.csv" in code][:2]
    run("-c", f"{train}\n{log}")
    (asked,) = (line for block in blocks()["sh"] for line in block.splitlines() if "--measured run0.csv" in line)
    _, *options = shlex.split(asked)
    told = run("-m", "compare.cli", *options)
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith(("train_loss ", "test_loss "))}
    assert all(row.rstrip().endswith("agrees") for row in rows.values())
    assert "reason:" not in told

    files, model = options.index("--measured"), options.index("--alpha")
    names = ["--train", "loss", "--test", "val_loss", "--width", "300"]
    one = [*options[:files], "--measured", "log.csv", *options[model:], *names]
    told = run("-m", "compare.cli", *one, "--time", "step", "--t-max", "5")
    assert "no error, no verdict" in told
    assert "reason: The run would agree if both losses were multiplied by 2" in told
    assert "its time were multiplied by 0.2" in told
    assert "a learning rate of 6" in told
    told = run("-m", "compare.cli", *one, "--loss", "half", "--learning-rate", "6000", "--spread")
    assert "reason:" not in told
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("test_loss ")] == ["agrees"]
    seconds = time.monotonic() - start
    print(f"from an empty folder to a verdict with its reason: {seconds:.0f} s of computing")
    assert seconds < LIMIT
