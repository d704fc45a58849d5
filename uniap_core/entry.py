"""Where the program ``uniap`` begins: signals are ours before anything that takes time is imported."""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    # Until signals are taken there is nothing to unwind: Ctrl-C ends the process without a word.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import interrupts

    try:
        interrupts.arm()
        _standard_streams()
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        # Before or after a command; within one, the command line says what became of it.
        print("interrupted", file=sys.stderr)
        sys.exit(interrupts.exit_code())


def _standard_streams() -> None:
    """Streams that are there and take every letter: closed ones lead nowhere, unknown letters become marks."""
    with contextlib.suppress(OSError):
        while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(handle, True)
        os.close(handle)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace" if name == "stderr" else "replace")
