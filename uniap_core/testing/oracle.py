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
from uniap_core.problem import MEMORY_TOLERANCE, Array, Assignment, Problem

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
    stage_s = [0.0] * problem.depth
    for layer, i in zip(problem.layers, stage, strict=True):
        stage_s[i] += float(layer.time_s[i].min())
    longest = (problem.micro_batches - 1) * max(stage_s) if problem.micro_batches > 1 else 0.0  # 0 * inf is nan
    return (math.fsum(stage_s) + longest) * (1 - 1e-12)


def _objectives(problem: Problem, stage: tuple[int, ...], sizes: tuple[int, ...]) -> Array:
    """Time per iteration of every combination of strategies (one axis per layer), ``inf`` where it does not fit."""
    depth = problem.depth

    def axes(values: Array, *layers: int) -> Array:
        """Values by the strategies of some layers, laid along those layers' axes."""
        ordered = values if list(layers) == sorted(layers) else values.T
        return ordered.reshape([sizes[u] if u in layers else 1 for u in range(len(sizes))])

    stage_s = [np.zeros((1,) * len(sizes)) for _ in range(depth)]
    memory = [np.full((1,) * len(sizes), s.reserved_bytes) for s in problem.stages]
    for u, (layer, i) in enumerate(zip(problem.layers, stage, strict=True)):
        stage_s[i] = stage_s[i] + axes(layer.time_s[i], u)
        memory[i] = memory[i] + axes(layer.state_bytes + problem.stages[i].in_flight * layer.stash_bytes, u)
    crossing: list[dict[str, Array]] = [{} for _ in range(depth - 1)]
    for edge in problem.edges:
        i, j = stage[edge.source], stage[edge.target]
        if i == j:
            stage_s[i] = stage_s[i] + axes(edge.reshard_s, edge.source, edge.target)
        cross_s = axes(edge.cross_s, edge.source, edge.target)
        for tensors in crossing[i:j]:
            tensors[edge.tensor] = np.maximum(tensors[edge.tensor], cross_s) if edge.tensor in tensors else cross_s
    total: Array = np.zeros(sizes)
    longest: Array = np.zeros(sizes)
    for term in [*stage_s, *(np.asarray(sum(tensors.values(), start=0.0)) for tensors in crossing)]:
        total = total + term
        longest = np.maximum(longest, term)
    objective = total if problem.micro_batches == 1 else total + (problem.micro_batches - 1) * longest
    for used, s in zip(memory, problem.stages, strict=True):
        objective = np.where(used > s.memory_bytes * (1 + MEMORY_TOLERANCE), math.inf, objective)
    return objective
