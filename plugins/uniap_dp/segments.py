"""Exact times of single stages by label setting, for every first in-class and last out-class at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from . import kernels
from .bounds import costs_of, shape_of
from .chain import Chain

Array = np.ndarray


class OutOfLabels(Exception):
    """The label budget is spent; what was proven so far stays true."""


@dataclass
class Arena:
    """Room for labels, grown on demand up to a budget and used again for every table."""

    budget: int
    time: Array = field(default_factory=lambda: np.empty(1 << 16))
    memory: Array = field(default_factory=lambda: np.empty(1 << 16))
    most: int = 0
    total: int = 0

    def grow(self, used: int) -> None:
        """Double the room, keeping the first ``used`` labels.

        Raises
        ------
        OutOfLabels
            If that is over the budget.
        """
        if len(self.time) >= self.budget:
            raise OutOfLabels
        size = min(2 * len(self.time), self.budget)
        for name in ("time", "memory"):
            old = getattr(self, name)
            new = np.empty(size)
            new[:used] = old[:used]
            setattr(self, name, new)


@dataclass(frozen=True, eq=False)
class StageTable:
    """Least times of stages of one class from one first layer.

    ``value[base[j] + f * leaves + co]`` is the least time over layers ``a .. a + j`` from in-class ``f`` to out-class
    ``co``; ``inf`` if it is more than the limit that was asked.
    """

    first: int
    base: Array
    value: Array


def tabulate(
    chain: Chain, kind: int, a: int, limits: Array, prices: Array, arena: Arena, width: int = 0, clock: object = None
) -> StageTable:
    """Label the stages from layer ``a``.

    Parameters
    ----------
    kind
        The class of stage.
    limits
        The most that a stage over ``a .. a + j`` may take (n,); -1 where it may not end. Ends beyond are not wanted.
    prices
        Prices of memory (s/B) whose potentials prune; none is wrong, good ones are fast.
    width
        Labels kept per state, 0 for all. A beam's values are attained but may not be least.

    Raises
    ------
    OutOfLabels
        If the arena's budget is too small.
    """
    n = len(limits)
    sizes = chain.enters[a] * chain.leaves[a : a + n]
    base = np.concatenate([[0], np.cumsum(sizes)])
    limit = np.repeat(np.asarray(limits, dtype=float), sizes)
    where, many = _label(chain, kind, a, 0, int(chain.enters[a]), base, limit, prices, arena, width, clock)
    value = np.full(len(limit), math.inf)
    some = many > 0
    value[some] = arena.time[where[some] + many[some] - 1]
    value[limit < 0] = math.inf
    return StageTable(a, base, value)


def _label(
    chain: Chain,
    kind: int,
    a: int,
    first: int,
    last: int,
    base: Array,
    limit: Array,
    prices: Array,
    arena: Arena,
    width: int,
    clock: object,
) -> tuple[Array, Array]:
    n = len(base) - 1
    shape, costs = shape_of(chain), costs_of(chain.classes[kind])
    slack, spare = np.empty((len(prices), len(limit))), np.empty(len(limit))
    kernels.completions(a, n, first, last, shape, costs, base, limit, prices, slack, spare)
    where, many = np.zeros(len(limit), dtype=np.int64), np.zeros(len(limit), dtype=np.int64)
    used = 0
    for j in range(n):
        if callable(clock):
            clock()
        while True:
            got = kernels.extend(
                a, j, first, last, width, shape, costs, base, where, many, arena.time, arena.memory, used,
                prices, slack, spare, len(prices) - 1,
            )  # fmt: skip
            if got >= 0:
                break
            arena.grow(used)
        arena.most = max(arena.most, got)
        arena.total += got - used
        used = got
    return where, many


def strategies(
    chain: Chain, kind: int, a: int, n: int, f: int, co: int, time_s: float, prices: Array, arena: Arena, width: int = 0
) -> list[int]:
    """The strategy of each layer of a stage with the given table entry: label again under its own time as the limit."""
    sizes = chain.leaves[a : a + n]
    base = np.concatenate([[0], np.cumsum(sizes)])
    limit = np.full(int(sizes.sum()), -1.0)
    goal = int(base[n - 1]) + co
    limit[goal] = time_s
    where, many = _label(chain, kind, a, f, f + 1, base, limit, prices, arena, width, None)
    label = where[goal] + many[goal] - 1
    path = np.empty(n, dtype=np.int64)
    shape, costs = shape_of(chain), costs_of(chain.classes[kind])
    kernels.trace_stage(
        a, n, 0, co, shape, costs, base, where, many, arena.time, arena.memory,
        arena.time[label], arena.memory[label], path,
    )  # fmt: skip
    return [int(k) for k in chain.classes[kind].kind[path]]
