"""Whether a module that a file names may be imported: only if the user named it too, or said so.

A graph or a plan says where its torch model comes from. ``package.module:factory`` there is code, and whoever wrote
the file chose it. What the user types as MODEL is trusted, and what ``--trust-source`` or :data:`VARIABLE` names.
"""

from __future__ import annotations

import os

from .errors import UsageError

VARIABLE = "UNIAP_TRUST_SOURCE"
"""Environment variable with the trusted sources, separated by commas; child processes inherit it."""


def names_module(source: str) -> bool:
    """Whether a source is code of its own, not a model of the zoo or a configuration file."""
    return bool(source) and source.partition(":")[0] not in ("zoo", "hf")


def allow(source: str) -> None:
    """Trust a source in this process and in those that it starts: the user named it."""
    if names_module(source) and "," not in source:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*_allowed(), source]))


def check(source: str) -> None:
    """Refuse to import what only a file names.

    Raises
    ------
    UsageError
        Saying what would be imported, and how to allow it.
    """
    if names_module(source) and source not in _allowed():
        raise UsageError(
            f"the file says that its model comes from {source!r}, and loading it runs that code",
            "if you know it, say --trust-source",
        )


def _allowed() -> tuple[str, ...]:
    return tuple(filter(None, os.environ.get(VARIABLE, "").split(",")))
