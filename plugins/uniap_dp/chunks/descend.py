"""Compiled: depth-first search over (chunk, strategy) of each layer, under priced bounds."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import boolean, compiled, float64, int64, record, void
from ..objective import Objective
from .arrays import FLOW

Array = np.ndarray

INF = np.inf


class Inflow(NamedTuple):
    """Edges by the position of their target; those into layer ``u`` are ``first[u] .. first[u + 1]``.

    ``end`` has source and tensor, -1 for a tensor with one edge (E, 2); ``cost`` resharding and crossing by strategy of
    source and target (2, E, K, K).
    """

    first: Array
    end: Array
    cost: Array


class Bounds(NamedTuple):
    """Dual points: what seconds and bytes cost, what all rooms are worth, and the least cost to go.

    Attributes
    ----------
    rank, link, state, stash
        As in :class:`.arrays.Prices`, one row for each point.
    due
        What is taken off for memory (N,).
    active
        1 where the bound counts seconds, 0 where it is on memory alone (N,).
    to_go
        Cost of the layers behind a layer on (chunk, strategy) (N, L, J, K).
    """

    rank: Array
    link: Array
    state: Array
    stash: Array
    due: Array
    active: Array
    to_go: Array


class Placed(NamedTuple):
    """What the first layers make, a row for each number of layers placed.

    Chunk and strategy of each (L + 1, 2), seconds of ranks, then of links (L + 1, P + links), bytes of each row
    (L + 1, M), what each shared tensor costs at each boundary (L + 1, J, tensors), and the cost at each dual point
    (L + 1, N).
    """

    path: Array
    seconds: Array
    bytes: Array
    cross: Array
    priced: Array


class Best(NamedTuple):
    """The best value (1,), and chunk and strategy of each layer (L, 2)."""

    best: Array
    path: Array


OBJECTIVE = record(Objective, float64, float64, float64)
INFLOW = record(Inflow, int64[::1], int64[:, ::1], float64[:, :, :, ::1])
BOUNDS = record(
    Bounds, float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1],
    float64[:, :, :, ::1],
)  # fmt: skip
PLACED = record(Placed, int64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1])
BEST = record(Best, float64[::1], int64[:, ::1])


@compiled(void(int64, FLOW, INFLOW, PLACED), inner=True)
def step(level, flow, arcs, partial):
    """Go on to the next chunk and strategy of a level; chunk -1 means that it has not been entered."""
    first, end, path = arcs.first, arcs.end, partial.path
    if path[level, 0] < 0:
        begin = flow.low[level]
        if flow.linked and level > 0:
            begin = max(begin, path[level - 1, 0])
        for a in range(first[level], first[level + 1]):
            begin = max(begin, path[end[a, 0], 0])
        path[level, 0], path[level, 1] = begin, 0
    else:
        path[level, 1] += 1
        if path[level, 1] == flow.time.shape[2]:
            path[level, 0] += 1
            path[level, 1] = 0


@compiled(boolean(int64, FLOW, PLACED), inner=True)
def fits(level, flow, partial):
    """Add a layer's bytes; whether they fit."""
    j, k = partial.path[level, 0], partial.path[level, 1]
    bytes_ = partial.bytes
    good = True
    for r in range(len(flow.row)):
        bytes_[level + 1, r] = bytes_[level, r]
        if flow.row[r] == flow.rank[j]:
            bytes_[level + 1, r] += flow.state[level, k] + flow.flight[r, j] * flow.stash[level, k]
            good = good and bytes_[level + 1, r] <= flow.cap[r]
    return good


@compiled(void(int64, FLOW, INFLOW, BOUNDS, PLACED), inner=True)
def add(level, flow, arcs, bounds, partial):
    """Add a layer's seconds, those of the edges into it, and what both cost at each dual point."""
    first, end, cost = arcs
    path, seconds, _, cross, priced = partial
    ranks, points = flow.time.shape[1], len(bounds.due)
    j, k = path[level, 0], path[level, 1]
    i = flow.rank[j]
    own = flow.time[level, i, k]
    seconds[level + 1] = seconds[level]
    cross[level + 1] = cross[level]
    seconds[level + 1, i] += own
    for n in range(points):
        priced[level + 1, n] = (
            priced[level, n]
            + bounds.rank[n, i] * own
            + bounds.state[n, j] * flow.state[level, k]
            + bounds.stash[n, j] * flow.stash[level, k]
        )
    for a in range(first[level], first[level + 1]):
        source, tensor = end[a, 0], end[a, 1]
        h, m = path[source, 0], path[source, 1]
        alone = True
        for b in range(h, j):
            if flow.link[b] < 0:
                continue
            alone = False
            more = cost[1, a, m, k]
            if tensor >= 0:
                held = cross[level + 1, b, tensor]
                cross[level + 1, b, tensor] = max(held, more)
                more = max(held, more) - held
            seconds[level + 1, ranks + flow.link[b]] += more
            for n in range(points):
                priced[level + 1, n] += bounds.link[n, flow.link[b]] * more
        if alone:
            seconds[level + 1, i] += cost[0, a, m, k]
            for n in range(points):
                priced[level + 1, n] += bounds.rank[n, i] * cost[0, a, m, k]


@compiled(boolean(int64, BOUNDS, PLACED, float64), inner=True)
def beaten(level, bounds, partial, best):
    """Whether some dual point proves that nothing from here on is better than ``best`` seconds."""
    j, k = partial.path[level, 0], partial.path[level, 1]
    for n in range(len(bounds.due)):
        least = partial.priced[level + 1, n] + bounds.to_go[n, level, j, k]
        if least == INF:
            return True
        slack = 1e-12 * (least + bounds.due[n])
        goal = bounds.active[n] * best if bounds.active[n] > 0 else 0.0
        if least - bounds.due[n] - slack >= goal and least - bounds.due[n] - slack > 0:
            return True
    return False


@compiled(boolean(int64, FLOW, PLACED), inner=True)
def fillable(level, flow, partial):
    """Whether the layers to come can fill the chunks that are still empty."""
    empty = 0
    for b in range(len(flow.rank)):
        full = False
        for x in range(level + 1):
            full = full or partial.path[x, 0] == b
        empty += 0 if full else 1
    return empty <= flow.time.shape[0] - level - 1


@compiled(int64(int64, int64, OBJECTIVE, FLOW, INFLOW, BOUNDS, PLACED, BEST))
def descend(level, nodes, objective, flow, arcs, bounds, partial, found):
    """Visit up to ``nodes`` nodes from where ``path`` stands; returns the level to go on from, -1 when all are done."""
    path, seconds = partial.path, partial.seconds
    best, out = found
    count, ranks, _ = flow.time.shape
    for _ in range(nodes):
        if level < 0:
            return level
        step(level, flow, arcs, partial)
        j, k = path[level, 0], path[level, 1]
        last = flow.high[level]
        if flow.linked and level > 0:
            last = min(last, path[level - 1, 0] + 1)
        if j > last:
            path[level, 0] = -1
            level -= 1
            continue
        if flow.time[level, flow.rank[j], k] == INF or not fits(level, flow, partial):
            continue
        add(level, flow, arcs, bounds, partial)
        if beaten(level, bounds, partial, best[0]):
            continue
        total, longest = 0.0, 0.0
        for s in range(seconds.shape[1]):
            total += (objective.sum if s < ranks else objective.cross) * seconds[level + 1, s]
            longest = max(longest, seconds[level + 1, s])
        value = total + objective.peak * longest
        if value * (1 - 1e-13) >= best[0] or not (flow.linked or fillable(level, flow, partial)):
            continue
        if level == count - 1:
            if flow.linked and j < len(flow.rank) - 1:
                continue
            best[0] = value
            for x in range(count):
                out[x, 0], out[x, 1] = path[x, 0], path[x, 1]
            continue
        level += 1
        path[level, 0] = -1
    return level
