"""The optimum by enumeration: slow, short and obviously right; what every exact solver is held against.

All placements that respect order are listed one by one; for each, all combinations of strategies are priced at once
in an array with one axis per layer. Nothing here shares code with a solver or with :meth:`Problem.evaluate`, which
prices the winner once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from uniap_core.errors import BadValue
from uniap_core.problem import MEMORY_TOLERANCE, Assignment, Problem
from uniap_core.tables import Array

LIMIT = 4_000_000
"""Combinations of strategies that are priced at once, at most."""


@dataclass(frozen=True)
class Optimum:
    """The least time per iteration and one assignment that attains it; ``inf`` and ``None`` if infeasible."""

    objective_s: float
    assignment: Assignment | None

    @property
    def feasible(self) -> bool:
        """Whether any assignment satisfies the constraints."""
        return self.assignment is not None


def optimum(problem: Problem) -> Optimum:
    """Enumerate every assignment.

    Parameters
    ----------
    problem
        At most about six layers: the product of the strategy counts is limited to :data:`LIMIT`.

    Raises
    ------
    BadValue
        If the problem is too large to enumerate.
    """
    sizes = tuple(len(layer.strategies) for layer in problem.layers)
    if math.prod(sizes) > LIMIT:
        raise BadValue(f"{problem.name} has {math.prod(sizes)} combinations of strategies", "enumerate smaller ones")
    best, found = math.inf, None
    for stage in placements(problem):
        if _least(problem, stage) >= best:
            continue
        objective = _objectives(problem, stage, sizes)
        index = int(np.argmin(objective))
        if objective.flat[index] < best:
            best = float(objective.flat[index])
            found = Assignment(stage, tuple(int(k) for k in np.unravel_index(index, sizes)))
    if found is None:
        return Optimum(math.inf, None)
    return Optimum(problem.evaluate(found).objective_s, found)


def placements(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Every stage vector with no edge backward and no stage empty."""
    stage = [-1] * len(problem.layers)
    producers: list[list[int]] = [[] for _ in problem.layers]
    for edge in problem.edges:
        producers[edge.target].append(edge.source)

    def place(number: int) -> Iterator[tuple[int, ...]]:
        if number == len(problem.order):
            if len(set(stage)) == problem.depth:
                yield tuple(stage)
            return
        u = problem.order[number]
        for i in range(max((stage[v] for v in producers[u]), default=0), problem.depth):
            stage[u] = i
            yield from place(number + 1)

    return place(0)


def _least(problem: Problem, stage: tuple[int, ...]) -> float:
    """A lower bound of a placement from each layer's fastest strategy alone; ``inf`` if one has none."""
    rank_s = [0.0] * len(problem.ranks)
    for layer, j in zip(problem.layers, stage, strict=True):
        i = problem.chunks[j]
        rank_s[i] += float(layer.time_s[i].min())
    if math.isinf(max(rank_s)):
        return math.inf
    return (problem.objective.sum * math.fsum(rank_s) + problem.objective.peak * max(rank_s)) * (1 - 1e-12)


def _objectives(problem: Problem, stage: tuple[int, ...], sizes: tuple[int, ...]) -> Array:
    """Time per iteration of every combination of strategies (one axis per layer), ``inf`` where it does not fit."""
    where, depth = problem.chunks, problem.depth

    def axes(values: Array, *layers: int) -> Array:
        """Values by the strategies of some layers, laid along those layers' axes."""
        ordered = values if list(layers) == sorted(layers) else values.T
        return ordered.reshape([sizes[u] if u in layers else 1 for u in range(len(sizes))])

    nothing = np.zeros((1,) * len(sizes))
    rank_s = [nothing for _ in problem.ranks]
    state, stash = [nothing for _ in where], [nothing for _ in where]
    for u, (layer, j) in enumerate(zip(problem.layers, stage, strict=True)):
        rank_s[where[j]] = rank_s[where[j]] + axes(layer.time_s[where[j]], u)
        state[j], stash[j] = state[j] + axes(layer.state_bytes, u), stash[j] + axes(layer.stash_bytes, u)
    crossing: list[dict[str, Array]] = [{} for _ in range(depth - 1)]
    for edge in problem.edges:
        i, j = stage[edge.source], stage[edge.target]
        left = [b for b in range(i, j) if where[b] != where[b + 1]]
        if not left:
            rank_s[where[j]] = rank_s[where[j]] + axes(edge.reshard_s, edge.source, edge.target)
        cross_s = axes(edge.cross_s, edge.source, edge.target)
        for tensors in (crossing[b] for b in left):
            tensors[edge.tensor] = np.maximum(tensors[edge.tensor], cross_s) if edge.tensor in tensors else cross_s
    links: dict[tuple[int, int], Array] = {}
    for b, tensors in enumerate(crossing):
        ends = where[b], where[b + 1]
        links[ends] = links.get(ends, nothing) + np.asarray(sum(tensors.values(), start=0.0))
    objective: Array = np.zeros(sizes)
    longest: Array = np.zeros(sizes)
    for term in rank_s:
        # 0 * inf is not a number, and what is impossible stays so without a weight.
        weighted = problem.objective.sum * term if problem.objective.sum else np.where(np.isinf(term), math.inf, 0.0)
        objective = objective + weighted
    for term in links.values():
        objective = objective + problem.objective.cross * term
    for term in [*rank_s, *links.values()]:
        longest = np.maximum(longest, term)
    if problem.objective.peak:
        objective = objective + problem.objective.peak * longest
    for i, rank in enumerate(problem.ranks):
        held = [j for j, r in enumerate(where) if r == i]
        for moment in rank.in_flight:
            used = rank.reserved_bytes + sum(state[j] + f * stash[j] for j, f in zip(held, moment, strict=True))
            objective = np.where(used > rank.memory_bytes * (1 + MEMORY_TOLERANCE), math.inf, objective)
    return objective
