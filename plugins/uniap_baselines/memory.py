"""The cheapest strategies of a run of layers within a memory budget, on a grid of memory (Galvatron's program)."""

from __future__ import annotations

import math

import numpy as np

from .clock import Clock
from .line import Array, Choice, Line

GRID = 2048
"""Units into which a stage's memory is divided; needs are rounded up, so what is found fits."""


def cheapest(line: Line, first: int, end: int, stage: int, clock: Clock) -> Choice | None:
    """Strategies of positions ``first`` to ``end - 1`` of least time within the memory of a stage.

    Resharding between neighbours counts. Source of the recurrence over (layer, memory, strategy): Galvatron, Miao et
    al. 2022, arXiv 2211.13878, section 3.3.

    Returns
    -------
    list of int or None
        Strategy indices, or ``None`` if nothing fits or time is up.
    """
    budget = line.problem.ranks[stage].budget_bytes
    if budget < 0:
        return None
    back: list[Array] = []
    least: Array | None = None
    for at in range(first, end):
        if clock.over():
            return None
        units = _units(line.need_bytes(at, stage), budget)
        times = line.layers[at].time_s[stage]
        table = np.full((GRID + 1, len(units)), math.inf)
        origin = np.zeros((GRID + 1, len(units)), dtype=np.int32)
        for k, need in enumerate(units):
            if need > GRID:
                continue
            if least is None:
                table[need:, k] = times[k]
                continue
            through = least[: GRID + 1 - need] + line.between[at - 1][:, k]
            origin[need:, k] = through.argmin(axis=1)
            table[need:, k] = through.min(axis=1) + times[k]
        back.append(origin)
        least = table
    if least is None or not np.isfinite(least[GRID]).any():
        return None
    return _trace(line, least, back, first, end, stage, budget)


def _units(needs: Array, budget: float) -> list[int]:
    if budget == 0:
        return [0 if need == 0 else GRID + 1 for need in needs]
    return [min(GRID + 1, math.ceil(need / budget * GRID * (1 - 1e-12))) for need in needs]


def _trace(line: Line, least: Array, back: list[Array], first: int, end: int, stage: int, budget: float) -> Choice:
    k, left = int(least[GRID].argmin()), GRID
    choice = [k]
    for at in range(end - 1, first, -1):
        origin = int(back[at - first][left, k])
        left -= _units(line.need_bytes(at, stage), budget)[k]
        k = origin
        choice.append(k)
    return choice[::-1]
