"""The cache folder: whole entries or none, of the user alone, up to a limit.

It is `dmft` in the user's cache folder, or what the environment variable DMFT_CACHE says: another folder, or "off". A
folder that cannot be made, read or written is done without.

Any number of processes may use it at once. An entry is written beside its place and moved there in one step. An entry
that is damaged, or that somebody else owns or may write, is not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

#: The environment variable.
VARIABLE = "DMFT_CACHE"
#: Bytes kept; the entries that were not used for the longest time go first.
LIMIT = 2**29
#: Seconds after which a part of an entry belongs to a process that was ended.
ABANDONED = 3600.0

_HEAD = b"dmft 1\n"
_PART, _ENTRY = ".part", ".bin"


def place() -> Path | None:
    """The folder, which may not exist yet; None if there is to be none."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return None if chosen in ("off", "0", "") else Path(chosen).expanduser()
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "dmft"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home)) / "dmft" / "cache"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else home / ".cache") / "dmft"


def read(name: str) -> bytes | None:
    """The content of the entry `name`, or None."""
    folder = place()
    if folder is None:
        return None
    path = folder / (name + _ENTRY)
    try:
        with path.open("rb") as file:
            about, whole = os.fstat(file.fileno()), file.read()
        if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
            return None
    except OSError:
        return None
    start = len(_HEAD) + hashlib.sha256().digest_size
    content = whole[start:]
    if whole[:start] != _head(name, content):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now
    return content


def holds(name: str) -> bool:
    """Whether there is an entry `name`, whatever it is worth."""
    folder = place()
    return folder is not None and (folder / (name + _ENTRY)).is_file()


def write(name: str, content: bytes) -> None:
    """Make or replace the entry `name`, if that is possible."""
    folder = place()
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(suffix=_PART, dir=folder)  # which nobody else can read
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_head(name, content) + content)
        os.replace(part, folder / (name + _ENTRY))
        _tidy(folder)
    except OSError:
        pass
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _head(name: str, content: bytes) -> bytes:
    """What stands before the content: it tells an entry that is damaged, or that has another's name."""
    return _HEAD + hashlib.sha256(name.encode() + content).digest()


def _tidy(folder: Path) -> None:
    """Remove the entries used longest ago beyond the limit, and what processes that were ended have left."""
    entries, total = [], 0
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            about = path.stat()
            if path.suffix == _ENTRY:
                entries.append((about.st_mtime, about.st_size, path))
            elif path.suffix == _PART and about.st_mtime < time.time() - ABANDONED:
                path.unlink()
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
