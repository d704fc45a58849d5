"""A first feasible assignment, in a fraction of a second: solvers start from it, and what it rules out is not posed.

Consecutive runs of the topological order become stages. For one strategy everywhere, and for a series of prices of
memory (each layer takes the strategy of least time plus price), the best cut is found by dynamic programming over the
slowest stage; then single layers change strategy or stage while that helps. No guarantee of quality, or of success.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..problem import Assignment, Problem
from .domains import Domains, domains
from .ir import Array

PRICES = (0.0, *(10.0**e for e in np.linspace(-2, 2, 13)))
"""Prices of a whole stage's memory, in units of the time that a stage takes when every layer is fastest."""

WORK = 40_000
"""Layers priced while improving, at most; a count and not a time, so that the outcome is always the same."""


def start(problem: Problem) -> Assignment | None:
    """A good feasible assignment, or ``None`` if none is found."""
    reduced = domains(problem)
    best, best_s = None, np.inf
    for preferred in _preferences(problem, reduced):
        assignment = _cut(problem, reduced, preferred)
        if assignment is not None:
            value = problem.evaluate(assignment)
            if value.feasible and value.objective_s < best_s:
                best, best_s = assignment, value.objective_s
    return None if best is None else _improve(problem, reduced, best, best_s)


def _preferences(problem: Problem, reduced: Domains) -> Iterator[list[Array]]:
    """Per layer the strategy to use on each stage, (P,) int."""
    times = [np.where(m, t.time_s, np.inf) for m, t in zip(reduced.member, problem.layers, strict=True)]
    fastest = [t.argmin(axis=1) for t in times]
    for name in dict.fromkeys(name for layer in problem.layers for name in layer.strategies):
        yield [
            np.where(m[:, t.strategies.index(name)], t.strategies.index(name), f) if name in t.strategies else f
            for m, t, f in zip(reduced.member, problem.layers, fastest, strict=True)
        ]
    flights = np.array([[s.peak_in_flight[0]] for s in problem.ranks])
    # A stage without any memory to spare takes no layer that needs some, whatever the price.
    weight = np.array([[1 / s.budget_bytes if s.budget_bytes > 1 else 0.0] for s in problem.ranks])
    share = [(t.state_bytes + flights * t.stash_bytes) * weight for t in problem.layers]
    least = [float(t.min()) for t in times]
    unit = sum(t for t in least if np.isfinite(t)) / problem.depth
    for price in PRICES:
        yield [(t + price * unit * s).argmin(axis=1) for t, s in zip(times, share, strict=True)]


def _cut(problem: Problem, reduced: Domains, preferred: list[Array]) -> Assignment | None:
    """The stages, consecutive in the topological order, with the least slowest one among those that fit."""
    count, depth = len(problem.layers), problem.depth
    if count < depth:
        return None
    reached = np.full(count + 1, np.inf)
    reached[0] = 0.0
    first = np.zeros((depth, count + 1), dtype=np.int64)
    for i, stage in enumerate(problem.ranks):
        time, size = np.zeros(count), np.zeros(count)
        for position, u in enumerate(problem.order):
            layer, k = problem.layers[u], preferred[u][i]
            possible = reduced.member[u][i, k]
            time[position] = layer.time_s[i, k] if possible else np.inf
            size[position] = layer.state_bytes[k] + stage.peak_in_flight[0] * layer.stash_bytes[k]
        # Sums over positions a..b-1, one row per a; impossible layers are inf from there on.
        inside = np.triu(np.ones((count, count)))
        slowest = np.cumsum(np.where(inside > 0, time, 0.0), axis=1)
        slowest[np.cumsum(inside * size, axis=1) > stage.budget_bytes] = np.inf
        value = np.where(inside > 0, np.maximum(reached[:count, None], slowest), np.inf)
        first[i, 1:] = value.argmin(axis=0)
        reached = np.concatenate([[np.inf], value.min(axis=0)])
    if np.isinf(reached[count]):
        return None
    stages, strategies, end = [0] * count, [0] * count, count
    for i in reversed(range(depth)):
        begin = int(first[i, end])
        for u in (problem.order[position] for position in range(begin, end)):
            stages[u], strategies[u] = i, int(preferred[u][i])
        end = begin
    return Assignment(tuple(stages), tuple(strategies))


def _improve(problem: Problem, reduced: Domains, best: Assignment, best_s: float) -> Assignment:
    """Change one layer at a time, to any strategy on its stage or a neighboring one, while that helps."""
    left, improving = WORK // len(problem.layers), True
    while improving:
        improving = False
        for u, member in enumerate(reduced.member):
            for i, k in zip(*np.nonzero(member), strict=True):
                if abs(i - best.stage[u]) > 1 or (i, k) == (best.stage[u], best.strategy[u]):
                    continue
                if not left:
                    return best
                left -= 1
                changed = Assignment(_with(best.stage, u, int(i)), _with(best.strategy, u, int(k)))
                value = problem.evaluate(changed)
                if value.feasible and value.objective_s < best_s * (1 - 1e-12):
                    best, best_s, improving = changed, value.objective_s, True
    return best


def _with(values: tuple[int, ...], u: int, value: int) -> tuple[int, ...]:
    return (*values[:u], value, *values[u + 1 :])
