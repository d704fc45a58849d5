"""One function per way of being wrong."""

import itertools
import os
import sys
import time

from uniap_core.api import Assignment, Emit, Found, Problem, RawResult, SolveRequest, Stop


def probe() -> str:
    return "broken 0.0.1"


def _feasible(problem: Problem) -> list[tuple[float, Assignment]]:
    """All feasible assignments, best first."""
    stages = itertools.product(range(problem.depth), repeat=len(problem.layers))
    strategies = list(itertools.product(*(range(len(layer.strategies)) for layer in problem.layers)))
    every = [Assignment(i, k) for i in stages for k in strategies]
    valued = [(problem.evaluate(a), a) for a in every]
    return sorted(((v.objective_s, a) for v, a in valued if v.feasible), key=lambda pair: pair[0])


def crash(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    raise ZeroDivisionError("the well is dry")


def death(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[-1]
    emit(Found(t_s=0.0, objective_s=objective_s, assignment=assignment))
    os.abort()


def hang(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[-1]
    emit(Found(t_s=0.0, objective_s=objective_s, assignment=assignment))
    while True:
        time.sleep(3600)


def hungry(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    eaten = []
    while True:
        eaten.append(bytearray(2**24))


def infeasible(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    reverse = tuple(problem.depth - 1 - i for i in _feasible(problem)[0][1].stage)
    return RawResult(stop=Stop.TIME_LIMIT, assignment=Assignment(reverse, (0,) * len(reverse)))


def loose(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[0]
    return RawResult(stop=Stop.OPTIMAL, assignment=assignment, bound_s=objective_s / 2)


def malformed(problem: Problem, request: SolveRequest, emit: Emit) -> dict:
    return {"stop": "optimal"}


def garbled(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    return RawResult(stop=Stop.OPTIMAL, assignment=_feasible(problem)[0][1], bound_s="soon")


def objective(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[0]
    return RawResult(stop=Stop.TIME_LIMIT, assignment=assignment, objective_s=objective_s / 2)


def optimal(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    return RawResult(stop=Stop.OPTIMAL, assignment=_feasible(problem)[0][1])


def pessimist(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[0]
    emit(Found(t_s=0.0, objective_s=objective_s, assignment=assignment))
    return RawResult(stop=Stop.INFEASIBLE)


def printer(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    print("Licensed to nobody. Have a nice day.")
    os.write(1, b"straight to the descriptor\n")
    print("and a warning", file=sys.stderr)
    objective_s, assignment = _feasible(problem)[0]
    return RawResult(stop=Stop.OPTIMAL, assignment=assignment, bound_s=objective_s)


def bound(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    objective_s, assignment = _feasible(problem)[0]
    return RawResult(stop=Stop.TIME_LIMIT, assignment=assignment, bound_s=objective_s * 1.1)


def smug(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    if not (found := _feasible(problem)):
        return RawResult(stop=Stop.INFEASIBLE)
    objective_s, assignment = found[-1]
    return RawResult(stop=Stop.OPTIMAL, assignment=assignment, bound_s=objective_s)


def mute(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    return RawResult(stop=Stop.INFEASIBLE)
