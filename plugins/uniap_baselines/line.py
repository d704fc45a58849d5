"""A problem as its layers in a row: what planners see that know chains alone."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from uniap_core.api import Assignment, Problem

Array = np.ndarray

Choice = list[int]
"""Strategy index of each layer, by position in the row."""


class Line:
    """Layers of a problem in topological order; positions in that order are what this package counts in.

    Stages are runs of positions, so order holds whatever the graph is. Edges between neighbours are seen by the
    choice of strategies, all edges by the price of what was chosen.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.layers = [problem.layers[u] for u in problem.order]
        self.position = {u: at for at, u in enumerate(problem.order)}

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def between(self) -> list[Array]:
        """Resharding from each position but the last to the next, seconds; shape (K, K')."""
        tables = [
            np.zeros((len(a.strategies), len(b.strategies))) for a, b in zip(self.layers, self.layers[1:], strict=False)
        ]
        for edge in self.problem.edges:
            a, b = self.position[edge.source], self.position[edge.target]
            if b == a + 1:
                tables[a] = tables[a] + edge.reshard_s
        return tables

    def need_bytes(self, at: int, stage: int, chunk: int = 0) -> Array:
        """Bytes of the layer at a position in one of a stage's chunks, per strategy, when that chunk is fullest."""
        layer = self.layers[at]
        need: Array = layer.state_bytes + self.problem.ranks[stage].peak_in_flight[chunk] * layer.stash_bytes
        return need

    def assignment(self, ends: tuple[int, ...], choice: Choice) -> Assignment:
        """The assignment of stages that end before ``ends`` (the last is the number of layers)."""
        stage, strategy = [0] * len(self), [0] * len(self)
        for u, at in self.position.items():
            stage[u] = sum(at >= end for end in ends[:-1])
            strategy[u] = choice[at]
        return Assignment(tuple(stage), tuple(strategy))

    def segments_s(self, choice: Choice, stage: int) -> Array:
        """Time of every run of positions a..b-1 on a stage under a fixed choice; shape (n + 1, n + 1)."""
        n = len(self)
        own = np.array([float(layer.time_s[stage, k]) for layer, k in zip(self.layers, choice, strict=True)])
        inner = np.zeros((n, n))
        for edge in self.problem.edges:
            a, b = self.position[edge.source], self.position[edge.target]
            inner[a, b] += float(edge.reshard_s[choice[a], choice[b]])
        return _sums(own, inner)

    def fits(self, choice: Choice, stage: int) -> Array:
        """Whether every run a..b-1 fits a stage's memory under a fixed choice; shape (n + 1, n + 1)."""
        needs = np.array([float(self.need_bytes(at, stage)[k]) for at, k in enumerate(choice)])
        used = _sums(needs, np.zeros((len(self), len(self))))
        fitting: Array = used <= self.problem.ranks[stage].budget_bytes
        return fitting

    def crossing_s(self, choice: Choice) -> Array:
        """Time to cross the boundary before each position under a fixed choice; length n + 1."""
        crossing: list[dict[str, float]] = [{} for _ in range(len(self) + 1)]
        for edge in self.problem.edges:
            a, b = self.position[edge.source], self.position[edge.target]
            for boundary in range(a + 1, b + 1):
                tensors = crossing[boundary]
                cost = float(edge.cross_s[choice[a], choice[b]])
                tensors[edge.tensor] = max(tensors.get(edge.tensor, 0.0), cost)
        return np.array([sum(tensors.values()) for tensors in crossing])

    @cached_property
    def blocks(self) -> list[int]:
        """Positions of repeated layers (those with a twin), or all of them if there are too few."""
        seen: dict[tuple[bytes, bytes, bytes], list[int]] = {}
        for at, layer in enumerate(self.layers):
            key = layer.time_s.tobytes(), layer.state_bytes.tobytes(), layer.stash_bytes.tobytes()
            seen.setdefault(key, []).append(at)
        repeated = sorted(at for group in seen.values() if len(group) > 1 for at in group)
        return repeated if len(repeated) >= self.problem.depth else list(range(len(self)))


def _sums(own: Array, inner: Array) -> Array:
    """Sums over every run a..b-1 of what each position and each pair inside adds."""
    n = len(own)
    total = np.zeros((n + 1, n + 1))
    for b in range(1, n + 1):
        column = np.cumsum(inner[::-1, b - 1])[::-1] + own[b - 1]
        total[:b, b] = total[:b, b - 1] + column[:b]
    return total
