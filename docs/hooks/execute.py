"""mkdocs hook: the tutorials show what their blocks print and draw, by running them.

Every page of docs/tutorials is run (`run_page.py`) in a folder of its own. What a block prints stands below it; a
picture without folder, `![...](name.png)`, is the file of that name that the page's blocks have written. Results are
kept in .cache/docs and used again until the page's blocks, the code of the packages, or jax change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT, blocks, pictures  # pyright: ignore[reportMissingImports]

CACHE = ROOT / ".cache" / "docs"
TUTORIALS = ROOT / "docs" / "tutorials"
PACKAGES = ("dmft", "sim", "compare")
HOOKS = Path(__file__).parent


def on_files(files: Any, config: Any) -> Any:
    """Run what is out of date, two pages at a time, and add the pictures to the site."""
    from mkdocs.structure.files import File

    pages = sorted(TUTORIALS.glob("*.md"))
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(run_tutorial, pages))
    for page, folder in zip(pages, folders, strict=True):
        for name in pictures(page.read_text(encoding="utf-8")):
            uri = f"tutorials/{name}"
            if files.get_file_from_path(uri) is not None:
                raise ValueError(f"Two pages make the picture {name}.")
            files.append(File.generated(config, uri, content=(folder / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with the output of each block below it."""
    del config, files
    path = Path(page.file.abs_src_path or "")
    if path.parent != TUTORIALS:
        return markdown
    outputs = json.loads((run_tutorial(path) / "result.json").read_text(encoding="utf-8"))["outputs"]
    lines = markdown.splitlines()
    # mkdocs has cut off nothing: lines are those of the file
    for block in reversed(blocks(markdown)):
        printed = outputs[str(block.line)].rstrip()
        if printed:
            lines[block.end : block.end] = ["", "``` { .text .output .no-copy }", *printed.splitlines(), "```", ""]
    return "\n".join(lines)


def run_tutorial(page: Path, *, fresh: bool = False) -> Path:
    """The folder with the page's result.json and pictures; runs the page if that is missing, out of date or `fresh`.

    Raises:
        RuntimeError: a block failed, or a picture of the page was not drawn.
    """
    text = page.read_text(encoding="utf-8")
    kept = CACHE / f"{page.stem}-{digest(text)}"
    if kept.is_dir() and not fresh:
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="running-", dir=CACHE))  # its own: several processes may run a page at once
    try:
        run(page, folder)
        missing = [name for name in pictures(text) if not (folder / name).is_file()]
        if missing:
            raise RuntimeError(f"{page.name} shows {missing[0]}, but its blocks do not write it.")
        with contextlib.suppress(OSError):  # another process, or an earlier run, has put the same there
            folder.rename(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for other in CACHE.glob(f"{page.stem}-*"):
        if other != kept:  # out of date
            shutil.rmtree(other, ignore_errors=True)
    return kept


def run(page: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Run the page's blocks in `folder`; what `run_page.py` says of them."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    environment.setdefault("DMFT_CACHE", str(CACHE / "executables"))
    command = [sys.executable, str(HOOKS / "run_page.py"), str(page), "result.json", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"A block of {page.name} failed:\n{done.stderr}")
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def digest(text: str) -> str:
    """Hash of all that a page's output depends on: its blocks, the packages' code, what runs it, versions."""
    parts = [f"{block.language}\n{block.line}\n{block.code}" for block in blocks(text)]
    sources = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    parts += [path.read_text(encoding="utf-8") for path in (*sources, HOOKS / "run_page.py")]
    parts += [f"{name} {version(name)}" for name in ("jax", "numpy", "matplotlib")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
