"""Exhaustive search for an assignment below a cutoff: the verifier's own, for problems small enough.

Layers are placed one by one in topological order. Time and memory only grow as layers are added, so a partial
assignment that reaches the cutoff, or exceeds a memory, is given up with everything that extends it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import networkx as nx

from ..problem import MEMORY_TOLERANCE, Assignment, Problem
from ..tables import EdgeTable


class TooLarge(Exception):
    """The search took more steps than it was given."""


@dataclass(frozen=True)
class State:
    """Sums over what is placed: seconds by rank, bytes by chunk, and each tensor's dearest edge by boundary."""

    rank_s: tuple[float, ...]
    state_bytes: tuple[float, ...]
    stash_bytes: tuple[float, ...]
    cross_s: tuple[dict[str, float], ...]

    def seconds(self, posed: Problem, missing_s: float = 0.0) -> float:
        """Time per iteration so far, if what is missing adds at least ``missing_s`` to the sum."""
        links: dict[tuple[int, int], float] = {}
        for j, tensors in enumerate(self.cross_s):
            ends = posed.chunks[j], posed.chunks[j + 1]
            links[ends] = links.get(ends, 0.0) + math.fsum(tensors.values())
        weights = posed.objective
        total = weights.sum * math.fsum((*self.rank_s, missing_s)) + weights.cross * math.fsum(links.values())
        return total + (weights.peak * max(*self.rank_s, *links.values(), 0.0) if weights.peak else 0.0)

    def fits(self, posed: Problem, i: int) -> bool:
        """Whether a rank holds what is placed there at every moment."""
        rank, held = posed.ranks[i], [j for j, where in enumerate(posed.chunks) if where == i]
        return all(
            rank.reserved_bytes
            + sum(self.state_bytes[j] + f * self.stash_bytes[j] for j, f in zip(held, moment, strict=True))
            <= rank.memory_bytes * (1 + MEMORY_TOLERANCE)
            for moment in rank.in_flight
        )


@dataclass
class Exhaustion:
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
        chunks = (0.0,) * self.posed.depth
        empty = tuple[dict[str, float], ...]({} for _ in range(self.posed.depth - 1))
        self._place(0, State((0.0,) * len(self.posed.ranks), chunks, chunks, empty), {})

    def _place(self, n: int, state: State, placed: dict[int, tuple[int, int]]) -> None:
        depth, empty = self.posed.depth, self.posed.depth - len({i for i, _ in placed.values()})
        if empty > len(self.order) - n or state.seconds(self.posed, self.missing_s[n]) >= self.best_s:
            return
        if n == len(self.order):
            self.best_s = state.seconds(self.posed)
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
        layer, rank = self.posed.layers[u], self.posed.chunks[i]
        time_s = float(layer.time_s[rank, k])
        if math.isinf(time_s):
            return None
        crossing = list(state.cross_s)
        for e in self.entering.get(u, []):
            j, m = placed[e.source]
            left = [b for b in range(j, i) if self.posed.chunks[b] != self.posed.chunks[b + 1]]
            if not left:
                time_s += float(e.reshard_s[m, k])
            for boundary in left:
                dearest = max(crossing[boundary].get(e.tensor, 0.0), float(e.cross_s[m, k]))
                crossing[boundary] = {**crossing[boundary], e.tensor: dearest}
        extended = State(
            _plus(state.rank_s, rank, time_s),
            _plus(state.state_bytes, i, float(layer.state_bytes[k])),
            _plus(state.stash_bytes, i, float(layer.stash_bytes[k])),
            tuple(crossing),
        )
        return extended if extended.fits(self.posed, rank) else None


def _plus(values: tuple[float, ...], at: int, more: float) -> tuple[float, ...]:
    return (*values[:at], values[at] + more, *values[at + 1 :])


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
    search = Exhaustion(posed, cutoff_s, budget)
    search.run()
    return search.found, search.steps
