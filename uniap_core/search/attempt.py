"""One candidate solved: its variants one after the other, each with the best so far as its cutoff."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from .. import diagnose, registry
from ..errors import SolverFailed, WrongBound
from ..events import Emit, Note, silent
from ..posing import pose
from ..problem import Assignment, Problem
from ..proposal import Outcome
from ..solve.claims import TOLERANCE
from ..solve.driver import solve
from ..solve.request import SolveRequest
from ..solve.result import Result, Stop
from .pricing import PricedCandidate, Variant, lower_bound
from .request import NEAR, TIE, Search

FALLBACKS = ("highs", "scip", "cpsat", "cbc", "gurobi")
"""Who gets a candidate that the chosen solver calls unsupported: the first of these that is installed."""

NO_FASTER = f"no more than {NEAR:.1%} faster than the best, by its lower bound"

VARIANTS = 32
"""How many variants are asked what they lack."""


@dataclass(frozen=True)
class Attempt:
    """What came of a candidate: the best assignment over its variants and a bound over all of them.

    Attributes
    ----------
    bound_s
        Proven lower bound, or ``None`` if infeasible or not even priced.
    variant
        What the assignment is of.
    interrupted
        True if the user stopped the solver.
    shortage
        Where memory falls short in the closest variant, if nothing fits.
    """

    priced: PricedCandidate
    outcome: Outcome
    bound_s: float | None
    objective_s: float | None = None
    assignment: Assignment | None = None
    variant: Variant | None = None
    solver: str = ""
    seconds: float = 0.0
    note: str = ""
    interrupted: bool = False
    shortage: diagnose.Shortage | None = None


def worthwhile_s(priced: PricedCandidate, cutoff_s: float) -> float:
    """What a plan of a candidate must take less than, to be worth a solve where the best known takes ``cutoff_s``.

    Candidates with chunks are many and nearly alike: of those only what is faster by more than ``NEAR``.
    """
    return cutoff_s * (1 - (NEAR if priced.candidate.vpp > 1 else TIE))


def attempt(
    search: Search, priced: PricedCandidate, cutoff_s: float, time_limit_s: float | None, emit: Emit = silent
) -> Attempt:
    """Solve one candidate.

    Parameters
    ----------
    priced
        The candidate.
    cutoff_s
        Only better plans are of interest, of candidates with chunks those that are worth it (:func:`worthwhile_s`);
        ``inf`` for any.
    time_limit_s
        Wall seconds left for all variants together.
    """
    started = time.perf_counter()
    best: tuple[Result, Variant] | None = None
    ceiling, bounds, stopped = cutoff_s, [math.inf], ""
    interrupted = False
    for variant in priced.variants:
        bound = variant.bound_s
        late = time_limit_s is not None and time.perf_counter() - started > time_limit_s
        worth = worthwhile_s(priced, ceiling)
        if variant.chosen is not None and bound < worth and not late:
            bound = max(bound, _sharpened(search, variant))
        if bound >= worth:
            bounds.append(bound)
            continue
        left = None if time_limit_s is None else time_limit_s - (time.perf_counter() - started)
        if left is not None and left <= 0:
            stopped = stopped or f"{search.solver}: no time was left"
            bounds += [v.bound_s for v in priced.variants]
            break
        result = _solve(search, variant, worth if priced.candidate.vpp > 1 else ceiling, left, emit)
        if result.objective_s is not None and result.objective_s < variant.bound_s * (1 - TOLERANCE):
            raise WrongBound(
                f"the bound of solver {search.solver!r} says that {pose(variant.tables).name} takes no less than "
                f"{variant.bound_s:.9g} s; an assignment takes {result.objective_s:.9g} s",
                "do not use this solver until its author has corrected it",
            )
        if result.assignment is not None and result.objective_s is not None and result.objective_s < ceiling:
            best, ceiling = (result, variant), result.objective_s
        bounds.append(_bound(variant, result))
        if not result.stop.proven:
            stopped = stopped or f"{result.solver}: {result.stop} {result.raw_status}".strip()
        if result.stop is Stop.INTERRUPTED:
            interrupted = True
            bounds += [v.bound_s for v in priced.variants]
            break
    bound = min(bounds)
    outcome: Outcome
    if stopped:
        outcome = "limit"
    elif best is not None:
        outcome = "solved"
    elif bound < cutoff_s * (1 - TIE):
        outcome, stopped = "limit", NO_FASTER
    else:
        outcome = "pruned" if bound < math.inf else "infeasible"
    short = _closest(priced) if outcome == "infeasible" else None
    unfit = short.sentence() if short else "no assignment of strategies and stages fits the memory, proven by a solve"
    note = {"pruned": "by the cutoff", "infeasible": unfit, "limit": stopped}.get(outcome, "")
    return Attempt(
        priced,
        outcome,
        bound if bound < math.inf else None,
        objective_s=best[0].objective_s if best else None,
        assignment=best[1].assignment(best[0].assignment) if best and best[0].assignment else None,
        variant=best[1] if best else None,
        solver=best[0].solver if best else search.solver,
        seconds=time.perf_counter() - started,
        note=note,
        interrupted=interrupted,
        shortage=short,
    )


def _closest(priced: PricedCandidate) -> diagnose.Shortage | None:
    """The least shortage of the variants of lowest bound."""
    found = (diagnose.shortage(pose(variant.lean)) for variant in priced.variants[:VARIANTS])
    return min((short for short in found if short is not None), key=lambda short: short.factor, default=None)


def _sharpened(search: Search, variant: Variant) -> float:
    """The bound of a restriction's own tables: ``inf`` if they cannot fit."""
    short = diagnose.shortage(pose(variant.lean))
    return math.inf if short is not None and short.certain else lower_bound(search, pose(variant.lean))


def _bound(variant: Variant, result: Result) -> float:
    """What a result proves of its variant; infeasible without a cutoff proves everything."""
    if result.stop is Stop.INFEASIBLE:
        return math.inf if result.bound_s is None else result.bound_s
    return max(variant.bound_s, result.bound_s if result.bound_s is not None else 0.0)


def _solve(search: Search, variant: Variant, ceiling: float, time_limit_s: float | None, emit: Emit) -> Result:
    cutoff = None if math.isinf(ceiling) else ceiling
    problem = pose(variant.lean)
    gap = search.gap if problem.plain_placement else max(search.gap, NEAR)
    request = SolveRequest(time_limit_s=time_limit_s, gap=gap, cutoff_s=cutoff)
    result = solve(problem, search.solver, request, emit)
    if result.stop is not Stop.UNSUPPORTED or not problem.plain_placement:
        # Problems with chunks are many: one that the solver cannot take stays open, with its bound.
        return result
    name = _fallback(search.solver, problem, result.raw_status)
    emit(Note(0.0, f"{search.solver} does not support {problem.name} ({result.raw_status}); {name} solves it"))
    return solve(problem, name, request, emit)


def _fallback(solver: str, problem: Problem, reason: str) -> str:
    usable = {plugin.name for plugin in registry.working("solver")[0] if not registry.missing(plugin.modules)}
    for name in FALLBACKS:
        if name != solver and name in usable:
            return name
    raise SolverFailed(
        f"{solver} does not support {problem.name}: {reason}", "install a MILP backend: pip install 'uniap[highs]'"
    )
