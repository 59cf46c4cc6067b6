"""What is public is offered, is there, and costs nothing before it is asked for."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("dmft", "sim", "compare")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_names_are_offered_before_they_are_imported():
    code = (
        "import sys, dmft, sim, compare\n"
        "assert {'solve', 'Committee', 'KERNELS'} <= set(dir(dmft)) and 'System' in dir(sim)\n"
        "assert 'overlay' in dir(compare) and not {'jax', 'numpy', 'xarray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
