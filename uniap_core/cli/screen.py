"""What a command prints, on its way to the terminal: names from files may not steer it."""

from __future__ import annotations

import re
from typing import Any, TextIO

from ..quoting import terminal

_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")
HIDDEN = "8"
"""The one attribute of text that is nobody's color: it hides it."""


class Screen:
    """A text stream before another: colors pass where that is a terminal, other control characters become boxes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colored = stream.isatty()

    def write(self, text: str) -> int:
        """Write what may be seen."""
        self._stream.write(shown(text, colored=self._colored))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for one in lines:
            self.write(one)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def shown(text: str, *, colored: bool) -> str:
    """A text as it may be printed."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        part if number % 2 and colored and HIDDEN not in part[2:-1].split(";") else terminal(part)
        for number, part in enumerate(_COLOR.split(text))
    )
