"""What the compiled loops over chunked pipelines take, and how it is made of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from uniap_core.api import MEMORY_TOLERANCE, Assignment, Problem

from ..codes import group_rows
from ..dense import assignment, chain_edges, stack
from ..jit import boolean, float64, int64, record
from ..objective import Objective

Array = np.ndarray


class Flow(NamedTuple):
    """A problem of ``L`` layers by position, ``J`` chunks on ``P`` ranks, ``K`` strategies, ``M`` rows of memory.

    Attributes
    ----------
    rank, link
        Rank of each chunk (J,); number of the link that the boundary behind a chunk belongs to, -1 inside a rank (J,).
    row, flight, cap
        Rank of each row of memory, that is, of each moment of each rank (M,); micro-batches in flight there of each
        chunk (M, J), -1 for chunks of other ranks; bytes that layers may use (M,).
    time, state, stash
        Seconds (``inf`` where impossible) of each layer, rank and strategy (L, P, K), and bytes (L, K).
    reshard, cross
        Seconds from each layer to the next by strategy of the next and of the layer itself (L, K, K).
    enter, leave, by_class
        Strategies that cost the same between a layer and the one before it are one class, and so are those that do
        between it and the next (L, K); resharding and crossing by class of the next and of the layer (2, L, Q, Q).
    low, high
        First and last chunk on which each layer may lie (L,).
    linked
        Whether each layer is joined to the next, so that their chunks are equal or neighbours.
    """

    rank: Array
    link: Array
    row: Array
    flight: Array
    cap: Array
    time: Array
    state: Array
    stash: Array
    reshard: Array
    cross: Array
    enter: Array
    leave: Array
    by_class: Array
    low: Array
    high: Array
    linked: bool


class Prices(NamedTuple):
    """What a second costs on each rank (P,) and link, what a byte of state and of stash costs on each chunk (J,)."""

    rank: Array
    link: Array
    state: Array
    stash: Array


FLOW = record(
    Flow, int64[::1], int64[::1], int64[::1], float64[:, ::1], float64[::1], float64[:, :, ::1], float64[:, ::1],
    float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], int64[:, ::1], int64[:, ::1], float64[:, :, :, ::1],
    int64[::1], int64[::1], boolean,
)  # fmt: skip
PRICES = record(Prices, float64[::1], float64[::1], float64[::1], float64[::1])


@dataclass(frozen=True, eq=False)
class Posed:
    """A problem, its arrays and its weights.

    Attributes
    ----------
    links
        Number of pairs of ranks that transfers go between.
    others
        Numbers of the edges that are no link between neighbours of the order.
    """

    problem: Problem
    flow: Flow
    objective: Objective
    links: int
    others: tuple[int, ...]

    @cached_property
    def useful(self) -> Array:
        """Strategies that no other of their layer matches in seconds on every rank, in state and in stash (L, K)."""
        flow, kinds = self.flow, self.problem.kinds.layers
        known: dict[int, Array] = {}
        for at, u in enumerate(self.problem.order):
            if kinds[u] not in known:
                rows = np.vstack([flow.time[at], flow.state[at], flow.stash[at]])
                as_good: Array = np.all(rows[:, :, None] <= rows[:, None, :], axis=0)
                number = np.arange(as_good.shape[0])
                better: Array = as_good & (~as_good.T | (number[:, None] < number))
                beaten: Array = np.any(better, axis=0)
                known[kinds[u]] = ~beaten
        return np.array([known[kinds[u]] for u in self.problem.order])

    def assignment(self, path: Array) -> Assignment:
        """The assignment of (chunk, strategy) by position, shape (L, 2)."""
        return assignment(self.problem, ((u, j, k) for u, (j, k) in enumerate(path.tolist())))

    def path(self, assigned: Assignment) -> Array:
        """The reverse of :meth:`assignment`."""
        return np.array([(assigned.stage[u], assigned.strategy[u]) for u in self.problem.order], dtype=np.int64)


def pose(problem: Problem) -> Posed:
    """Lay a problem out."""
    layers = [problem.layers[u] for u in problem.order]
    count, depth = len(layers), problem.depth
    widest = max(len(layer.strategies) for layer in layers)
    numbers: dict[tuple[int, int], int] = {}
    link = [-1 if a == b else numbers.setdefault((a, b), len(numbers)) for a, b in pairwise(problem.chunks)]
    row, flight = _moments(problem)
    cap = np.array([r.memory_bytes * (1 + MEMORY_TOLERANCE) - r.reserved_bytes for r in problem.ranks])
    joined = chain_edges(problem)
    reshard, cross = np.zeros((2, count, widest, widest))
    for u, e in enumerate(joined or ()):
        edge = problem.edges[e]
        k, m = edge.reshard_s.shape
        reshard[u, :m, :k], cross[u, :m, :k] = edge.reshard_s.T, edge.cross_s.T
    enter, leave, by_class = _classes(reshard, cross, [problem.kinds.edges[e] for e in joined or ()])
    behind = np.arange(count)
    low, high = np.zeros(count, dtype=np.int64), np.full(count, depth - 1)
    if joined is not None:
        low, high = np.maximum(0, depth - count + behind), np.minimum(behind, depth - 1)
    flow = Flow(
        rank=np.array(problem.chunks),
        link=np.array([*link, -1]),
        row=row,
        flight=flight,
        cap=cap[row],
        time=stack([layer.time_s for layer in layers], (len(problem.ranks), widest), np.inf),
        state=stack([layer.state_bytes for layer in layers], (widest,)),
        stash=stack([layer.stash_bytes for layer in layers], (widest,)),
        reshard=reshard,
        cross=cross,
        enter=enter,
        leave=leave,
        by_class=by_class,
        low=low,
        high=high,
        linked=joined is not None,
    )
    known = set(joined or ())
    others = tuple(e for e in range(len(problem.edges)) if e not in known)
    return Posed(problem, flow, Objective.of(problem), len(numbers), others)


def _classes(reshard: Array, cross: Array, kinds: Sequence[int]) -> tuple[Array, Array, Array]:
    """Classes of strategies at each end of each edge, and its tables by them (:class:`Flow`)."""
    count, widest, _ = reshard.shape
    enter, leave = np.zeros((2, count, widest), dtype=np.int64)
    known: dict[int, tuple[Array, Array, Array]] = {}
    for u, kind in enumerate(kinds):
        if kind not in known:
            target, first = group_rows(np.hstack([reshard[u], cross[u]]))
            source, head = group_rows(np.hstack([reshard[u].T, cross[u].T]))
            at = np.ix_(first, head)
            known[kind] = target, source, np.array([reshard[u][at], cross[u][at]])
        enter[u + 1], leave[u], _ = known[kind]
    most = max((max(tables.shape) for _, _, tables in known.values()), default=1)
    by_class = np.zeros((2, count, most, most))
    for u, kind in enumerate(kinds):
        tables = known[kind][2]
        by_class[:, u, : tables.shape[1], : tables.shape[2]] = tables
    return enter, leave, by_class


def _moments(problem: Problem) -> tuple[Array, Array]:
    """Rank of each row of memory, and what is in flight there."""
    row, flight = [], []
    for rank, (held, kept) in enumerate(zip(problem.held, problem.ranks, strict=True)):
        for moment in kept.in_flight:
            counts = np.full(problem.depth, -1.0)
            counts[list(held)] = moment
            row.append(rank)
            flight.append(counts)
    return np.array(row), np.array(flight)
