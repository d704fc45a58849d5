"""The compiled inner loops: flat arrays in, flat arrays out, no Python objects, no allocation that grows with labels.

Every function has one explicit signature and is cached on disk; where neither the package folder nor the user's
cache can be written, a temporary folder serves. A *front* is a run of labels ``(time, memory)`` with memory rising
and time falling: no label of it is at least as good as another in both.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numba

STEPS = "Tuple((i8[::1], i8[::1], i8[::1], i8[::1], f8[::1]))"
"""``Lattice.arcs``: (residuals, first, group, source, cost)."""
COSTS = "Tuple((f8, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1]))"
"""``StageClass.arrays``: (cap, start, enter, leave, time, memory)."""
TREE = "Tuple((i8[::1], i8[::1], i8[::1]))"
"""(parent, type, base): items of a tree of downsets; states of item ``x`` are ``base[x] .. base[x + 1]``."""


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` with an explicit signature and an on-disk cache that works wherever the package lies."""
    decorate = numba.njit(signature, cache=True, boundscheck=False, error_model="numpy")

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return decorate(function)
        except RuntimeError:  # numba: no locator, that is, no writable cache folder
            own = f"uniap-numba-{getpass.getuser()}"
            setattr(numba.config, "CACHE_DIR", os.path.join(tempfile.gettempdir(), own))  # noqa: B010
            return decorate(function)

    return compile_
