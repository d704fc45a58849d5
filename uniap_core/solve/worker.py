"""The worker process: runs plugins' code, one job at a time, and reports over two pipes of its own.

Started as ``python -c "from uniap_core.solve.worker import main; main(in, out)"`` by :mod:`.process`. Standard
output and error go to a file of the driver's, so whatever a solver prints cannot reach the protocol. Reading runs
in a thread: when the driver goes away the pipe ends, and so does the process.
"""

from __future__ import annotations

import math
import os
import queue
import resource
import threading
import time
import traceback

import msgspec

from .. import problem as problems
from .. import registry
from ..errors import UniapError
from ..events import Event
from .channel import (
    Answer,
    Failed,
    Finished,
    Load,
    Request,
    SolverJob,
    decode_request,
    finished,
    receive,
    report_of,
    send,
)
from .result import Stop


def main(read_fd: int, write_fd: int) -> None:
    """Serve jobs until the driver closes the pipe."""
    inbox: queue.Queue[Request] = queue.Queue()
    threading.Thread(target=_listen, args=(read_fd, inbox), daemon=True).start()
    while True:
        message = inbox.get()
        reply: Answer | Finished | Failed
        try:
            reply = _serve(message, write_fd)
        except BaseException as error:
            trace = "".join(traceback.format_exception(error)[-3:])
            cause = error.cause if isinstance(error, UniapError) else str(error)
            fix = error.fix if isinstance(error, UniapError) else ""
            reply = Failed(type(error).__name__, cause, trace, fix)
        send(write_fd, reply)


def _listen(fd: int, inbox: queue.Queue[Request]) -> None:
    while (payload := receive(fd)) is not None:
        inbox.put(decode_request(payload))
    os._exit(0)


def _serve(message: Request, write_fd: int) -> Answer | Finished:
    function = registry.resolve(message.target)
    if isinstance(message, Load):
        return Answer("")
    if isinstance(message, SolverJob):
        return _solve(message, function, write_fd)
    return Answer(str(function(*message.arguments)))


def _solve(job: SolverJob, function: object, write_fd: int) -> Finished:
    assert callable(function)
    request, began = job.request, time.perf_counter()
    if job.deadline is not None:
        left = job.deadline - time.monotonic()
        if left <= 0:
            return Finished(stop=Stop.TIME_LIMIT, raw_status="no time was left to start the solver")
        request = msgspec.structs.replace(request, time_limit_s=left)

    best = {"objective": math.inf, "bound": -math.inf}

    def emit(event: Event) -> None:
        report = report_of(event)
        if report is None:
            return
        # Some solvers call back at every node: only what is new travels.
        objective = math.inf if report.objective is None else report.objective
        bound = -math.inf if report.bound is None else report.bound
        if report.note is not None or objective < best["objective"] or bound > best["bound"]:
            best.update(objective=min(objective, best["objective"]), bound=max(bound, best["bound"]))
            send(write_fd, report)

    subject = job.program if job.problem is None else problems.from_file(job.problem)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if request.memory_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (request.memory_limit_bytes, hard))
    try:
        raw = function(subject, request, emit)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return finished(raw, time.perf_counter() - began)
