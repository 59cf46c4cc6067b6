"""Options and run-time shape checking for the whole test-suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

#: What one process has compiled, the others (workers, commands under test) read: set before anyone imports jax.
KEPT = Path(__file__).parents[1] / ".pytest_cache" / "executables"
os.environ["DMFT_CACHE"] = str(KEPT)

#: The compiler takes two thirds of the time with these, for code up to a sixth slower: tests mostly compile.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"


def compiler_knows(flags: str) -> bool:
    """Whether jax starts with these: one that lacks a flag ends the process."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True).returncode == 0


if "XLA_FLAGS" not in os.environ:  # workers are told by the process that starts them
    os.environ["XLA_FLAGS"] = QUICK if compiler_knows(QUICK) else ""

#: Modules whose array shapes are checked; the user's own arguments are checked, and tested, by the package itself.
CHECKED = ("twotime.anderson", "twotime.kernels", "twotime.noise", "wide")
CHECKED += tuple(f"committee.{module}" for module in ("explicit", "implicit", "network", "rows", "sampling", "state"))
install_import_hook([f"dmft.{module}" for module in CHECKED], "beartype.beartype")


@pytest.fixture
def compiled_anew(monkeypatch):
    """A function that forgets what is compiled, for tests that change code: called before and after each change."""
    from dmft.compiled import executables

    monkeypatch.setenv("DMFT_CACHE", "off")
    executables.forget()
    yield executables.forget
    executables.forget()


#: Property tests take the same examples every time; HYPOTHESIS_PROFILE=random draws others, from the --hypothesis-seed.
settings.register_profile("fixed", derandomize=True, max_examples=20)
settings.register_profile("random", derandomize=False, max_examples=200, print_blob=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import jax

    skip_slow = pytest.mark.skip(reason="slow: give --run-slow")
    skip_gpu = pytest.mark.skip(reason="needs an accelerator")
    on_cpu = jax.default_backend() == "cpu"
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(skip_slow)
        if "gpu" in item.keywords and on_cpu:
            item.add_marker(skip_gpu)
