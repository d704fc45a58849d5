"""Depth-first branch and bound: layers in topological order, each on every stage with every strategy."""

import math
import time
from typing import Literal

import msgspec

from uniap_core.api import Assignment, Emit, Found, Problem, RawResult, SolveRequest, Stop


class AcmeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of this solver alone: which choices of a layer are tried first."""

    first: Literal["fast", "slow"] = "fast"


class _TimeUp(Exception):
    pass


def probe() -> str:
    """Version and licence."""
    return "acme 1.2 (no licence needed)"


def solve(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve exactly, or until the time limit."""
    search = _Search(problem, request, emit)
    if request.warm_start is not None:
        search.offer(request.warm_start)
    nothing = [0.0] * problem.depth
    root = search.bound(0, nothing, [{} for _ in range(problem.depth - 1)])
    try:
        search.branch(0, nothing, [s.reserved_bytes for s in problem.ranks], [{} for _ in range(problem.depth - 1)])
    except _TimeUp:
        bound = min(root, search.limit_s) if math.isfinite(root) else None
        return RawResult(stop=Stop.TIME_LIMIT, assignment=search.best, bound_s=bound, version="1.2")
    statistics = {"nodes": search.nodes}
    if search.best is None:
        return RawResult(stop=Stop.INFEASIBLE, bound_s=request.cutoff_s, version="1.2", statistics=statistics)
    return RawResult(
        stop=Stop.OPTIMAL, assignment=search.best, bound_s=search.limit_s, version="1.2", statistics=statistics
    )


class _Search:
    def __init__(self, problem: Problem, request: SolveRequest, emit: Emit) -> None:
        self.problem, self.emit = problem, emit
        self.began, self.time_limit_s = time.monotonic(), request.time_limit_s or math.inf
        self.limit_s = math.inf if request.cutoff_s is None else request.cutoff_s
        self.best: Assignment | None = None
        self.nodes = 0
        self.stage, self.strategy = [0] * len(problem.layers), [0] * len(problem.layers)
        self.arriving = [[e for e in problem.edges if e.target == u] for u in range(len(problem.layers))]
        fastest = [float(problem.layers[u].time_s.min()) for u in problem.order]
        self.rest = [math.fsum(fastest[n:]) for n in range(len(fastest) + 1)]
        sign = -1 if msgspec.convert(request.options, AcmeOptions).first == "slow" else 1
        self.choices = [
            sorted(
                ((i, k) for i in range(problem.depth) for k in range(len(layer.strategies))),
                key=lambda c, times=layer.time_s: sign * times[c],
            )
            for layer in problem.layers
        ]

    def offer(self, assignment: Assignment) -> None:
        """Take an assignment if it is feasible and better."""
        value = self.problem.evaluate(assignment)
        if value.feasible and value.objective_s < self.limit_s:
            self.best, self.limit_s = assignment, value.objective_s
            seconds = time.monotonic() - self.began
            self.emit(Found(t_s=seconds, objective_s=value.objective_s, assignment=assignment))

    def bound(self, number: int, stage_s: list[float], crossing: list[dict[str, float]]) -> float:
        """At least what every completion takes: the rest is fastest, and spread evenly."""
        cross_s = [math.fsum(tensors.values()) for tensors in crossing]
        busy = math.fsum(stage_s) + self.rest[number]
        if math.isinf(busy):
            return math.inf
        longest = max([*stage_s, *cross_s, busy / self.problem.depth])
        return busy + math.fsum(cross_s) + (self.problem.micro_batches - 1) * longest

    def branch(self, number: int, stage_s: list[float], memory: list[float], crossing: list[dict[str, float]]) -> None:
        """Place the remaining layers in every way that can still be better."""
        if self.bound(number, stage_s, crossing) >= self.limit_s * (1 - 1e-12):
            return
        self.nodes += 1
        if self.nodes % 256 == 0 and time.monotonic() - self.began > self.time_limit_s:
            raise _TimeUp
        if number == len(self.problem.layers):
            self.offer(Assignment(tuple(self.stage), tuple(self.strategy)))
            return
        u = self.problem.order[number]
        layer = self.problem.layers[u]
        earliest = max((self.stage[e.source] for e in self.arriving[u]), default=0)
        for i, k in self.choices[u]:
            limits = self.problem.ranks[i]
            used = memory[i] + float(layer.state_bytes[k] + limits.peak_in_flight[0] * layer.stash_bytes[k])
            if i < earliest or used > limits.memory_bytes * (1 + 1e-9) or math.isinf(layer.time_s[i, k]):
                continue
            self.stage[u], self.strategy[u] = i, k
            times, bytes_, cross = list(stage_s), list(memory), [dict(tensors) for tensors in crossing]
            times[i] += float(layer.time_s[i, k])
            bytes_[i] = used
            for e in self.arriving[u]:
                source, by = self.stage[e.source], self.strategy[e.source]
                times[i] += float(e.reshard_s[by, k]) if source == i else 0.0
                for tensors in cross[source:i]:
                    tensors[e.tensor] = max(tensors.get(e.tensor, 0.0), float(e.cross_s[by, k]))
            self.branch(number + 1, times, bytes_, cross)
