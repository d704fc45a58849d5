"""The program over stages: exact fronts of (sum, peak) on stage tables, and the plan behind the best label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import totals
from .arena import Arena
from .bounds import Cuts, Fronts
from .lattice import Lattice
from .segments import Leg, StageTable

Array = np.ndarray


@dataclass(frozen=True)
class Choice:
    """A stage that may be used: its first downset, and the item of a table where it ends at ``target``."""

    node: int
    item: int
    target: int
    table: StageTable


@dataclass(frozen=True, eq=False)
class _Step:
    """Fronts into and out of one stage, for tracing back."""

    choices: list[Choice]
    enter_at: Array
    enter_many: Array
    leave_at: Array
    leave_many: Array


def join(
    lattice: Lattice, cuts: Cuts, stages: list[list[Choice]], cutoff: float, behind: Fronts, arena: Arena
) -> tuple[float, list[Leg]] | None:
    """The best plan of at most ``cutoff`` from stage tables, or ``None``.

    Parameters
    ----------
    stages
        Per stage: all that may be used.
    behind
        Backward fronts over cuts; they drop labels that cannot meet the cutoff.
    """
    weights = lattice.weights
    starts = np.diff(lattice.out_start)
    leave_base = np.concatenate([[0], np.cumsum(lattice.states)])
    at, many = np.zeros(lattice.out_start[-1], dtype=np.int64), np.zeros(lattice.out_start[-1], dtype=np.int64)
    arena.time[0] = arena.memory[0] = 0.0
    many[0], used = 1, 1
    steps = []
    for i, choices in enumerate(stages):
        choices = sorted(choices, key=lambda choice: choice.target)
        heads = np.array([choice.node for choice in choices], dtype=np.int64)
        ends = np.array([choice.target for choice in choices], dtype=np.int64)
        blocks = [choice.table.value[choice.item].ravel() for choice in choices]
        tables = np.concatenate([[0], np.cumsum([len(block) for block in blocks])]).astype(np.int64)
        value = np.concatenate([*blocks, np.zeros(1)])
        tail_s, tail_t, tails = _tails(cuts, behind, i, weights[1])
        while True:
            leave_at, leave_many = np.zeros((2, leave_base[-1]), dtype=np.int64)
            next_at, next_many = np.zeros((2, lattice.out_start[-1]), dtype=np.int64)
            got = totals.join_stage(
                heads, ends, tables, value, starts, lattice.states, lattice.border, weights, cutoff,
                tail_s, tail_t, tails, lattice.out_start, at, many, leave_base, leave_at, leave_many,
                next_at, next_many, arena.time, arena.memory, used, arena.aside_time, arena.aside_memory,
            )  # fmt: skip
            if got >= 0:
                break
            arena.grow(used)
        steps.append(_Step(choices, at, many, leave_at, leave_many))
        arena.most, arena.total = max(arena.most, got), arena.total + got - used
        used, at, many = got, next_at, next_many
    return _trace(lattice, steps, leave_base, arena)


def _tails(cuts: Cuts, behind: Fronts, i: int, weight_o: float) -> tuple[Array, Array, Array]:
    """What must follow stage ``i`` ending at each downset: boundary and later stages."""
    border = np.where(np.arange(len(cuts.border)) < len(cuts.border) - 1, cuts.border, 0.0)[:, None]
    border = np.where(np.isfinite(border), border, 0.0)
    return behind.total[i + 1] + weight_o * border, np.maximum(behind.peak[i + 1], border), behind.size[i + 1].copy()


def _trace(lattice: Lattice, steps: list[_Step], leave_base: Array, arena: Arena) -> tuple[float, list[Leg]] | None:
    end = int(leave_base[lattice.size - 1])
    at, many = steps[-1].leave_at[end], steps[-1].leave_many[end]
    if not many:
        return None
    sums, peaks = arena.time[at : at + many], arena.memory[at : at + many]
    peak = lattice.weights[2]
    best = int(np.argmin(sums + peak * peaks))
    s, t = float(sums[best]), float(peaks[best])
    objective = s + peak * t
    node, state = lattice.size - 1, 0
    legs: list[Leg] = []
    for i in range(lattice.depth - 1, -1, -1):
        leg, s, t = _leg(lattice, steps[i], arena, i, node, state, s, t)
        legs.append(leg)
        if i:
            node = leg.node
            state, s, t = _boundary(lattice, steps[i - 1], leave_base, arena, node, leg.start, s, t)
    return objective, legs[::-1]


def _leg(
    lattice: Lattice, step: _Step, arena: Arena, i: int, node: int, state: int, s: float, t: float
) -> tuple[Leg, float, float]:
    """The stage behind a label: the same sum of the same numbers, so equality finds it."""
    for choice in step.choices:
        if choice.target != node:
            continue
        for f, p in enumerate(choice.table.value[choice.item][:, state].tolist()):
            number = int(lattice.out_start[choice.node]) + f
            found = _label(arena, step.enter_at[number], step.enter_many[number], lattice.weights[0], p, s, t)
            if found is not None:
                return Leg(i, choice.node, choice.item, f, state, p), *found
    raise AssertionError("a label has no predecessor")


def _boundary(
    lattice: Lattice, step: _Step, leave_base: Array, arena: Arena, node: int, f: int, s: float, t: float
) -> tuple[int, float, float]:
    first, group, source, cost = lattice.border
    for z in range(group[first[node] + f], group[first[node] + f + 1]):
        number = int(leave_base[node] + source[z])
        found = _label(arena, step.leave_at[number], step.leave_many[number], lattice.weights[1], float(cost[z]), s, t)
        if found is not None:
            return int(source[z]), *found
    raise AssertionError("a label has no predecessor")


def _label(
    arena: Arena, at: int, many: int, weight: float, term: float, s: float, t: float
) -> tuple[float, float] | None:
    sums, peaks = arena.time[at : at + many], arena.memory[at : at + many]
    hits = np.flatnonzero((sums + weight * term == s) & (np.maximum(peaks, term) == t))
    return (float(sums[hits[0]]), float(peaks[hits[0]])) if len(hits) else None
