"""The unified optimization process: every (pp, micro_batches) candidate priced, bounded, solved or proven useless.

Candidates are visited in the order of a certified lower bound. The best time so far is the cutoff of every later
solve, and a candidate whose bound reaches it is skipped with that bound as its proof. Source: UniAP, section 3.4,
which solves every candidate afresh; cutoffs, bounds and the proof record are ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .. import diagnose, registry
from ..costs import CostTables
from ..errors import BadValue, Infeasible, NotEnoughTime, SolverFailed, UniapError
from ..events import Emit, Note, Progress, silent
from ..plan import Plan, seal
from ..problem import Assignment, Problem
from ..proposal import CandidateProof, Outcome, propose
from ..solve.driver import solve
from ..solve.request import SolveRequest
from ..solve.result import Result, Stop
from ..verify import verify
from .pricing import Priced, bounded
from .request import TIE, Search, candidates

FALLBACKS = ("highs", "scip", "cpsat", "cbc", "gurobi")
"""Who gets a candidate that the chosen solver calls unsupported: the first of these that is installed."""


@dataclass(frozen=True)
class Sweep:
    """The outcome: plans by increasing time per iteration (the first is the answer), and the proof."""

    plans: tuple[Plan, ...]
    proof: tuple[CandidateProof, ...]
    seconds: float
    interrupted: bool = False

    @property
    def plan(self) -> Plan:
        """The best plan."""
        return self.plans[0]

    @property
    def proven(self) -> bool:
        """True if no candidate is open."""
        return all(record.outcome != "limit" for record in self.proof)


@dataclass(frozen=True)
class _Attempt:
    """What solving a candidate gave: the best assignment over its variants and a bound over all of them."""

    priced: Priced
    outcome: Outcome
    bound_s: float | None
    objective_s: float | None = None
    assignment: Assignment | None = None
    tables: CostTables | None = None
    solver: str = ""
    seconds: float = 0.0
    note: str = ""


def sweep(search: Search, emit: Emit = silent) -> Sweep:
    """Find the best plan over all candidates, with the proof.

    Ctrl-C or the time limit ends the sweep early: the best plan so far is verified and returned, and open
    candidates are recorded with their bounds.

    Raises
    ------
    Infeasible
        If no candidate fits, saying what falls short and what would help.
    NotEnoughTime
        If the time ran out before any plan was found.
    Unverified
        If the verifier rejects the answer (a defect of a solver or a cost model).
    """
    started = time.perf_counter()
    priced: list[Priced] = []
    attempts: list[_Attempt] = []
    interrupted = False
    try:
        for candidate in (todo := candidates(search)):
            priced.append(bounded(search, candidate))
            emit(Progress(since(started), len(priced), len(todo), f"pricing {candidate.name}"))
        for attempt in _solve_all(search, priced, started, emit):
            attempts.append(attempt)
    except KeyboardInterrupt:
        interrupted = True
    done = {id(attempt.priced) for attempt in attempts}
    attempts += [_unsolved(p) for p in priced if id(p) not in done]
    proof = tuple(_record(attempt) for attempt in sorted(attempts, key=_position))
    plans = _plans(search, attempts, proof)
    if not plans:
        raise _no_plan(search, attempts, interrupted)
    return Sweep(plans, proof, since(started), interrupted)


# --- solving ----------------------------------------------------------------------------------------------------


def _solve_all(search: Search, priced: list[Priced], started: float, emit: Emit) -> Iterator[_Attempt]:
    """Attempts in the order of the bounds; a wave of ``workers`` candidates shares one cutoff."""
    queue = sorted((p for p in priced if p.bound_s < math.inf), key=lambda p: p.bound_s)
    best: list[float] = []
    done = len(priced) - len(queue)
    while queue:
        cutoff = best[search.top - 1] if len(best) >= search.top else math.inf
        wave, queue = queue[: search.workers], queue[search.workers :]
        for attempt in _solve_wave(search, wave, cutoff, started, emit):
            if attempt.objective_s is not None:
                best = sorted([*best, attempt.objective_s])
            done += 1
            bound = min([p.bound_s for p in queue] + best[:1])
            label = f"{attempt.priced.candidate.name}: {attempt.outcome}"
            emit(Progress(since(started), done, len(priced), label, best[0] if best else None, bound))
            yield attempt


def _solve_wave(search: Search, wave: list[Priced], cutoff: float, started: float, emit: Emit) -> Iterator[_Attempt]:
    open_ones = []
    for priced in wave:
        if priced.bound_s >= cutoff * (1 - TIE):
            yield _Attempt(priced, "pruned", priced.bound_s, note="by its lower bound")
        else:
            open_ones.append(priced)
    left = None if search.time_limit_s is None else search.time_limit_s - since(started)
    if left is not None and left <= 0:
        yield from (_Attempt(p, "limit", p.bound_s, note="time limit") for p in open_ones)
    elif search.workers == 1 or len(open_ones) <= 1:
        yield from (_attempt(search, p, cutoff, left, emit) for p in open_ones)
    else:
        from joblib import Parallel, delayed

        pool = Parallel(n_jobs=search.workers, return_as="generator")
        yield from pool(delayed(_attempt)(search, p, cutoff, left) for p in open_ones)


def _attempt(
    search: Search, priced: Priced, cutoff: float, time_limit_s: float | None, emit: Emit = silent
) -> _Attempt:
    """Solve one candidate: its variants one after the other, each with the best so far as its cutoff."""
    started = time.perf_counter()
    best: tuple[Result, CostTables] | None = None
    bounds: list[float] = []
    limits: list[str] = []
    for tables in priced.variants:
        ceiling = best[0].objective_s if best is not None and best[0].objective_s is not None else cutoff
        request = SolveRequest(
            time_limit_s=time_limit_s, gap=search.gap, cutoff_s=None if math.isinf(ceiling) else ceiling
        )
        result = _solve(search.solver, tables.problem, request, emit)
        if result.assignment is not None and result.objective_s is not None and result.objective_s < ceiling:
            best = (result, tables)
        if result.stop is Stop.INFEASIBLE:
            bounds.append(math.inf if result.bound_s is None else result.bound_s)
        else:
            bounds.append(max(priced.bound_s, result.bound_s if result.bound_s is not None else 0.0))
            if result.stop is not Stop.OPTIMAL:
                limits.append(f"{result.solver}: {result.stop} {result.raw_status}".strip())
    bound = min(bounds)
    outcome: Outcome
    if limits:
        outcome = "limit"
    elif best is not None:
        outcome = "solved"
    else:
        outcome = "pruned" if bound < math.inf else "infeasible"
    return _Attempt(
        priced,
        outcome,
        bound if bound < math.inf else None,
        objective_s=best[0].objective_s if best else None,
        assignment=best[0].assignment if best else None,
        tables=best[1] if best else None,
        solver=best[0].solver if best else search.solver,
        seconds=since(started),
        note=limits[0] if limits else {"pruned": "by the cutoff", "infeasible": "no assignment fits"}.get(outcome, ""),
    )


def _solve(solver: str, problem: Problem, request: SolveRequest, emit: Emit) -> Result:
    result = solve(problem, solver, request, emit)
    if result.stop is not Stop.UNSUPPORTED:
        return result
    for name in FALLBACKS:
        if name == solver or name not in registry.names("solver"):
            continue
        if registry.missing(registry.load("solver", name).modules):
            continue
        emit(Note(0.0, f"{solver} does not support {problem.name} ({result.raw_status}); {name} solves it"))
        return solve(problem, name, request, emit)
    raise SolverFailed(
        f"{solver} does not support {problem.name}: {result.raw_status}",
        "install a MILP backend: pip install 'uniap[highs]'",
    )


# --- what came of it --------------------------------------------------------------------------------------------


def _unsolved(priced: Priced) -> _Attempt:
    if priced.impossible:
        return _Attempt(priced, "impossible", None, note=priced.impossible)
    if priced.shortage is not None:
        return _Attempt(priced, "infeasible", None, note=priced.shortage.sentence())
    if math.isinf(priced.bound_s):
        return _Attempt(priced, "infeasible", None, note="proven by its lower bound")
    return _Attempt(priced, "limit", priced.bound_s, note="interrupted")


def _record(attempt: _Attempt) -> CandidateProof:
    candidate = attempt.priced.candidate
    return CandidateProof(
        pp=candidate.pp,
        micro_batches=candidate.micro_batches,
        outcome=attempt.outcome,
        bound_s=attempt.bound_s,
        objective_s=attempt.objective_s,
        seconds=attempt.priced.seconds + attempt.seconds,
        solver=attempt.solver,
        note=attempt.note,
    )


def _position(attempt: _Attempt) -> tuple[int, int]:
    return attempt.priced.candidate.pp, attempt.priced.candidate.micro_batches


def _plans(search: Search, attempts: list[_Attempt], proof: tuple[CandidateProof, ...]) -> tuple[Plan, ...]:
    found = sorted(
        (a for a in attempts if a.assignment is not None), key=lambda a: (a.objective_s or 0.0, _position(a))
    )
    bounds = [r.bound_s for r in proof if r.bound_s is not None]
    plans = []
    for attempt in found[: search.top]:
        if attempt.tables is None or attempt.assignment is None or attempt.objective_s is None:
            continue
        proposal = propose(
            search.graph,
            search.cluster,
            search.space,
            attempt.tables,
            attempt.assignment,
            solver=attempt.solver,
            bound_s=min([*bounds, attempt.objective_s]) if bounds else None,
            pins=search.pins.texts,
        )
        plans.append(seal(proposal, proof, verify(proposal, attempt.tables)))
    return tuple(plans)


def _no_plan(search: Search, attempts: list[_Attempt], interrupted: bool) -> UniapError:
    open_ones = [a for a in attempts if a.outcome == "limit"]
    if open_ones:
        why = "interrupted" if interrupted else open_ones[0].note
        return NotEnoughTime(
            f"no plan was found before the end ({why}); {len(open_ones)} candidates are open",
            "give more time (--time-limit) or another solver",
        )
    title = f"{search.graph.name} on {search.cluster.name} with batch {search.training.global_batch}"
    short = [(a.priced.shortage, a.priced.variants) for a in attempts if a.priced.shortage is not None]
    if short:
        closest, variants = min(short, key=lambda pair: pair[0].factor)
        helps = "; or ".join(diagnose.remedies(variants[0], closest))
        return Infeasible(f"{title}: no plan fits the memory; {closest.sentence()}", helps)
    reasons = list(dict.fromkeys(a.note for a in attempts if a.note))
    if all(a.outcome == "impossible" for a in attempts):
        return BadValue(f"{title}: no candidate is possible: {reasons[0]}", "change the batch, the devices or the pins")
    return Infeasible(f"{title}: no plan fits: {'; '.join(reasons[:2])}", "more memory, devices, or fewer pins")


def since(started: float) -> float:
    """Seconds since a reading of the performance counter."""
    return time.perf_counter() - started
