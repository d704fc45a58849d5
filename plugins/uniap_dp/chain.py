"""A chain of layers as flat arrays: strategies grouped into classes, dominated ones dropped, sums made exact.

Two reductions that lose nothing:

* Strategies of a layer whose rows in the table of the outgoing edge are equal are one *out-class*: what follows
  cannot tell them apart. Likewise *in-classes* by the columns of the incoming edge. Between two layers only classes
  count, so a step costs (out-classes x in-classes + strategies) and not strategies squared.
* Within one (in-class, out-class) cell only strategies on the Pareto front of (time, memory) can be in an optimum.

All times are rounded to a dyadic grid, all bytes to another, both so fine (2^-52 of the largest total) that every
partial sum is a float64 without rounding: sums do not depend on their order, and equal totals compare equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from uniap_core.api import EdgeTable, LayerTable, Problem

from .kernels import pareto_cells

Array = np.ndarray

MEMORY_TOLERANCE = 1e-9
"""Relative slack of a memory row in ``Problem.evaluate``."""


@dataclass(frozen=True, eq=False)
class StageClass:
    """Entries (layer strategies) on one kind of stage: those of layer ``l`` are ``start[l]:start[l + 1]``.

    ``kind`` (strategy index), ``enter`` (in-class), ``leave`` (out-class), ``time`` (s), ``memory`` (B) run parallel;
    entries of a layer are sorted by out-class. ``cap`` is what layers may use on such a stage, bytes.
    """

    cap: float
    start: Array
    kind: Array
    enter: Array
    leave: Array
    time: Array
    memory: Array


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain of ``length`` layers in order.

    Attributes
    ----------
    order
        Layer index in the problem of each position.
    stage_class
        Class of each stage (P,).
    classes
        What layers cost on each class of stage.
    enters, leaves
        Number of in-classes and out-classes of each position (L,).
    row
        Offset into ``reshard`` and ``cross`` of the edge after each position (L,); its block is
        (out-classes of l, in-classes of l + 1), row-major.
    reshard, cross
        Edge tables reduced to classes, seconds.
    sort
        Number of each position's kind: equal numbers mean equal layers (tables and classes).
    joint
        Same for the edge after each position.
    rounding_s
        Most that the objective can be off through the grid, seconds.
    """

    problem: Problem
    order: Array
    stage_class: Array
    classes: tuple[StageClass, ...]
    enters: Array
    leaves: Array
    row: Array
    reshard: Array
    cross: Array
    sort: Array
    joint: Array
    rounding_s: float
    matches: Array = field(repr=False)

    @property
    def length(self) -> int:
        """Number of layers."""
        return len(self.order)

    @property
    def depth(self) -> int:
        """Number of stages."""
        return len(self.stage_class)


def is_chain(problem: Problem) -> bool:
    """True if every layer feeds the next in the (then unique) topological order, and no other."""
    position = {layer: at for at, layer in enumerate(problem.order)}
    steps = {(position[e.source], position[e.target]) for e in problem.edges}
    return steps == {(at, at + 1) for at in range(len(problem.layers) - 1)}


def grid(total: float) -> float:
    """Spacing of a dyadic grid on which entries with that total add up without rounding."""
    return 2.0 ** (math.frexp(max(total, 1e-200))[1] - 51)


def build(problem: Problem) -> Chain:
    """Flatten a chain problem; see the module's text for what is reduced."""
    order = np.array(problem.order, dtype=np.int64)
    layers = [problem.layers[u] for u in order]
    joints = _joint_edges(problem, order)
    enters, leaves, in_class, out_class, tables = _classes(layers, joints)
    times = [np.where(np.isfinite(layer.time_s), layer.time_s, 0.0).max(initial=0.0) for layer in layers]
    total_s = float(sum(times)) + sum(float(r.max(initial=0.0) + x.max(initial=0.0)) for r, x in joints)
    step_s = grid(total_s)
    row = np.zeros(len(layers), dtype=np.int64)
    row[1:] = np.cumsum([r.size for r, _ in tables])
    reshard = _snap(np.concatenate([r.ravel() for r, _ in tables] or [np.zeros(1)]), step_s)
    cross = _snap(np.concatenate([x.ravel() for _, x in tables] or [np.zeros(1)]), step_s)
    keys = _layer_keys(layers, in_class, out_class)
    stage_class, classes = _stage_classes(problem, layers, keys, in_class, out_class, step_s)
    joint = _numbered([(r.tobytes(), x.tobytes(), r.shape) for r, x in tables] + [()])
    sort = _numbered(keys)
    return Chain(
        problem=problem,
        order=order,
        stage_class=stage_class,
        classes=classes,
        enters=enters,
        leaves=leaves,
        row=row,
        reshard=reshard,
        cross=cross,
        sort=sort,
        joint=joint,
        rounding_s=step_s * (len(layers) + problem.depth) * (problem.micro_batches + 1),
        matches=_matches(sort, joint),
    )


def _snap(values: Array, step: float) -> Array:
    return np.rint(values / step) * step


def _joint_edges(problem: Problem, order: Array) -> list[tuple[Array, Array]]:
    """Tables between neighbors; parallel edges (several tensors) add up."""
    position = {int(layer): at for at, layer in enumerate(order)}
    found: dict[int, list[EdgeTable]] = {}
    for edge in problem.edges:
        found.setdefault(position[edge.source], []).append(edge)
    joints: list[tuple[Array, Array]] = []
    for at in range(len(order) - 1):
        edges = found[at]
        if len(edges) == 1:
            joints.append((edges[0].reshard_s, edges[0].cross_s))
        else:
            joints.append((sum(e.reshard_s for e in edges), sum(e.cross_s for e in edges)))  # type: ignore[arg-type]
    return joints


def _classes(
    layers: list[LayerTable], joints: list[tuple[Array, Array]]
) -> tuple[Array, Array, list[Array], list[Array], list[tuple[Array, Array]]]:
    in_class = [np.zeros(len(layers[0].strategies), dtype=np.int64)]
    out_class: list[Array] = []
    tables: list[tuple[Array, Array]] = []
    known: dict[tuple[int, int], tuple[Array, Array, Array, Array]] = {}
    for reshard, cross in joints:
        key = (id(reshard), id(cross))
        if key not in known:
            known[key] = _reduce(reshard, cross)
        rows, columns, r, x = known[key]
        out_class.append(rows)
        in_class.append(columns)
        tables.append((r, x))
    out_class.append(np.zeros(len(layers[-1].strategies), dtype=np.int64))
    enters = np.array([c.max() + 1 for c in in_class], dtype=np.int64)
    leaves = np.array([c.max() + 1 for c in out_class], dtype=np.int64)
    return enters, leaves, in_class, out_class, tables


def _reduce(reshard: Array, cross: Array) -> tuple[Array, Array, Array, Array]:
    rows, first_row = _group(np.hstack([reshard, cross]))
    columns, first_column = _group(np.vstack([reshard, cross]).T)
    pick = np.ix_(first_row, first_column)
    return rows, columns, np.ascontiguousarray(reshard[pick]), np.ascontiguousarray(cross[pick])


def _group(rows: Array) -> tuple[Array, Array]:
    """Class number of each row (equal rows, equal number, by first appearance) and the first row of each class."""
    seen: dict[bytes, int] = {}
    first = []
    numbers = np.empty(len(rows), dtype=np.int64)
    rows = np.ascontiguousarray(rows)
    for at, row in enumerate(rows):
        number = seen.setdefault(row.tobytes(), len(seen))
        if number == len(first):
            first.append(at)
        numbers[at] = number
    return numbers, np.array(first, dtype=np.int64)


def _layer_keys(layers: list[LayerTable], in_class: list[Array], out_class: list[Array]) -> list[tuple[bytes, ...]]:
    text: dict[int, bytes] = {}

    def raw(values: Array) -> bytes:
        if id(values) not in text:
            text[id(values)] = values[:1].tobytes() if values.strides[0] == 0 else values.tobytes()
        return text[id(values)]

    return [
        (raw(layer.time_s), raw(layer.state_bytes), raw(layer.stash_bytes), into.tobytes(), out.tobytes())
        for layer, into, out in zip(layers, in_class, out_class, strict=True)
    ]


def _numbered(keys: list[tuple[object, ...]] | list[tuple[bytes, ...]]) -> Array:
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _matches(sort: Array, joint: Array) -> Array:
    """``matches[a, b]``: how many layers from ``a`` on equal those from ``b`` on, edges between them included."""
    count = len(sort)
    matches = np.zeros((count + 1, count + 1), dtype=np.int64)
    same_layer = sort[:, None] == sort[None, :]
    same_edge = joint[:, None] == joint[None, :]
    for a in range(count - 1, -1, -1):
        longer = np.where(same_edge[a], matches[a + 1, 1:], 0)
        matches[a, :count] = np.where(same_layer[a], 1 + longer, 0)
    return matches


def _stage_classes(
    problem: Problem,
    layers: list[LayerTable],
    keys: list[tuple[bytes, ...]],
    in_class: list[Array],
    out_class: list[Array],
    step_s: float,
) -> tuple[Array, tuple[StageClass, ...]]:
    # Stages are one class if memory, in-flight count and the time rows of every layer agree.
    most_b = max(s.memory_bytes for s in problem.stages) or 1.0
    step_b = min(1.0, grid(2 * most_b))
    uniform = all(layer.time_s.strides[0] == 0 or (layer.time_s == layer.time_s[0]).all() for layer in layers)
    numbers: dict[object, int] = {}
    members = []
    for i, stage in enumerate(problem.stages):
        rows = () if uniform else tuple(layer.time_s[i].tobytes() for layer in layers)
        members.append(
            numbers.setdefault((stage.memory_bytes, stage.reserved_bytes, stage.in_flight, rows), len(numbers))
        )
    stage_class = np.array(members, dtype=np.int64)
    classes = []
    for number in range(len(numbers)):
        i = members.index(number)
        stage = problem.stages[i]
        cap = stage.memory_bytes * (1 + MEMORY_TOLERANCE) - stage.reserved_bytes
        blocks: dict[tuple[bytes, ...], tuple[Array, ...]] = {}
        chosen = []
        for at, layer in enumerate(layers):
            if keys[at] not in blocks:
                bytes_ = layer.state_bytes + stage.in_flight * layer.stash_bytes
                memory = _snap(np.minimum(bytes_, 4 * most_b), step_b)
                time = _snap(layer.time_s[i], step_s)
                blocks[keys[at]] = _cells(time, memory, in_class[at], out_class[at], cap)
            chosen.append(blocks[keys[at]])
        start = np.zeros(len(layers) + 1, dtype=np.int64)
        start[1:] = np.cumsum([len(block[0]) for block in chosen])
        classes.append(StageClass(cap, start, *(np.concatenate(part) for part in zip(*chosen, strict=True))))
    return stage_class, tuple(classes)


def _cells(time: Array, memory: Array, enter: Array, leave: Array, cap: float) -> tuple[Array, ...]:
    """The entries of one layer on one class of stage that can matter, sorted by out-class, in-class, memory."""
    kind = np.lexsort((time, memory, enter, leave))
    keep = np.zeros(len(kind), dtype=np.bool_)
    pareto_cells(kind, time, memory, enter, leave, cap, keep)
    kind = kind[keep]
    return kind, enter[kind], leave[kind], time[kind], memory[kind]
