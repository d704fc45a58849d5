"""The unified optimization process: every candidate priced, bounded, solved or proven useless.

A candidate is a schedule, pipeline ranks, chunks on each and micro-batches.

Candidates are visited in the order of a certified lower bound. The best time so far is the cutoff of every later
solve, and a candidate whose bound reaches it is skipped with that bound as its proof. Source: UniAP, section 3.4,
which solves every candidate afresh; cutoffs, bounds and the proof record are ours.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .. import interrupts
from ..costs import Candidate
from ..errors import NotEnoughTime, SolverCrashed, Stopped, UniapError
from ..events import Emit, Progress, silent
from ..plan import Plan
from ..proposal import CandidateProof
from .answer import plans_of
from .attempt import NO_FASTER, Attempt, attempt
from .considered import candidates
from .crew import Crew
from .pricing import Family, PricedCandidate, bounded, families
from .queue import Queue
from .reasons import refusal
from .request import TIE, Search
from .turns import in_turn, near

NOT_PRICED = "not priced before the end"
NO_TIME = "no strategy of a layer takes a finite time on some stage"
NO_ROOM = "all layers together are too large for all ranks, however they are cut"


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
    candidates are recorded with their bounds, if they were priced. Under a limit half of what is left of it goes to
    pricing, in rounds, so that something is solved however many candidates there are.

    Raises
    ------
    Infeasible
        If no candidate fits, saying what falls short and what would help.
    NotEnoughTime
        If the time ran out before any plan was found; its subclass ``Stopped`` after an interrupt.
    Unverified
        If the verifier rejects the answer (a defect of a solver or a cost model).
    """
    started = time.perf_counter()
    todo = candidates(search)
    priced: list[PricedCandidate] = []
    attempts: list[Attempt] = []
    interrupted = False
    try:
        with Crew(min(search.workers, len(todo), _cores())) as crew:
            for tried in _rounds(search, todo, priced, started, crew, emit):
                attempts.append(tried)
                if tried.interrupted:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
    known = {p.candidate for p in priced}
    priced += [PricedCandidate(candidate, impossible=NOT_PRICED) for candidate in todo if candidate not in known]
    place = {candidate: number for number, candidate in enumerate(todo)}
    attempts = in_turn(search, attempts, priced)
    done = {tried.priced.candidate for tried in attempts}
    attempts += [_unsolved(p) for p in priced if p.candidate not in done]
    attempts.sort(key=lambda tried: place[tried.priced.candidate])
    plans, proof = plans_of(search, attempts, emit, started)
    if not plans:
        raise _no_plan(search, attempts, interrupted)
    return Sweep(plans, proof, since(started), interrupted)


def within(search: Search, began: float) -> Search:
    """The search with what is left of its time limit, for work that follows it.

    Parameters
    ----------
    began
        When the limit began, on the performance counter.

    Raises
    ------
    NotEnoughTime
        If nothing is left.
    """
    if search.time_limit_s is None:
        return search
    left = search.time_limit_s - since(began)
    if left <= 0:
        raise NotEnoughTime("the time limit is reached", "give more time (--time-limit)")
    return replace(search, time_limit_s=left)


def _cores() -> int:
    """Cores that this process may use: more processes than these only take turns."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- pricing and solving ----------------------------------------------------------------------------------------


def _rounds(
    search: Search, todo: Sequence[Candidate], priced: list[PricedCandidate], started: float, crew: Crew, emit: Emit
) -> Iterator[Attempt]:
    """Price, then solve; under a time limit some of each, again and again, ``priced`` growing."""
    best: list[float] = []
    every = families(search, todo)
    rest = every if search.time_limit_s is None else _spread(every)
    while rest and (search.time_limit_s is None or since(started) < search.time_limit_s):
        until = None if search.time_limit_s is None else (time.perf_counter() + started + search.time_limit_s) / 2
        first = len(priced)
        for one in _priced(search, rest, until, crew):
            priced.append(one)
            emit(Progress(since(started), len(priced), len(todo), f"pricing {one.candidate.name}"))
        known = {p.candidate for p in priced}
        rest = [family for family in rest if family[0] not in known]
        yield from _solve_all(search, priced[first:], best, started, crew, emit)


def _spread(todo: Sequence[Family]) -> list[Family]:
    """The families in an order whose every beginning is spread over all of them: halves, quarters, eighths."""
    order: dict[Family, None] = {}
    step = 1 << len(todo).bit_length()
    while step:
        order |= dict.fromkeys(todo[step // 2 :: step] if step > 1 else todo)
        step //= 2
    return list(order)


def _priced(search: Search, todo: Sequence[Family], until: float | None, crew: Crew) -> Iterator[PricedCandidate]:
    if crew.size > 1:
        tasks = [(search, family) for family in todo]
        yield from (one for _, each in crew.run("uniap_core.search.pricing:bounded", tasks, until) for one in each)
        return
    for family in todo:
        yield from bounded(search, family)
        if until is not None and time.perf_counter() > until:
            return


def _solve_all(
    search: Search, priced: list[PricedCandidate], best: list[float], started: float, crew: Crew, emit: Emit
) -> Iterator[Attempt]:
    """Attempts in the order of the bounds; a wave of ``crew.size`` candidates shares one cutoff; ``best`` grows."""
    queue = Queue(search, priced)
    done = len(priced) - len(queue)
    while len(queue):
        cutoff = best[search.top - 1] if len(best) >= search.top else math.inf
        wave = list(queue.wave(crew.size, cutoff))
        for tried in _solve_wave(search, wave, cutoff, started, crew, emit):
            if tried.objective_s is not None:
                best[:] = sorted([*best, tried.objective_s])
                interrupts.worthwhile()
            yield tried  # before anything is told of it, so that no interrupt can lose it
            done += 1
            bound = min([s for s in (queue.bound_s, *best[:1]) if s is not None], default=None)
            label = f"{tried.priced.candidate.name}: {tried.outcome}"
            emit(Progress(since(started), done, len(priced), label, best[0] if best else None, bound))


def _solve_wave(
    search: Search, wave: list[PricedCandidate], cutoff: float, started: float, crew: Crew, emit: Emit
) -> Iterator[Attempt]:
    open_ones = []
    for priced in wave:
        if math.isinf(priced.bound_s):
            yield _unsolved(priced)
        elif priced.bound_s >= cutoff * (1 - TIE):
            yield Attempt(priced, "pruned", priced.bound_s, note="by its lower bound")
        elif near(priced, cutoff):
            yield Attempt(priced, "limit", priced.bound_s, note=NO_FASTER)
        else:
            open_ones.append(priced)
    left = None if search.time_limit_s is None else search.time_limit_s - since(started)
    if left is not None and left <= 0:
        yield from (Attempt(p, "limit", p.bound_s, note="time limit") for p in open_ones)
    elif crew.size == 1 or len(open_ones) <= 1:
        yield from (attempt(search, p, cutoff, left, emit) for p in open_ones)
    else:
        yield from _side_by_side(search, open_ones, cutoff, left, crew)


def _side_by_side(
    search: Search, open_ones: list[PricedCandidate], cutoff: float, left: float | None, crew: Crew
) -> Iterator[Attempt]:
    tasks = [(search, priced, cutoff, left) for priced in open_ones]
    missing = dict(enumerate(open_ones))
    try:
        for number, tried in crew.run("uniap_core.search.attempt:attempt", tasks):
            del missing[number]
            yield tried
    except SolverCrashed as error:
        yield from (Attempt(p, "limit", p.bound_s, note=error.cause) for p in missing.values())


# --- what came of it --------------------------------------------------------------------------------------------


def _unsolved(priced: PricedCandidate) -> Attempt:
    if priced.impossible == NOT_PRICED:
        return Attempt(priced, "limit", None, note=NOT_PRICED)
    if priced.impossible:
        return Attempt(priced, "impossible", None, note=priced.impossible)
    if priced.shortage is not None:
        return Attempt(priced, "infeasible", None, note=priced.shortage.sentence(), shortage=priced.shortage)
    if math.isinf(priced.bound_s):
        return Attempt(priced, "infeasible", None, note=NO_ROOM if priced.candidate.vpp > 1 else NO_TIME)
    return Attempt(priced, "limit", priced.bound_s, note="interrupted")


def _no_plan(search: Search, attempts: list[Attempt], interrupted: bool) -> UniapError:
    open_ones = [a for a in attempts if a.outcome == "limit"]
    if open_ones or interrupted:
        why = "interrupted" if interrupted else open_ones[0].note
        kind = Stopped if interrupted else NotEnoughTime
        return kind(
            f"no plan was found before the end ({why}); {len(open_ones)} candidates are open",
            "give more time (--time-limit) or another solver",
        )
    return refusal(search, attempts)


def since(started: float) -> float:
    """Seconds since a reading of the performance counter."""
    return time.perf_counter() - started
