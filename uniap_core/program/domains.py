"""Which chunks and strategies each layer needs, and how many boundaries an edge can cross: reductions before posing.

They keep an optimal assignment (if there is any), and every feasible one down to a swap of dominated strategies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..problem import MEMORY_TOLERANCE, Problem
from . import pipe
from .ir import Array

ROUNDING = 1e-9
"""Relative slack of every comparison of sums here: what is removed is removed with certainty."""


@dataclass(frozen=True, eq=False)
class Domains:
    """What remains possible.

    Attributes
    ----------
    member
        Per layer (chunks, K) bool: chunks and strategies that no constraint excludes and no other strategy dominates.
    instead
        Per layer (chunks, K) int: the strategy that stands for each one there; its own number unless it is dominated.
    reach
        Per edge, the largest possible difference of chunks of its ends.
    edges
        Pairs (source, target) of which the order of chunks follows for all edges (transitive reduction).
    """

    member: tuple[Array, ...]
    instead: tuple[Array, ...]
    reach: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]


def domains(problem: Problem, limit_s: float = math.inf) -> Domains:
    """Reduce the problem's domains; a layer with an empty domain proves that no assignment is left.

    Only assignments with an objective of at most ``limit_s`` are of interest.

    A strategy leaves a chunk where it is impossible, or its own memory or time alone is too much, or another is as
    fast, as small, and as cheap on every edge. A layer leaves chunk j if the layers that may precede it cannot fill
    the chunks before j (no chunk is empty), if its ancestors do not fit into the memory and time of the ranks that
    hold the chunks up to j, if a neighbor has no chunk left in order; and likewise after it. An edge reaches over as
    many chunks as there are layers that may lie strictly between its ends, plus one.
    """
    above, below = _closure(problem)
    count, depth = len(problem.layers), problem.depth
    counts = pipe.counts(problem)
    member = [_own(problem, u, counts) for u in range(count)]
    for u in range(count):
        # Layers that may stand on chunks before (after) u's: all but its descendants (ancestors) and itself.
        before, after = count - 1 - below[u].bit_count(), count - 1 - above[u].bit_count()
        for j in range(depth):
            if before < j or after < depth - 1 - j:
                member[u][j] = False
    _propagate(problem, member)
    _fit(problem, member, above, below, limit_s)
    _propagate(problem, member)
    instead = [_dominate(problem, u, member[u], counts) for u in range(count)]
    everything = (1 << count) - 1
    reach = []
    for edge in problem.edges:
        outside = above[edge.source] | below[edge.target] | 1 << edge.source | 1 << edge.target
        reach.append(min(depth - 1, 1 + (everything & ~outside).bit_count()))
    return Domains(tuple(member), tuple(instead), tuple(reach), _reduction(problem, above, below))


def _own(problem: Problem, u: int, counts: list[Array]) -> Array:
    layer = problem.layers[u]
    possible: Array = np.isfinite(pipe.time_s(problem, layer))
    for j, i in enumerate(problem.chunks):
        rank = problem.ranks[i]
        need = rank.reserved_bytes + layer.state_bytes + counts[j][-1] * layer.stash_bytes
        possible[j] &= need <= rank.memory_bytes * (1 + MEMORY_TOLERANCE)
    return possible


def _fit(problem: Problem, member: list[Array], above: list[int], below: list[int], limit_s: float) -> None:
    """Ancestors of a layer on chunk j share the ranks of the chunks up to j, descendants those from j on."""
    spare = [(r.memory_bytes * (1 + MEMORY_TOLERANCE + ROUNDING) - r.reserved_bytes) for r in problem.ranks]
    flights = pipe.fullest(problem)[:, None]
    size = [layer.state_bytes + flights * layer.stash_bytes for layer in problem.layers]
    _fill(problem, member, size, np.maximum(spare, 0.0), above, below)
    times = [pipe.time_s(problem, layer) for layer in problem.layers]
    least = [_least(time, m) for time, m in zip(times, member, strict=True)]
    total = math.fsum(least)
    if math.isinf(limit_s) or math.isinf(total):
        return
    weights, ranks = problem.objective, len(problem.ranks)
    for time, possible, own in zip(times, member, least, strict=True):
        time_s = np.where(possible, time, 0.0)
        longest = np.maximum(time_s, total / ranks)
        possible &= weights.sum * (total - own + time_s) + weights.peak * longest <= limit_s * (1 + ROUNDING)
    slowest = peak_limit(problem, limit_s, total, weights.sum)
    if math.isfinite(slowest):
        _fill(problem, member, times, np.full(ranks, slowest), above, below)


def peak_limit(problem: Problem, limit_s: float, least_s: float, weight: float) -> float:
    """The most that one rank, or one link, may take; ``inf`` if the objective does not tell.

    Parameters
    ----------
    problem, limit_s
        The objective is at most ``limit_s``.
    least_s
        A lower bound of the sum of all ranks' times.
    weight
        What the objective multiplies it by besides the peak: ``sum`` of a rank, ``cross`` of a link.
    """
    weights = problem.objective
    if weights.peak:
        return max(0.0, (limit_s - weights.sum * least_s) / weights.peak) * (1 + ROUNDING)
    return limit_s / weight * (1 + ROUNDING) if weight else math.inf


def _fill(
    problem: Problem, member: list[Array], need: list[Array], capacity: Array, above: list[int], below: list[int]
) -> None:
    """Remove from ``member`` what cannot be packed: ``need`` has shape (chunks, K) per layer, ``capacity`` (ranks,)."""
    chunks = problem.chunks
    for possible, needs in zip(member, need, strict=True):
        possible &= needs <= capacity[list(chunks), None]
    upto, from_ = _reached(chunks, capacity), _reached(chunks[::-1], capacity)[::-1]
    least = [np.where(m, n, np.inf).min(axis=1) for m, n in zip(member, need, strict=True)]
    earlier = np.array([np.minimum.accumulate(n) for n in least])
    later = np.array([np.minimum.accumulate(n[::-1])[::-1] for n in least])
    for u, possible in enumerate(member):
        before, after = _bits(above[u], len(member)), _bits(below[u], len(member))
        own = np.where(possible, need[u], np.inf).min(axis=1)
        possible &= ((earlier[before].sum(axis=0) + own <= upto) & (later[after].sum(axis=0) + own <= from_))[:, None]


def _reached(chunks: tuple[int, ...], capacity: Array) -> Array:
    """Capacity of the ranks that hold the chunks up to each one; (chunks,)."""
    first = [i not in chunks[:j] for j, i in enumerate(chunks)]
    total: Array = np.cumsum(np.where(first, capacity[list(chunks)], 0.0)) * (1 + ROUNDING)
    return total


def _least(values: Array, where: Array) -> float:
    return float(np.min(values, initial=math.inf, where=where))


def _bits(set_: int, count: int) -> list[int]:
    return [v for v in range(count) if set_ >> v & 1]


def _dominate(problem: Problem, u: int, member: Array, counts: list[Array]) -> Array:
    """Remove dominated strategies from ``member`` in place; returns what stands for each."""
    layer, (depth, count) = problem.layers[u], member.shape
    cheaper: Array = np.ones((count, count), dtype=bool)
    for edge in problem.edges:
        for table in (edge.reshard_s, edge.cross_s):
            if edge.source == u:
                cheaper = cheaper & _no_worse(table)
            if edge.target == u:
                cheaper = cheaper & _no_worse(table.T)
    instead = np.broadcast_to(np.arange(count), (depth, count)).copy()
    time_s = pipe.time_s(problem, layer)
    for j in range(depth):
        sizes = layer.state_bytes[:, None] + counts[j] * layer.stash_bytes[:, None]
        no_worse = cheaper & _no_worse(time_s[j][:, None]) & _no_worse(sizes)
        no_worse &= member[j][:, None] & member[j][None, :]
        # Of equals, the first one stays.
        strict = no_worse & (~no_worse.T | (np.arange(count)[:, None] < np.arange(count)[None, :]))
        kept = member[j] & ~strict.any(axis=0)
        for k in np.flatnonzero(member[j] & ~kept):
            instead[j, k] = np.flatnonzero(no_worse[:, k] & kept)[0]
        member[j] = kept
    return instead


def _no_worse(table: Array) -> Array:
    """Entry [a, b]: row a is nowhere larger than row b."""
    return np.asarray((table[:, None, :] <= table[None, :, :]).all(axis=2))


def _propagate(problem: Problem, member: list[Array]) -> None:
    """Order: v no earlier than the first chunk of any u before it; u no later than the last chunk of any v."""
    chunks = np.arange(problem.depth)[:, None]
    into: list[list[int]] = [[] for _ in member]
    out: list[list[int]] = [[] for _ in member]
    for edge in problem.edges:
        into[edge.target].append(edge.source)
        out[edge.source].append(edge.target)
    for v in problem.order:
        first = max((_first(member[u]) for u in into[v]), default=0)
        member[v] &= chunks >= first
    for u in reversed(problem.order):
        last = min((_last(member[v]) for v in out[u]), default=problem.depth)
        member[u] &= chunks <= last


def _first(member: Array) -> int:
    used = np.flatnonzero(member.any(axis=1))
    return int(used[0]) if len(used) else len(member)


def _last(member: Array) -> int:
    used = np.flatnonzero(member.any(axis=1))
    return int(used[-1]) if len(used) else -1


def _closure(problem: Problem) -> tuple[list[int], list[int]]:
    """Ancestors and descendants of each layer, as bit sets."""
    above, below = [0] * len(problem.layers), [0] * len(problem.layers)
    rank = {u: position for position, u in enumerate(problem.order)}
    for edge in sorted(problem.edges, key=lambda e: rank[e.source]):
        above[edge.target] |= above[edge.source] | 1 << edge.source
    for edge in sorted(problem.edges, key=lambda e: -rank[e.target]):
        below[edge.source] |= below[edge.target] | 1 << edge.target
    return above, below


def _reduction(problem: Problem, above: list[int], below: list[int]) -> tuple[tuple[int, int], ...]:
    pairs = sorted({(edge.source, edge.target) for edge in problem.edges})
    return tuple((u, v) for u, v in pairs if not below[u] & above[v])
