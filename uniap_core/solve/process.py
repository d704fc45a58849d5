"""Worker processes seen from the driver: started fresh, kept warm, killed at a deadline, replaced after a crash."""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .. import interrupts, warden
from ..errors import (
    MalformedAnswer,
    PluginError,
    SolverCrashed,
    SolverFailed,
    SolverHung,
    SolverOutOfMemory,
    UsageError,
)
from ..events import Emit, Note, silent
from .channel import LARGEST, Answer, Failed, Finished, Load, Probe, Report, SolverJob, decode_reply, receive, send
from .result import Stop

GRACE_S = 1.2
"""How long after its deadline a solver may take to stop by itself before it is killed."""

ENDING_S = 0.5
"""How long a process whose pipe is closed may take to end by itself: if it does not, it closed the pipe on purpose."""

MEMORY_WORDS = ("memoryerror", "bad_alloc", "out of memory", "cannot allocate", "no memory", "insufficient memory")


@dataclass(frozen=True)
class Death:
    """How a worker failed: the stop reason to report, and the error."""

    stop: Stop
    failure: SolverFailed


class Worker:
    """One process. Messages go down one pipe and come up another; its own output goes to a file."""

    def __init__(self) -> None:
        with interrupts.shielded():
            self._start()

    def _start(self) -> None:
        down_read, self._down = os.pipe()
        self._up, up_write = os.pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # A folder of its own: what a killed solver leaves behind goes with it.
        self._folder = warden.folder_of("uniap-worker-")
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        environment = dict(os.environ, PYTHONPATH=path, TMPDIR=self._folder)
        code = f"from uniap_core.solve.worker import main; main({down_read}, {up_write})"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=(down_read, up_write),
            env=environment,
            start_new_session=True,
        )
        warden.watch(group=self._process.pid)
        os.close(down_read)
        os.close(up_write)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._up, selectors.EVENT_READ)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, message: Load | SolverJob | Probe) -> None:
        """Send a message; a worker that is gone is noticed when its answer is awaited."""
        with contextlib.suppress(BrokenPipeError):
            send(self._down, message)

    def receive(self, deadline: float | None) -> Report | Finished | Answer | Failed | None:
        """The next message, or ``None`` if the worker died.

        Raises
        ------
        TimeoutError
            If the deadline (monotonic clock) passes first, before a message or within one.
        MalformedAnswer
            If what arrives is no message.
        """

        def wait() -> None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._selector.select(left):
                raise TimeoutError

        payload = receive(self._up, wait, LARGEST)
        return None if payload is None else decode_reply(payload)

    def close(self) -> int | None:
        """Kill the process and everything it started.

        Returns
        -------
        Its exit status (negative: a signal), or ``None`` if it still ran and was killed here.
        """
        with interrupts.shielded():
            return self._close()

    def _close(self) -> int | None:
        try:
            code = self._process.wait(ENDING_S if self._process.poll() is None else None)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._words = self.last_words()
        shutil.rmtree(self._folder, ignore_errors=True)
        warden.release(group=self._process.pid, folder=self._folder)
        self._output.close()
        self._selector.close()
        for fd in (self._down, self._up):
            os.close(fd)
        return code

    def last_words(self) -> str:
        """The end of what the process printed."""
        if self._output.closed:
            return self._words
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace").strip()


_lock = threading.Lock()
_idle: dict[str, list[Worker]] = {}
_owner = os.getpid()


def hire(target: str) -> Worker:
    """A worker that has imported ``target``, or is doing so: a warm one, or a new one."""
    global _owner
    with _lock:
        if _owner != os.getpid():
            # After a fork the parent's workers are not ours.
            _idle.clear()
            _owner = os.getpid()
        while _idle.get(target):
            worker = _idle[target].pop()
            if worker.alive:
                return worker
            worker.close()
    worker = Worker()
    worker.send(Load(target))
    return worker


def release(target: str, worker: Worker) -> None:
    """Keep a worker that did its job for the next one."""
    with _lock:
        _idle.setdefault(target, []).append(worker)


@atexit.register
def dismiss() -> None:
    """End all idle workers."""
    with _lock:
        workers = [w for group in _idle.values() for w in group] if _owner == os.getpid() else []
        _idle.clear()
    for worker in workers:
        worker.close()


def run(worker: Worker, job: SolverJob, report: Callable[[Report], None]) -> Finished | Death:
    """Run one job to its answer or to the worker's end. The worker is released, or dead, afterwards.

    Parameters
    ----------
    worker
        From :func:`hire` with the job's target.
    job
        What to solve.
    report
        Called with each report as it arrives.

    Raises
    ------
    UsageError
        If the plugin refuses what it was asked, in its own words.
    """
    worker.send(job)
    deadline = None if job.deadline is None else job.deadline + GRACE_S
    capped = job.request.memory_limit_bytes is not None
    try:
        while isinstance(message := worker.receive(deadline), Report | Answer):
            if isinstance(message, Report):  # an answer says that the target was loaded
                report(message)
        if isinstance(message, Finished):
            release(job.target, worker)
            return message
        code = worker.close()
    except MalformedAnswer as error:
        worker.close()
        return Death(Stop.CRASH, error)
    except TimeoutError:
        worker.close()
        cause = f"the solver did not stop within {GRACE_S:g} s of its time limit and was killed"
        return Death(Stop.TIME_LIMIT, SolverHung(cause, "report it to the plugin's author; the other solvers go on"))
    except BaseException:
        worker.close()
        raise
    return _failed(message, capped) if isinstance(message, Failed) else _died(worker, code, capped)


def probe(target: str, *arguments: str, limit_s: float = 30.0, who: str = "", emit: Emit = silent) -> str:
    """Call a plugin's probe, or another function whose code may hang or crash, in a worker.

    Parameters
    ----------
    target
        ``module:function``; it returns a text that is not empty.
    arguments
        What it is called with.
    who
        What messages call it.
    emit
        Hears what it printed.

    Raises
    ------
    PluginError
        With the probe's words, if it raises, dies or takes longer than the limit.
    """
    who = who or target
    worker = hire(target)
    worker.send(Probe(target, arguments))
    deadline = time.monotonic() + limit_s
    try:
        while True:
            message = worker.receive(deadline)
            if isinstance(message, Answer) and message.text:
                if words := worker.last_words():
                    emit(Note(0.0, words))
                release(target, worker)
                return message.text
            if isinstance(message, Failed):
                raise PluginError(f"{who}: {message.kind}: {message.message}", message.fix)
            if message is None:
                raise PluginError(f"{who}: its process died: {worker.last_words()[-300:]}")
    except MalformedAnswer as error:
        worker.close()
        raise PluginError(f"{who}: {error.cause}", error.fix) from None
    except TimeoutError:
        worker.close()
        raise PluginError(f"{who} did not answer within {limit_s:g} s") from None
    except BaseException:
        worker.close()
        raise


def _failed(message: Failed, capped: bool) -> Death:
    if message.kind == UsageError.__name__:
        raise UsageError(message.message, message.fix)
    words = f"{message.kind}: {message.message}"
    if message.kind == "MemoryError" or (capped and _about_memory(words)):
        return _out_of_memory(words)
    if message.kind == MalformedAnswer.__name__:
        return Death(Stop.CRASH, MalformedAnswer(message.message, message.fix))
    where = " ".join(line.strip() for line in message.trace.strip().splitlines()[-3:-1])
    return Death(Stop.CRASH, SolverCrashed(f"{words} [{where}]" if where else words, message.fix))


def _died(worker: Worker, code: int | None, capped: bool) -> Death:
    words = worker.last_words()[-300:]
    if code is None:
        return Death(Stop.CRASH, SolverCrashed(f"the solver's process closed its pipe and ran on. {words}".strip()))
    known = {-number: number.name for number in signal.Signals}
    name = known.get(code, f"signal {-code}" if code < 0 else f"exit status {code}")
    if code == -signal.SIGKILL or (capped and (_about_memory(words) or code in (-signal.SIGABRT, -signal.SIGSEGV))):
        return _out_of_memory(f"its process ended with {name}. {words}")
    return Death(Stop.CRASH, SolverCrashed(f"the solver's process ended with {name}. {words}".strip()))


def _about_memory(words: str) -> bool:
    return any(phrase in words.lower() for phrase in MEMORY_WORDS)


def _out_of_memory(words: str) -> Death:
    fix = "raise the memory limit, or solve on a larger machine"
    return Death(Stop.MEMORY_LIMIT, SolverOutOfMemory(f"the solver ran out of memory: {words}".strip(), fix))
