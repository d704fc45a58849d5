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

from ..errors import NotEnoughTime, UniapError
from ..events import Emit, Progress, silent
from ..plan import Plan, seal
from ..proposal import CandidateProof, propose
from ..verify import verify
from .attempt import Attempt, attempt
from .considered import candidates
from .pricing import Priced, bounded
from .reasons import refusal
from .request import TIE, Search
from .turns import in_turn

NOT_PRICED = "interrupted before it was priced"


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

    def __repr__(self) -> str:
        known = "proven" if self.proven else "not proven"
        return f"<Sweep of {len(self.proof)} candidates, {known}, {self.seconds:.2f} s: {self.plan!r}>"


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
    todo = candidates(search)
    priced: list[Priced] = []
    attempts: list[Attempt] = []
    interrupted = False
    try:
        for candidate in todo:
            priced.append(bounded(search, candidate))
            emit(Progress(since(started), len(priced), len(todo), f"pricing {candidate.name}"))
        for tried in _solve_all(search, priced, started, emit):
            attempts.append(tried)
            if tried.interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
    priced += [Priced(candidate, impossible=NOT_PRICED) for candidate in todo[len(priced) :]]
    attempts = in_turn(search, attempts, priced)
    done = {tried.priced.candidate for tried in attempts}
    attempts += [_unsolved(p) for p in priced if p.candidate not in done]
    proof = tuple(_record(tried) for tried in sorted(attempts, key=_position))
    plans = _plans(search, attempts, proof)
    if not plans:
        raise _no_plan(search, attempts, interrupted)
    return Sweep(plans, proof, since(started), interrupted)


# --- solving ----------------------------------------------------------------------------------------------------


def _solve_all(search: Search, priced: list[Priced], started: float, emit: Emit) -> Iterator[Attempt]:
    """Attempts in the order of the bounds; a wave of ``workers`` candidates shares one cutoff."""
    queue = sorted((p for p in priced if p.bound_s < math.inf), key=lambda p: p.bound_s)
    best: list[float] = []
    done = len(priced) - len(queue)
    while queue:
        cutoff = best[search.top - 1] if len(best) >= search.top else math.inf
        wave, queue = queue[: search.workers], queue[search.workers :]
        for tried in _solve_wave(search, wave, cutoff, started, emit):
            if tried.objective_s is not None:
                best = sorted([*best, tried.objective_s])
            yield tried  # before anything is told of it, so that no interrupt can lose it
            done += 1
            bound = min([p.bound_s for p in queue] + best[:1], default=None)
            label = f"{tried.priced.candidate.name}: {tried.outcome}"
            emit(Progress(since(started), done, len(priced), label, best[0] if best else None, bound))


def _solve_wave(search: Search, wave: list[Priced], cutoff: float, started: float, emit: Emit) -> Iterator[Attempt]:
    open_ones = []
    for priced in wave:
        if priced.bound_s >= cutoff * (1 - TIE):
            yield Attempt(priced, "pruned", priced.bound_s, note="by its lower bound")
        else:
            open_ones.append(priced)
    left = None if search.time_limit_s is None else search.time_limit_s - since(started)
    if left is not None and left <= 0:
        yield from (Attempt(p, "limit", p.bound_s, note="time limit") for p in open_ones)
    elif search.workers == 1 or len(open_ones) <= 1:
        yield from (attempt(search, p, cutoff, left, emit) for p in open_ones)
    else:
        from joblib import Parallel, delayed

        pool = Parallel(n_jobs=search.workers, return_as="generator")
        yield from pool(delayed(attempt)(search, p, cutoff, left) for p in open_ones)


# --- what came of it --------------------------------------------------------------------------------------------


def _unsolved(priced: Priced) -> Attempt:
    if priced.impossible == NOT_PRICED:
        return Attempt(priced, "limit", None, note=NOT_PRICED)
    if priced.impossible:
        return Attempt(priced, "impossible", None, note=priced.impossible)
    if priced.shortage is not None:
        return Attempt(priced, "infeasible", None, note=priced.shortage.sentence(), shortage=priced.shortage)
    if math.isinf(priced.bound_s):
        return Attempt(priced, "infeasible", None, note="no strategy of a layer takes a finite time on some stage")
    return Attempt(priced, "limit", priced.bound_s, note="interrupted")


def _record(tried: Attempt) -> CandidateProof:
    candidate = tried.priced.candidate
    return CandidateProof(
        pp=candidate.pp,
        micro_batches=candidate.micro_batches,
        outcome=tried.outcome,
        bound_s=tried.bound_s,
        objective_s=tried.objective_s,
        seconds=tried.priced.seconds + tried.seconds,
        solver=tried.solver,
        note=tried.note,
    )


def _position(tried: Attempt) -> tuple[int, int]:
    return tried.priced.candidate.pp, tried.priced.candidate.micro_batches


def _plans(search: Search, attempts: list[Attempt], proof: tuple[CandidateProof, ...]) -> tuple[Plan, ...]:
    """The best assignments as proposals, judged and sealed; the bound is over the whole sweep, if all have one."""
    found = sorted((a for a in attempts if a.assignment is not None), key=lambda a: (a.objective_s, _position(a)))
    unbounded = any(record.outcome == "limit" and record.bound_s is None for record in proof)
    bounds = [record.bound_s for record in proof if record.bound_s is not None]
    plans = []
    for tried in found[: search.top]:
        if tried.variant is None or tried.assignment is None or tried.objective_s is None:
            continue
        proposal = propose(
            search.graph,
            search.cluster,
            search.space,
            tried.variant.tables,
            tried.assignment,
            solver=tried.solver,
            bound_s=None if unbounded or not bounds else min([*bounds, tried.objective_s]),
            pins=search.pins.texts,
            regime=tried.variant.regime.texts,
        )
        plans.append(seal(proposal, proof, verify(proposal, tried.variant.tables, proof)))
    return tuple(plans)


def _no_plan(search: Search, attempts: list[Attempt], interrupted: bool) -> UniapError:
    open_ones = [a for a in attempts if a.outcome == "limit"]
    if open_ones:
        why = "interrupted" if interrupted else open_ones[0].note
        return NotEnoughTime(
            f"no plan was found before the end ({why}); {len(open_ones)} candidates are open",
            "give more time (--time-limit) or another solver",
        )
    return refusal(search, attempts)


def since(started: float) -> float:
    """Seconds since a reading of the performance counter."""
    return time.perf_counter() - started
