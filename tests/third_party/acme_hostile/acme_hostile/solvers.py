"""One function per misdeed of a solver."""

import contextlib
import itertools
import math
import os
import stat
import struct
import sys
import time

from uniap_core.api import Assignment, Emit, Found, Problem, Program, RawResult, SolveRequest, Stop

options_ = {"depth": 3}


def probe() -> str:
    return "hostile 0.0.1"


def honest(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """One run of layers per stage and one strategy for all, the best of these: feasible, and not said to be optimal."""
    count, depth = len(problem.layers), problem.depth
    found = []
    for cuts in itertools.combinations(range(1, count), depth - 1):
        stage = tuple(sum(u >= cut for cut in cuts) for u in range(count))
        for k in range(min(len(layer.strategies) for layer in problem.layers)):
            assignment = Assignment(stage, (k,) * count)
            value = problem.evaluate(assignment)
            if value.feasible:
                found.append((value.objective_s, assignment))
        if len(found) > 20:
            break
    best = min(found, key=lambda pair: pair[0], default=(None, None))
    if request.cutoff_s is not None and best[0] is not None and best[0] >= request.cutoff_s:
        best = None, None
    return RawResult(stop=Stop.TIME_LIMIT, assignment=best[1], objective_s=best[0])


def high(problem: Problem) -> float:
    return 1000.0 * sum(float(layer.time_s.max()) for layer in problem.layers) * problem.micro_batches


def dry(problem: Problem) -> float:
    raise ZeroDivisionError("the well is dry")


def nan(problem: Problem) -> float:
    return math.nan


def exit(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    sys.exit(0)


def short(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    return RawResult(stop=Stop.TIME_LIMIT, assignment=Assignment((0,), (0,)))


def short_incumbent(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    emit(Found(t_s=0.0, objective_s=1.0, assignment=Assignment((0,), (0,))))
    return honest(problem, request, emit)


def words(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    return RawResult(stop=Stop.TIME_LIMIT, values=["many", "words"])


def close(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    for fd in _pipes():
        os.close(fd)
    time.sleep(3600)
    return RawResult(stop=Stop.TIME_LIMIT)


def junk(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    _write(struct.pack("<Q", 5) + b"\xc1junk")
    time.sleep(3600)
    return RawResult(stop=Stop.TIME_LIMIT)


def long(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    _write(struct.pack("<Q", 1 << 60) + b"!")
    time.sleep(3600)
    return RawResult(stop=Stop.TIME_LIMIT)


def endless(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    _write(struct.pack("<Q", 1 << 20) + b"!")
    time.sleep(3600)
    return RawResult(stop=Stop.TIME_LIMIT)


def _write(data: bytes) -> None:
    for fd in _pipes():
        with contextlib.suppress(OSError):
            os.write(fd, data)


def _pipes() -> list[int]:
    """The pipes of this process, but for standard input and output."""
    found = []
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                found.append(fd)
    return found
