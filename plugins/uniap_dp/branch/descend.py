"""Compiled: depth-first search over stages and strategies, and what it takes."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import compiled, float64, int64, record
from ..objective import Objective

Array = np.ndarray

INF = np.inf


class Tables(NamedTuple):
    """A problem of ``L`` layers, ``P`` stages, ``K`` strategies and ``E`` edges, by position.

    ``caps`` (P,), strategies ``sizes`` (L,), ``times`` and ``memory`` (L, P, K), the ``least`` time of each layer and
    all behind it (L + 1,), ``ends`` (source, target, tensor) of the edges into each layer (E, 3), and their ``costs``,
    resharding and crossing (2, E, K, K).
    """

    caps: Array
    sizes: Array
    times: Array
    memory: Array
    least: Array
    ends: Array
    costs: Array


class Partial(NamedTuple):
    """What the first layers make.

    Stage and strategy of each (L + 1, 2), seconds and bytes of each stage (L + 1, P), and what each tensor costs at
    each boundary (L + 1, P, tensors).
    """

    path: Array
    time: Array
    memory: Array
    cross: Array


class Found(NamedTuple):
    """The best value (1,), and stage and strategy of each layer (L, 2)."""

    best: Array
    path: Array


OBJECTIVE = record(Objective, float64, float64, float64)
TABLES = record(
    Tables, float64[::1], int64[::1], float64[:, :, ::1], float64[:, :, ::1], float64[::1], int64[:, ::1],
    float64[:, :, :, ::1],
)  # fmt: skip
PARTIAL = record(Partial, int64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1])
FOUND = record(Found, float64[::1], int64[:, ::1])


@compiled(int64(int64, int64, OBJECTIVE, TABLES, PARTIAL, FOUND))
def descend(level, nodes, objective, tables, partial, found):
    """Visit up to ``nodes`` nodes from where ``path`` stands; returns the level to go on from, -1 when all are done."""
    caps, sizes, times, bytes_, least, ends, costs = tables
    path, time, memory, cross = partial
    best, out = found
    count, depth = len(sizes), len(caps)
    weight_p, weight_o, weight_t = objective
    for _ in range(nodes):
        if level < 0:
            return level
        path[level, 1] += 1
        if path[level, 1] == sizes[level]:
            path[level, 0] += 1
            path[level, 1] = 0
        i, k = path[level, 0], path[level, 1]
        if i >= depth:
            level -= 1
            continue
        needed = memory[level, i] + bytes_[level, i, k]
        if times[level, i, k] == INF or needed > caps[i]:
            continue
        for s in range(depth):
            time[level + 1, s], memory[level + 1, s] = time[level, s], memory[level, s]
            for t in range(cross.shape[2]):
                cross[level + 1, s, t] = cross[level, s, t]
        memory[level + 1, i] = needed
        time[level + 1, i] += times[level, i, k]
        order = True
        for e in range(len(ends)):
            if ends[e, 1] != level:
                continue
            j, h = path[ends[e, 0], 0], path[ends[e, 0], 1]
            if j > i:
                order = False
            elif j == i:
                time[level + 1, i] += costs[0, e, h, k]
            else:
                for s in range(j, i):
                    cross[level + 1, s, ends[e, 2]] = max(cross[level + 1, s, ends[e, 2]], costs[1, e, h, k])
        if not order:
            continue
        total, peak, empty = 0.0, 0.0, 0
        stage_s = least[level + 1]
        for s in range(depth):
            o = 0.0
            for t in range(cross.shape[2]):
                o += cross[level + 1, s, t]
            total += weight_o * o + weight_p * time[level + 1, s]
            stage_s += time[level + 1, s]
            peak = max(peak, o, time[level + 1, s])
            used = False
            for x in range(level + 1):
                used = used or path[x, 0] == s
            empty += 0 if used else 1
        if empty > count - level - 1:
            continue
        bound = total + weight_p * least[level + 1] + weight_t * max(peak, stage_s / depth)
        if bound * (1 - 1e-13) >= best[0]:
            continue
        if level == count - 1:
            best[0] = bound
            for x in range(count):
                out[x, 0], out[x, 1] = path[x, 0], path[x, 1]
            continue
        level += 1
        path[level, 0], path[level, 1] = 0, -1
    return level
