"""The lattice of downsets of a graph, with the strategies that must be carried, as flat arrays.

A pipeline cut is a downset: a set of layers that holds every predecessor of its members. A stage is the difference
of two. For a chain the downsets are its prefixes; two towers make a two-dimensional lattice. At a downset every
producer with consumers still outside is *live*, and its digit of the state says all that the rest must know:

* ``IN class``: it lies in the current stage; strategies with equal rows in all tables of the edges still to come are
  one class, so a chain needs (classes x classes + strategies) work per layer and not strategies squared.
* ``OUT code``: it lies in an earlier stage. A boundary costs the maximum over *later* consumers, so when a tensor
  crosses a boundary, a level is promised that no later consumer will exceed; consumers above it are no longer
  allowed. Minimizing over promises gives the maximum. Codes with the same allowed costs are one.

Adding layer ``u`` to a downset is a *step*: arcs (state -> residual state, in-class of ``u``) cost resharding; entries
(residual, strategy -> state) cost time and memory. Within one (in-class, class) cell only strategies on the Pareto
front of (time, memory) can be in an optimum.

Times are rounded to a dyadic grid, bytes to another, both so fine (2^-51 of the largest total) that every partial
sum is a float64 without rounding: sums do not depend on their order, and equal totals compare equal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uniap_core.api import EdgeTable, Problem

from .kernels import pareto_cells

Array = np.ndarray

MEMORY_TOLERANCE = 1e-9
"""Relative slack of a memory row in ``Problem.evaluate``."""

MOST_PROMISES = 4096
"""Combinations of levels of one producer's tensors at a boundary, and codes of one producer, at most."""


class TooLarge(Exception):
    """The lattice exceeds its budget; the text says by what count."""


@dataclass(frozen=True, eq=False)
class StageClass:
    """Entries on one kind of stage; those of step type ``t`` are ``start[t]:start[t + 1]``, sorted by ``leave``.

    ``enter`` (residual state and in-class), ``leave`` (state after), ``time`` (s), ``memory`` (B) and ``kind``
    (strategy index) run parallel. ``cap`` is what layers may use on such a stage, bytes.
    """

    cap: float
    start: Array
    enter: Array
    leave: Array
    time: Array
    memory: Array
    kind: Array

    @property
    def arrays(self) -> tuple[float, Array, Array, Array, Array, Array]:
        """The tuple that kernels take."""
        return self.cap, self.start, self.enter, self.leave, self.time, self.memory


@dataclass(frozen=True, eq=False)
class Tree:
    """The downsets above a first one, each reached once, by adding layers in rising order.

    Item 0 is the first downset; ``parent``, ``type`` (of the step from the parent), ``layer`` (added) and ``node`` run
    parallel, parents before children.
    """

    parent: Array
    type: Array
    layer: Array
    node: Array


@dataclass(frozen=True, eq=False)
class Lattice:
    """A problem as kernels want it.

    Attributes
    ----------
    stage_class, classes
        Class of each stage (P,), and what layers cost on each class.
    states, outs, out_start
        Number of states of each downset (N,); the states without an IN digit, those a stage can start in, of
        downset ``d`` are ``outs[out_start[d]:out_start[d + 1]]``.
    arcs
        (residuals of each type, first group of each type, group starts, from, cost): arcs into residual ``r`` of type
        ``t`` are ``group[first[t] + r] .. group[first[t] + r + 1]``.
    border
        (first group of each downset, group starts, from, cost): arcs from states into each start state, seconds.
    rounding_s
        Most that the objective can be off through the grid, seconds.
    """

    problem: Problem
    masks: tuple[int, ...]
    steps: tuple[tuple[tuple[int, int, int], ...], ...]
    stage_class: Array
    classes: tuple[StageClass, ...]
    states: Array
    outs: Array
    out_start: Array
    arcs: tuple[Array, Array, Array, Array, Array]
    border: tuple[Array, Array, Array, Array]
    rounding_s: float

    @property
    def size(self) -> int:
        """Number of downsets."""
        return len(self.states)

    @property
    def depth(self) -> int:
        """Number of stages."""
        return len(self.stage_class)

    def starts(self, node: int) -> Array:
        """The states of a downset in which a stage can start."""
        return self.outs[self.out_start[node] : self.out_start[node + 1]]

    @cached_property
    def path(self) -> Array | None:
        """The type of each step if every downset has one successor (a chain, perhaps with skip edges)."""
        if any(len(steps) > 1 for steps in self.steps):
            return None
        return np.array([steps[0][1] for steps in self.steps[:-1]], dtype=np.int64)

    def tree(self, node: int, usable: Array) -> Tree:
        """The tree above a downset through others that are ``usable``; with one, all between must be."""
        if self.path is not None:
            count = int(usable[node:].sum())
            items = np.arange(count, dtype=np.int64)
            types = np.concatenate([[-1], self.path[node : node + count - 1]])
            return Tree(items - 1, types, items + node - 1, items + node)
        parent, types, layer, nodes = [0], [-1], [-1], [node]
        item = 0
        while item < len(nodes):
            for u, number, after in self.steps[nodes[item]]:
                if u > layer[item] and usable[after]:
                    parent.append(item)
                    types.append(number)
                    layer.append(u)
                    nodes.append(after)
            item += 1
        return Tree(*(np.array(part, dtype=np.int64) for part in (parent, types, layer, nodes)))


# --- building ---------------------------------------------------------------------------------------------------


def build(problem: Problem, max_states: int) -> Lattice:
    """Flatten a problem.

    Raises
    ------
    TooLarge
        If downsets times carried states exceed ``max_states``.
    """
    builder = _Builder(problem, max_states)
    return builder.lattice()


def _snap(values: Array, step: float) -> Array:
    return np.rint(values / step) * step


def _grid(total: float) -> float:
    """Spacing of a dyadic grid on which entries with that total add up without rounding."""
    return 2.0 ** (math.frexp(max(total, 1e-200))[1] - 51)


def _group(rows: Array) -> tuple[Array, Array]:
    """Class number of each row (equal rows, equal number, by first appearance) and the first row of each class."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    numbers = np.empty(len(rows), dtype=np.int64)
    rows = np.ascontiguousarray(rows)
    for at, row in enumerate(rows):
        numbers[at] = seen.setdefault(row.tobytes(), len(seen))
        if numbers[at] == len(first):
            first.append(at)
    return numbers, np.array(first, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Codes:
    """Digits of one producer with given edges still to come.

    ``cls`` is the IN class of each strategy, ``rep`` a strategy of each class. ``allowed[e]`` (codes, K_target): cost
    of resharding for IN classes, 0 or inf for OUT codes. ``cross`` (codes, OUT codes): what a boundary costs.
    """

    number: int
    cls: Array
    rep: Array
    keys: dict[Hashable, int]
    rows: tuple[tuple[Array, ...], ...]
    cross: Array

    @property
    def ins(self) -> int:
        return len(self.rep)

    @property
    def size(self) -> int:
        return len(self.rep) + len(self.rows)


class _Builder:
    def __init__(self, problem: Problem, max_states: int) -> None:
        self.problem, self.max_states = problem, max_states
        self.order = problem.order
        at = {layer: position for position, layer in enumerate(self.order)}
        self.layers = [problem.layers[u] for u in self.order]
        count = len(self.layers)
        self.step_s = _grid(self._largest_total())
        snapped: dict[Hashable, Array] = {}

        def snap(table: Array) -> Array:
            if id(table) not in snapped:
                key = (table.shape, table.tobytes())
                if key not in snapped:
                    snapped[key] = _snap(table, self.step_s)
                snapped[id(table)] = snapped[key]
            return snapped[id(table)]

        self.edges = [
            EdgeTable(at[e.source], at[e.target], e.tensor, snap(e.reshard_s), snap(e.cross_s)) for e in problem.edges
        ]
        self.leaving: list[list[int]] = [[] for _ in range(count)]
        self.entering: list[list[int]] = [[] for _ in range(count)]
        self.before = [0] * count
        for number, e in enumerate(self.edges):
            self.leaving[e.source].append(number)
            self.entering[e.target].append(number)
            self.before[e.target] |= 1 << e.source
        self.interned: dict[Hashable, int] = {}
        self.known_codes: dict[tuple[int, tuple[int, ...]], _Codes] = {}
        self.same_codes: dict[Hashable, _Codes] = {}
        self.in_class = [self._in_classes(u) for u in range(count)]
        self.sort = self._sorts()

    def _largest_total(self) -> float:
        times = sum(float(np.where(np.isfinite(u.time_s), u.time_s, 0.0).max()) for u in self.layers)
        return times + sum(float(e.reshard_s.max() + e.cross_s.max()) for e in self.problem.edges)

    def _intern(self, key: Hashable) -> int:
        return self.interned.setdefault(key, len(self.interned))

    def _in_classes(self, u: int) -> Array:
        """Class of each strategy by its columns in all incoming tables."""
        edges = [self.edges[e] for e in self.entering[u]]
        if not edges:
            return np.zeros(len(self.layers[u].strategies), dtype=np.int64)
        key = ("in", *((id(e.reshard_s), id(e.cross_s)) for e in edges))
        found = self.same_codes.get(key)
        if found is None:
            found = _group(np.vstack([t for e in edges for t in (e.reshard_s, e.cross_s)]).T)[0]
            self.same_codes[key] = found
        return found

    def _sorts(self) -> list[int]:
        """Number of each layer's tables; equal numbers, equal tables."""
        text: dict[int, bytes] = {}

        def raw(values: Array) -> bytes:
            if id(values) not in text:
                text[id(values)] = values[:1].tobytes() if values.strides[0] == 0 else values.tobytes()
            return text[id(values)]

        return [
            self._intern(("layer", raw(u.time_s), raw(u.state_bytes), raw(u.stash_bytes), self.in_class[x].tobytes()))
            for x, u in enumerate(self.layers)
        ]

    # --- downsets and their states

    def _downsets(self) -> tuple[list[int], list[list[int]]]:
        """Every downset, small ones first, and the layers that can be added to each."""
        count = len(self.layers)
        full = (1 << count) - 1
        level, masks, ready = {0: [u for u in range(count) if not self.before[u]]}, [], []
        while level:
            following: dict[int, list[int]] = {}
            for mask, can in level.items():
                masks.append(mask)
                ready.append(can)
                for u in can:
                    grown = mask | 1 << u
                    if grown not in following:
                        new = [e.target for e in map(self.edges.__getitem__, self.leaving[u])]
                        fresh = sorted({v for v in new if self.before[v] & ~grown == 0})
                        following[grown] = sorted([*(v for v in can if v != u), *fresh])
            if len(masks) + len(following) > self.max_states // 4:
                raise TooLarge(f"more than {self.max_states // 4} downsets")
            level = following
        assert masks[-1] == full
        return masks, ready

    def _live(self, mask: int, before: list[tuple[int, tuple[int, ...]]], u: int) -> list[tuple[int, tuple[int, ...]]]:
        """Live producers after adding ``u``, with their edges still to come."""
        live = []
        for producer, edges in before:
            if any(self.edges[e].target == u for e in edges):
                edges = tuple(e for e in edges if self.edges[e].target != u)
            if edges:
                live.append((producer, edges))
        if self.leaving[u]:
            live.append((u, tuple(self.leaving[u])))
        return sorted(live)

    def _codes(self, producer: int, edges: tuple[int, ...], direct: bool) -> _Codes:
        key = (producer, edges)
        if key not in self.known_codes:
            tables = tuple((id(self.edges[e].reshard_s), id(self.edges[e].cross_s)) for e in edges)
            tensors = tuple(self.edges[e].tensor for e in edges)
            shared = tuple(tensors.index(t) for t in tensors)
            into = tuple(self._intern(("in", self.in_class[self.edges[e].target].tobytes())) for e in edges)
            same: Hashable = ("codes", tables, shared, into, direct)
            if same not in self.same_codes:
                self.same_codes[same] = self._make_codes(edges, shared, direct)
            self.known_codes[key] = self.same_codes[same]
        return self.known_codes[key]

    def _make_codes(self, edges: tuple[int, ...], shared: tuple[int, ...], direct: bool) -> _Codes:
        tables = [self.edges[e] for e in edges]
        cls, rep = _group(np.hstack([t for e in tables for t in (e.reshard_s, e.cross_s)]))
        if direct and self.problem.depth > 1:
            return self._direct_codes(tables, shared, cls, rep)
        keys: dict[Hashable, int] = {}
        rows: list[tuple[Array, ...]] = []
        cost: list[float] = []
        reach: list[set[int]] = []
        for c in rep if self.problem.depth > 1 else ():
            reach.append({self._out(option, keys, rows, cost) for option in self._options(tables, shared, c, None)})
        at = 0
        while at < len(rows):  # what an earlier boundary promised, a later one may promise more tightly
            found = self._options(tables, shared, -1, rows[at])
            reach.append({self._out(option, keys, rows, cost) for option in found})
            at += 1
        cross = np.full((len(rep) + len(rows), len(rows)), math.inf)
        for code, targets in enumerate(reach):
            for target in targets:
                cross[code, target] = cost[target]
        number = self._intern(("codes", cls.tobytes(), cross.tobytes(), cross.shape, tuple(keys)))
        return _Codes(number, cls, rep, keys, tuple(rows), cross)

    def _options(
        self, tables: list[EdgeTable], shared: tuple[int, ...], c: int, rows: tuple[Array, ...] | None
    ) -> list[tuple[tuple[Array, ...], float]]:
        """Every way to promise a level per tensor: the rows of cost that stay allowed, and the price."""
        own = [t.cross_s[c] for t in tables] if rows is None else list(rows)
        groups = sorted(set(shared))
        levels = []
        for group in groups:
            members = [own[x] for x in range(len(own)) if shared[x] == group]
            values = np.unique(np.concatenate(members))
            least = max(float(row.min()) for row in members)
            levels.append([float(v) for v in values if least <= v < math.inf])
        if math.prod(len(values) for values in levels) > MOST_PROMISES:
            raise TooLarge(f"more than {MOST_PROMISES} ways to promise what the tensors of one layer may cost")
        found = []
        for promise in itertools.product(*levels):
            level = dict(zip(groups, promise, strict=True))
            clipped = tuple(np.where(row <= level[shared[x]], row, math.inf) for x, row in enumerate(own))
            found.append((clipped, float(sum(promise))))
        return found

    def _out(
        self,
        option: tuple[tuple[Array, ...], float],
        keys: dict[Hashable, int],
        rows: list[tuple[Array, ...]],
        cost: list[float],
    ) -> int:
        key = tuple(row.tobytes() for row in option[0])
        if key not in keys:
            keys[key] = len(rows)
            rows.append(option[0])
            cost.append(option[1])
            if len(rows) > MOST_PROMISES:
                raise TooLarge(f"more than {MOST_PROMISES} boundary promises of one layer")
        return keys[key]

    def _direct_codes(self, tables: list[EdgeTable], shared: tuple[int, ...], cls: Array, rep: Array) -> _Codes:
        """One consumer, and nothing else can come next: promise a set of its in-classes, all or one of them."""
        into = self.in_class[tables[0].target]
        count = int(into.max()) + 1
        first = np.array([int(np.flatnonzero(into == f)[0]) for f in range(count)])
        price = np.zeros((len(rep), count))
        for group in sorted(set(shared)):
            members = [t.cross_s[np.ix_(rep, first)] for x, t in enumerate(tables) if shared[x] == group]
            price += np.max(members, axis=0)
        if (price == price[:, :1]).all():  # the consumer's layout does not matter
            price, rows = price[:, :1], (tuple(np.zeros(len(into)) for _ in tables),)
        else:
            rows = tuple(tuple(np.where(into == f, 0.0, math.inf) for _ in tables) for f in range(count))
        cross = np.vstack([price, np.full((len(rows), len(rows)), math.inf)])
        number = self._intern(("direct", cls.tobytes(), cross.tobytes(), cross.shape))
        return _Codes(number, cls, rep, {("direct", f): f for f in range(len(rows))}, rows, cross)

    # --- assembling

    def lattice(self) -> Lattice:
        masks, ready = self._downsets()
        number = {mask: at for at, mask in enumerate(masks)}
        live: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in masks]
        for at, mask in enumerate(masks):
            for u in ready[at]:
                live[number[mask | 1 << u]] = self._live(mask, live[at], u)
        direct = self._direct(live, ready)
        codes = [[self._codes(p, edges, direct[p, edges]) for p, edges in here] for here in live]
        states = np.array([math.prod(c.size for c in here) for here in codes], dtype=np.int64)
        if states.sum() > self.max_states:
            raise TooLarge(f"{int(states.sum())} states in {len(masks)} downsets, budget {self.max_states}")
        outs = [_out_states(here) for here in codes]
        above = states[::-1].cumsum()[::-1]
        pairs = max(len(out) * int(more) for out, more in zip(outs, above, strict=True))
        if pairs > 25 * self.max_states:
            raise TooLarge(f"{pairs} pairs of states at both ends of a stage, budget {25 * self.max_states}")
        types = _Types(self)
        steps = []
        for at, mask in enumerate(masks):
            here = []
            for u in ready[at]:
                after = number[mask | 1 << u]
                here.append((u, types.number(u, live[at], codes[at], live[after], codes[after]), after))
            steps.append(tuple(here))
        stage_class, classes = types.stage_classes()
        out_start = np.zeros(len(masks) + 1, dtype=np.int64)
        out_start[1:] = np.cumsum([len(o) for o in outs])
        problem = self.problem
        return Lattice(
            problem=problem,
            masks=tuple(masks),
            steps=tuple(steps),
            stage_class=stage_class,
            classes=classes,
            states=states,
            outs=np.concatenate(outs),
            out_start=out_start,
            arcs=types.arcs(),
            border=_borders(codes, outs, 4 * self.max_states),
            rounding_s=self.step_s * (2 * len(self.edges) + len(self.layers)) * (problem.micro_batches + 1),
        )

    def _direct(
        self, live: list[list[tuple[int, tuple[int, ...]]]], ready: list[list[int]]
    ) -> dict[tuple[int, tuple[int, ...]], bool]:
        """Whether a producer's one consumer is, wherever it is live, the only layer that can come next."""
        direct: dict[tuple[int, tuple[int, ...]], bool] = {}
        for here, can in zip(live, ready, strict=True):
            for key in here:
                alone = len(can) == 1 and all(self.edges[e].target == can[0] for e in key[1])
                direct[key] = alone and direct.get(key, True)
        # A digit keeps its meaning while its producer's edges come up one by one: only last edges qualify at birth.
        return {(p, edges): value and len(edges) == len(self.leaving[p]) for (p, edges), value in direct.items()}


def _out_states(codes: list[_Codes]) -> Array:
    """States of which no digit is IN."""
    grid = np.zeros(1, dtype=np.int64)
    for c in codes:
        grid = (grid[:, None] * c.size + np.arange(c.ins, c.size)).ravel()
    return grid


def _borders(codes: list[list[_Codes]], outs: list[Array], budget: int) -> tuple[Array, Array, Array, Array]:
    """Arcs over a boundary at each downset, grouped by start state."""
    first, groups, source, cost = [0], [np.zeros(1, dtype=np.int64)], [], []
    known: dict[tuple[int, ...], tuple[Array, Array, Array]] = {}
    filled = 0
    for here, out in zip(codes, outs, strict=True):
        key = tuple(c.number for c in here)
        if key not in known:
            arcs = math.prod(int(np.isfinite(c.cross).sum()) for c in here)
            if filled + arcs > budget:
                raise TooLarge(f"more than {budget} ways over the boundaries")
            q = f = np.zeros(1, dtype=np.int64)
            o = np.zeros(1)
            for c in here:
                a, b = np.nonzero(np.isfinite(c.cross))
                q = (q[:, None] * c.size + a).ravel()
                f = (f[:, None] * len(c.rows) + b).ravel()
                o = (o[:, None] + c.cross[a, b]).ravel()
            by = np.argsort(f, kind="stable")
            known[key] = (np.bincount(f, minlength=len(out)).cumsum(), q[by], o[by])
        sizes, q, o = known[key]
        groups.append(filled + sizes)
        source.append(q)
        cost.append(o)
        filled += len(q)
        first.append(first[-1] + len(out))
    return np.array(first[:-1]), np.concatenate(groups), np.concatenate(source), np.concatenate(cost)


class _Types:
    """Step types: equal steps are built and stored once."""

    def __init__(self, builder: _Builder) -> None:
        self.builder = builder
        self.known: dict[Hashable, int] = {}
        self.cells = 0
        self.group: list[Array] = []
        self.source: list[Array] = []
        self.cost: list[Array] = []
        self.entry: list[tuple[int, Array, int, Array, int]] = []

    def number(
        self,
        u: int,
        live: list[tuple[int, tuple[int, ...]]],
        codes: list[_Codes],
        live_after: list[tuple[int, tuple[int, ...]]],
        codes_after: list[_Codes],
    ) -> int:
        """The type of a step; see the module's text for its arcs and entries."""
        b = self.builder
        after = {p: (x, c) for x, ((p, _), c) in enumerate(zip(live_after, codes_after, strict=True))}
        into = b.in_class[u]
        parts: list[Hashable] = []
        moves = []
        for (producer, edges), code in zip(live, codes, strict=True):
            used = [x for x, e in enumerate(edges) if b.edges[e].target == u]
            kept = [x for x, e in enumerate(edges) if b.edges[e].target != u]
            new = after.get(producer)
            tables = tuple((x, id(b.edges[edges[x]].reshard_s)) for x in used)
            parts.append((code.number, tables, None if new is None else (new[0], new[1].number), tuple(kept)))
            moves.append((edges, code, used, kept, new))
        own = after.get(u)
        key = (b.sort[u], tuple(parts), None if own is None else (own[0], own[1].number), len(codes_after))
        if key not in self.known:
            self.known[key] = len(self.known)
            self._make(u, into, moves, own, codes_after)
        return self.known[key]

    def _make(self, u, into, moves, own, codes_after) -> None:  # type: ignore[no-untyped-def]
        b = self.builder
        choices = int(into.max()) + 1
        first = np.array([int(np.flatnonzero(into == f)[0]) for f in range(choices)])
        strides = np.ones(len(codes_after) + 1, dtype=np.int64)
        for x in range(len(codes_after) - 1, -1, -1):
            strides[x] = strides[x + 1] * codes_after[x].size
        strides = strides[1:]
        self.cells += math.prod(code.size for _, code, *_ in moves) * choices
        if self.cells > 4 * b.max_states:
            raise TooLarge(f"more than {4 * b.max_states} transitions between states")
        cost, target = np.zeros((1, choices)), np.zeros(1, dtype=np.int64)
        for edges, code, used, kept, new in moves:
            price = np.zeros((code.size, choices))
            for x in used:
                price[: code.ins] += b.edges[edges[x]].reshard_s[np.ix_(code.rep, first)]
                for o, row in enumerate(code.rows):
                    price[code.ins + o] += np.where(np.isfinite(row[x][first]), 0.0, math.inf)
            move = np.zeros(code.size, dtype=np.int64)
            if new is not None:
                move = self._moved(code, used, kept, new[1]) * strides[new[0]]
                price[move < 0] = math.inf
            cost = (cost[:, None, :] + price[None, :, :]).reshape(-1, choices)
            target = (target[:, None] + np.maximum(move, 0)[None, :]).ravel()
        bases, residual = np.unique(target, return_inverse=True)
        q, ci = np.nonzero(np.isfinite(cost))
        r = residual[q] * choices + ci
        by = np.argsort(r, kind="stable")
        self.group.append(np.concatenate([[0], np.bincount(r, minlength=len(bases) * choices).cumsum()]))
        self.source.append(q[by])
        self.cost.append(cost[q, ci][by])
        leave = np.zeros(len(into), dtype=np.int64) if own is None else own[1].cls
        self.entry.append((u, bases, choices, leave, 0 if own is None else int(strides[own[0]])))

    @staticmethod
    def _moved(code: _Codes, used: list[int], kept: list[int], new: _Codes) -> Array:
        """The digit after some edges are done; -1 where no consumer to come is allowed."""
        if not used:
            return np.arange(code.size)
        move = np.empty(code.size, dtype=np.int64)
        move[: code.ins] = new.cls[code.rep]
        for o, row in enumerate(code.rows):
            found = new.keys.get(tuple(row[x].tobytes() for x in kept), None)
            move[code.ins + o] = -1 if found is None else new.ins + found
        return move

    def arcs(self) -> tuple[Array, Array, Array, Array, Array]:
        """See :class:`Lattice`."""
        counts = np.array([len(g) - 1 for g in self.group], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(counts + 1)])[:-1].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in self.source])])
        group = np.concatenate([g + o for g, o in zip(self.group, offsets, strict=False)]).astype(np.int64)
        return counts, first, group, np.concatenate(self.source).astype(np.int64), np.concatenate(self.cost)

    def stage_classes(self) -> tuple[Array, tuple[StageClass, ...]]:
        """Group equal stages and price every type on each group."""
        b = self.builder
        problem, layers = b.problem, b.layers
        most = max(s.memory_bytes for s in problem.stages) or 1.0
        step_b = min(1.0, _grid(2 * most))
        uniform = all(u.time_s.strides[0] == 0 or (u.time_s == u.time_s[0]).all() for u in layers)
        numbers: dict[Hashable, int] = {}
        members = []
        for i, s in enumerate(problem.stages):
            rows = () if uniform else tuple(u.time_s[i].tobytes() for u in layers)
            members.append(numbers.setdefault((s.memory_bytes, s.reserved_bytes, s.in_flight, rows), len(numbers)))
        classes = []
        for number in range(len(numbers)):
            i = members.index(number)
            stage = problem.stages[i]
            cap = stage.memory_bytes * (1 + MEMORY_TOLERANCE) - stage.reserved_bytes
            parts = [self._entries(entry, i, cap, 4 * most, step_b) for entry in self.entry]
            start = np.concatenate([[0], np.cumsum([len(p[0]) for p in parts])]).astype(np.int64)
            classes.append(StageClass(cap, start, *(np.concatenate(column) for column in zip(*parts, strict=True))))
        return np.array(members, dtype=np.int64), tuple(classes)

    def _entries(
        self, entry: tuple[int, Array, int, Array, int], i: int, cap: float, most: float, step_b: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        u, bases, choices, leave, stride = entry
        b = self.builder
        layer, stage, enter = b.layers[u], b.problem.stages[i], b.in_class[u]
        memory = _snap(np.minimum(layer.state_bytes + stage.in_flight * layer.stash_bytes, most), step_b)
        time = _snap(layer.time_s[i], b.step_s)
        kind = np.lexsort((time, memory, enter, leave))
        keep = np.zeros(len(kind), dtype=np.bool_)
        pareto_cells(kind, time, memory, enter, leave, cap, keep)
        kind = kind[keep]
        residual = np.repeat(np.arange(len(bases)), len(kind))
        every = np.tile(kind, len(bases))
        after = bases[residual] + stride * leave[every]
        by = np.argsort(after, kind="stable")
        every, residual, after = every[by], residual[by], after[by]
        return residual * choices + enter[every], after, time[every], memory[every], every
