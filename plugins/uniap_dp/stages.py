"""The program over stages: exact fronts of (sum, peak) on stage tables, and the plan behind the best label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import kernels
from .bounds import Cuts, Fronts
from .chain import Chain
from .segments import Arena, StageTable

Array = np.ndarray


@dataclass(frozen=True)
class Leg:
    """One stage of a plan: its layers, first in-class, last out-class and time."""

    stage: int
    first: int
    count: int
    enter: int
    leave: int
    time_s: float


@dataclass(frozen=True, eq=False)
class _Step:
    """Fronts into and out of one stage, for tracing back."""

    heads: Array
    ends: Array
    tables: Array
    value: Array
    enter_at: Array
    enter_many: Array
    leave_at: Array
    leave_many: Array


def join(
    chain: Chain,
    cuts: Cuts,
    tables: list[list[tuple[int, int, StageTable]]],
    cutoff: float,
    behind: Fronts,
    arena: Arena,
) -> tuple[float, list[Leg]] | None:
    """The best plan of at most ``cutoff`` from stage tables, or ``None``.

    Parameters
    ----------
    tables
        Per stage: (first layer, index of last layer less first, table) of every stage that may be used.
    behind
        Backward fronts over cuts; they drop labels that cannot meet the cutoff.
    """
    weight = chain.problem.micro_batches - 1.0
    enter_base = np.concatenate([[0], np.cumsum(chain.enters)])
    leave_base = np.concatenate([[0], np.cumsum(chain.leaves)])
    at, many = np.zeros(enter_base[-1], dtype=np.int64), np.zeros(enter_base[-1], dtype=np.int64)
    arena.time[0] = arena.memory[0] = 0.0
    many[0], used = 1, 1
    shape = (chain.enters, chain.leaves, chain.row, chain.cross)
    steps = []
    for i, choices in enumerate(tables):
        choices = sorted(choices, key=lambda choice: choice[0] + choice[1])
        heads = np.array([a for a, _, _ in choices], dtype=np.int64)
        ends = np.array([a + j for a, j, _ in choices], dtype=np.int64)
        blocks = [table.value[table.base[j] : table.base[j + 1]] for _, j, table in choices]
        starts = np.zeros(len(blocks), dtype=np.int64)
        starts[1:] = np.cumsum([len(block) for block in blocks])[:-1]
        value = np.concatenate(blocks) if blocks else np.zeros(0)
        tail_s, tail_t, tails = _tails(chain, cuts, behind, i)
        while True:
            leave_at, leave_many = np.zeros(leave_base[-1], np.int64), np.zeros(leave_base[-1], np.int64)
            next_at, next_many = np.zeros(enter_base[-1], np.int64), np.zeros(enter_base[-1], np.int64)
            got = kernels.join_stage(
                i == chain.depth - 1, heads, ends, starts, value, shape, weight, cutoff, tail_s, tail_t, tails,
                enter_base, at, many, leave_base, leave_at, leave_many, next_at, next_many,
                arena.time, arena.memory, used,
            )  # fmt: skip
            if got >= 0:
                break
            arena.grow(used)
        steps.append(_Step(heads, ends, starts, value, at, many, leave_at, leave_many))
        arena.most, arena.total = max(arena.most, got), arena.total + got - used
        used, at, many = got, next_at, next_many
    return _trace(chain, steps, enter_base, leave_base, arena, weight)


def _tails(chain: Chain, cuts: Cuts, behind: Fronts, i: int) -> tuple[Array, Array, Array]:
    """What must follow stage ``i`` ending at each layer: boundary and later stages."""
    if i == chain.depth - 1:
        return np.zeros((chain.length, 1)), np.zeros((chain.length, 1)), np.ones(chain.length, dtype=np.int64)
    border = np.append(cuts.border[1:], 0.0)[:, None]
    tail_s = np.ascontiguousarray(behind.total[i + 1, 1:] + border)
    tail_t = np.maximum(behind.peak[i + 1, 1:], border)
    return tail_s, tail_t, np.ascontiguousarray(behind.size[i + 1, 1:])


def _trace(
    chain: Chain, steps: list[_Step], enter_base: Array, leave_base: Array, arena: Arena, weight: float
) -> tuple[float, list[Leg]] | None:
    end = int(leave_base[chain.length - 1])
    at, many = steps[-1].leave_at[end], steps[-1].leave_many[end]
    if not many:
        return None
    sums, peaks = arena.time[at : at + many], arena.memory[at : at + many]
    best = int(np.argmin(sums + weight * peaks))
    s, t = float(sums[best]), float(peaks[best])
    objective = s + weight * t
    b, co = chain.length - 1, 0
    legs: list[Leg] = []
    for i in range(chain.depth - 1, -1, -1):
        step = steps[i]
        leg, s, t = _leg(chain, step, enter_base, arena, i, b, co, s, t)
        legs.append(leg)
        if i:
            b = leg.first - 1
            co, s, t = _boundary(chain, steps[i - 1], leave_base, arena, b, leg.enter, s, t)
    return objective, legs[::-1]


def _leg(
    chain: Chain, step: _Step, enter_base: Array, arena: Arena, i: int, b: int, co: int, s: float, t: float
) -> tuple[Leg, float, float]:
    """The stage behind a label: sums on the grid are exact, so equality finds it."""
    for x in np.flatnonzero(step.ends == b):
        a = int(step.heads[x])
        for f in range(int(chain.enters[a])):
            p = float(step.value[step.tables[x] + f * chain.leaves[b] + co])
            state = int(enter_base[a]) + f
            found = _label(arena, step.enter_at[state], step.enter_many[state], p, s, t)
            if found is not None:
                return Leg(i, a, b - a + 1, f, co, p), *found
    raise AssertionError("a label has no predecessor")


def _boundary(
    chain: Chain, step: _Step, leave_base: Array, arena: Arena, b: int, f: int, s: float, t: float
) -> tuple[int, float, float]:
    for co in range(int(chain.leaves[b])):
        o = float(chain.cross[chain.row[b] + co * chain.enters[b + 1] + f])
        state = int(leave_base[b]) + co
        found = _label(arena, step.leave_at[state], step.leave_many[state], o, s, t)
        if found is not None:
            return co, *found
    raise AssertionError("a label has no predecessor")


def _label(arena: Arena, at: int, many: int, term: float, s: float, t: float) -> tuple[float, float] | None:
    sums, peaks = arena.time[at : at + many], arena.memory[at : at + many]
    hits = np.flatnonzero((sums + term == s) & (np.maximum(peaks, term) == t))
    return (float(sums[hits[0]]), float(peaks[hits[0]])) if len(hits) else None
