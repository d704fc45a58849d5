"""Time, and the best assignment so far."""

from __future__ import annotations

import math
import time

from uniap_core.api import Assignment, Emit, Found, Problem, RawResult, SolveRequest, Stop

from .version import VERSION


class Clock:
    """Whether the time limit is reached."""

    def __init__(self, request: SolveRequest) -> None:
        self.began, self.limit_s = time.perf_counter(), request.time_limit_s

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    def over(self) -> bool:
        """True past the limit."""
        return self.limit_s is not None and self.elapsed() > self.limit_s


class Ledger:
    """Assignments as they are offered: the best that satisfies every constraint, priced by the problem itself."""

    def __init__(self, problem: Problem, request: SolveRequest, emit: Emit) -> None:
        self.problem, self.emit, self.clock = problem, emit, Clock(request)
        self.objective_s, self.offered = math.inf, 0
        self.assignment: Assignment | None = None

    def offer(self, assignment: Assignment) -> None:
        """Take an assignment if it is feasible and better than the one held."""
        self.offered += 1
        value = self.problem.evaluate(assignment)
        if value.feasible and value.objective_s < self.objective_s:
            self.objective_s, self.assignment = value.objective_s, assignment
            self.emit(Found(self.clock.elapsed(), value.objective_s, None, assignment=assignment))

    def answer(self, note: str = "") -> RawResult:
        """What a heuristic may say: an assignment, or none, and never a proof (docs/decisions)."""
        over = self.clock.over()
        fits = "the best of them is returned" if self.assignment is not None else "none of them fits"
        return RawResult(
            stop=Stop.TIME_LIMIT if over else Stop.NODE_LIMIT,
            assignment=self.assignment,
            objective_s=self.objective_s if self.assignment is not None else None,
            raw_status=note or f"a heuristic's search space is used up: {self.offered} assignments, {fits}",
            version=VERSION,
            statistics={"assignments": self.offered},
        )
