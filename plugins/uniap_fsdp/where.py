"""What each rank is doing right now, kept where it survives the rank.

Each rank writes the layer, strategy and pass that it enters into a small memory-mapped file; the launcher reads it
after a crash of any kind, a kill included.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

SIZE = 256


class Where:
    """The marker of one rank; without a file it keeps the text in memory only."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.text = "starting"
        self._map: mmap.mmap | None = None
        if path is not None:
            Path(path).write_bytes(b" " * SIZE)
            with open(path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), SIZE)
            self.set(self.text)

    def set(self, text: str) -> None:
        """Say what is being done."""
        self.text = text
        if self._map is not None:
            self._map[:] = text.encode()[:SIZE].ljust(SIZE)


def read(path: str | os.PathLike[str]) -> str:
    """What a rank was doing when it last wrote, or an empty string."""
    try:
        return Path(path).read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""
