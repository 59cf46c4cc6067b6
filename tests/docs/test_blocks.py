"""Every code block of the README and of the documentation is run, or is on a short list of what cannot be.

A page's blocks run in their order in one process, in an empty folder (docs/hooks/run_page.py). Tutorials run as they
stand, and what they print and draw is what the site shows; on other pages `dmft` commands get small sizes.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compare.cli.commands import app

ROOT = Path(__file__).parents[2]
HOOKS = ROOT / "docs" / "hooks"
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
#: Pages that have blocks to run take seconds to minutes: with the slow tests.
QUICK = [page for page in PAGES if "```" not in (ROOT / page).read_text(encoding="utf-8")]


def load(name):
    specification = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


blocks, run_page = load("blocks"), load("run_page")
execute = load("execute")


def extra_exists(command):
    """`pip install`, of this package with extras that it has."""
    extras = re.search(r"\[([\w,]+)\]", command)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return extras is None or set(extras[1].split(",")) <= set(known)


def script_exists(command):
    """A script of the repository that knows the options given."""
    _, script, *arguments = command.split()
    text = (ROOT / script).read_text(encoding="utf-8")
    imported = "".join(path.read_text(encoding="utf-8") for path in (ROOT / script).parent.glob("*.py"))
    return bool(text) and all(word in imported for word in arguments if word.startswith("--"))


def paths_exist(command):
    return all((ROOT / word).exists() for word in command.split()[1:] if word.startswith("tests/"))


def is_understood(command):
    """A `dmft` command with the options that it has."""
    return bool(app.parse_args(command.split()[1:], exit_on_error=False, print_error=False))


def is_listed(_):
    """Nothing more is checked."""
    return True


#: What is not run here (words joined by blanks, quotes gone), and what is checked instead.
NOT_RUN = {
    r"(python3 -m venv \.venv && \.venv/bin/)?pip install (-q )?(-e )?[\w.-]+(\[[\w,]+\])?": extra_exists,
    r"python3 -m venv \.venv && \.venv/bin/pip install -q -e \. && \.venv/bin/dmft compare": is_listed,
    r"python3 -m venv \.venv && \.venv/bin/pip install -q -e \.\[test\] && \.venv/bin/pytest .*": is_listed,
    r"(\.venv/bin/)?python (benchmarks|examples)/\w+\.py( .*)?": script_exists,
    r"\.venv/bin/pytest( .*)?": paths_exist,
    r"dmft explore( .*)?": is_understood,
    r"block of (text|diff)": is_listed,
    r"not run: needs a batch system": is_listed,
}


def known(command):
    return any(re.fullmatch(pattern, command) and check(command) for pattern, check in NOT_RUN.items())


@pytest.mark.parametrize(
    "page", [page if page in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_every_block_runs(page, tmp_path):
    path = ROOT / page
    if path.parent == ROOT / "docs" / "tutorials":
        folder = execute.run_tutorial(path, fresh=True)  # the site shows these very results
        left = json.loads((folder / "result.json").read_text(encoding="utf-8"))["left"]
    else:
        left = execute.run(path, tmp_path, "--small")["left"]
    assert [command for command in left if not known(command)] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_overlooked(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.findall(r"^\s*(?:```|~~~)", text, flags=re.MULTILINE)
    assert len(fences) == 2 * len(blocks.blocks(text))


def test_what_is_left_out_is_noticed():
    for command in (
        "make all",
        "pip install dmft-learning[nothing]",
        "python benchmarks/sweep.py --none",
        "block of c",
    ):
        assert not known(command)
    for command in ("pip install dmft-learning[report]", "python benchmarks/finite_dimension.py --case planted"):
        assert known(command)


def test_a_page_is_run_in_order_and_its_failures_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 3\n```\n\n```python\nprint(x + 4)\n```\n\n```ruby\nx\n```\n")
    result = execute.run(page, tmp_path)
    assert list(result["outputs"].values()) == ["", "7\n", ""]
    assert result["left"] == ["block of ruby"]
    page.write_text("```python\nprint(1 / 0)\n```\n")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        execute.run(page, tmp_path)
    page.write_text("```sh\ndmft solve --alpha -1\n```\n")
    with pytest.raises(RuntimeError, match="exit code 2"):
        execute.run(page, tmp_path)


def test_a_tutorial_may_be_run_by_several_at_once(tmp_path, monkeypatch):
    """The site is built while other tests run the same page."""
    monkeypatch.setattr(execute, "CACHE", tmp_path / "cache")
    page = tmp_path / "page.md"
    page.write_text(
        "![](a.png)\n\n```python\nimport time\ntime.sleep(0.3)\nopen('a.png', 'w').close()\nprint(1)\n```\n"
    )
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: execute.run_tutorial(page, fresh=True), range(3)))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folders[0].name]
    assert (folders[0] / "a.png").is_file()
    assert json.loads((folders[0] / "result.json").read_text())["outputs"] == {"2": "1\n"}
    page.write_text("```python\nprint(2)\n```\n")
    newer = execute.run_tutorial(page)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [newer.name]


def test_small_problems():
    command = "phase --x alpha=0.25:4:10:log --y kappa=1,2,4 --dim 200 --t-max 300 --simulate-every 3 --out sweep"
    assert " ".join(run_page.small(command.split())) == (
        "phase --x alpha=0.25,4 --y kappa=1 --dim 12 --t-max 0.4 --simulate-every 1 --out sweep "
        "--rtol 0.5 --atol 0.1 --step 0.2"
    )
    assert run_page.small(["report", "sweep"]) == ["report", "sweep"]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(2))
def test_the_changes_that_the_design_page_asks_for_do_what_it_says(index, tmp_path):
    """The diffs apply to a copy of the packages, which then has the new optimiser, or the new feature."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    diff = [block.code for block in blocks.blocks(text) if block.language == "diff"][index]
    for package in execute.PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            copy = tmp_path / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    for name, removed, added in changes(diff):
        source = tmp_path / name
        code = source.read_text(encoding="utf-8")
        assert code.count(removed) == 1, removed
        source.write_text(code.replace(removed, added), encoding="utf-8")
    program = (
        "from compare.cli import main; raise SystemExit(main('simulate --optimizer rmsprop --step 0.01 --t-max 0.2 "
        "--dim 12 --width 6 --seeds 2 --checkpoint-every 60'.split()))",
        "from dmft import Model\nfrom sim import Experiment, simulate\n"
        "model = Model(alpha=1.0, epsilon=0.1, kappa=4, dim=8, width=6)\n"
        "run = simulate(Experiment(model=model, activation='hermite5', target='hermite5'), 1.0, step=0.01,"
        " seeds=2, linearized=True)\n"
        "assert abs(run.test_loss.values[0, 0]) > 1",
    )[index]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def changes(diff):
    """(file, lines before, lines after) of every hunk; the numbers of lines are not looked at."""
    for part in re.split(r"^--- a/", diff, flags=re.MULTILINE)[1:]:
        name = part.split("\n", 1)[0]
        for hunk in re.split(r"^@@.*@@\n", part, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            yield name, before, "".join(line[1:] for line in lines if line[0] in " +")
