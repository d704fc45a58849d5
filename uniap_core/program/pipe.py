"""What programs need to know of a pipeline: chunks by rank, boundaries by link, and the moments that decide."""

from __future__ import annotations

import numpy as np

from ..problem import Problem
from ..tables import Array, LayerTable, Moment, Rank


def time_s(problem: Problem, layer: LayerTable) -> Array:
    """Times of a layer by chunk instead of rank; (chunks, K)."""
    return layer.time_s[list(problem.chunks)]


def deciding(rank: Rank) -> tuple[Moment, ...]:
    """The moments of a rank that no other one exceeds in every count: memory that holds at these holds at all."""
    kept: list[Moment] = []
    for moment in sorted(set(rank.in_flight), reverse=True):  # what exceeds a moment comes before it
        if not any(all(a >= b for a, b in zip(other, moment, strict=True)) for other in kept):
            kept.append(moment)
    return tuple(kept)


def counts(problem: Problem) -> list[Array]:
    """Per chunk, the counts of its rank's deciding moments, least and largest; a need between them is linear."""
    found: list[Array] = [np.zeros(0)] * problem.depth
    for held, rank in zip(problem.held, problem.ranks, strict=True):
        for j, values in zip(held, zip(*deciding(rank), strict=True), strict=True):
            found[j] = np.unique([min(values), max(values)])
    return found


def fullest(problem: Problem) -> Array:
    """Count of each chunk at the moment when its rank holds most micro-batches; (chunks,).

    Sums of needs at one moment of a rank are at most its budget, so these counts give rows that hold.
    """
    found = np.zeros(problem.depth)
    for held, rank in zip(problem.held, problem.ranks, strict=True):
        found[list(held)] = max(rank.in_flight, key=sum)
    return found


def rank_changes(problem: Problem) -> Array:
    """Changes of rank up to each chunk; (chunks,) int. Chunks of equal number, and all between, lie on one rank."""
    chunks = np.array(problem.chunks)
    return np.concatenate([[0], np.cumsum(chunks[1:] != chunks[:-1])])


def links(problem: Problem) -> tuple[tuple[int, ...], ...]:
    """Boundaries between chunks by the pair of ranks that they lead from and to; none inside a rank."""
    found: dict[tuple[int, int], list[int]] = {}
    for j, ends in enumerate(zip(problem.chunks, problem.chunks[1:], strict=False)):
        if ends[0] != ends[1]:
            found.setdefault(ends, []).append(j)
    return tuple(tuple(boundaries) for boundaries in found.values())
