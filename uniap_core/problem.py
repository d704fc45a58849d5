"""One candidate as a mathematical problem, and ``evaluate``: the only definition of what it means.

Every solver, lowering, cost model and verifier is held against :meth:`Problem.evaluate`. The pipeline has ranks and,
along the flow, chunks, each on one rank; an assignment gives each layer ``u`` a chunk and a strategy ``k_u``::

    t_j   = sum_{u on j} A[rank(j)][u][k_u] + sum of R[e][k_u][k_v] over edges (u, v) that end on j and leave no rank
    p_i   = sum of t_j over the chunks of rank i
    o_j   = sum over tensors crossing j|j+1 of  max over its edges crossing j of X[e][k_u][k_v]; 0 inside a rank
    L_ii' = sum of o_j over the boundaries from rank i to rank i'
    TPI   = sum * (p_0 + ...) + cross * (o_0 + ...) + peak * max(all p_i, all L_ii')

subject to memory (for each rank and each of its moments ``reserved + sum over its chunks (state + in_flight * stash)
<= memory``), no empty chunk, and order (``chunk(u) <= chunk(v)`` for every edge). With one chunk per rank and weights
``(1, 1, c - 1)`` this is UniAP's objective (arXiv 2307.16375, section 3.3); where it differs docs/problem.md says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from . import artifact, wellposed
from .errors import BadValue
from .tables import Array, EdgeTable, Kinds, LayerTable, Moment, Rank, Weights, numbered

if TYPE_CHECKING:
    import os

MEMORY_TOLERANCE = 1e-9
"""Relative slack of a memory row: sums of bytes taken in another order may differ in the last digits."""


class Assignment(msgspec.Struct, frozen=True):
    """Chunk index (``stage``: of a plain pipeline they are the same) and strategy index of each layer, in order."""

    stage: tuple[int, ...]
    strategy: tuple[int, ...]


@dataclass(frozen=True)
class Evaluation:
    """What an assignment is worth.

    Attributes
    ----------
    objective_s
        Time per iteration; ``inf`` if some strategy is impossible where it was put.
    rank_s, chunk_s
        ``p_i`` (one per rank) and ``t_j`` (one per chunk), seconds per micro-batch.
    cross_s
        ``o_j``, seconds per micro-batch; one per boundary between chunks, 0 inside a rank.
    memory_bytes
        Bytes per device of each rank at its fullest moment, the reserve included.
    violations
        One sentence per violated constraint; empty if the assignment is feasible.
    """

    objective_s: float
    rank_s: tuple[float, ...]
    chunk_s: tuple[float, ...]
    cross_s: tuple[float, ...]
    memory_bytes: tuple[float, ...]
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """True if no constraint is violated."""
        return not self.violations


@dataclass(frozen=True, eq=False)
class Problem:
    """One candidate (a pipeline, c micro-batches) with all its cost tables. Validated on construction.

    Attributes
    ----------
    objective
        The weights of the objective.
    ranks
        Memory of each pipeline rank and what is in flight there.
    chunks
        Pipeline rank of each chunk, in the order of the flow. A plain pipeline has chunk i on rank i.
    kinds
        Which layers and which edges are alike: as ``alike`` says, otherwise found by content.

    Raises
    ------
    BadValue
        For negative or NaN entries, wrong shapes, repeated names, unknown edges, cycles.
    """

    name: str
    micro_batches: int
    objective: Weights
    ranks: tuple[Rank, ...]
    chunks: tuple[int, ...]
    layers: tuple[LayerTable, ...]
    edges: tuple[EdgeTable, ...]
    alike: InitVar[Kinds | None] = None
    kinds: Kinds = field(init=False)

    def __post_init__(self, alike: Kinds | None) -> None:
        wellposed.check_pipeline(self.micro_batches, self.objective, self.ranks, self.chunks)
        wellposed.check_tables(self.layers, self.edges, len(self.ranks))
        if alike is not None:
            wellposed.check_kinds(alike, self.layers, self.edges)
        object.__setattr__(self, "kinds", alike or Kinds.found(self.layers, self.edges))

    @classmethod
    def plain(
        cls,
        name: str,
        micro_batches: int,
        ranks: Iterable[Rank],
        layers: tuple[LayerTable, ...],
        edges: tuple[EdgeTable, ...],
        alike: Kinds | None = None,
    ) -> Problem:
        """The problem of UniAP: one chunk per rank, weights (1, 1, c - 1)."""
        held = tuple(ranks)
        weights = plain_weights(micro_batches)
        return cls(name, micro_batches, weights, held, tuple(range(len(held))), layers, edges, alike)

    @property
    def depth(self) -> int:
        """Number of chunks: the places of an assignment."""
        return len(self.chunks)

    @property
    def plain_placement(self) -> bool:
        """True if rank i holds chunk i and nothing else."""
        return self.chunks == tuple(range(len(self.ranks)))

    @cached_property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """The chunks of each rank, in the order of the flow."""
        return tuple(tuple(j for j, i in enumerate(self.chunks) if i == rank) for rank in range(len(self.ranks)))

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
            One chunk and one strategy index per layer.

        Raises
        ------
        BadValue
            If the assignment has the wrong length or an index out of range.
        """
        chunk, strategy = assignment.stage, assignment.strategy
        _check_indices(self, chunk, strategy)
        chunk_s, state, stash = [0.0] * self.depth, [0.0] * self.depth, [0.0] * self.depth
        violations: list[str] = []
        for layer, j, k in zip(self.layers, chunk, strategy, strict=True):
            time_s = layer.time_s.item(self.chunks[j], k)
            chunk_s[j] += time_s
            state[j] += layer.state_bytes.item(k)
            stash[j] += layer.stash_bytes.item(k)
            if math.isinf(time_s):
                violations.append(
                    f"layer {layer.name}: strategy {layer.strategies[k]} is not possible on stage {self.chunks[j]}"
                )
        crossing: list[dict[str, float]] = [{} for _ in range(self.depth - 1)]
        for edge in self.edges:
            i, j = chunk[edge.source], chunk[edge.target]
            k, m = strategy[edge.source], strategy[edge.target]
            if i > j:
                violations.append(
                    f"order: {self.layers[edge.source].name} on stage {i} feeds "
                    f"{self.layers[edge.target].name} on the earlier stage {j}"
                )
            elif len(set(self.chunks[i : j + 1])) == 1:
                chunk_s[j] += edge.reshard_s.item(k, m)
            for boundary in range(i, j):
                if self.chunks[boundary] != self.chunks[boundary + 1]:
                    tensors = crossing[boundary]
                    tensors[edge.tensor] = max(tensors.get(edge.tensor, 0.0), edge.cross_s.item(k, m))
        used = set(chunk)
        violations += [f"stage {j} has no layer" for j in range(self.depth) if j not in used]
        memory = tuple(
            rank.need_bytes([(state[j], stash[j]) for j in held])
            for rank, held in zip(self.ranks, self.held, strict=True)
        )
        for i, rank in enumerate(self.ranks):
            if memory[i] > rank.memory_bytes * (1 + MEMORY_TOLERANCE):
                violations.append(f"stage {i} needs {memory[i]:.6g} B of memory and has {rank.memory_bytes:.6g} B")
        cross_s = tuple(math.fsum(tensors.values()) for tensors in crossing)
        rank_s = tuple(math.fsum(chunk_s[j] for j in held) for held in self.held)
        objective = self.objective.time_per_iteration(rank_s, cross_s, link_times(self.chunks, cross_s))
        return Evaluation(objective, rank_s, tuple(chunk_s), cross_s, memory, tuple(violations))


def plain_weights(micro_batches: int) -> Weights:
    """The weights of a pipeline that fills once: every rank once, then the slowest for what is left (UniAP, eq. 1)."""
    return Weights(1.0, 1.0, float(micro_batches - 1))


def link_times(chunks: tuple[int, ...], cross_s: Iterable[float]) -> tuple[float, ...]:
    """``L_ii'``: what crosses from one rank to another over all boundaries between them, seconds per micro-batch."""
    links: dict[tuple[int, int], float] = {}
    for j, seconds in enumerate(cross_s):
        ends = chunks[j], chunks[j + 1]
        if ends[0] != ends[1]:
            links[ends] = links.get(ends, 0.0) + seconds
    return tuple(links.values())


def _check_indices(problem: Problem, chunk: tuple[int, ...], strategy: tuple[int, ...]) -> None:
    if len(chunk) != len(problem.layers) or len(strategy) != len(problem.layers):
        raise BadValue(
            f"the assignment places {len(chunk)} layers and the problem has {len(problem.layers)}",
            "place every layer once",
        )
    for layer, j, k in zip(problem.layers, chunk, strategy, strict=True):
        if not 0 <= j < problem.depth:
            raise BadValue(f"layer {layer.name} is on stage {j}", f"stages are 0 to {problem.depth - 1}")
        if not 0 <= k < len(layer.strategies):
            raise BadValue(
                f"layer {layer.name} uses strategy number {k}", f"it has strategies 0 to {len(layer.strategies) - 1}"
            )


# --- the files uniap.problem/1 and /2 -------------------------------------------------------------------------

Row = list[float | None]


class StageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rank of a plain pipeline as written in a /1 file."""

    memory_bytes: float
    reserved_bytes: float
    in_flight: int


class RankFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rank as written in a /2 file: a list of moments, each a count per chunk of the rank."""

    memory_bytes: float
    reserved_bytes: float
    in_flight: list[list[float]]


class ChunkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A chunk as written in a /2 file."""

    rank: int


class LayerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A layer as written in a problem file; ``time_s`` is [strategy] or [rank][strategy], null = not possible.

    ``kind`` says which layers are alike; where it is missing, they are compared.
    """

    name: str
    strategies: list[str]
    time_s: list[float | list[float | None] | None]
    state_bytes: list[float]
    stash_bytes: list[float]
    kind: int | None = None


class EdgeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An edge as written in a problem file; the default tensor is one of its own."""

    source: str
    target: str
    reshard_s: list[list[float]]
    cross_s: list[list[float]]
    tensor: str | None = None


class PlainFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag="uniap.problem/1"):
    """The document ``uniap.problem/1``: one chunk per rank, one moment, weights (1, 1, c - 1)."""

    name: str
    micro_batches: int
    stages: list[StageFile]
    layers: list[LayerFile]
    edges: list[EdgeFile]


class ChunkedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag="uniap.problem/2"):
    """The document ``uniap.problem/2``: any pipeline."""

    name: str
    micro_batches: int
    objective: Weights
    ranks: list[RankFile]
    chunks: list[ChunkFile]
    layers: list[LayerFile]
    edges: list[EdgeFile]


ProblemFile = PlainFile | ChunkedFile


def read(path: str | os.PathLike[str]) -> Problem:
    """Read a problem file.

    Raises
    ------
    BadFile
        If it is missing, truncated or has a bad field.
    BadValue
        If it decodes but means nothing (negative times, a cycle, ...).
    """
    either: Any = ProblemFile
    return from_file(artifact.read(path, either))


def write(path: str | os.PathLike[str], problem: Problem) -> None:
    """Write a problem file, atomically."""
    artifact.write(path, to_file(problem))


def from_file(document: ProblemFile) -> Problem:
    """The problem that a decoded document describes."""
    if isinstance(document, PlainFile):
        ranks = [Rank(s.memory_bytes, s.reserved_bytes, ((float(s.in_flight),),)) for s in document.stages]
        objective, chunks = plain_weights(document.micro_batches), tuple(range(len(ranks)))
    else:
        ranks = [Rank(r.memory_bytes, r.reserved_bytes, _moments(r.in_flight)) for r in document.ranks]
        objective, chunks = document.objective, tuple(chunk.rank for chunk in document.chunks)
    layers = tuple(_layer_from_file(layer, len(ranks)) for layer in document.layers)
    wellposed.check_names(layers)
    edges = _edges_from_file(document.edges, layers)
    kinds = None
    if layers and all(layer.kind is not None for layer in document.layers):
        kinds = Kinds(numbered(layer.kind for layer in document.layers), Kinds.found((), edges).edges)
    return Problem(document.name, document.micro_batches, objective, tuple(ranks), chunks, layers, edges, kinds)


def to_file(problem: Problem) -> ProblemFile:
    """The document that describes a problem: /1 where that is enough (times equal on all ranks are written once)."""
    names = [layer.name for layer in problem.layers]
    edges = [
        EdgeFile(names[e.source], names[e.target], e.reshard_s.tolist(), e.cross_s.tolist(), e.tensor)
        for e in problem.edges
    ]
    counts = [rank.in_flight for rank in problem.ranks]
    if (
        problem.plain_placement
        and problem.objective == plain_weights(problem.micro_batches)
        and all(len(moments) == 1 and moments[0][0].is_integer() for moments in counts)
    ):
        stages = [StageFile(r.memory_bytes, r.reserved_bytes, int(r.in_flight[0][0])) for r in problem.ranks]
        layers = [_layer_to_file(layer) for layer in problem.layers]
        return PlainFile(problem.name, problem.micro_batches, stages, layers, edges)
    return ChunkedFile(
        problem.name,
        problem.micro_batches,
        problem.objective,
        [RankFile(r.memory_bytes, r.reserved_bytes, [list(m) for m in r.in_flight]) for r in problem.ranks],
        [ChunkFile(rank) for rank in problem.chunks],
        [_layer_to_file(layer) for layer in problem.layers],
        edges,
    )


def _moments(rows: list[list[float]]) -> tuple[Moment, ...]:
    return tuple(tuple(float(count) for count in row) for row in rows)


def _edges_from_file(written: list[EdgeFile], layers: tuple[LayerTable, ...]) -> tuple[EdgeTable, ...]:
    index = {layer.name: u for u, layer in enumerate(layers)}
    edges = []
    for number, edge in enumerate(written):
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
    return tuple(edges)


def _layer_from_file(layer: LayerFile, ranks: int) -> LayerTable:
    title = f"layer {layer.name}: time_s"
    nested = [isinstance(row, list) for row in layer.time_s]
    if any(nested) and not all(nested):
        raise BadValue(f"{title} mixes numbers and lists", "give [strategy] or [rank][strategy]")
    if nested and all(nested):
        time_s = _matrix([_finite_or_inf(row) for row in layer.time_s if isinstance(row, list)], title)
    else:
        flat = _finite_or_inf([t for t in layer.time_s if not isinstance(t, list)])
        time_s = np.broadcast_to(np.array(flat, dtype=float), (ranks, len(flat)))
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
