"""The distribution: one version, everything in the wheel, and a wheel that works where nothing else is installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import dmft

ROOT = Path(__file__).parents[1]
PACKAGES = ("dmft", "sim", "compare")
VERSIONS = ("3.11", "3.13")  # the oldest and the newest

#: What an installed copy must do, in an empty folder: the two engines, the picture, the data files, the type marker.
SMOKE = """
import importlib.metadata, json, pathlib
from importlib import resources
import compare, dmft, sim
assert importlib.metadata.version("dmft-learning") == dmft.__version__
for package in (dmft, sim, compare):
    assert "site-packages" in package.__file__, package.__file__
    assert resources.files(package).joinpath("py.typed").is_file()
assert "DATA" in resources.files("compare").joinpath("report", "template", "page.html").read_text()
model = dmft.Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
theory = dmft.solve(model, 0.4, step=0.2, sample_count=64, replicas=4)
simulation = sim.simulate(model.replace(dim=20), 0.4, step=0.2, seeds=2)
agreement = compare.overlay(theory, simulation)
agreement.plot("overlay.png")
assert json.loads(json.dumps(agreement.summary()))["compared_times"] == 3
assert pathlib.Path("overlay.png").stat().st_size > 10_000
"""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == dmft.__version__  # type: ignore[index]
    assert re.search(r"^## (\S+?),", changelog, re.MULTILINE)[1] == dmft.__version__  # type: ignore[index]
    assert project()["project"]["dynamic"] == ["version"]


def test_citation_names_software_and_paper() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for key in ("cff-version: 1.2.0", "message:", "authors:", "title: dmft-learning", "license: MIT"):
        assert re.search(f"^{key}", citation, re.MULTILINE), key
    assert "arXiv:2310.06110" in citation
    assert citation.count("family-names:") == 4


def test_contributing_names_the_command_that_runs_every_check() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (first, *_) = re.findall(r"^```\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert first == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_extras() -> None:
    extras = project()["project"]["optional-dependencies"]
    assert {"gpu", "report", "cluster", "docs", "test"} <= set(extras)
    for extra in ("report", "cluster"):  # what the tests need of them is theirs too
        assert set(extras[extra]) <= set(extras["test"])


def run(*command: object, cwd: Path, seconds: float = 600.0) -> str:
    """Standard output of a command that succeeds, outside of this environment."""
    ours = ("PYTHON", "JAX", "XLA", "VIRTUAL")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def has_network() -> bool:
    """Whether pip finds a package index."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "setuptools>=77"]
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"dmft-index-{os.getpid()}"
    try:
        return subprocess.run([*command, "-d", str(folder)], capture_output=True, check=False).returncode == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_python(version: str) -> str | None:
    """An interpreter of this version that starts: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}")))]
    for python in filter(None, found):
        if subprocess.run([python, "-m", "venv", "--help"], capture_output=True, check=False).returncode == 0:
            return python
    return None


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with source distribution and wheel, the wheel built from the source distribution."""
    if not has_network():
        pytest.skip("pip finds no package index")
    folder = tmp_path_factory.mktemp("build")
    left_out = (".*cache", ".git", ".venv*", "*.egg-info", "__pycache__", "build", "dist", "dmft-out*", "site")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*left_out))
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source", cwd=folder)
    return folder / "dist"


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_nothing_else(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == here
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_in_an_empty_environment(version: str, distributions: Path, tmp_path: Path) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    (wheel,) = distributions.glob("*.whl")
    run(python, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    executables = tmp_path / "venv" / "bin"
    run(executables / "pip", "install", "-q", "--no-compile", wheel, cwd=tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    assert run(executables / "dmft", "--version", cwd=work).strip() == dmft.__version__
    run(executables / "python", "-c", SMOKE, cwd=work)
    shutil.rmtree(tmp_path / "venv")
