"""The compiled inner loops: flat arrays in, flat arrays out, no Python objects, no allocation that grows with labels.

Every function has one explicit signature and is cached on disk; where neither the package folder nor the user's
cache can be written, a temporary folder serves.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from subprocess import DEVNULL
from typing import Any, Self

import numba
from numba.core import event


def compiled(signature: str, *, inner: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` with an explicit signature and an on-disk cache that works wherever the package lies.

    What is not needed is not compiled either: rewriting of array expressions, an entry from C, and for an ``inner``
    loop, which other loops alone call, the entry from Python.
    """
    # Options that numba's own types do not know.
    less: dict[str, Any] = {"no_rewrites": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": inner}
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]]
    decorate = numba.njit(signature, cache=True, boundscheck=False, error_model="numpy", **less)

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return decorate(function)
        except RuntimeError:  # numba: no locator, that is, no writable cache folder
            own = f"uniap-numba-{getpass.getuser()}"
            setattr(numba.config, "CACHE_DIR", os.path.join(tempfile.gettempdir(), own))  # noqa: B010
            return decorate(function)

    return compile_


def load(here: Sequence[str], there: Sequence[str]) -> None:
    """Import modules of compiled loops; if these must be compiled, a second process compiles some meanwhile.

    Parameters
    ----------
    here
        Modules of this package that this process compiles.
    there
        Those that the second one compiles; they are loaded from the cache then.
    """
    first, others = ([f"{__package__}.{module}" for module in modules] for modules in (here, there))
    if sys.modules.keys() >= {*first, *others}:
        return
    with _Second(others) as second:
        for name in first:
            import_module(name)
        second.wait()
        for name in others:
            import_module(name)


class _Second(event.Listener):
    """Another process that begins to compile when this one does, if there is a core for it.

    Whatever befalls it, nothing is lost but time: what is not in the cache is compiled here.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.command = [sys.executable, "-c", f"import {', '.join(modules)}"]
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = bool(sys.executable) and not hasattr(sys, "frozen")

    def __enter__(self) -> Self:
        event.register("numba:compile", self)
        return self

    def __exit__(self, *error: object) -> None:
        event.unregister("numba:compile", self)
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def on_start(self, event: event.Event) -> None:
        """Begin, when the first loop turns out not to be in the cache."""
        if not self.wanted:
            return
        self.wanted = False
        from joblib import cpu_count  # heeds affinity and the limits of containers

        if cpu_count() == 1:
            return
        with suppress(OSError):
            self.process = subprocess.Popen(self.command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)

    def on_end(self, event: event.Event) -> None:
        """Part of a listener."""

    def wait(self) -> None:
        """Until the other process is done."""
        self.wanted = False
        if self.process is not None:
            self.process.wait()
