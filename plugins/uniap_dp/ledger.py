"""What is known while a problem is being solved: the incumbent, the bound, the clock."""

from __future__ import annotations

import math
import time

from uniap_core.api import Assignment, Emit, Incumbent, Problem, SolveRequest

ROUNDING = 1e-12
"""Relative; plans nearer than this are as good as one another."""


class OutOfTime(Exception):
    """The time limit is reached."""


class OutOfNodes(Exception):
    """The node budget is spent; what was proven so far stays true."""


class Ledger:
    """The incumbent, the bound, the clock; whoever finds better tells it here."""

    def __init__(self, problem: Problem, request: SolveRequest, emit: Emit) -> None:
        self.problem, self.request, self.emit = problem, request, emit
        self.began = time.perf_counter()
        self.objective = math.inf
        self.assignment: Assignment | None = None
        self.bound = 0.0
        self.cutoff = math.inf if request.cutoff_s is None else request.cutoff_s
        # What is proven is less than the goal by a rounding.
        self.margin = request.gap - 4 * ROUNDING if request.gap > 1e-8 else ROUNDING

    @property
    def goal(self) -> float:
        """Only plans at most this long matter: below the cutoff, and below the incumbent by more than the gap."""
        better = self.objective * (1 - self.margin) if self.objective < math.inf else math.inf
        return min(better, self.cutoff * (1 - ROUNDING))

    def offer(self, assignment: Assignment) -> None:
        """Take an assignment if it is feasible and better than the incumbent."""
        value = self.problem.evaluate(assignment)
        if value.feasible and value.objective_s < self.objective:
            self.objective, self.assignment = value.objective_s, assignment
            self._tell()

    def prove(self, bound: float) -> None:
        """Record that no plan is shorter than ``bound``."""
        bound = min(bound, self.objective)
        if bound > self.bound:
            self.bound = bound
            self._tell()

    def check(self) -> None:
        """Raise :class:`OutOfTime` past the limit."""
        limit = self.request.time_limit_s
        if limit is not None and time.perf_counter() - self.began > limit:
            raise OutOfTime

    def _tell(self) -> None:
        objective = self.objective if self.assignment is not None else None
        bound = self.bound if 0 < self.bound < math.inf else None
        self.emit(Incumbent(time.perf_counter() - self.began, objective, bound))
