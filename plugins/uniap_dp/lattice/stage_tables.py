"""Exact times of single stages by label setting, for every first in-class and last out-class at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arena import Arena, Pairs
from .cuts import Root
from .downsets import Lattice, Tick
from .kernels import stage_labels, stage_paths
from .kernels.arrays import PathRoom, Spots, ToGo

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class StageTable:
    """Least times of stages of one class from one first downset.

    ``value[item]`` has shape (start states, states at the end); ``inf`` if it is more than the limit that was asked.
    """

    value: dict[int, Array]


def tabulate(
    lattice: Lattice, kind: int, root: Root, limits: Array, prices: Array, arena: Arena, clock: Tick, width: int = 0
) -> StageTable:
    """Label the stages from one downset.

    Parameters
    ----------
    kind
        The class of stage.
    limits
        The most that a stage ending at each item of the root's tree may take; -1 where it may not end.
    prices
        Prices of memory (s/B) whose potentials prune; none is wrong, good ones are fast.
    clock
        Called often; raises when time is up.
    width
        Labels kept per state, 0 for all. A beam's values are attained but may not be least.

    Raises
    ------
    OutOfLabels
        If the arena's budget is too small.
    """
    spots = _label(lattice, kind, root, lattice.starts(root.node), limits, prices, arena, clock, width)
    table = {}
    for item in np.flatnonzero(limits >= 0).tolist():
        here = slice(root.base[item] * spots.rows, root.base[item + 1] * spots.rows)
        where, many = spots.where[here], spots.many[here]
        value = np.full(len(where), math.inf)
        some = many > 0
        value[some] = arena.labels.first[where[some] + many[some] - 1]
        table[item] = value.reshape(spots.rows, -1)
    return StageTable(table)


def _label(
    lattice: Lattice,
    kind: int,
    root: Root,
    starts: Array,
    limits: Array,
    prices: Array,
    arena: Arena,
    clock: Tick,
    width: int,
) -> Spots:
    segment = root.segment(lattice, kind)
    residuals = lattice.arcs.residuals[root.tree.type]
    residuals[0] = 0
    in_base = np.concatenate([[0], np.cumsum(residuals)])
    states, inner, many = int(root.base[-1]), int(in_base[-1]), len(prices)
    to_go = ToGo(
        in_base, prices, np.empty((states, many)), np.empty((inner, many)), np.empty(states), np.empty(inner)
    )  # fmt: skip
    stage_paths.completions(segment, limits, to_go)
    rows = len(starts)
    spots = Spots(rows, *np.zeros((2, states * rows), dtype=np.int64))
    while rows > len(arena.labels.first):
        arena.grow(0)
    first = np.arange(rows) * root.base[1] + starts
    spots.where[first], spots.many[first] = np.arange(rows), 1
    arena.labels.first[:rows] = arena.labels.second[:rows] = 0.0
    used, in_at = rows, np.empty(int(residuals.max()) + 1, dtype=np.int64)
    # Items from which no useful end can be reached are left out.
    open_ = np.minimum.reduceat(np.append(to_go.spare, math.inf), root.base[:-1]) < math.inf
    for item in np.flatnonzero(open_[1:]).tolist():
        clock()
        while True:
            got = stage_labels.extend(
                segment, to_go, item + 1, width, spots, arena.labels, used, arena.aside, in_at
            )  # fmt: skip
            if got >= 0:
                break
            arena.grow(used)
        arena.most = max(arena.most, got)
        arena.total += got - used
        used = got
    return spots


@dataclass(frozen=True)
class Leg:
    """One stage of a plan: from a start state of a downset to a state at an item of its tree, in so much time."""

    stage: int
    node: int
    item: int
    start: int
    state: int
    time_s: float


def strategies(lattice: Lattice, root: Root, leg: Leg, prices: Array, arena: Arena, clock: Tick) -> dict[int, int]:
    """Strategy of each layer of a stage: label it again with its own time as the limit, and trace back."""
    limits = np.full(len(root.tree.parent), -1.0)
    limits[leg.item] = leg.time_s
    kind = int(lattice.stage_class[leg.stage])
    starts = lattice.starts(root.node)[leg.start : leg.start + 1]
    spots = _label(lattice, kind, root, starts, limits, prices, arena, clock, 0)
    goal = int(root.base[leg.item]) + leg.state
    label = spots.where[goal] + spots.many[goal] - 1
    time_s, memory = float(arena.labels.first[label]), float(arena.labels.second[label])
    return _trace(lattice, kind, root, leg.item, leg.state, time_s, memory, spots, arena.labels)


def priced(lattice: Lattice, kind: int, root: Root, item: int, recipe: Array) -> dict[int, int]:
    """Strategy of each layer on the cheapest path to an item under two weights."""
    states = int(root.base[-1])
    alive = np.ones(len(root.base), dtype=np.bool_)
    best = np.full((2, states), math.inf)
    room = PathRoom(np.empty((2, lattice.most_residuals)), best)
    ends = np.empty((2, len(root.base)))
    segment = root.segment(lattice, kind)
    stage_paths.price_paths(segment, item + 1, recipe[0], recipe[1], lattice.starts(root.node), alive, room, ends)
    here = slice(int(root.base[item]), int(root.base[item + 1]))
    state = int(np.flatnonzero((best[:, here] == ends[:, item, None]).all(axis=0))[0])
    spots = Spots(1, np.arange(states), np.isfinite(best[0]).astype(np.int64))
    time_s, memory = ends[:, item].tolist()
    return _trace(lattice, kind, root, item, state, time_s, memory, spots, Pairs(best[0], best[1]))


def _trace(
    lattice: Lattice, kind: int, root: Root, item: int, state: int, p: float, m: float, spots: Spots, labels: Pairs
) -> dict[int, int]:
    path = np.empty(len(root.tree.parent), dtype=np.int64)
    stage_paths.trace_stage(root.segment(lattice, kind), item, state, p, m, spots, labels, path)
    kinds = lattice.classes[kind].kind
    return {int(root.tree.layer[x]): int(kinds[path[x]]) for x in np.flatnonzero(path >= 0)}
