"""Exhaustive search for an assignment below a cutoff: the verifier's own, for problems small enough.

Layers are placed one by one in topological order. Time and memory only grow as layers are added, so a partial
assignment that reaches the cutoff, or exceeds a memory, is given up with everything that extends it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import networkx as nx

from ..problem import MEMORY_TOLERANCE, Assignment, EdgeTable, Problem


class TooLarge(Exception):
    """The search took more steps than it was given."""


@dataclass(frozen=True)
class State:
    """Sums over the layers placed so far, by stage, and for each boundary the dearest edge of every tensor."""

    stage_s: tuple[float, ...]
    memory_bytes: tuple[float, ...]
    cross_s: tuple[dict[str, float], ...]

    def seconds(self, micro_batches: int, missing_s: float = 0.0) -> float:
        """Time per iteration so far, if what is missing adds at least ``missing_s`` to the sum."""
        crossing = [math.fsum(tensors.values()) for tensors in self.cross_s]
        steady = (micro_batches - 1) * max(*self.stage_s, *crossing, 0.0) if micro_batches > 1 else 0.0
        return math.fsum((*self.stage_s, *crossing, missing_s, steady))


@dataclass
class Search:
    """One search; ``best_s`` falls as better assignments are found."""

    posed: Problem
    best_s: float
    budget: int
    found: Assignment | None = None
    steps: int = 0
    order: list[int] = field(default_factory=list)
    entering: dict[int, list[EdgeTable]] = field(default_factory=dict)
    missing_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        dag = nx.DiGraph([(e.source, e.target) for e in self.posed.edges])
        dag.add_nodes_from(range(len(self.posed.layers)))
        self.order = list(nx.topological_sort(dag))
        for e in self.posed.edges:
            self.entering.setdefault(e.target, []).append(e)
        cheapest = [float(self.posed.layers[u].time_s.min()) for u in self.order]
        self.missing_s = [math.fsum(cheapest[n:]) * (1 - 1e-12) for n in range(len(cheapest) + 1)]

    def run(self) -> None:
        """Visit every assignment that may be better."""
        stages = self.posed.stages
        start = State(
            (0.0,) * len(stages), tuple(s.reserved_bytes for s in stages), tuple({} for _ in range(len(stages) - 1))
        )
        self._place(0, start, {})

    def _place(self, n: int, state: State, placed: dict[int, tuple[int, int]]) -> None:
        depth, empty = self.posed.depth, self.posed.depth - len({i for i, _ in placed.values()})
        if empty > len(self.order) - n or state.seconds(self.posed.micro_batches, self.missing_s[n]) >= self.best_s:
            return
        if n == len(self.order):
            self.best_s = state.seconds(self.posed.micro_batches)
            rows = [placed[u] for u in range(n)]
            self.found = Assignment(tuple(i for i, _ in rows), tuple(k for _, k in rows))
            return
        u = self.order[n]
        first = max((placed[e.source][0] for e in self.entering.get(u, [])), default=0)
        for i in range(first, depth):
            for k in range(len(self.posed.layers[u].strategies)):
                self.steps += 1
                if self.steps > self.budget:
                    raise TooLarge
                extended = self._extend(state, placed, u, i, k)
                if extended is not None:
                    self._place(n + 1, extended, {**placed, u: (i, k)})

    def _extend(self, state: State, placed: dict[int, tuple[int, int]], u: int, i: int, k: int) -> State | None:
        layer, stage = self.posed.layers[u], self.posed.stages[i]
        time_s = float(layer.time_s[i, k])
        bytes_ = state.memory_bytes[i] + float(layer.state_bytes[k]) + stage.in_flight * float(layer.stash_bytes[k])
        if math.isinf(time_s) or bytes_ > stage.memory_bytes * (1 + MEMORY_TOLERANCE):
            return None
        crossing = list(state.cross_s)
        for e in self.entering.get(u, []):
            j, m = placed[e.source]
            if j == i:
                time_s += float(e.reshard_s[m, k])
            for boundary in range(j, i):
                dearest = max(crossing[boundary].get(e.tensor, 0.0), float(e.cross_s[m, k]))
                crossing[boundary] = {**crossing[boundary], e.tensor: dearest}
        stage_s, memory = list(state.stage_s), list(state.memory_bytes)
        stage_s[i] += time_s
        memory[i] = bytes_
        return State(tuple(stage_s), tuple(memory), tuple(crossing))


def exhaust(posed: Problem, cutoff_s: float, budget: int = 100_000) -> tuple[Assignment | None, int]:
    """The best assignment strictly below a cutoff, or None if there is none; and the steps it took.

    Parameters
    ----------
    cutoff_s
        Seconds per iteration; ``inf`` looks for any feasible assignment.
    budget
        Steps (one layer, one stage, one strategy) after which to give up; about a second.

    Raises
    ------
    TooLarge
        If the budget did not suffice.
    """
    search = Search(posed, cutoff_s, budget)
    search.run()
    return search.found, search.steps
