"""Cross-check: nothing better than the plan may exist beyond its gap, says a second solver or exhaustion.

The verifier imports no solver: whoever calls brings the function that solves again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from ..problem import Assignment, Problem
from .answer import Answer, verify_result
from .exhaust import TooLarge, exhaust
from .verdict import Check, Verdict, conclude

SLACK = 1e-6
"""Relative tolerance of floating-point solvers: what is better by less is no better."""

Resolve = Callable[[Problem, float], Answer]
"""``resolve(problem, cutoff_s)``: solve for an objective strictly below the cutoff."""


def with_checks(verdict: Verdict, checks: Sequence[Check]) -> Verdict:
    """The verdict with further checks on the same subject."""
    return msgspec.structs.replace(verdict, checks=(*verdict.checks, *checks))


def cross_check(
    posed: Problem,
    objective_s: float,
    resolve: Resolve,
    *,
    solver: str,
    gap: float = 1e-9,
    budget: int = 100_000,
) -> list[Check]:
    """Look for something better than an objective, by another solver and, if it is small, by exhaustion.

    Parameters
    ----------
    posed
        The problem of the candidate.
    objective_s
        What was found, or ``inf`` to test a claim of infeasibility.
    resolve
        Solves again under a cutoff.
    solver
        Its name, for the evidence.
    gap
        Relative gap of the plan: only what is better by more than this counts.
    budget
        Steps of the verifier's own exhaustive search (about a second); it is left out if they do not suffice.

    Returns
    -------
    list of Check
        ``cross-check`` and, for small problems, ``exhaustion``.
    """
    cutoff = objective_s * (1 - max(gap, SLACK)) if math.isfinite(objective_s) else math.inf
    checks = [_by_solver(posed, cutoff, resolve(posed, cutoff), solver)]
    exhausted = by_exhaustion(posed, cutoff, budget)
    return checks if exhausted is None else [*checks, exhausted]


def _by_solver(posed: Problem, cutoff: float, answer: Answer, solver: str) -> Check:
    faults = []
    found, bound_s, stop = answer.assignment, answer.bound_s, str(answer.stop)
    fix = "one of the two solvers is wrong: solve with a third, and report the problem file"
    if found is not None and (better := _worth(posed, found)) is not None and better < cutoff:
        faults.append(f"{solver} found {better:.9g} s, better than {cutoff:.9g} s: {_says(posed, found)}")
    elif stop not in ("optimal", "infeasible") and (bound_s is None or bound_s < cutoff):
        known = "no bound" if bound_s is None else f"a bound of {bound_s:.9g} s"
        faults.append(f"{solver} did not decide it (stop: {stop}, {known}; wanted {cutoff:.9g} s)")
        fix = "give it more time, or cross-check with another solver"
    elif stop == "optimal" and found is not None and _worth(posed, found) is None:
        faults.append(f"{solver} answers with an assignment that does not verify")
    what = f"below {cutoff:.9g} s" if math.isfinite(cutoff) else "feasible"
    return conclude("cross-check", faults, f"{solver} proves that nothing {what} exists (stop: {stop})", fix)


def _worth(posed: Problem, found: Assignment) -> float | None:
    """The objective of an assignment by the verifier's arithmetic, or None if it is not feasible."""
    claim = _Claim(posed.hash, found)
    checks = {check.name: check for check in verify_result(posed, claim).checks}
    if any(not check.passed for name, check in checks.items() if name != "objective"):
        return None
    return float(checks["objective"].data["computed_s"])


class _Claim(msgspec.Struct, frozen=True):
    """An assignment without any claim about it."""

    problem: str
    assignment: Assignment | None
    stop: str = "time_limit"
    objective_s: float | None = None
    bound_s: float | None = None
    gap: float | None = None


def _says(posed: Problem, found: Assignment) -> str:
    rows = [
        f"{layer.name} on stage {i} with {layer.strategies[k]}"
        for layer, i, k in zip(posed.layers, found.stage, found.strategy, strict=True)
    ]
    return ", ".join(rows[:4]) + (", ..." if len(rows) > 4 else "")


def by_exhaustion(posed: Problem, cutoff: float, budget: int) -> Check | None:
    """Visit every assignment that may be better than a cutoff, or None if there are too many."""
    try:
        found, steps = exhaust(posed, cutoff, budget)
    except TooLarge:
        return None
    faults = []
    if found is not None:
        worth = _worth(posed, found)
        faults.append(f"there is one with {worth} s, below {cutoff:.9g} s: {_says(posed, found)}")
    evidence = f"every assignment that may be better was visited ({steps} steps): there is none"
    return conclude("exhaustion", faults, evidence, "the plan is not optimal: report the problem file")
