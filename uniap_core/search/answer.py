"""What came of a sweep: its records, and the best as plans, by the closed form or, where in doubt, by simulation."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec

from ..costs import Candidate, CostTables
from ..events import Emit, Note
from ..plan import Plan, seal
from ..proposal import CandidateProof, Proposal, propose
from ..verify import verify
from .attempt import Attempt, attempt
from .pricing import PricedCandidate, sharpened
from .ranking import COMPARED, FURTHER, Ranking, mixed, overlooked, ranked, ranked_by
from .request import Search

Found = tuple[Proposal, CostTables]


def plans_of(
    search: Search, attempts: list[Attempt], emit: Emit, started: float
) -> tuple[tuple[Plan, ...], tuple[CandidateProof, ...]]:
    """The best assignments as proposals, judged and sealed, and the proof that they share.

    Best by the closed form, or by simulation where that is in doubt (:mod:`.ranking`); then the proof's notes say so.

    Parameters
    ----------
    attempts
        One for each candidate.
    started
        When the sweep began, on the performance counter.
    """
    best = sorted((a for a in attempts if a.assignment is not None), key=lambda a: a.objective_s or 0.0)
    several = mixed(a.priced.candidate for a in attempts if a.bound_s is not None)
    best = best[: max(search.top, COMPARED if several else 1)]
    records = {tried.priced.candidate: _record(tried) for tried in attempts}
    bounds = [record.bound_s for record in records.values() if record.bound_s is not None]
    unbounded = any(record.outcome == "limit" and record.bound_s is None for record in records.values())
    bound_s = None if unbounded or not bounds else min(bounds)
    found = [made for tried in best if (made := _proposal(search, tried, bound_s)) is not None]
    ranking = ranked([proposal for proposal, _ in found], several=several)
    if ranking.simulated_s:
        ranking = _widened(search, attempts, found, ranking, records, bound_s, started)
        _note(found, ranking, records, attempts)
    if ranking.changed:
        first, chosen = found[0][0].candidate.name, found[ranking.order[0]][0].candidate.name
        emit(
            Note(time.perf_counter() - started, f"the formula of {first} is in doubt; by simulation {chosen} is faster")
        )
    proof = tuple(records[tried.priced.candidate] for tried in attempts)
    chosen_ones = [found[number] for number in ranking.order[: search.top]]
    return tuple(seal(one, proof, verify(one, tables, proof)) for one, tables in chosen_ones), proof


def _widened(
    search: Search,
    attempts: list[Attempt],
    found: list[Found],
    ranking: Ranking,
    records: dict[Candidate, CandidateProof],
    bound_s: float | None,
    started: float,
) -> Ranking:
    """The ranking with what the closed form in doubt had ruled out, solved and simulated; ``found`` grows.

    One candidate of a kind, at most :data:`~.ranking.FURTHER`, each for plans whose closed form is below the least
    simulated time: what is not below that by either measure is not looked for.
    """
    seconds = list(ranking.simulated_s)
    for tried in overlooked(attempts, [proposal.candidate for proposal, _ in found], min(seconds))[:FURTHER]:
        limit = search.time_limit_s
        left = None if limit is None else limit - (time.perf_counter() - started)
        if left is not None and left <= 0:
            break
        priced = tried.priced
        while priced.raw:
            priced = sharpened(search, priced)
        if priced.bound_s >= min(seconds):
            continue
        again = attempt(search, priced, min(seconds), left)
        made = _proposal(search, again, bound_s)
        if made is not None:
            # What was proven of it stays proven: a lower bound of the second solve takes nothing back.
            known = max(bound for bound in (tried.bound_s, again.bound_s, 0.0) if bound is not None)
            least = min(known, again.objective_s or known)
            records[tried.priced.candidate] = _record(replace(again, bound_s=least))
            found.append(made)
            seconds.append(ranked_by(made[0]))
        if again.interrupted:
            break
    return Ranking.by(seconds)


def _note(
    found: list[Found], ranking: Ranking, records: dict[Candidate, CandidateProof], attempts: list[Attempt]
) -> None:
    """Say in the records what simulation said, and in the best one's how many it was not asked of."""
    simulated = {proposal.candidate for proposal, _ in found}
    least = min(ranking.simulated_s)
    left = [a for a in attempts if a.bound_s is not None and a.bound_s < least and a.priced.candidate not in simulated]
    for number, ((proposal, _), seconds) in enumerate(zip(found, ranking.simulated_s, strict=True)):
        record = records[proposal.candidate]
        noted = [record.note, f"takes {seconds:.6g} s by simulation"]
        if left and number == ranking.order[0]:
            noted.append(f"{len(left)} candidates whose bounds are below that were not simulated")
        records[proposal.candidate] = msgspec.structs.replace(record, note="; ".join(filter(None, noted)))


def _record(tried: Attempt) -> CandidateProof:
    candidate = tried.priced.candidate
    return CandidateProof(
        schedule=candidate.schedule,
        pp=candidate.pp,
        vpp=candidate.vpp,
        micro_batches=candidate.micro_batches,
        outcome=tried.outcome,
        bound_s=tried.bound_s,
        objective_s=tried.objective_s,
        seconds=tried.priced.seconds + tried.seconds,
        solver=tried.solver,
        note=tried.note,
        **_counts(tried.priced),
    )


def _counts(priced: PricedCandidate) -> dict[str, int]:
    """How many strategies its layers have, over all regimes, and how many of them are dominated."""
    every = [(v.whole, v.kept) for v in priced.variants if v.kept is not None]
    strategies = sum(len(layer.strategies) for whole, _ in every for layer in whole.layers)
    left = sum(len(kept) for _, each in every for kept in each or ())
    return {"strategies": strategies, "dominated": strategies - left} if every else {}


def _proposal(search: Search, tried: Attempt, bound_s: float | None) -> Found | None:
    """What an attempt found, and its tables; the bound is over the whole sweep, if all have one."""
    if tried.variant is None or tried.assignment is None or tried.objective_s is None:
        return None
    proposal = propose(
        search.graph,
        search.cluster,
        search.space,
        tried.variant.tables,
        tried.assignment,
        solver=tried.solver,
        bound_s=None if bound_s is None else min(bound_s, tried.objective_s),
        pins=search.pins.texts,
        regime=tried.variant.regime.texts,
        searched=search.schedules,
    )
    return proposal, tried.variant.tables
