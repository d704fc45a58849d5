"""Step types: adding a layer to a downset as arcs and entries. Equal steps are built and stored once.

An arc leads from a state to a residual state and an in-class of the new layer, and costs resharding; an entry leads on
to a state, and costs the time and memory of a strategy. Within one (in-class, class) cell only strategies on the
Pareto front of (time, memory) can be in an optimum.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from uniap_core.api import MEMORY_TOLERANCE

from ..codes import CodeBook, Codes, TooLarge, grid, snap
from .kernels.arrays import Arcs, StageClass
from .kernels.stage_labels import pareto_cells

Array = np.ndarray

Live = tuple[int, tuple[int, ...]]
"""A producer (position) and its edges still to come."""


Move = tuple[Codes, list[tuple[int, int]], list[int], tuple[int, Codes] | None]
"""A live producer in a step: digits, (edge, kind) to the new layer, kinds to others, (place, digits) afterwards."""


class StepTypes:
    """Step types: equal steps are built and stored once."""

    def __init__(self, book: CodeBook, budget: int) -> None:
        self.book, self.budget = book, budget
        self.known: dict[Hashable, int] = {}
        self.cells = 0
        self.group: list[Array] = []
        self.source: list[Array] = []
        self.cost: list[Array] = []
        self.entry: list[tuple[int, Array, int, Array, int]] = []

    def number(
        self,
        u: int,
        live: list[Live],
        codes: list[Codes],
        live_after: list[Live],
        codes_after: list[Codes],
    ) -> int:
        """The type of a step; see the module's text for its arcs and entries."""
        b = self.book
        after = {p: (x, c) for x, ((p, _), c) in enumerate(zip(live_after, codes_after, strict=True))}
        into = b.in_class[u]
        parts: list[Hashable] = []
        moves: list[Move] = []
        for (producer, edges), code in zip(live, codes, strict=True):
            used, kept = b.split(edges, u)
            new = after.get(producer)
            tables = tuple((kind, b.resharding[e]) for e, kind in used)
            parts.append((code.number, tables, None if new is None else (new[0], new[1].number), tuple(kept)))
            moves.append((code, used, kept, new))
        own = after.get(u)
        key = (b.sort[u], tuple(parts), None if own is None else (own[0], own[1].number), len(codes_after))
        if key not in self.known:
            self.known[key] = len(self.known)
            self._make(u, into, moves, own, codes_after)
        return self.known[key]

    def _make(
        self, u: int, into: Array, moves: list[Move], own: tuple[int, Codes] | None, codes_after: list[Codes]
    ) -> None:
        b = self.book
        choices = int(into.max()) + 1
        first = np.array([int(np.flatnonzero(into == f)[0]) for f in range(choices)])
        strides = np.ones(len(codes_after) + 1, dtype=np.int64)
        for x in range(len(codes_after) - 1, -1, -1):
            strides[x] = strides[x + 1] * codes_after[x].size
        strides = strides[1:]
        self.cells += math.prod(code.size for code, *_ in moves) * choices
        if self.cells > self.budget:
            raise TooLarge(f"more than {self.budget} transitions between states")
        cost, target = np.zeros((1, choices)), np.zeros(1, dtype=np.int64)
        for code, used, kept, new in moves:
            price = b.charge(code, used, first, frozenset())
            move = np.zeros(code.size, dtype=np.int64)
            if new is not None:
                move = code.moved(new[1], kept) * strides[new[0]]
            cost = (cost[:, None, :] + price[None, :, :]).reshape(-1, choices)
            target = (target[:, None] + move[None, :]).ravel()
        bases, residual = np.unique(target, return_inverse=True)
        q, ci = np.nonzero(np.isfinite(cost))
        r = residual[q] * choices + ci
        by = np.argsort(r, kind="stable")
        self.group.append(np.concatenate([[0], np.bincount(r, minlength=len(bases) * choices).cumsum()]))
        self.source.append(q[by])
        self.cost.append(cost[q, ci][by])
        leave = np.zeros(len(into), dtype=np.int64) if own is None else own[1].cls
        self.entry.append((u, bases, choices, leave, 0 if own is None else int(strides[own[0]])))

    def arcs(self) -> Arcs:
        """The arcs of all types."""
        counts = np.array([len(g) - 1 for g in self.group], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(counts + 1)])[:-1].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in self.source])])
        group = np.concatenate([g + o for g, o in zip(self.group, offsets, strict=False)]).astype(np.int64)
        return Arcs(counts, first, group, np.concatenate(self.source).astype(np.int64), np.concatenate(self.cost))

    def stage_classes(self) -> tuple[Array, tuple[StageClass, ...]]:
        """Group equal stages and price every type on each group."""
        b = self.book
        problem, layers = b.problem, b.layers
        most = max(s.memory_bytes for s in problem.ranks) or 1.0
        step_b = min(1.0, grid(2 * most))
        uniform = all(u.time_s.strides[0] == 0 or (u.time_s == u.time_s[0]).all() for u in layers)
        numbers: dict[Hashable, int] = {}
        members = []
        for i, s in enumerate(problem.ranks):
            rows = () if uniform else tuple(u.time_s[i].tobytes() for u in layers)
            members.append(
                numbers.setdefault((s.memory_bytes, s.reserved_bytes, s.peak_in_flight[0], rows), len(numbers))
            )
        entries = _Entries(self)
        classes = []
        for number in range(len(numbers)):
            i = members.index(number)
            stage = problem.ranks[i]
            cap = stage.memory_bytes * (1 + MEMORY_TOLERANCE) - stage.reserved_bytes
            classes.append(entries.on_stage(i, cap, 4 * most, step_b))
        return np.array(members, dtype=np.int64), tuple(classes)


class _Entries:
    """Entries of all step types side by side: steps that place equal layers differ in their residual states alone."""

    def __init__(self, types: StepTypes) -> None:
        self.book = types.book
        numbers: dict[Hashable, int] = {}
        self.places: list[tuple[int, Array]] = []
        place = []
        for u, _, _, leave, _ in types.entry:
            place.append(numbers.setdefault((self.book.sort[u], leave.tobytes()), len(numbers)))
            if place[-1] == len(self.places):
                self.places.append((u, leave))
        _, bases, choices, _, stride = zip(*types.entry, strict=True)
        count = np.array([len(base) for base in bases])
        self.types = len(count)
        # Of each residual state: type, place, state before the new digit, and place of its in-classes among entries.
        self.type = np.arange(self.types).repeat(count)
        self.place = np.array(place)[self.type]
        self.base, self.stride = np.concatenate(bases), np.array(stride)[self.type]
        first = count.cumsum() - count
        self.enter = (np.arange(len(self.base)) - first[self.type]) * np.array(choices)[self.type]

    def on_stage(self, i: int, cap: float, most: float, step_b: float) -> StageClass:
        """What can be of use on stage ``i``, whose layers may use ``cap`` bytes."""
        useful = [self._useful(u, leave, i, cap, most, step_b) for u, leave in self.places]
        kind, enter, leave, time, memory = (np.concatenate(column) for column in zip(*useful, strict=True))
        size = np.array([len(columns[0]) for columns in useful])
        many = size[self.place]
        row = np.arange(len(many)).repeat(many)
        at = np.arange(len(row)) + ((size.cumsum() - size)[self.place] - (many.cumsum() - many))[row]
        after = self.base[row] + self.stride[row] * leave[at]
        by = np.lexsort((after, self.type[row]))
        row, at, after = row[by], at[by], after[by]
        start = np.concatenate([[0], np.bincount(self.type[row], minlength=self.types).cumsum()]).astype(np.int64)
        return StageClass(cap, start, self.enter[row] + enter[at], after, time[at], memory[at], kind[at])

    def _useful(
        self, u: int, leave: Array, i: int, cap: float, most: float, step_b: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Strategies of a layer that no other beats: number, in-class, class that they leave, seconds and bytes."""
        b = self.book
        layer, stage, enter = b.layers[u], b.problem.ranks[i], b.in_class[u]
        memory = snap(np.minimum(layer.state_bytes + stage.peak_in_flight[0] * layer.stash_bytes, most), step_b)
        time = snap(layer.time_s[i], b.step_s)
        kind = np.lexsort((time, memory, enter, leave))
        keep = np.zeros(len(kind), dtype=np.bool_)
        pareto_cells(kind, time, memory, enter, leave, cap, keep)
        kind = kind[keep]
        return kind, enter[kind], leave[kind], time[kind], memory[kind]
