"""Small problems to the end: depth-first search below the best plan, under the bounds of a few dual points."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..dense import edge_tables
from .arrays import Posed
from .descend import Best, Bounds, Inflow, Placed, descend
from .relax import Point, prices

Array = np.ndarray

SLICE = 50_000
"""Nodes between two looks at the clock."""


def close(
    posed: Posed, points: Sequence[tuple[Point, float]], goal: float, most: int, clock: Callable[[], None]
) -> tuple[Array | None, bool]:
    """The best path strictly below a goal, or ``None``; and whether the search came to its end.

    Parameters
    ----------
    points
        Dual points, each with the share of the objective in it.
    most
        Nodes to visit.
    """
    flow = posed.flow
    count, ranks, _ = flow.time.shape
    arcs, tensors = _arcs(posed)
    bounds = _bounds(posed, points)
    path = np.full((count + 1, 2), -1, dtype=np.int64)
    partial = Placed(
        path,
        np.zeros((count + 1, ranks + posed.links)),
        np.zeros((count + 1, len(flow.row))),
        np.zeros((count + 1, len(flow.rank), tensors)),
        np.zeros((count + 1, len(points))),
    )
    found, level, left = Best(np.array([goal]), np.full((count, 2), -1, dtype=np.int64)), 0, most
    while level >= 0 and left > 0:
        clock()
        level = descend(level, min(SLICE, left), posed.objective, flow, arcs, bounds, partial, found)
        left -= SLICE
    return (found.path if found.path[0, 0] >= 0 else None), level < 0


def _arcs(posed: Posed) -> tuple[Inflow, int]:
    problem = posed.problem
    at = {layer: position for position, layer in enumerate(problem.order)}
    edges = sorted(problem.edges, key=lambda e: at[e.target])
    shared = [name for name, held in problem.tensors.items() if len(held) > 1]
    numbers = {name: number for number, name in enumerate(shared)}
    targets = np.array([at[e.target] for e in edges], dtype=np.int64)
    first = np.searchsorted(targets, np.arange(len(at) + 1))
    end = np.array([(at[e.source], numbers.get(e.tensor, -1)) for e in edges], dtype=np.int64).reshape(-1, 2)
    widest = posed.flow.time.shape[2]
    cost = edge_tables(edges, widest) if edges else np.zeros((2, 0, widest, widest))
    return Inflow(first, end, cost), len(shared)


def _bounds(posed: Posed, points: Sequence[tuple[Point, float]]) -> Bounds:
    flow = posed.flow
    priced = [prices(posed, point.dual, share) for point, share in points]
    to_go = np.zeros((len(points), *points[0][0].to_go.shape))
    for n, (one, (point, _)) in enumerate(zip(priced, points, strict=True)):
        for u in range(len(flow.time)):
            time = flow.time[u, flow.rank]
            own = one.rank[flow.rank][:, None] * np.where(np.isinf(time), 0.0, time)
            own = own + one.state[:, None] * flow.state[u] + one.stash[:, None] * flow.stash[u]
            to_go[n, u] = point.to_go[u] - own
    return Bounds(
        *(np.array(rows) for rows in zip(*priced, strict=True)),
        due=np.array([float(point.dual.price @ flow.cap) for point, _ in points]),
        active=np.array([share for _, share in points]),
        to_go=np.maximum(to_go, 0.0),
    )
