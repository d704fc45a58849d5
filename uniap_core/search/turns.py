"""The story of a sweep as one process would have told it: what several found side by side, put in turn.

Candidates that are solved at the same time share a cutoff that is one turn old, so that one of them may be solved which
the other rules out. In turn it would have been pruned; with its record rewritten, the proof does not depend on how many
processes there were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from .attempt import NO_FASTER, Attempt, worthwhile_s
from .pricing import PricedCandidate
from .request import TIE, Search


def near(priced: PricedCandidate, cutoff_s: float) -> bool:
    """True for a candidate whose bound does not reach a cutoff, but what is worth a solve there."""
    return priced.bound_s >= worthwhile_s(priced, cutoff_s)


def in_turn(search: Search, attempts: Sequence[Attempt], priced: Sequence[PricedCandidate]) -> list[Attempt]:
    """The attempts, each as it would be with the cutoff of its turn.

    Nothing is claimed that was not proven: a record only ever changes to a weaker one. Attempts that met a limit say
    nothing of later ones, and are left as they are.

    Parameters
    ----------
    priced
        All candidates, in the order in which they were priced: turns are by bound, then by this order.
    """
    latest = {one.candidate: one for one in priced} | {tried.priced.candidate: tried.priced for tried in attempts}
    order = sorted((latest[one.candidate] for one in priced), key=lambda one: one.bound_s)
    turn = {one.candidate: number for number, one in enumerate(order)}
    best: list[float] = []
    told = []
    for tried in sorted(attempts, key=lambda one: turn[one.priced.candidate]):
        cutoff = best[search.top - 1] if len(best) >= search.top else math.inf
        one = _at(tried, cutoff, search.solver)
        if one.objective_s is not None:
            best = sorted([*best, one.objective_s])
        told.append(one)
    return told


def _at(tried: Attempt, cutoff: float, solver: str) -> Attempt:
    if (tried.outcome == "limit" and tried.note != NO_FASTER) or math.isinf(cutoff):
        return tried
    # It may have been sharpened before the cutoff was there: the first bound that reaches it is what it had needed.
    levels = (*tried.priced.coarse_s, tried.priced.bound_s)
    bound = next((level for level in levels if level >= cutoff * (1 - TIE)), tried.priced.bound_s)
    if bound >= cutoff * (1 - TIE):
        return replace(_without(tried), bound_s=bound, solver="", note="by its lower bound")
    if near(tried.priced, cutoff):
        return replace(_without(tried), outcome="limit", bound_s=bound, solver="", note=NO_FASTER)
    chunked = tried.priced.candidate.vpp > 1
    limit = worthwhile_s(tried.priced, cutoff) if chunked else cutoff
    if tried.objective_s is not None and tried.objective_s < limit:
        return tried
    if chunked:
        bound = limit if tried.bound_s is None else min(limit, tried.bound_s)
        return replace(_without(tried), outcome="limit", bound_s=bound, solver=solver, note=NO_FASTER)
    return replace(_without(tried), bound_s=cutoff, solver=solver, note="by the cutoff")


def _without(tried: Attempt) -> Attempt:
    """The attempt without an assignment, which would not have been looked for."""
    return replace(tried, outcome="pruned", objective_s=None, assignment=None, variant=None)
