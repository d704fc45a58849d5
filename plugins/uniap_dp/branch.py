"""Small graphs of any shape by depth-first search: what is left when the lattice is too large.

Layers are placed in topological order, stage and strategy at once. A partial assignment is dropped when its sum so
far, plus the least time of every layer to come, plus the weighted peak that follows from both, cannot meet the
cutoff. Exact, and hopeless beyond a dozen layers; ``most`` nodes are the budget.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uniap_core.api import Assignment, Problem

from .codes import TooLarge
from .dense import assignment, dense, edge_tables, weights
from .jit import compiled
from .signatures import WEIGHTS

Array = np.ndarray

INF = np.inf

SLICE = 200_000
"""Nodes between two looks at the clock."""


def search(problem: Problem, cutoff: float, most: int, clock: Callable[[], None]) -> Assignment | None:
    """The best assignment strictly below a cutoff, or ``None``.

    Raises
    ------
    TooLarge
        If more than ``most`` nodes are needed.
    """
    count, depth = len(problem.layers), problem.depth
    tables = _tables(problem)
    path = np.full((count + 1, 2), -1, dtype=np.int64)
    path[0] = 0, -1
    time, memory = np.zeros((count + 1, depth)), np.zeros((count + 1, depth))
    cross = np.zeros((count + 1, depth, len(problem.tensors) + 1))
    best, best_path, level, used = np.array([cutoff]), np.full((count, 2), -1, dtype=np.int64), 0, 0
    while level >= 0:
        clock()
        nodes = min(SLICE, most - used)
        level = descend(level, nodes, weights(problem), *tables, path, time, memory, cross, best, best_path)
        used += nodes
        if used >= most and level >= 0:
            raise TooLarge(f"more than {most} nodes of depth-first search")
    if best_path[0, 0] < 0:
        return None
    return assignment(problem, ((u, i, k) for u, (i, k) in enumerate(best_path.tolist())))


def _tables(problem: Problem) -> tuple[Array, ...]:
    """Caps, sizes, times, memory, least times to come, and edges into each layer, by position."""
    layers = dense(problem)
    at = {layer: position for position, layer in enumerate(problem.order)}
    least = np.append(layers.time.min(axis=(1, 2))[::-1].cumsum()[::-1], 0.0)
    edges = sorted(problem.edges, key=lambda e: at[e.target])
    numbers = {name: number for number, name in enumerate(problem.tensors)}
    ends = np.array([(at[e.source], at[e.target], numbers[e.tensor]) for e in edges], dtype=np.int64).reshape(-1, 3)
    costs = edge_tables(edges, layers.time.shape[2])
    return layers.cap, layers.sizes, layers.time, layers.memory, least, ends, costs


@compiled(
    f"i8(i8, i8, {WEIGHTS}, f8[::1], i8[::1], f8[:, :, ::1], f8[:, :, ::1], f8[::1], i8[:, ::1], f8[:, :, :, ::1],"
    "i8[:, ::1], f8[:, ::1], f8[:, ::1], f8[:, :, ::1], f8[::1], i8[:, ::1])"
)
def descend(
    level, nodes, weights, caps, sizes, times, bytes_, least, ends, costs, path, time, memory, cross, best, out
):
    """Visit up to ``nodes`` nodes from where ``path`` stands; returns the level to go on from, -1 when all are done."""
    count, depth = len(sizes), len(caps)
    weight_p, weight_o, weight_t = weights
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
