"""The rungs of the ladder, one file each: a module here with a ``RUNG`` is a rung, and there is nothing else to do."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from .contract import Rung, Step

__all__ = ["Rung", "Step", "found"]


@cache
def found() -> tuple[Rung, ...]:
    """All rungs, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "contract")
    rungs = (import_module(f"{__name__}.{module}").RUNG for module in modules)
    return tuple(sorted(rungs, key=lambda rung: rung.name))
