"""Processes that price and solve candidates side by side, and that an interrupt asks for what they have.

Started fresh by ``python -c``, so that no script needs a ``__main__`` guard. Messages are pickles over pipes of our
own, between processes of one program. Each is the leader of a process group that the warden ends with this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, Self

from .. import interrupts, registry, warden
from ..errors import SolverCrashed

LAST_WORDS_S = 1.0
"""After an interrupt, how long busy processes may take to hand over what they have."""


class _Member:
    """One process: a task goes down one pipe, its answer comes up another."""

    def __init__(self) -> None:
        with interrupts.shielded():
            down_read, down = os.pipe()
            up, up_write = os.pipe()
            path = os.pathsep.join(p or os.getcwd() for p in sys.path)
            # Deaf to interrupts until there is something to interrupt.
            code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
            code += f"from uniap_core.search.crew import main; main({down_read}, {up_write})"
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(down_read, up_write),
                env=dict(os.environ, PYTHONPATH=path),
                start_new_session=True,
            )
            warden.watch(group=self.process.pid)
            os.close(down_read)
            os.close(up_write)
            self.down, self.up = Connection(down, readable=False), Connection(up, writable=False)

    def close(self, patience_s: float) -> None:
        """End it: it goes by itself when its pipe ends, or is killed."""
        self.down.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        warden.release(group=self.process.pid)
        self.up.close()


class Crew:
    """So many processes for as long as a ``with`` block lasts; they start when there is work for them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._members: list[_Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        patience_s = 0.0 if error is not None or interrupts.came() else 0.5
        with interrupts.shielded():
            for member in self._members:
                member.close(patience_s)
            self._members.clear()

    def run(
        self, target: str, tasks: Sequence[tuple[Any, ...]], deadline: float | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Run tasks; yields each one's number and answer as it is done.

        Parameters
        ----------
        target
            ``module:function`` to call with each task's arguments.
        deadline
            On the performance counter: no task is begun after it.

        Raises
        ------
        KeyboardInterrupt
            After an interrupt, when what busy processes had has been yielded.
        SolverCrashed
            If a process dies.
        """
        waiting = list(enumerate(tasks))[::-1]
        busy: dict[Connection, tuple[int, _Member]] = {}
        idle = list(self._members)
        try:
            while waiting or busy:
                late = deadline is not None and time.perf_counter() > deadline
                while waiting and not late and len(busy) < self.size:
                    number, arguments = waiting.pop()
                    member = idle.pop() if idle else self._grow()
                    member.down.send((target, arguments))
                    busy[member.up] = number, member
                if not busy:
                    return
                for number, member, answer in _answers(busy, None):
                    idle.append(member)
                    yield number, answer
        except KeyboardInterrupt:
            yield from ((number, answer) for number, _, answer in _called_off(busy))
            raise

    def _grow(self) -> _Member:
        member = _Member()
        self._members.append(member)
        return member


def _answers(busy: dict[Connection, tuple[int, _Member]], timeout_s: float | None) -> list[tuple[int, _Member, Any]]:
    """What has arrived, at least one answer unless the time runs out."""
    found = []
    for up in wait(list(busy), timeout_s):
        assert isinstance(up, Connection)
        number, member = busy.pop(up)
        try:
            done, answer = up.recv()
        except (EOFError, OSError):
            code = member.process.wait()
            raise SolverCrashed(
                f"a process that solved candidates ended with status {code}", "use fewer --workers, or more memory"
            ) from None
        if not done:
            raise answer
        found.append((number, member, answer))
    return found


def _called_off(busy: dict[Connection, tuple[int, _Member]]) -> list[tuple[int, _Member, Any]]:
    """Interrupt what is busy and gather what it hands over in time."""
    for _, member in busy.values():
        with contextlib.suppress(ProcessLookupError):
            member.process.send_signal(signal.SIGINT)
    found = []
    ends = time.monotonic() + LAST_WORDS_S
    while busy and (left := ends - time.monotonic()) > 0:
        with contextlib.suppress(Exception):  # one that died or failed now has nothing to hand over
            found += _answers(busy, left)
    return found


def main(read_fd: int, write_fd: int) -> None:
    """Serve tasks until the pipe ends."""
    down, up = Connection(read_fd, writable=False), Connection(write_fd, readable=False)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        while True:
            target, arguments = down.recv()
            try:
                answer: tuple[bool, Any] = True, registry.resolve(target)(*arguments)
            except Exception as error:
                answer = False, _portable(error)
            up.send(answer)


def _portable(error: Exception) -> Exception:
    """The error itself if it travels, else its words."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
