"""SIGINT, SIGTERM and SIGHUP, one way: the first asks for the best so far, the second ends at once.

:func:`arm` is for a process that is ours, that is, the command line; a library leaves signals to its user, for whom
Ctrl-C is a ``KeyboardInterrupt`` as ever. In an armed process the first signal raises :class:`Interrupted` (a
``KeyboardInterrupt``), which unwinds to whoever can deliver something. A thread sees to it that the process ends
even if the main thread is held up where no signal reaches it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from . import warden

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

PATIENCE_S = 1.7
"""How long unwinding may take before the process is ended."""

DELIVERY_S = 20.0
"""How long it may take if there is something to deliver."""

TWICE_S = 0.3
"""Signals that follow the first so soon were meant as one (a terminal's and a parent's)."""


class Interrupted(KeyboardInterrupt):
    """A signal came; ``number`` is which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    """What came, and whether it may be raised now."""

    number: int | None = None
    since: float = 0.0
    shields: int = 0
    held: bool = False
    armed: bool = False
    worthwhile: bool = False


_state = _State()


def arm() -> None:
    """Take the signals of this process; those that are ignored (nohup) stay so. Main thread only."""
    main = threading.current_thread() is threading.main_thread()
    if _state.armed or not main or not hasattr(os, "register_at_fork"):
        return
    _state.armed = True
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read_fd,), name="interrupts", daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _take)
    os.register_at_fork(after_in_child=_disarm)


def came() -> int | None:
    """Number of the signal that came, or ``None``."""
    return _state.number


def exit_code() -> int:
    """The exit status of a command that a signal ended: 128 and its number, as shells have it."""
    return 128 + (_state.number or signal.SIGINT)


@contextmanager
def shielded() -> Iterator[None]:
    """Keep a few milliseconds of work whole: a signal that comes meanwhile is raised at its end."""
    if threading.current_thread() is not threading.main_thread():  # signals are raised in the main thread alone
        yield
        return
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
    if _state.held and not _state.shields:
        _state.held = False
        raise Interrupted(_state.number or signal.SIGINT)


def worthwhile() -> None:
    """There is something to deliver now: after a signal, that gets more time than mere unwinding."""
    _state.worthwhile = True


def _take(number: int, frame: FrameType | None) -> None:
    if _state.number is None:
        _state.number, _state.since = number, time.monotonic()
        if _state.shields:
            _state.held = True
            return
        raise Interrupted(number)
    if time.monotonic() - _state.since > TWICE_S:
        _end(number)


def _watch(fd: int) -> None:
    """The thread behind the main one: bytes come from the C level of signal handling, whatever Python does."""
    while (number := os.read(fd, 1)[0]) not in SIGNALS or signal.getsignal(number) is not _take:
        pass
    began = time.monotonic()
    while time.monotonic() - began < (DELIVERY_S if _state.worthwhile else PATIENCE_S):
        time.sleep(0.05)
    _end(number)


def _end(number: int) -> None:
    """End the process here and now, with all that it started."""
    show_cursor = b"\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else b""
    with suppress(OSError):
        os.write(2, show_cursor + b"interrupted\n")
    warden.end()
    os._exit(128 + number)


def _disarm() -> None:
    """In a forked child signals are what they are by default again."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _take:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
