"""The lattice of downsets of a graph, with the strategies that must be carried, as flat arrays.

A pipeline cut is a downset: a set of layers that holds every predecessor of its members. A stage is the difference
of two. For a chain the downsets are its prefixes; two towers make a two-dimensional lattice. At a downset every
producer with consumers still outside is *live*, and its digit of the state (:mod:`uniap_dp.codes`) says all that
the rest must know. Adding a layer is a *step* (:mod:`.steps`).

Times are rounded to a dyadic grid, bytes to another, both so fine (2^-51 of the largest total) that every partial
sum is a float64 without rounding: sums do not depend on their order, and equal totals compare equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uniap_core.api import Problem

from ..codes import CodeBook, Codes, TooLarge, ways_over
from ..objective import Objective
from .kernels.arrays import Arcs, Border, StageClass
from .steps import Live, StepTypes

Array = np.ndarray
Tick = Callable[[], None]


def idle() -> None:
    """The clock that never strikes."""


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
    arcs, border
        Ways from a state into each residual of a step type, and over a boundary into each start state, seconds.
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
    arcs: Arcs
    border: Border
    rounding_s: float

    @property
    def size(self) -> int:
        """Number of downsets."""
        return len(self.states)

    @cached_property
    def objective(self) -> Objective:
        """The weights of the objective."""
        return Objective.of(self.problem)

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

    @cached_property
    def most_residuals(self) -> int:
        """The most residuals of a type."""
        return int(self.arcs.residuals.max(initial=1))

    def tree(self, node: int, usable: Array) -> Tree:
        """The tree above a downset through others that are ``usable``; with one, all between must be."""
        if self.path is not None:
            count = int(usable[node:].sum())
            items = np.arange(count, dtype=np.int64)
            kinds = np.concatenate([[-1], self.path[node : node + count - 1]])
            return Tree(items - 1, kinds, items + node - 1, items + node)
        parent: list[int] = [0]
        types: list[int] = [-1]
        layer, nodes = [-1], [node]
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


def build(problem: Problem, max_states: int, clock: Tick = idle) -> Lattice:
    """Flatten a problem; ``clock`` is called often and raises when time is up.

    Raises
    ------
    TooLarge
        If downsets times carried states, or the arcs between them, exceed their budgets.
    """
    book = CodeBook(problem)
    masks, ready = _downsets(book, max_states // 4)
    number = {mask: at for at, mask in enumerate(masks)}
    live: list[list[Live]] = [[] for _ in masks]
    for at, mask in enumerate(masks):
        for u in ready[at]:
            live[number[mask | 1 << u]] = _live(book, live[at], u)
    direct = _direct(book, live, ready)
    codes = [[book.codes(p, edges, direct[p, edges]) for p, edges in here] for here in live]
    sizes = [math.prod(c.size for c in here) for here in codes]
    if sum(sizes) > max_states:
        raise TooLarge(f"{sum(sizes)} states in {len(masks)} downsets, budget {max_states}")
    states = np.array(sizes, dtype=np.int64)
    outs = [_out_states(here) for here in codes]
    above = states[::-1].cumsum()[::-1]
    pairs = max(len(out) * int(more) for out, more in zip(outs, above, strict=True))
    if pairs > 100 * max_states:
        raise TooLarge(f"{pairs} pairs of states at both ends of a stage, budget {100 * max_states}")
    types = StepTypes(book, 100 * max_states)
    steps: list[list[tuple[int, int, int]]] = [[] for _ in masks]
    for at, mask in enumerate(masks):
        clock()
        for u in ready[at]:
            after = number[mask | 1 << u]
            steps[at].append((u, types.number(u, live[at], codes[at], live[after], codes[after]), after))
    stage_class, classes = types.stage_classes()
    out_start = np.zeros(len(masks) + 1, dtype=np.int64)
    out_start[1:] = np.cumsum([len(o) for o in outs])
    return Lattice(
        problem=problem,
        masks=tuple(masks),
        steps=tuple(map(tuple, steps)),
        stage_class=stage_class,
        classes=classes,
        states=states,
        outs=np.concatenate(outs),
        out_start=out_start,
        arcs=types.arcs(),
        border=_borders(codes, outs, 40 * max_states),
        rounding_s=book.rounding_s,
    )


def _downsets(book: CodeBook, budget: int) -> tuple[list[int], list[list[int]]]:
    """Every downset, small ones first, and the layers that can be added to each."""
    count = len(book.layers)
    level = {0: [u for u in range(count) if not book.before[u]]}
    masks: list[int] = []
    ready: list[list[int]] = []
    while level:
        following: dict[int, list[int]] = {}
        for mask, can in level.items():
            masks.append(mask)
            ready.append(can)
            for u in can:
                grown = mask | 1 << u
                if grown not in following:
                    new = [e.target for e in map(book.edges.__getitem__, book.leaving[u])]
                    fresh = sorted({v for v in new if book.before[v] & ~grown == 0})
                    following[grown] = sorted([*(v for v in can if v != u), *fresh])
        if len(masks) + len(following) > budget:
            raise TooLarge(f"more than {budget} downsets")
        level = following
    return masks, ready


def _live(book: CodeBook, before: list[Live], u: int) -> list[Live]:
    """Live producers after adding ``u``, with their edges still to come."""
    live = []
    for producer, edges in before:
        if any(book.edges[e].target == u for e in edges):
            edges = tuple(e for e in edges if book.edges[e].target != u)
        if edges:
            live.append((producer, edges))
    if book.leaving[u]:
        live.append((u, tuple(book.leaving[u])))
    return sorted(live)


def _direct(book: CodeBook, live: list[list[Live]], ready: list[list[int]]) -> dict[Live, bool]:
    """Whether a producer's one consumer is, wherever it is live, the only layer that can come next."""
    direct: dict[Live, bool] = {}
    for here, can in zip(live, ready, strict=True):
        for key in here:
            alone = len(can) == 1 and all(book.edges[e].target == can[0] for e in key[1])
            direct[key] = alone and direct.get(key, True)
    # A digit keeps its meaning while its producer's edges come up one by one: only last edges qualify at birth.
    return {(p, edges): value and len(edges) == len(book.leaving[p]) for (p, edges), value in direct.items()}


def _out_states(codes: list[Codes]) -> Array:
    """States of which no digit is IN."""
    grid = np.zeros(1, dtype=np.int64)
    for c in codes:
        grid = (grid[:, None] * c.size + np.arange(c.ins, c.size)).ravel()
    return grid


def _borders(codes: list[list[Codes]], outs: list[Array], budget: int) -> Border:
    """Arcs over a boundary at each downset, grouped by start state."""
    first, groups, source, cost = [0], [np.zeros(1, dtype=np.int64)], [], []
    known: dict[tuple[int, ...], tuple[Array, Array, Array]] = {}
    filled = 0
    for here, out in zip(codes, outs, strict=True):
        key = tuple(c.number for c in here)
        if key not in known:
            arcs = math.prod(len(c.ways[0]) for c in here)
            if filled + arcs > budget:
                raise TooLarge(f"more than {budget} ways over the boundaries")
            q, into, o = ways_over(here)
            f = np.searchsorted(out, into)
            by = np.argsort(f, kind="stable")
            known[key] = (np.bincount(f, minlength=len(out)).cumsum(), q[by], o[by])
        sizes, q, o = known[key]
        groups.append(filled + sizes)
        source.append(q)
        cost.append(o)
        filled += len(q)
        first.append(first[-1] + len(out))
    return Border(np.array(first[:-1]), np.concatenate(groups), np.concatenate(source), np.concatenate(cost))
