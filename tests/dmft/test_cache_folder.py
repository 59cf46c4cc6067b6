"""The cache folder: whole entries or none, whoever else is at work and whatever fails."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dmft.compiled import folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_read_as_it_was_written(place):
    assert folder.read("one") is None
    folder.write("one", b"content")
    folder.write("one", b"other content")
    assert folder.read("one") == b"other content"
    assert folder.read("two") is None
    assert [path.name for path in place.iterdir()] == ["one.bin"]


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setattr(folder.sys, "platform", "linux")
    monkeypatch.delenv(folder.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folder.place() == tmp_path / ".cache" / "dmft"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    assert folder.place() == tmp_path / ".cache" / "dmft"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert folder.place() == tmp_path / "x" / "dmft"
    monkeypatch.setattr(folder.sys, "platform", "darwin")
    assert folder.place() == tmp_path / "Library" / "Caches" / "dmft"
    monkeypatch.setenv(folder.VARIABLE, "~/here")
    assert folder.place() == tmp_path / "here"
    for off in ("off", "0", ""):
        monkeypatch.setenv(folder.VARIABLE, off)
        assert folder.place() is None
        folder.write("one", b"content")
        assert folder.read("one") is None
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_there_is_no_folder(monkeypatch):
    monkeypatch.delenv(folder.VARIABLE, raising=False)

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert folder.place() is None


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("where", "what", "failure"),
    [
        (os, "replace", full),
        (os, "fdopen", full),
        (folder.tempfile, "mkstemp", read_only),
        (Path, "mkdir", read_only),
        (Path, "iterdir", read_only),
    ],
)
def test_what_cannot_be_written_is_done_without(where, what, failure, place, monkeypatch):
    folder.write("old", b"kept")
    with monkeypatch.context() as patch:
        patch.setattr(where, what, failure)
        folder.write("new", b"content")
    assert folder.read("new") in (None, b"content")
    assert folder.read("old") == b"kept"
    assert [path.suffix for path in place.iterdir() if path.suffix != ".bin"] == []
    folder.write("new", b"content")
    assert folder.read("new") == b"content"


def test_a_disk_that_is_full_in_mid_write_leaves_nothing(place, monkeypatch):
    class Half:
        def __init__(self, handle, mode):
            self.file = open(handle, mode)  # noqa: SIM115

        def __enter__(self):
            return self

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            full()

        def __exit__(self, *_):
            self.file.close()

    monkeypatch.setattr(os, "fdopen", Half)
    folder.write("one", b"content" * 100)
    assert list(place.iterdir()) == []


def test_a_path_that_cannot_be_a_folder_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path / "file" / "cache"))
    folder.write("one", b"content")
    assert folder.read("one") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners")
def test_entries_of_others_are_not_read(place, monkeypatch):
    folder.write("one", b"content")
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "one.bin").stat().st_mode & 0o777 == 0o600
    (place / "one.bin").chmod(0o620)
    assert folder.read("one") is None
    (place / "one.bin").chmod(0o600)
    assert folder.read("one") == b"content"
    monkeypatch.setattr(os, "getuid", lambda: (place / "one.bin").stat().st_uid + 1)
    assert folder.read("one") is None


def test_the_entries_used_longest_ago_go_first(place, monkeypatch):
    for age, name in enumerate("abcd"):
        folder.write(name, bytes(100))
        os.utime(place / f"{name}.bin", (1e9 - age, 1e9 - age))
    assert folder.read("d") is not None  # and is used now
    monkeypatch.setattr(folder, "LIMIT", 3 * (place / "a.bin").stat().st_size)
    folder.write("e", bytes(100))
    assert sorted(path.stem for path in place.iterdir()) == ["a", "d", "e"]


KILLED = """
import os, signal, sys
from dmft.compiled import folder
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
folder.write("one", b"content")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_killed_in_mid_write_leaves_no_entry(place):
    done = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = place.iterdir()
    assert folder.read("one") is None
    folder.write("one", b"new")
    assert folder.read("one") == b"new"
    assert part.exists()  # for all that is known, somebody is still writing
    old = time.time() - folder.ABANDONED - 1.0
    os.utime(part, (old, old))
    folder.write("two", b"new")
    assert not part.exists()


AT_ONCE = """
import sys
from dmft.compiled import folder
folder.LIMIT = 700_000
letter = sys.argv[1].encode()
print("ready", flush=True)
sys.stdin.readline()
found = 0
for turn in range(150):
    name = f"entry{turn % 5}"
    folder.write(name, letter * 200_000)
    content = folder.read(f"entry{(turn + 2) % 5}")
    assert content in (None, b"a" * 200_000, b"b" * 200_000, b"c" * 200_000)
    found += content is not None
assert found > 10, found
"""


def test_processes_at_once_find_whole_entries(place):
    pipe = subprocess.PIPE
    together = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE, letter], stdin=pipe, stdout=pipe, text=True)
        for letter in "abc"
    ]
    for process in together:  # one that begins before the others finds nothing of theirs
        assert process.stdout.readline() == "ready\n"
    for process in together:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait() for process in together] == [0, 0, 0]
    assert {path.suffix for path in place.iterdir()} == {".bin"}
