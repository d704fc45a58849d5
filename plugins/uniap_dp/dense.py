"""A problem by positions in topological order: dense arrays, what a layer lacks impossible, and back again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from uniap_core.api import MEMORY_TOLERANCE, Assignment, EdgeTable, Problem

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Dense:
    """Tables of all layers.

    Attributes
    ----------
    sizes
        Number of strategies of each layer (L,).
    time, memory
        Seconds (``inf`` where impossible) and bytes of each layer, stage and strategy (L, P, K).
    cap
        What layers may use on each stage, bytes (P,).
    """

    sizes: Array
    time: Array
    memory: Array
    cap: Array


def dense(problem: Problem) -> Dense:
    """Lay the layers of a problem side by side."""
    layers = [problem.layers[u] for u in problem.order]
    sizes = [len(layer.strategies) for layer in layers]
    widest = max(sizes)
    flights = np.array([rank.peak_in_flight[0] for rank in problem.ranks])
    state = stack([layer.state_bytes for layer in layers], (widest,))
    stash = stack([layer.stash_bytes for layer in layers], (widest,))
    return Dense(
        sizes=np.array(sizes),
        time=stack([layer.time_s for layer in layers], (problem.depth, widest), np.inf),
        memory=state[:, None, :] + flights[:, None] * stash[:, None, :],
        cap=np.array([s.memory_bytes * (1 + MEMORY_TOLERANCE) - s.reserved_bytes for s in problem.ranks]),
    )


def edge_tables(edges: Sequence[EdgeTable], widest: int) -> Array:
    """Resharding and crossing of every edge (2, E, K, K); what an end lacks reshards for nothing and cannot cross."""
    shape = widest, widest
    return np.array([stack([e.reshard_s for e in edges], shape), stack([e.cross_s for e in edges], shape, np.inf)])


def chain_edges(problem: Problem) -> list[int] | None:
    """The number of an edge from each layer to the next of the order; ``None`` if some are not joined."""
    following = dict(pairwise(problem.order))
    last_first = reversed(list(enumerate(problem.edges)))
    leaving = {e.source: number for number, e in last_first if following.get(e.source) == e.target}
    if len(leaving) < len(problem.layers) - 1:
        return None
    return [leaving[u] for u in problem.order[:-1]]


def assignment(problem: Problem, places: Iterable[tuple[int, int, int]]) -> Assignment:
    """The assignment of (position, stage, strategy) of every layer."""
    stage, strategy = [0] * len(problem.layers), [0] * len(problem.layers)
    for position, i, k in places:
        stage[problem.order[position]], strategy[problem.order[position]] = i, k
    return Assignment(tuple(stage), tuple(strategy))


def stack(tables: Sequence[Array], shape: tuple[int, ...], rest: float = 0.0) -> Array:
    """Tables side by side, each made up to one shape with ``rest``."""
    if {table.shape for table in tables} == {shape}:
        return np.array(tables)
    out = np.full((len(tables), *shape), rest)
    for at, table in enumerate(tables):
        out[at][tuple(slice(n) for n in table.shape)] = table
    return out
