"""Names on their way into another language: shell, Python, TOML, HTML, CSV, a terminal.

Names of models, clusters and layers, words of solvers and messages of errors come from files that anybody may have
written. Where they are written into a text that something else reads, they pass one of these functions.
"""

from __future__ import annotations

import html as _html
import re
import shlex
import unicodedata

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what moves the cursor, ends a line or turns the direction of writing without being seen."""


def line(text: object) -> str:
    """On one line, every unseen character spelled out: for comments of any language, and for one line of a terminal."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in UNSEEN else c for c in str(text))


def terminal(text: object) -> str:
    """For a terminal: lines stay lines, whatever else would steer it is shown as a box."""
    if str(text).isprintable():
        return str(text)
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in UNSEEN else "�" for c in str(text))


def shell(text: object) -> str:
    """As one word of a POSIX shell."""
    return shlex.quote(line(text))


def literal(text: object) -> str:
    """As a literal of Python, in ASCII."""
    return ascii(str(text))


def toml(text: object) -> str:
    """As a basic string of TOML."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(_spelled(c) if unicodedata.category(c) in UNSEEN else c for c in escaped) + '"'


def toml_key(text: object) -> str:
    """As a key of TOML, bare where it can be."""
    return str(text) if re.fullmatch(r"[A-Za-z0-9_-]+", str(text), re.ASCII) else toml(text)


def json(document: str) -> str:
    """A JSON document with what cannot be seen spelled out inside its strings; it means the same."""
    return "".join(_spelled(c) if c != "\n" and unicodedata.category(c) in UNSEEN else c for c in document)


def html(text: object) -> str:
    """As text or as a quoted attribute of HTML."""
    return _html.escape(terminal(text))


def cell(text: object) -> str:
    """As a cell of CSV: what a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{text}" if _FORMULA.match(str(text)) and not _NUMBER.fullmatch(str(text).strip()) else str(text)


_FORMULA = re.compile(r"\s*([=@]|[+-].*[A-Za-z(!])|[\t\r]", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def _spelled(character: str) -> str:
    """A character as JSON and TOML both spell it; the few beyond four digits are of no terminal's concern."""
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else character
