"""A first feasible assignment, in a fraction of a second: solvers start from it, and what it rules out is not posed.

Consecutive runs of the topological order become chunks. For one strategy everywhere, and for a series of prices of
memory (each layer takes the strategy of least time plus price), the best cut is found by dynamic programming over the
slowest chunk; then single layers change strategy or chunk while that helps. The chunks of a rank are given all its
memory each, and an equal share of it. No guarantee of quality, or of success.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..problem import Assignment, Problem
from . import pipe
from .domains import Domains, domains
from .ir import Array

PRICES = (0.0, *(10.0**e for e in np.linspace(-2, 2, 13)))
"""Prices of a whole chunk's memory, in units of the time that a chunk takes when every layer is fastest."""

WORK = 40_000
"""Layers priced while improving, at most; a count and not a time, so that the outcome is always the same."""


def start(problem: Problem) -> Assignment | None:
    """A good feasible assignment, or ``None`` if none is found."""
    reduced = domains(problem)
    best, best_s = None, np.inf
    budgets = _budgets(problem)
    for preferred in _preferences(problem, reduced):
        for budget in budgets:
            assignment = _cut(problem, reduced, preferred, budget)
            if assignment is not None:
                value = problem.evaluate(assignment)
                if value.feasible and value.objective_s < best_s:
                    best, best_s = assignment, value.objective_s
    return None if best is None else _improve(problem, reduced, best, best_s)


def _budgets(problem: Problem) -> list[Array]:
    """Memory that each chunk may use, (chunks,): what its rank has, and an equal share of it."""
    whole = np.array([problem.ranks[i].budget_bytes for i in problem.chunks])
    share = np.array([1 / len(problem.held[i]) for i in problem.chunks])
    return [whole] if (share == 1).all() else [whole, whole * share]


def _preferences(problem: Problem, reduced: Domains) -> Iterator[list[Array]]:
    """Per layer the strategy to use on each chunk, (chunks,) int."""
    times = [np.where(m, pipe.time_s(problem, t), np.inf) for m, t in zip(reduced.member, problem.layers, strict=True)]
    fastest = [t.argmin(axis=1) for t in times]
    for name in dict.fromkeys(name for layer in problem.layers for name in layer.strategies):
        yield [
            np.where(m[:, t.strategies.index(name)], t.strategies.index(name), f) if name in t.strategies else f
            for m, t, f in zip(reduced.member, problem.layers, fastest, strict=True)
        ]
    flights = pipe.fullest(problem)[:, None]
    # A rank without any memory to spare takes no layer that needs some, whatever the price.
    budgets = [problem.ranks[i].budget_bytes for i in problem.chunks]
    weight = np.array([[1 / budget if budget > 1 else 0.0] for budget in budgets])
    share = [(t.state_bytes + flights * t.stash_bytes) * weight for t in problem.layers]
    least = [float(t.min()) for t in times]
    unit = sum(t for t in least if np.isfinite(t)) / problem.depth
    for price in PRICES:
        yield [(t + price * unit * s).argmin(axis=1) for t, s in zip(times, share, strict=True)]


def _cut(problem: Problem, reduced: Domains, preferred: list[Array], budget: Array) -> Assignment | None:
    """The chunks, consecutive in the topological order, with the least slowest one among those that fit."""
    count, depth = len(problem.layers), problem.depth
    if count < depth:
        return None
    reached = np.full(count + 1, np.inf)
    reached[0] = 0.0
    first = np.zeros((depth, count + 1), dtype=np.int64)
    flights = pipe.fullest(problem)
    for j, i in enumerate(problem.chunks):
        time, size = np.zeros(count), np.zeros(count)
        for position, u in enumerate(problem.order):
            layer, k = problem.layers[u], preferred[u][j]
            possible = reduced.member[u][j, k]
            time[position] = layer.time_s[i, k] if possible else np.inf
            size[position] = layer.state_bytes[k] + flights[j] * layer.stash_bytes[k]
        # Sums over positions a..b-1, one row per a; impossible layers are inf from there on.
        inside = np.triu(np.ones((count, count)))
        slowest = np.cumsum(np.where(inside > 0, time, 0.0), axis=1)
        slowest[np.cumsum(inside * size, axis=1) > budget[j]] = np.inf
        value = np.where(inside > 0, np.maximum(reached[:count, None], slowest), np.inf)
        first[j, 1:] = value.argmin(axis=0)
        reached = np.concatenate([[np.inf], value.min(axis=0)])
    if np.isinf(reached[count]):
        return None
    chunks, strategies, end = [0] * count, [0] * count, count
    for j in reversed(range(depth)):
        begin = int(first[j, end])
        for u in (problem.order[position] for position in range(begin, end)):
            chunks[u], strategies[u] = j, int(preferred[u][j])
        end = begin
    return Assignment(tuple(chunks), tuple(strategies))


def _improve(problem: Problem, reduced: Domains, best: Assignment, best_s: float) -> Assignment:
    """Change one layer at a time, to any strategy on its chunk or a neighboring one, while that helps."""
    left, improving = WORK // len(problem.layers), True
    while improving:
        improving = False
        for u, member in enumerate(reduced.member):
            for j, k in zip(*np.nonzero(member), strict=True):
                if abs(j - best.stage[u]) > 1 or (j, k) == (best.stage[u], best.strategy[u]):
                    continue
                if not left:
                    return best
                left -= 1
                changed = Assignment(_with(best.stage, u, int(j)), _with(best.strategy, u, int(k)))
                value = problem.evaluate(changed)
                if value.feasible and value.objective_s < best_s * (1 - 1e-12):
                    best, best_s, improving = changed, value.objective_s, True
    return best


def _with(values: tuple[int, ...], u: int, value: int) -> tuple[int, ...]:
    return (*values[:u], value, *values[u + 1 :])
