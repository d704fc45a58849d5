"""One candidate as a mathematical problem, and ``evaluate``: the only definition of what it means.

Every solver, lowering, cost model and verifier is held against :meth:`Problem.evaluate`. With ``P`` stages and
``c`` micro-batches, an assignment gives each layer ``u`` a stage and a strategy ``k_u``::

    p_i = sum_{u on i} A[i][u][k_u] + sum_{(u,v) both on i} R[e][k_u][k_v]
    o_j = sum over tensors crossing j|j+1 of  max over its edges crossing j of X[e][k_u][k_v]
    TPI = sum_i p_i + sum_j o_j + (c - 1) * max(all p_i, all o_j)

subject to memory of every stage (``reserved + sum(state + in_flight * stash) <= memory``), no empty stage, and
order (``stage(u) <= stage(v)`` for every edge). Source: UniAP, arXiv 2307.16375, section 3.3; where this differs
(order, skip edges, shared tensors) docs/problem.md says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from . import artifact, wellposed
from .errors import BadValue

if TYPE_CHECKING:
    import os

Array = np.ndarray
"""A float64 array; its shape is in the docstring of whoever holds it."""

MEMORY_TOLERANCE = 1e-9
"""Relative slack of a memory row: sums of bytes taken in another order may differ in the last digits."""


@dataclass(frozen=True)
class Stage:
    """Memory of one device of a stage (bytes) and the micro-batches in flight there."""

    memory_bytes: float
    reserved_bytes: float
    in_flight: int

    @property
    def budget_bytes(self) -> float:
        """What layers may use: memory less what is reserved. Negative if nothing fits."""
        return self.memory_bytes - self.reserved_bytes


@dataclass(frozen=True, eq=False)
class LayerTable:
    """The strategies of a layer and what each costs.

    ``time_s`` has shape (P, K), ``inf`` where a strategy is not possible on a stage; ``state_bytes`` and
    ``stash_bytes`` have shape (K,). Layers that are alike may share arrays.
    """

    name: str
    strategies: tuple[str, ...]
    time_s: Array
    state_bytes: Array
    stash_bytes: Array


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """Data flow between two layers (indices); both tables have shape (K_source, K_target)."""

    source: int
    target: int
    tensor: str
    reshard_s: Array
    cross_s: Array


class Assignment(msgspec.Struct, frozen=True):
    """Stage index and strategy index of each layer, in the problem's order of layers."""

    stage: tuple[int, ...]
    strategy: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """What an assignment is worth.

    Attributes
    ----------
    objective_s
        Time per iteration; ``inf`` if some strategy is impossible where it was put.
    stage_s, cross_s
        ``p_i`` (length P) and ``o_j`` (length P - 1), seconds per micro-batch.
    memory_bytes
        Bytes per device of each stage, the reserve included (length P).
    violations
        One sentence per violated constraint; empty if the assignment is feasible.
    """

    objective_s: float
    stage_s: tuple[float, ...]
    cross_s: tuple[float, ...]
    memory_bytes: tuple[float, ...]
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """True if no constraint is violated."""
        return not self.violations


def time_per_iteration(stage_s: tuple[float, ...], cross_s: tuple[float, ...], micro_batches: int) -> float:
    """``sum p + sum o + (c - 1) max(p, o)``, seconds."""
    terms = stage_s + cross_s
    if micro_batches == 1:  # an impossible strategy makes a term infinite, and 0 * inf is not a number
        return math.fsum(terms)
    return math.fsum(terms) + (micro_batches - 1) * max(terms)


@dataclass(frozen=True, eq=False)
class Problem:
    """One candidate (P stages, c micro-batches) with all its cost tables. Validated on construction.

    Raises
    ------
    BadValue
        For negative or NaN entries, wrong shapes, repeated names, unknown or backward edges, cycles.
    """

    name: str
    micro_batches: int
    stages: tuple[Stage, ...]
    layers: tuple[LayerTable, ...]
    edges: tuple[EdgeTable, ...]

    def __post_init__(self) -> None:
        wellposed.check(self)

    @property
    def depth(self) -> int:
        """Number of pipeline stages, P."""
        return len(self.stages)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A topological order of the layers that follows the given order where it can."""
        return wellposed.topological_order(len(self.layers), self.edges)

    @cached_property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Edge indices of each tensor."""
        found: dict[str, list[int]] = {}
        for index, edge in enumerate(self.edges):
            found.setdefault(edge.tensor, []).append(index)
        return {name: tuple(indices) for name, indices in found.items()}

    @cached_property
    def hash(self) -> str:
        """Content hash; the same for any file that decodes to the same problem."""
        return artifact.digest(to_file(self))

    def evaluate(self, assignment: Assignment) -> Evaluation:
        """Price an assignment and check every constraint. This method is the semantics.

        Parameters
        ----------
        assignment
            One stage and one strategy index per layer.

        Raises
        ------
        BadValue
            If the assignment has the wrong length or an index out of range.
        """
        stage, strategy = assignment.stage, assignment.strategy
        _check_indices(self, stage, strategy)
        stage_s = [0.0] * self.depth
        memory = [s.reserved_bytes for s in self.stages]
        violations: list[str] = []
        for layer, i, k in zip(self.layers, stage, strategy, strict=True):
            time_s = layer.time_s.item(i, k)
            stage_s[i] += time_s
            memory[i] += layer.state_bytes.item(k) + self.stages[i].in_flight * layer.stash_bytes.item(k)
            if math.isinf(time_s):
                violations.append(f"layer {layer.name}: strategy {layer.strategies[k]} is not possible on stage {i}")
        crossing: list[dict[str, float]] = [{} for _ in range(self.depth - 1)]
        for edge in self.edges:
            i, j = stage[edge.source], stage[edge.target]
            k, m = strategy[edge.source], strategy[edge.target]
            if i == j:
                stage_s[i] += edge.reshard_s.item(k, m)
            elif i > j:
                violations.append(
                    f"order: {self.layers[edge.source].name} on stage {i} feeds "
                    f"{self.layers[edge.target].name} on the earlier stage {j}"
                )
            for boundary in range(i, j):
                tensors = crossing[boundary]
                tensors[edge.tensor] = max(tensors.get(edge.tensor, 0.0), edge.cross_s.item(k, m))
        used = set(stage)
        violations += [f"stage {i} has no layer" for i in range(self.depth) if i not in used]
        for i, s in enumerate(self.stages):
            if memory[i] > s.memory_bytes * (1 + MEMORY_TOLERANCE):
                violations.append(f"stage {i} needs {memory[i]:.6g} B of memory and has {s.memory_bytes:.6g} B")
        cross_s = tuple(math.fsum(tensors.values()) for tensors in crossing)
        objective = time_per_iteration(tuple(stage_s), cross_s, self.micro_batches)
        return Evaluation(objective, tuple(stage_s), cross_s, tuple(memory), tuple(violations))


def _check_indices(problem: Problem, stage: tuple[int, ...], strategy: tuple[int, ...]) -> None:
    if len(stage) != len(problem.layers) or len(strategy) != len(problem.layers):
        raise BadValue(
            f"the assignment places {len(stage)} layers and the problem has {len(problem.layers)}",
            "place every layer once",
        )
    for layer, i, k in zip(problem.layers, stage, strategy, strict=True):
        if not 0 <= i < problem.depth:
            raise BadValue(f"layer {layer.name} is on stage {i}", f"stages are 0 to {problem.depth - 1}")
        if not 0 <= k < len(layer.strategies):
            raise BadValue(
                f"layer {layer.name} uses strategy number {k}", f"it has strategies 0 to {len(layer.strategies) - 1}"
            )


# --- the file uniap.problem/1 -----------------------------------------------------------------------------------

Row = list[float | None]


class StageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage as written in a problem file."""

    memory_bytes: float
    reserved_bytes: float
    in_flight: int


class LayerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer as written in a problem file; ``time_s`` is [strategy] or [stage][strategy], null = not possible."""

    name: str
    strategies: list[str]
    time_s: list[float | list[float | None] | None]
    state_bytes: list[float]
    stash_bytes: list[float]


class EdgeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An edge as written in a problem file; the default tensor is one of its own."""

    source: str
    target: str
    reshard_s: list[list[float]]
    cross_s: list[list[float]]
    tensor: str | None = None


class ProblemFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document ``uniap.problem/1``."""

    schema: Literal["uniap.problem/1"]
    name: str
    micro_batches: int
    stages: list[StageFile]
    layers: list[LayerFile]
    edges: list[EdgeFile]


def read(path: str | os.PathLike[str]) -> Problem:
    """Read a problem file.

    Raises
    ------
    BadFile
        If it is missing, truncated or has a bad field.
    BadValue
        If it decodes but means nothing (negative times, a cycle, ...).
    """
    return from_file(artifact.read(path, ProblemFile))


def write(path: str | os.PathLike[str], problem: Problem) -> None:
    """Write a problem file, atomically."""
    artifact.write(path, to_file(problem))


def from_file(document: ProblemFile) -> Problem:
    """The problem that a decoded document describes."""
    stages = tuple(Stage(s.memory_bytes, s.reserved_bytes, s.in_flight) for s in document.stages)
    layers = tuple(_layer_from_file(layer, len(stages)) for layer in document.layers)
    wellposed.check_names(layers)
    index = {layer.name: u for u, layer in enumerate(layers)}
    edges = []
    for number, edge in enumerate(document.edges):
        for end in (edge.source, edge.target):
            if end not in index:
                raise BadValue(f"edges[{number}] names the unknown layer {end!r}", "name a layer of this problem")
        edges.append(
            EdgeTable(
                index[edge.source],
                index[edge.target],
                f"{edge.source}->{edge.target}" if edge.tensor is None else edge.tensor,
                _matrix(edge.reshard_s, f"edges[{number}].reshard_s"),
                _matrix(edge.cross_s, f"edges[{number}].cross_s"),
            )
        )
    return Problem(document.name, document.micro_batches, stages, layers, tuple(edges))


def to_file(problem: Problem) -> ProblemFile:
    """The document that describes a problem (times that are equal on all stages are written once)."""
    names = [layer.name for layer in problem.layers]
    return ProblemFile(
        "uniap.problem/1",
        problem.name,
        problem.micro_batches,
        [StageFile(s.memory_bytes, s.reserved_bytes, s.in_flight) for s in problem.stages],
        [_layer_to_file(layer) for layer in problem.layers],
        [
            EdgeFile(names[e.source], names[e.target], e.reshard_s.tolist(), e.cross_s.tolist(), e.tensor)
            for e in problem.edges
        ],
    )


def _layer_from_file(layer: LayerFile, depth: int) -> LayerTable:
    title = f"layer {layer.name}: time_s"
    nested = [isinstance(row, list) for row in layer.time_s]
    if any(nested) and not all(nested):
        raise BadValue(f"{title} mixes numbers and lists", "give [strategy] or [stage][strategy]")
    if nested and all(nested):
        time_s = _matrix([_finite_or_inf(row) for row in layer.time_s if isinstance(row, list)], title)
    else:
        flat = _finite_or_inf([t for t in layer.time_s if not isinstance(t, list)])
        time_s = np.broadcast_to(np.array(flat, dtype=float), (depth, len(flat)))
    state, stash = np.array(layer.state_bytes, dtype=float), np.array(layer.stash_bytes, dtype=float)
    return LayerTable(layer.name, tuple(layer.strategies), time_s, state, stash)


def _finite_or_inf(row: Row) -> list[float]:
    return [math.inf if t is None else t for t in row]


def _layer_to_file(layer: LayerTable) -> LayerFile:
    rows: list[list[float | None]] = [[None if math.isinf(t) else t for t in row] for row in layer.time_s.tolist()]
    same = all(row == rows[0] for row in rows)
    time_s: list[float | list[float | None] | None] = [*rows[0]] if same else [*rows]
    return LayerFile(layer.name, list(layer.strategies), time_s, layer.state_bytes.tolist(), layer.stash_bytes.tolist())


def _matrix(rows: list[list[float]], title: str) -> Array:
    if len({len(row) for row in rows}) > 1:
        raise BadValue(f"{title} has rows of different lengths", "give a full matrix")
    return np.array(rows, dtype=float)
