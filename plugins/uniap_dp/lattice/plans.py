"""The program over stages: exact fronts of (sum, peak) on stage tables, and the plan behind the best label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arena import Arena
from .cuts import Cuts
from .downsets import Lattice
from .kernels import plan_labels
from .kernels.arrays import Frame, Fronts, Numbered, StageTables, Tails
from .stage_tables import Leg, StageTable

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
    entering: Numbered
    leaving: Numbered


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
    frame = Frame(np.diff(lattice.out_start), lattice.states, lattice.border)
    leave_base = np.concatenate([[0], np.cumsum(lattice.states)])
    entering = _numbered(lattice.out_start)
    arena.labels.first[0] = arena.labels.second[0] = 0.0
    entering.many[0], used = 1, 1
    steps = []
    for i, choices in enumerate(stages):
        choices = sorted(choices, key=lambda choice: choice.target)
        tables, tails = _tables(choices), _tails(cuts, behind, i, lattice.objective.cross, cutoff)
        while True:
            leaving, following = _numbered(leave_base), _numbered(lattice.out_start)
            got = plan_labels.join_stage(
                tables, frame, lattice.objective, tails, entering, leaving, following, arena.labels, used, arena.aside
            )  # fmt: skip
            if got >= 0:
                break
            arena.grow(used)
        steps.append(_Step(choices, entering, leaving))
        arena.most, arena.total = max(arena.most, got), arena.total + got - used
        used, entering = got, following
    return _trace(lattice, steps, arena)


def _numbered(base: Array) -> Numbered:
    """Empty fronts."""
    return Numbered(base, *np.zeros((2, int(base[-1])), dtype=np.int64))


def _tables(choices: list[Choice]) -> StageTables:
    blocks = [choice.table.value[choice.item].ravel() for choice in choices]
    return StageTables(
        np.array([choice.node for choice in choices], dtype=np.int64),
        np.array([choice.target for choice in choices], dtype=np.int64),
        np.concatenate([[0], np.cumsum([len(block) for block in blocks])]).astype(np.int64),
        np.concatenate([*blocks, np.zeros(1)]),
    )


def _tails(cuts: Cuts, behind: Fronts, i: int, weight: float, cutoff: float) -> Tails:
    """What must follow stage ``i`` ending at each downset: boundary and later stages."""
    border = np.where(np.arange(len(cuts.border)) < len(cuts.border) - 1, cuts.border, 0.0)[:, None]
    border = np.where(np.isfinite(border), border, 0.0)
    total, peak = behind.total[i + 1] + weight * border, np.maximum(behind.peak[i + 1], border)
    return Tails(total, peak, behind.size[i + 1].copy(), cutoff)


def _trace(lattice: Lattice, steps: list[_Step], arena: Arena) -> tuple[float, list[Leg]] | None:
    leaving = steps[-1].leaving
    end = int(leaving.base[lattice.size - 1])
    at, many = leaving.at[end], leaving.many[end]
    if not many:
        return None
    sums, peaks = (column[at : at + many] for column in arena.labels)
    peak = lattice.objective.peak
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
            state, s, t = _boundary(lattice, steps[i - 1].leaving, arena, node, leg.start, s, t)
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
            found = _label(arena, step.entering, number, lattice.objective.sum, p, s, t)
            if found is not None:
                return Leg(i, choice.node, choice.item, f, state, p), *found
    raise AssertionError("a label has no predecessor")


def _boundary(
    lattice: Lattice, leaving: Numbered, arena: Arena, node: int, f: int, s: float, t: float
) -> tuple[int, float, float]:
    first, group, source, cost = lattice.border
    for z in range(group[first[node] + f], group[first[node] + f + 1]):
        number = int(leaving.base[node] + source[z])
        found = _label(arena, leaving, number, lattice.objective.cross, float(cost[z]), s, t)
        if found is not None:
            return int(source[z]), *found
    raise AssertionError("a label has no predecessor")


def _label(
    arena: Arena, fronts: Numbered, number: int, weight: float, term: float, s: float, t: float
) -> tuple[float, float] | None:
    at, many = fronts.at[number], fronts.many[number]
    sums, peaks = (column[at : at + many] for column in arena.labels)
    hits = np.flatnonzero((sums + weight * term == s) & (np.maximum(peaks, term) == t))
    return (float(sums[hits[0]]), float(peaks[hits[0]])) if len(hits) else None
