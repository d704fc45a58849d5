"""Pipeline schedules, a file each: a module here with a ``SCHEDULE`` is one. Nothing else names them all."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ..errors import UnknownName
from .contract import Chunks, Order, Schedule, Step

__all__ = ["DEFAULT", "Chunks", "Order", "Schedule", "Step", "find", "names"]

DEFAULT = "1f1b"
"""What is planned where nobody names a schedule."""


@cache
def _known() -> dict[str, Schedule]:
    modules = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != "contract")
    schedules = (import_module(f"{__name__}.{module}").SCHEDULE for module in modules)
    return {schedule.name: schedule for schedule in schedules}


def names() -> tuple[str, ...]:
    """The names of all schedules, sorted."""
    return tuple(sorted(_known()))


def find(name: str) -> Schedule:
    """The schedule of a name.

    Raises
    ------
    UnknownName
        If there is none.
    """
    if name not in _known():
        raise UnknownName(f"there is no schedule named {name!r}", f"known: {', '.join(names())}")
    return _known()[name]
