"""Bounds of candidates that nobody has posed yet: what every schedule of a family costs at the least.

A family are candidates that differ in their schedule and chunks alone. Their layers have the same times and bytes, so
one of them is priced, one number serves them all, and each is bounded in microseconds.

Let ``t, w, q`` be time, state and stash of a layer under a strategy (the time that of its best rank). Whatever the
chunks, every rank holds its states at every moment, so over all ranks ``sum w <= M``, the memory that is not reserved.
Hence, for any ``y >= 0`` (Lagrange)::

    sum of all rank times >= S = sum over layers of  min over strategies (t + y w)  -  y M

and with it, since the slowest rank takes no less than the average and no less than the longest layer::

    time per iteration >= sum * S + peak * max(S / P, longest layer)

Every boundary between two ranks is crossed by some tensor, if the layers hang together: ``cross`` and the links cost no
less than the cheapest edge at each.

Once a candidate's moments are known, :mod:`.spread` says what it costs to spread the layers over the chunks.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..costs import Candidate, CostTables
from ..problem import MEMORY_TOLERANCE
from ..tables import Array, Rank
from .spread import Layers, least_spread_s

STEPS = 40
"""Halvings of the interval that the best multiplier lies in; any multiplier gives a valid bound."""

ROUNDING = 1e-10


@dataclass(frozen=True)
class Floor:
    """The least that the layers of a family cost.

    Attributes
    ----------
    time_s, once_s, state_bytes, stash_bytes
        Shape (kinds, K): of each kind of layer under each strategy, ``inf`` where there is none; ``once_s`` is what is
        done once per iteration, no part of ``time_s``.
    counts
        Layers of each kind.
    ends
        Kind of the only layer that nothing feeds, which lies in the first chunk, and of the only one that feeds
        nothing, in the last; ``None`` where there are several.
    crossing_s
        What crosses a boundary takes no less, where the neighbours of ``hops`` are neighbours.
    longest_s
        The least time of the layer that takes longest.
    states_s
        The least time of all layers together, with the prices that their states make.
    """

    time_s: Array
    once_s: Array
    state_bytes: Array
    stash_bytes: Array
    counts: Array
    ranks: tuple[Rank, ...]
    ends: tuple[int | None, int | None]
    hops: frozenset[tuple[int, int]]
    crossing_s: float
    longest_s: float
    states_s: float

    def bound_s(self, candidate: Candidate) -> float:
        """A bound of a candidate that nothing more is known of, seconds."""
        return self._weighted(candidate, self.states_s)

    def held_s(self, candidate: Candidate) -> float:
        """The bound with what the schedule holds in flight, seconds."""
        if math.isinf(self.states_s):
            return math.inf
        flights = candidate.pipeline.in_flight(candidate.micro_batches)
        budgets = np.array([_budget(rank) for rank in self.ranks])
        time_s = self.time_s + self.once_s / candidate.turns
        layers = Layers(time_s, self.state_bytes, self.stash_bytes, self.counts, self.ends)
        total, slowest = least_spread_s(layers, budgets, candidate.pipeline.chunks, flights)
        return self._weighted(candidate, max(total, self.states_s), slowest)

    def _weighted(self, candidate: Candidate, total_s: float, slowest_s: float = 0.0) -> float:
        if math.isinf(total_s):
            return math.inf
        weights = candidate.pipeline.weights(candidate.micro_batches)
        links = Counter(pair for pair in pairwise(candidate.pipeline.chunks) if pair[0] != pair[1])
        crossing_s = self.crossing_s if self.hops <= links.keys() else 0.0
        crossed = crossing_s * max(links.values(), default=0)
        slowest = max(total_s / candidate.pp, self.longest_s, slowest_s, crossed)
        seconds = weights.sum * total_s + weights.cross * crossing_s * links.total() + weights.peak * slowest
        return seconds * (1 - ROUNDING)


def floor_of(tables: CostTables, turns: float | None = None) -> Floor:
    """The floor of a family that some tables belong to.

    Parameters
    ----------
    turns
        What work once per iteration is divided by, the most of any of its candidates (:attr:`Candidate.turns`); by
        default that of the tables' own.
    """
    turns = tables.candidate.turns if turns is None else turns
    first = {kind: u for u, kind in reversed(list(enumerate(tables.kinds.layers)))}
    rows = [tables.layers[u] for u in first.values()]
    wide = max(len(row.strategies) for row in rows)
    time_s, once_s, state, stash = (np.full((len(rows), wide), fill) for fill in (np.inf, 0.0, 0.0, 0.0))
    for n, row in enumerate(rows):
        k = len(row.strategies)
        time_s[n, :k] = (row.forward_s + row.backward_s).min(axis=0)
        once_s[n, :k] = row.iteration_s.min(axis=0)
        state[n, :k], stash[n, :k] = row.state_bytes, row.stash_bytes
    counts = np.array([tables.kinds.layers.count(kind) for kind in first], dtype=float)
    least_time_s = time_s + once_s / turns
    least = least_s(least_time_s, state, counts, budget(tables.ranks))
    longest = float(least_time_s.min(axis=1).max())
    number = dict(zip(first, range(len(first)), strict=True))
    first_kind, last_kind = (None if u is None else number[tables.kinds.layers[u]] for u in _ends(tables))
    return Floor(
        time_s,
        once_s,
        state,
        stash,
        counts,
        tables.ranks,
        (first_kind, last_kind),
        frozenset(tables.candidate.pipeline.hops),
        _crossing_s(tables),
        longest,
        least,
    )


def _crossing_s(tables: CostTables) -> float:
    """The least that any edge takes across a boundary; 0 if not all layers hang together."""
    part = list(range(len(tables.layers)))
    for edge in tables.edges:
        mine, other = part[edge.source], part[edge.target]
        part = [mine if one == other else one for one in part]
    if len(set(part)) > 1:
        return 0.0
    return min((float(edge.cross_s.min()) for edge in tables.edges), default=0.0)


def _ends(tables: CostTables) -> tuple[int | None, int | None]:
    """The only layer that nothing feeds, and the only one that feeds nothing."""
    fed, feeding = ({getattr(edge, name) for edge in tables.edges} for name in ("target", "source"))
    first, last = ([u for u in range(len(tables.layers)) if u not in known] for known in (fed, feeding))
    return first[0] if len(first) == 1 else None, last[0] if len(last) == 1 else None


def budget(ranks: tuple[Rank, ...]) -> float:
    """Bytes of all ranks together that layers may use; a rank without any gives none, and fits nothing."""
    return math.fsum(map(_budget, ranks))


def _budget(rank: Rank) -> float:
    return max(0.0, rank.budget_bytes + MEMORY_TOLERANCE * rank.memory_bytes)


def least_s(time_s: Array, need_bytes: Array, counts: Array, budget_bytes: float) -> float:
    """``max over y of sum counts min (t + y need) - y budget``, nearly; ``inf`` if the least needs exceed the budget.

    The dual function is concave: its slope, what the chosen strategies need beyond the budget, falls as y grows.
    """
    possible = np.isfinite(time_s)
    if not possible.any(axis=1).all() or counts @ np.where(possible, need_bytes, np.inf).min(axis=1) > budget_bytes:
        return math.inf
    rows = np.arange(len(counts))

    def at(y: float) -> tuple[float, float]:
        chosen = (time_s + y * need_bytes).argmin(axis=1)
        need = float(counts @ need_bytes[rows, chosen])
        return float(counts @ time_s[rows, chosen]) + y * (need - budget_bytes), need - budget_bytes

    best, slope = at(0.0)
    if slope <= 0:
        return best
    low, high = 0.0, best / budget_bytes if budget_bytes else 1.0
    while at(high)[1] > 0 and high < 1e300:
        low, high = high, high * 16
    for _ in range(STEPS):
        middle = (low + high) / 2
        value, slope = at(middle)
        best = max(best, value)
        low, high = (middle, high) if slope > 0 else (low, middle)
    return max(best, at(high)[0])
