"""The fence around plugins: whatever their code does, it ends as a value of the right type or as a named error.

Importing a plugin, reading its descriptor and calling its functions all happen inside :func:`guard`; what comes back
passes :func:`typed`. A plugin's own :class:`~uniap_core.errors.UniapError` is its word to the user and goes through;
Ctrl-C is the user's and goes through; everything else, ``sys.exit`` included, is the plugin's fault. What it prints
goes to standard error: standard output belongs to the command.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from .errors import PluginError, UniapError

T = TypeVar("T")

STDOUT, STDERR = 1, 2


@contextlib.contextmanager
def guard(
    who: str, fix: str = "report it to the plugin's author; the other plugins are not affected"
) -> Iterator[None]:
    """Run plugin code inside.

    Parameters
    ----------
    who
        Who is at fault if it fails, and at what: ``"cost model 'acme': price"``.
    fix
        The remedy to name then.

    Raises
    ------
    PluginError
        For whatever the code raises but errors of uniap and Ctrl-C.
    """
    try:
        with _diverted():
            yield
    except (UniapError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise PluginError(f"{who} called sys.exit({error.code!r})", fix) from error
    except BaseException as error:
        raise PluginError(f"{who} raised {type(error).__name__}{_words(error)}", fix) from error


def typed(who: str, value: Any, kind: type[T]) -> T:
    """The value, if it is of a kind through and through.

    Parameters
    ----------
    who
        As for :func:`guard`.
    kind
        A class, or a container of builtin types such as ``list[str]``; structs and dataclasses that msgspec can take
        apart are checked field by field.

    Raises
    ------
    PluginError
        Naming what came instead, or the field that is wrong.
    """
    plain = get_origin(kind) or kind
    if not isinstance(value, plain):
        raise PluginError(f"{who} returned {_described(value)}, not {_called(kind)}", "correct the plugin")
    if plain is not kind or issubclass(plain, msgspec.Struct):
        wrong = misfit(value, kind)
        if wrong:
            raise PluginError(f"{who} returned {_called(kind)} that is none: {wrong}", "correct the plugin")
    return value


def misfit(value: Any, kind: Any) -> str:
    """What is wrong inside a value, in msgspec's words, or nothing: it is taken apart and put together again."""
    try:
        msgspec.convert(msgspec.to_builtins(value, builtin_types=(bytes,)), kind)
    except (msgspec.ValidationError, UniapError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return str(error).splitlines()[0]
    return ""


def descriptor(who: str, value: Any, kind: type[T]) -> T:
    """What an entry point names, if it is a descriptor of the kind with a value of the right type in every field.

    Raises
    ------
    PluginError
        Naming the field.
    """
    if not isinstance(value, kind):
        raise PluginError(f"{who}: its entry point must name a {kind.__name__}, not {_described(value)}", _CORRECT)
    hints = _hints(kind)  # type: ignore[arg-type]
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        one, hint = getattr(value, field.name), hints[field.name]
        exact = not isinstance(hint, type) or get_origin(hint) is not None or isinstance(one, hint)
        wrong = misfit(one, hint) if exact else f"not a {hint.__name__}"
        if wrong:
            raise PluginError(f"{who}: its descriptor's {field.name} is {_described(one)}: {wrong}", _CORRECT)
    return value


_CORRECT = "correct the descriptor"


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _words(error: BaseException) -> str:
    """What an error says after its name; a hostile one may not even say that."""
    try:
        text = str(error)
    except Exception:
        return ""
    return f": {text}" if text else ""


def _called(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)


def _described(value: Any) -> str:
    """A value as a message names it: plain ones in full, anything else by its type."""
    if value is None or (isinstance(value, str | int | float) and len(repr(value)) < 60):
        return repr(value)
    return f"a {type(value).__name__}"


# --- standard output ------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_depth = 0
_kept = -1


@contextlib.contextmanager
def _diverted() -> Iterator[None]:
    """Send standard output to standard error, for Python, for C and for processes that are started meanwhile."""
    global _depth, _kept
    with _lock:
        _depth += 1
        if _depth == 1:
            _kept = _divert()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _kept >= 0:
                _flush()
                os.dup2(_kept, STDOUT)
                os.close(_kept)
                _kept = -1


def _divert() -> int:
    """Put standard error in the place of standard output; the descriptor that keeps the latter, or -1."""
    _flush()
    try:
        kept = os.dup(STDOUT)
    except OSError:
        return -1  # closed: nothing can be printed there
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:
        os.close(kept)
        return -1
    return kept


def _flush() -> None:
    """What Python and C have printed so far goes where it was printed to."""
    for stream in {sys.stdout, sys.__stdout__}:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    ctypes.CDLL(None).fflush(None)
