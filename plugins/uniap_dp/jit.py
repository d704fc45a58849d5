"""The compiled inner loops: flat arrays in, flat arrays out, no Python objects, no allocation that grows with labels.

Every function has one explicit signature and is cached on disk; where neither the package folder nor the user's
cache can be written, a temporary folder serves that belongs to this user alone. Cached code is believed only with its
digest: what is damaged is compiled again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from subprocess import DEVNULL
from typing import Any, Self, cast

import numba
from numba import boolean, float64, int64, void
from numba.core import event, typeinfer
from numba.core.caching import IndexDataCacheFile

__all__ = ["boolean", "compiled", "float64", "int64", "load", "pair", "record", "void"]

types: Any = numba.types
events: Any = event
types_of: Any = typeinfer.register_dispatcher


def pair(kind: Any) -> Any:
    """The type of a tuple of two."""
    return types.UniTuple(kind, 2)


def record(kind: type[tuple[Any, ...]], *fields: Any) -> Any:
    """The type of a named tuple whose fields have these numba types."""
    if len(set(fields)) == 1:
        return types.NamedUniTuple(fields[0], len(fields), kind)
    return types.NamedTuple(fields, kind)


def compiled(signature: Any, *, inner: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` with an explicit signature and an on-disk cache that works wherever the package lies.

    What is not needed is not compiled either: rewriting of array expressions, an entry from C, and for an ``inner``
    loop, which other loops alone call, the entry from Python.
    """
    # Options that numba's own types do not know.
    less: dict[str, Any] = {"no_rewrites": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": inner}

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        loop: Any = numba.njit(boundscheck=False, error_model="numpy", forceinline=inner, **less)(function)
        if not hasattr(loop, "enable_caching"):  # NUMBA_DISABLE_JIT
            return function
        try:
            loop.enable_caching()
        except RuntimeError:  # numba: no locator, that is, no writable cache folder
            setattr(numba.config, "CACHE_DIR", private_folder())  # noqa: B010
            loop.enable_caching()
        cache, sealed = loop._cache, cast(Any, _Sealed)
        cache._cache_file = sealed(cache.cache_path, cache._impl.filename_base, cache._impl.locator.get_source_stamp())
        with types_of(loop):
            loop.compile(signature)
            loop.disable_compile()
        compiled_loop: Callable[..., Any] = loop
        return compiled_loop

    return compile_


def private_folder() -> str:
    """A folder for temporary files that nobody else can write; the same one each time unless somebody took its name."""
    if hasattr(os, "getuid"):
        folder = os.path.join(tempfile.gettempdir(), f"uniap-numba-{os.getuid()}")
        with suppress(OSError):
            os.mkdir(folder, 0o700)
        with suppress(OSError):
            found = os.lstat(folder)
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return folder
    return tempfile.mkdtemp(prefix="uniap-numba-")


class _Sealed(IndexDataCacheFile):
    """Numba's cache of one function, each file behind its digest: damaged machine code ends the process when loaded."""

    def _sealed(self: Any, content: object) -> bytes:
        data: bytes = self._dump(content)
        return hashlib.sha256(data).digest() + data

    @staticmethod
    def _opened(path: str) -> Any:
        """The content of a file; raises OSError if it is not what was written."""
        with open(path, "rb") as file:
            seal, data = file.read(32), file.read()
        if hashlib.sha256(data).digest() != seal:
            raise OSError(f"{path} is damaged")
        try:
            return pickle.loads(data)
        except Exception as error:  # it names what another version of this package had
            raise OSError(f"{path} is of another version") from error

    def _load_index(self: Any) -> dict[Any, str]:
        try:
            version, stamp, names = self._opened(self._index_path)
        except OSError:
            return {}
        known: dict[Any, str] = names if (version, stamp) == (self._version, self._source_stamp) else {}
        return known

    def _save_index(self: Any, overloads: dict[Any, str]) -> None:
        with self._open_for_write(self._index_path) as file:
            file.write(self._sealed((self._version, self._source_stamp, overloads)))

    def _load_data(self: Any, name: str) -> Any:
        return self._opened(self._data_path(name))

    def _save_data(self: Any, name: str, data: object) -> None:
        with self._open_for_write(self._data_path(name)) as file:
            file.write(self._sealed(data))


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
        events.register("numba:compile", self)
        return self

    def __exit__(self, *error: object) -> None:
        events.unregister("numba:compile", self)
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
