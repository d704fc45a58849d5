"""Where code and numbers that are computed once may be kept: in the user's own cache folder, and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def folder(name: str) -> Path | None:
    """The folder ``uniap/NAME`` of the user's cache, made if need be; ``None`` if what lies there is not his alone.

    What is read back from a cache is run, so nobody else may have written there: neither the folder nor those above
    it up to ``uniap`` may belong to another user, be a link, or be writable for group or others.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        return None
    path = Path(base, "uniap")
    for place in (path, path / name):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return None
        if not _own(place):
            return None
    return path / name


def _own(place: Path) -> bool:
    found = os.lstat(place)
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not shared and os.access(place, os.W_OK)
