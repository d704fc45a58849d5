"""Holding a solver's claims against the problem: nothing it says is believed, each false claim has its own error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import FalseInfeasible, InfeasibleAnswer, UnprovenOptimum, WrongBound, WrongObjective
from ..problem import Assignment, Problem
from .request import SolveRequest
from .result import Stop

TOLERANCE = 1e-6
"""Relative precision at which claims are held against the evaluation."""

NUMERIC = 1e-3
"""A floating-point solver whose claims are off by less than this has numerical trouble; by more, it lies."""


@dataclass(frozen=True)
class Claim:
    """What a solver says, in seconds."""

    solver: str
    exact: bool
    rounded: bool
    """True if it solved a program in floating point or integers, so that small deviations are no lie."""
    stop: Stop
    assignment: Assignment | None
    objective_s: float | None
    bound_s: float | None


@dataclass(frozen=True)
class Judgement:
    """What is true of a claim."""

    stop: Stop
    assignment: Assignment | None
    objective_s: float | None
    bound_s: float | None
    note: str = ""


def judge(problem: Problem, request: SolveRequest, claim: Claim, best: Assignment | None) -> Judgement:
    """Check a claim and state what is proven.

    Parameters
    ----------
    problem, request
        What was asked.
    claim
        What the solver says at its end.
    best
        The best feasible assignment that it reported on the way, already evaluated, if any.

    Raises
    ------
    InfeasibleAnswer, WrongObjective, WrongBound, UnprovenOptimum, FalseInfeasible
        For each kind of claim that does not survive.
    """
    found = [(problem.evaluate(best).objective_s, best)] if best is not None else []
    if claim.assignment is not None:
        found.append((_check_point(problem, claim), claim.assignment))
    objective, assignment = min(found, key=lambda pair: pair[0], default=(None, None))
    if claim.stop is Stop.INFEASIBLE:
        return _judge_infeasible(problem, request, claim, objective)
    stop: Stop = claim.stop
    note = ""
    if claim.rounded and objective is not None and _slightly_above(claim.bound_s, objective):
        note = f"its bound {claim.bound_s:.9g} s is above the objective {objective:.9g} s, and was dropped"
        return Judgement(Stop.NUMERIC if stop.proven else stop, assignment, objective, None, note)
    bound = _check_bound(claim, objective)
    if stop is Stop.OPTIMAL:
        stop, note = _check_optimal(request, claim, objective, bound)
    if request.cutoff_s is not None and objective is not None and objective >= request.cutoff_s:
        # Not of interest; and if nothing better exists, that is the proof that was asked for.
        proven = bound is not None and bound >= request.cutoff_s * (1 - TOLERANCE)
        stop = Stop.INFEASIBLE if proven else stop
        return Judgement(stop, None, None, request.cutoff_s if proven else bound, note)
    return Judgement(stop, assignment, objective, bound, note)


def _slightly_above(bound: float | None, objective: float) -> bool:
    return bound is not None and objective * (1 + TOLERANCE) < bound <= objective * (1 + NUMERIC)


def _check_point(problem: Problem, claim: Claim) -> float:
    assert claim.assignment is not None
    evaluation = problem.evaluate(claim.assignment)
    if not evaluation.feasible:
        raise InfeasibleAnswer(
            f"{claim.solver} returned an infeasible assignment: {evaluation.violations[0]}",
            "do not use this solver until its author has corrected it",
        )
    objective = evaluation.objective_s
    if claim.objective_s is not None:
        # A program's epigraph columns may be slack, so a higher claim is no lie there.
        off = objective - claim.objective_s if claim.rounded else abs(objective - claim.objective_s)
        if not off <= (NUMERIC if claim.rounded else TOLERANCE) * objective:
            raise WrongObjective(
                f"{claim.solver} says its assignment takes {claim.objective_s:.9g} s; it takes {objective:.9g} s",
                "do not use this solver until its author has corrected it",
            )
    return objective


def _check_bound(claim: Claim, objective: float | None) -> float | None:
    bound = claim.bound_s
    if bound is None or (math.isinf(bound) and bound < 0):
        return None
    if math.isnan(bound) or (objective is not None and bound > objective * (1 + TOLERANCE)):
        raise WrongBound(
            f"{claim.solver} says that no assignment takes less than {bound:.9g} s; one takes {objective:.9g} s"
            if objective is not None
            else f"{claim.solver} gives {bound} as its lower bound",
            "do not use this solver until its author has corrected it",
        )
    if math.isinf(bound):
        return None
    return max(0.0, bound if objective is None else min(bound, objective))


def _check_optimal(
    request: SolveRequest, claim: Claim, objective: float | None, bound: float | None
) -> tuple[Stop, str]:
    gap = None
    if objective is not None and bound is not None:
        gap = (objective - bound) / objective if objective > 0 else 0.0
    # Solvers divide by the objective or by the bound: at the limit itself that makes a difference.
    if gap is not None and gap <= 1.01 * max(request.gap, TOLERANCE) and claim.exact:
        return Stop.OPTIMAL, ""
    if gap is not None and claim.rounded and claim.exact and gap <= request.gap + NUMERIC:
        return Stop.NUMERIC, f"called optimal, but {gap:.1e} of the objective is not proven"
    if not claim.exact:
        why = "it is not an exact solver"
    elif objective is None:
        why = "it has no assignment"
    else:
        why = "it has no lower bound" if gap is None else f"its bound {bound:.9g} s leaves {objective:.9g} s unproven"
    raise UnprovenOptimum(f"{claim.solver} says that it is optimal, but {why}", "do not trust its other claims either")


def _judge_infeasible(problem: Problem, request: SolveRequest, claim: Claim, objective: float | None) -> Judgement:
    known = [] if objective is None else [objective]
    if request.warm_start is not None:
        known.append(problem.evaluate(request.warm_start).objective_s)
    limit = math.inf if request.cutoff_s is None else request.cutoff_s
    if known and min(known) < limit * (1 - TOLERANCE):
        what = "infeasible" if request.cutoff_s is None else f"without an assignment below {limit:.9g} s"
        raise FalseInfeasible(
            f"{claim.solver} says the problem is {what}, but one takes {min(known):.9g} s",
            "do not use this solver until its author has corrected it",
        )
    return Judgement(Stop.INFEASIBLE, None, None, request.cutoff_s)
