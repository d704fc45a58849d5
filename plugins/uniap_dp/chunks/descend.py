"""Compiled: depth-first search over (chunk, strategy) of each layer, under priced bounds."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import compiled, float64, int64, record
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


@compiled(int64(int64, int64, OBJECTIVE, FLOW, INFLOW, BOUNDS, PLACED, BEST))
def descend(level, nodes, objective, flow, arcs, bounds, partial, found):
    """Visit up to ``nodes`` nodes from where ``path`` stands; returns the level to go on from, -1 when all are done.

    Chunk -1 at a level means that it has not been entered.
    """
    first, end, cost = arcs
    path, seconds, bytes_, cross, priced = partial
    best, out = found
    count, ranks, widest = flow.time.shape
    depth, points = len(flow.rank), len(bounds.due)
    for _ in range(nodes):
        if level < 0:
            return level
        if path[level, 0] < 0:
            begin = flow.low[level]
            if flow.linked and level > 0:
                begin = max(begin, path[level - 1, 0])
            for a in range(first[level], first[level + 1]):
                begin = max(begin, path[end[a, 0], 0])
            path[level, 0], path[level, 1] = begin, 0
        else:
            path[level, 1] += 1
            if path[level, 1] == widest:
                path[level, 0] += 1
                path[level, 1] = 0
        j, k = path[level, 0], path[level, 1]
        last = flow.high[level]
        if flow.linked and level > 0:
            last = min(last, path[level - 1, 0] + 1)
        if j > last:
            path[level, 0] = -1
            level -= 1
            continue
        i = flow.rank[j]
        own = flow.time[level, i, k]
        if own == INF:
            continue
        fits = True
        for r in range(len(flow.row)):
            bytes_[level + 1, r] = bytes_[level, r]
            if flow.row[r] == i:
                bytes_[level + 1, r] += flow.state[level, k] + flow.flight[r, j] * flow.stash[level, k]
                fits = fits and bytes_[level + 1, r] <= flow.cap[r]
        if not fits:
            continue
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
        beaten = False
        for n in range(points):
            least = priced[level + 1, n] + bounds.to_go[n, level, j, k]
            if least == INF:
                beaten = True
                break
            slack = 1e-12 * (least + bounds.due[n])
            goal = bounds.active[n] * best[0] if bounds.active[n] > 0 else 0.0
            if least - bounds.due[n] - slack >= goal and least - bounds.due[n] - slack > 0:
                beaten = True
        if beaten:
            continue
        total, longest = 0.0, 0.0
        for s in range(seconds.shape[1]):
            total += (objective.sum if s < ranks else objective.cross) * seconds[level + 1, s]
            longest = max(longest, seconds[level + 1, s])
        value = total + objective.peak * longest
        if value * (1 - 1e-13) >= best[0]:
            continue
        if not flow.linked:
            empty = 0
            for b in range(depth):
                full = False
                for x in range(level + 1):
                    full = full or path[x, 0] == b
                empty += 0 if full else 1
            if empty > count - level - 1:
                continue
        if level == count - 1:
            if flow.linked and j < depth - 1:
                continue
            best[0] = value
            for x in range(count):
                out[x, 0], out[x, 1] = path[x, 0], path[x, 1]
            continue
        level += 1
        path[level, 0] = -1
    return level
