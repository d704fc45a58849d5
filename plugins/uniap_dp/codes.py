"""Digits of a state: what must be known of a producer whose consumers are not all placed yet.

``IN class``: it lies in the current stage; strategies with equal rows in all tables of the edges still to come are one
class, so a chain needs (classes x classes + strategies) work per layer and not strategies squared. ``OUT code``: it
lies in an earlier stage. A boundary costs the maximum over *later* consumers, so when a tensor crosses a boundary, a
level is promised that no later consumer will exceed; consumers above it are no longer allowed. Minimizing over
promises gives the maximum. Codes with the same allowed costs are one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uniap_core.api import EdgeTable, Problem

from .dense import stack

Array = np.ndarray

MOST_PROMISES = 4096
"""Combinations of levels of one producer's tensors at a boundary, and codes of one producer, at most."""


class TooLarge(Exception):
    """The lattice exceeds its budget; the text says by what count."""


def snap(values: Array, step: float) -> Array:
    """Round to a grid."""
    return np.rint(values / step) * step


def grid(total: float) -> float:
    """Spacing of a dyadic grid on which entries with that total add up without rounding."""
    return 2.0 ** (math.frexp(max(total, 1e-200))[1] - 51)


def group_rows(rows: Array) -> tuple[Array, Array]:
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
class Codes:
    """Digits of one producer with given kinds of edges still to come.

    ``cls`` is the IN class of each strategy, ``rep`` a strategy of each class. ``rows`` has for each OUT code, and each
    kind of edge (:meth:`CodeBook.kinds`), what crossing costs each strategy of a consumer, inf where it is no longer
    allowed or there is no such strategy; ``keys`` finds a code by its rows. ``cross`` (codes, OUT codes) is what a
    boundary costs.
    """

    number: int
    cls: Array
    rep: Array
    keys: dict[Hashable, int]
    rows: Array
    cross: Array

    @property
    def ins(self) -> int:
        """Number of IN classes; they come first."""
        return len(self.rep)

    @property
    def size(self) -> int:
        """Number of codes, IN and OUT."""
        return len(self.rep) + len(self.rows)

    @cached_property
    def ways(self) -> tuple[Array, Array, Array]:
        """Every way over a boundary: from which code, to which OUT code, and the seconds."""
        a, b = np.nonzero(np.isfinite(self.cross))
        return a, b, self.cross[a, b]

    def moved(self, new: Codes, kept: list[int]) -> Array:
        """The digit among ``new`` once only these kinds are to come: a promise to them is one that ``new`` can make."""
        if new is self and kept == list(range(self.rows.shape[1])):
            return np.arange(self.size)
        move = np.empty(self.size, dtype=np.int64)
        move[: self.ins] = new.cls[self.rep]
        move[self.ins :] = [new.ins + new.keys[row.tobytes()] for row in self.rows[:, kept]]
        return move


def ways_over(codes: Sequence[Codes]) -> tuple[Array, Array, Array]:
    """Every way over a boundary that makes all digits OUT: from which state, to which, and the seconds.

    States are digits in order, the last one fastest. Ways into one state are not next to each other.
    """
    source = into = np.zeros(1, dtype=np.int64)
    toll = np.zeros(1)
    for c in codes:
        a, b, seconds = c.ways
        source = (source[:, None] * c.size + a).ravel()
        into = (into[:, None] * c.size + c.ins + b).ravel()
        toll = (toll[:, None] + seconds).ravel()
    return source, into, toll


class CodeBook:
    """The layers in topological order, their edges on the grid, and the digits of every producer; equal ones once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.order = problem.order
        at = {layer: position for position, layer in enumerate(self.order)}
        self.layers = [problem.layers[u] for u in self.order]
        count = len(self.layers)
        self.widest = max(len(layer.strategies) for layer in self.layers)
        self.step_s = grid(self._largest_total())
        self.kind = problem.kinds.edges
        tables: dict[Hashable, Array] = {}
        numbers: dict[Hashable, int] = {}
        known: dict[int, tuple[Array, Array, int]] = {}
        self.edges: list[EdgeTable] = []
        self.resharding: list[int] = []
        for kind, e in zip(self.kind, problem.edges, strict=True):
            if kind not in known:
                keys = [(table.shape, table.tobytes()) for table in (e.reshard_s, e.cross_s)]
                for key, table in zip(keys, (e.reshard_s, e.cross_s), strict=True):
                    if key not in tables:
                        tables[key] = snap(table, self.step_s)
                known[kind] = tables[keys[0]], tables[keys[1]], numbers.setdefault(keys[0], len(numbers))
            reshard_s, cross_s, number = known[kind]
            self.edges.append(EdgeTable(at[e.source], at[e.target], e.tensor, reshard_s, cross_s))
            self.resharding.append(number)
        self.leaving: list[list[int]] = [[] for _ in range(count)]
        self.entering: list[list[int]] = [[] for _ in range(count)]
        self.before = [0] * count
        for number, e in enumerate(self.edges):
            self.leaving[e.source].append(number)
            self.entering[e.target].append(number)
            self.before[e.target] |= 1 << e.source
        self.interned: dict[Hashable, int] = {}
        self.known_kinds: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.known_codes: dict[tuple[int, tuple[int, ...]], Codes] = {}
        self.same_codes: dict[Hashable, Codes] = {}
        self.same_classes: dict[Hashable, Array] = {}
        self.in_class = [self._in_classes(u) for u in range(count)]
        self.into = [self.intern(("in", classes.tobytes())) for classes in self.in_class]
        self.tables = [
            self.intern(("tables", kind, self.into[e.target])) for kind, e in zip(self.kind, self.edges, strict=True)
        ]

    def _largest_total(self) -> float:
        times = stack([u.time_s for u in self.layers], (self.problem.depth, self.widest))
        kinds = self.problem.kinds.edges
        most = {
            kind: float(e.reshard_s.max()) + float(e.cross_s.max())
            for kind, e in dict(zip(kinds, self.problem.edges, strict=True)).items()
        }
        total = float(np.where(np.isfinite(times), times, 0.0).max(axis=(1, 2)).sum())
        return total + sum(most[kind] for kind in kinds)

    def intern(self, key: Hashable) -> int:
        """A small number for a key; equal keys, equal numbers."""
        return self.interned.setdefault(key, len(self.interned))

    def _in_classes(self, u: int) -> Array:
        """Class of each strategy by its columns in all incoming tables."""
        edges = [self.edges[e] for e in self.entering[u]]
        if not edges:
            return np.zeros(len(self.layers[u].strategies), dtype=np.int64)
        key = tuple(self.kind[e] for e in self.entering[u])
        if key not in self.same_classes:
            columns = np.vstack([t for e in edges for t in (e.reshard_s, e.cross_s)]).T
            self.same_classes[key] = group_rows(columns)[0]
        return self.same_classes[key]

    @cached_property
    def sort(self) -> list[int]:
        """Number of each layer's tables; equal numbers, equal tables."""
        kinds = self.problem.kinds.layers
        return [self.intern(("layer", kinds[u], self.into[x])) for x, u in enumerate(self.order)]

    @property
    def rounding_s(self) -> float:
        """Most that the objective can be off through the grid, seconds."""
        weights = self.problem.objective
        terms = 2 * len(self.edges) + len(self.layers)
        return self.step_s * terms * (max(weights.sum, weights.cross) + weights.peak)

    def split(self, edges: tuple[int, ...], u: int) -> tuple[list[tuple[int, int]], list[int]]:
        """Edges still to come as layer ``u`` is placed: (edge, kind) of those that end there, kinds of the others."""
        ends = list(zip(edges, self.kinds(edges), strict=True))
        used = [(e, kind) for e, kind in ends if self.edges[e].target == u]
        return used, list(dict.fromkeys(kind for e, kind in ends if self.edges[e].target != u))

    def charge(self, code: Codes, used: list[tuple[int, int]], strategies: Array, free: frozenset[int]) -> Array:
        """Seconds (digits, strategies) of edges that end at a layer.

        Under an IN class they are resharded, but for ``free`` ones; an OUT code costs nothing more, ``inf`` where its
        promise forbids the strategy.
        """
        seconds = np.zeros((code.size, len(strategies)))
        for e, kind in used:
            if e not in free:
                seconds[: code.ins] += self.edges[e].reshard_s[code.rep[:, None], strategies]
            seconds[code.ins :] += np.where(np.isfinite(code.rows[:, kind, strategies]), 0.0, math.inf)
        return seconds

    def kinds(self, edges: tuple[int, ...]) -> tuple[int, ...]:
        """Number of each edge's kind, by first appearance: edges of one tensor with equal tables are one kind."""
        if edges not in self.known_kinds:
            seen: dict[Hashable, int] = {}
            kinds = ((self.edges[e].tensor, self.tables[e]) for e in edges)
            self.known_kinds[edges] = tuple(seen.setdefault(kind, len(seen)) for kind in kinds)
        return self.known_kinds[edges]

    def codes(self, producer: int, edges: tuple[int, ...], direct: bool) -> Codes:
        """The digits of a producer with these edges still to come; ``direct`` if its one consumer must come next."""
        key = (producer, edges)
        if key not in self.known_codes:
            kinds = self.kinds(edges)
            edges = tuple(edges[kinds.index(kind)] for kind in range(max(kinds) + 1))
            tensors = [self.edges[e].tensor for e in edges]
            shared = tuple(tensors.index(t) for t in tensors)
            same: Hashable = (tuple(self.tables[e] for e in edges), shared, direct)
            if same not in self.same_codes:
                self.same_codes[same] = self._make_codes(edges, shared, direct)
            self.known_codes[key] = self.same_codes[same]
        return self.known_codes[key]

    def _make_codes(self, edges: tuple[int, ...], shared: tuple[int, ...], direct: bool) -> Codes:
        tables = [self.edges[e] for e in edges]
        cls, rep = group_rows(np.hstack([t for e in tables for t in (e.reshard_s, e.cross_s)]))
        if direct and self.problem.depth > 1:
            return self._direct_codes(tables, shared, cls, rep)
        levels = stack([t.cross_s[rep] for t in tables], (len(rep), self.widest), math.inf)
        keys: dict[Hashable, int] = {}
        rows: list[Array] = []
        cost: list[float] = []
        ways: list[tuple[int, Array]] = []
        for c in range(len(rep) if self.problem.depth > 1 else 0):
            allowed, promises = self._promises(levels[:, c], shared)
            first = len(rows)
            options = zip(allowed, promises, strict=True)
            outs = np.array([self._out(*option, keys, rows, cost) for option in options], dtype=np.int64)
            ways.append((c, outs))
            # What an earlier boundary promised, a later one may promise more tightly.
            tighter = np.asarray((promises[:, None] >= promises).all(axis=2))
            ways += [(len(rep) + out, outs[tighter[x]]) for x, out in enumerate(outs.tolist()) if out >= first]
        cross, price = np.full((len(rep) + len(rows), len(rows)), math.inf), np.array(cost)
        for code, outs in ways:
            cross[code, outs] = price[outs]
        number = self.intern(("codes", cls.tobytes(), cross.tobytes(), cross.shape, tuple(keys)))
        return Codes(number, cls, rep, keys, np.array(rows).reshape(len(rows), len(tables), self.widest), cross)

    def _promises(self, own: Array, shared: tuple[int, ...]) -> tuple[Array, Array]:
        """Every way to promise a level per tensor: the rows of cost that stay allowed, and the levels."""
        groups = sorted(set(shared))
        costs, levels = own.tolist(), []
        for group in groups:
            members = [row for row, tensor in zip(costs, shared, strict=True) if tensor == group]
            least = max(map(min, members))
            levels.append(sorted({v for row in members for v in row if least <= v < math.inf}))
        if math.prod(map(len, levels)) > MOST_PROMISES:
            raise TooLarge(f"more than {MOST_PROMISES} ways to promise what the tensors of one layer may cost")
        promises = np.array(list(itertools.product(*levels))).reshape(-1, len(groups))
        most = promises[:, [groups.index(tensor) for tensor in shared], None]
        return np.where(own <= most, own, math.inf), promises

    @staticmethod
    def _out(row: Array, promise: Array, keys: dict[Hashable, int], rows: list[Array], cost: list[float]) -> int:
        key = row.tobytes()
        if key not in keys:
            keys[key] = len(rows)
            rows.append(row)
            cost.append(float(promise.sum()))
            if len(rows) > MOST_PROMISES:
                raise TooLarge(f"more than {MOST_PROMISES} boundary promises of one layer")
        return keys[key]

    def _direct_codes(self, tables: list[EdgeTable], shared: tuple[int, ...], cls: Array, rep: Array) -> Codes:
        """One consumer, and nothing else can come next: promise a set of its in-classes, all or one of them."""
        into = self.in_class[tables[0].target]
        count = int(into.max()) + 1
        first = np.array([int(np.flatnonzero(into == f)[0]) for f in range(count)])
        price = np.zeros((len(rep), count))
        for group in sorted(set(shared)):
            members = [t.cross_s[np.ix_(rep, first)] for x, t in enumerate(tables) if shared[x] == group]
            price += np.max(members, axis=0)
        if (price == price[:, :1]).all():  # the consumer's layout does not matter
            price, count = price[:, :1], 1
            into = np.zeros_like(into)
        rows = np.full((count, len(tables), self.widest), math.inf)
        rows[:, :, : len(into)] = np.where(into == np.arange(count)[:, None], 0.0, math.inf)[:, None]
        cross = np.vstack([price, np.full((len(rows), len(rows)), math.inf)])
        number = self.intern(("direct", cls.tobytes(), cross.tobytes(), cross.shape))
        return Codes(number, cls, rep, {("direct", f): f for f in range(len(rows))}, rows, cross)
