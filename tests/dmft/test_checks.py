"""What the checks at the door allow, and how much memory they take for free."""

from pathlib import Path

import pytest

from dmft import ParameterError, checks

GROUP = {  # of both versions of Linux' control groups: limit, use, and what of the use is given back when asked for
    2: {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 200\n"},
    1: {
        "memory.limit_in_bytes": "1000\n",
        "memory.usage_in_bytes": "700\n",
        "memory.stat": "cache 5\ntotal_inactive_file 200\n",
    },
}


@pytest.fixture
def make_group(tmp_path, monkeypatch):
    """Control groups in a folder, this process in the group `own`."""
    monkeypatch.setattr(checks, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(checks, "OWN_GROUPS", tmp_path / "own")

    def make(version: int, place: str, own: str, **files: str) -> Path:
        (tmp_path / "own").write_text(f"4:memory:{own}\n1:cpu:/elsewhere\n" if version == 1 else f"0::{own}\n")
        folder = tmp_path / "groups" / ("memory" if version == 1 else "") / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (GROUP[version] | files).items():
            (folder / name).write_text(text)
        return folder

    return make


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("place", ["/", "/job", "/job/step"])
def test_a_group_s_free_memory_is_its_limit_less_what_is_in_use(make_group, version, place):
    """In the process' own group and in every one round it; pages of files that are given back count as free."""
    make_group(version, place, own="/job/step")
    assert checks.available_memory() == 1000.0 - (700.0 - 200.0)


def test_the_tightest_group_counts_and_one_without_a_limit_does_not(make_group):
    make_group(2, "/job", own="/job/step", **{"memory.current": "999\n"})
    make_group(2, "/job/step", own="/job/step", **{"memory.max": "max\n"})
    make_group(2, "/other", own="/job/step", **{"memory.max": "1\n"})
    assert checks.available_memory() == 1000.0 - (999.0 - 200.0)


def test_more_in_use_than_allowed_leaves_nothing(make_group):
    make_group(2, "/", own="/", **{"memory.current": "5000\n"})
    assert checks.available_memory() == 0.0


def test_seeds_fit_into_a_file():
    assert checks.check_seed(2**63 - 1) == 2**63 - 1
    for seed in (2**63, -1, 1.5, True, "1"):
        with pytest.raises(ParameterError, match="`seed`"):
            checks.check_seed(seed)


def test_a_path_has_its_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert checks.check_path("out", "~/x") == Path("/home/somebody/x")
    assert checks.check_path("out", Path("a/~")) == Path("a/~")
