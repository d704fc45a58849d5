"""Small graphs of any shape by depth-first search: what is left when the lattice is too large.

Layers are placed in topological order, stage and strategy at once. A partial assignment is dropped when its sum so
far, plus the least time of every layer to come, plus the weighted peak that follows from both, cannot meet the
cutoff. Exact, and hopeless beyond a dozen layers; ``most`` nodes are the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uniap_core.api import Assignment, Problem

from ..codes import TooLarge
from ..dense import assignment, dense, edge_tables
from ..objective import Objective
from .descend import Found, Partial, Tables, descend

Array = np.ndarray

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
    tables, objective = _tables(problem), Objective.of(problem)
    path = np.full((count + 1, 2), -1, dtype=np.int64)
    path[0] = 0, -1
    stages = count + 1, depth
    partial = Partial(path, np.zeros(stages), np.zeros(stages), np.zeros((*stages, len(problem.tensors) + 1)))
    found, level, used = Found(np.array([cutoff]), np.full((count, 2), -1, dtype=np.int64)), 0, 0
    while level >= 0:
        clock()
        nodes = min(SLICE, most - used)
        level = descend(level, nodes, objective, tables, partial, found)
        used += nodes
        if used >= most and level >= 0:
            raise TooLarge(f"more than {most} nodes of depth-first search")
    if found.path[0, 0] < 0:
        return None
    return assignment(problem, ((u, i, k) for u, (i, k) in enumerate(found.path.tolist())))


def _tables(problem: Problem) -> Tables:
    """The problem as the compiled loop takes it."""
    layers = dense(problem)
    at = {layer: position for position, layer in enumerate(problem.order)}
    least = np.append(layers.time.min(axis=(1, 2))[::-1].cumsum()[::-1], 0.0)
    edges = sorted(problem.edges, key=lambda e: at[e.target])
    numbers = {name: number for number, name in enumerate(problem.tensors)}
    ends = np.array([(at[e.source], at[e.target], numbers[e.tensor]) for e in edges], dtype=np.int64).reshape(-1, 3)
    costs = edge_tables(edges, layers.time.shape[2])
    return Tables(layers.cap, layers.sizes, layers.time, layers.memory, least, ends, costs)
