"""Someone new to it: an empty folder, a network trained in plain NumPy, a CSV, and a verdict with its reason.

The commands are those of docs/tutorials/own-run.md, each in a process of its own, with an empty cache of compiled
programs. What they take together is the program's share of the newcomer's five minutes.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "own-run.md"
#: Seconds for all of it, most of them the compiler's.
LIMIT = 300.0

pytestmark = pytest.mark.slow


def blocks(language):
    """The blocks of code of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_from_an_empty_folder_to_a_verdict_with_its_reason(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DMFT_CACHE": str(tmp_path / "cache")}

    def run(*words):
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    start = time.monotonic()
    train, log = [code for code in blocks("python") if "np.savetxt" in code or "log.csv" in code][:2]
    run("-c", f"{train}\n{log}")
    (asked,) = (line for block in blocks("sh") for line in block.splitlines() if "--measured run0.csv" in line)
    _, *options = shlex.split(asked)
    told = run("-m", "compare.cli", *options)
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith(("train_loss ", "test_loss "))}
    assert all(row.rstrip().endswith("agrees") for row in rows.values())
    assert "reason:" not in told

    files, model = options.index("--measured"), options.index("--alpha")
    names = ["--train", "loss", "--test", "val_loss", "--width", "300"]
    one = [*options[:files], "--measured", "log.csv", *options[model:], *names]
    told = run("-m", "compare.cli", *one, "--time", "step")
    assert "no error, no verdict" in told
    assert "reason: The run would agree if both losses were multiplied by 2" in told
    factor = re.search(r"its time were multiplied by ([\d.]+) \(does it count steps or epochs\?", told)
    assert 0.15 < float(factor[1]) < 0.26  # one run; a step lasts 0.2
    told = run(
        "-m", "compare.cli", *one, "--loss", "half", "--learning-rate", "6000", "--spread", "--test-samples", "1000"
    )
    assert "reason:" not in told
    rows = [line for line in told.splitlines() if line.startswith(("train_loss ", "test_loss "))]
    assert all("agrees" in row for row in rows[:2]), rows
    seconds = time.monotonic() - start
    print(f"from an empty folder to a verdict with its reason: {seconds:.0f} s of computing")
    assert seconds < LIMIT
