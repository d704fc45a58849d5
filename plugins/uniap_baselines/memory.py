"""The cheapest strategies of a run of layers within a memory budget, on a grid of memory (Galvatron's program)."""

from __future__ import annotations

import math

import numpy as np

from .clock import Clock
from .line import Array, Choice, Line

GRID = 2048
"""Units into which a stage's memory is divided; needs are rounded up, so what is found fits."""


def cheapest(line: Line, chunks: list[range], stage: int, clock: Clock) -> dict[int, int] | None:
    """Strategies of the positions of a stage's chunks of least time within its memory.

    Resharding between neighbours of a chunk counts, and each chunk holds the most that it ever has in flight. Source of
    the recurrence over (layer, memory, strategy): Galvatron, Miao et al. 2022, arXiv 2211.13878, section 3.3.

    Returns
    -------
    dict or None
        Strategy index of each position, or ``None`` if nothing fits or time is up.
    """
    budget = line.problem.ranks[stage].budget_bytes
    if budget < 0:
        return None
    back: list[Array] = []
    least: Array | None = None
    places = [(at, n) for n, chunk in enumerate(chunks) for at in chunk]
    needs = [_units(line.need_bytes(at, stage, n), budget) for at, n in places]
    for (at, n), units in zip(places, needs, strict=True):
        if clock.over():
            return None
        times = line.layers[at].time_s[stage]
        table = np.full((GRID + 1, len(units)), math.inf)
        origin = np.zeros((GRID + 1, len(units)), dtype=np.int32)
        for k, need in enumerate(units):
            if need > GRID:
                continue
            if least is None:
                table[need:, k] = times[k]
                continue
            # Between the last layer of a chunk and the first of the next lie other stages.
            through = least[: GRID + 1 - need] + (0.0 if at == chunks[n].start else line.between[at - 1][:, k])
            origin[need:, k] = through.argmin(axis=1)
            table[need:, k] = through.min(axis=1) + times[k]
        back.append(origin)
        least = table
    if least is None or not np.isfinite(least[GRID]).any():
        return None
    choice = _trace(least, back, needs)
    return {at: k for (at, _), k in zip(places, choice, strict=True)}


def _units(needs: Array, budget: float) -> list[int]:
    if budget == 0:
        return [0 if need == 0 else GRID + 1 for need in needs]
    return [min(GRID + 1, math.ceil(need / budget * GRID * (1 - 1e-12))) for need in needs]


def _trace(least: Array, back: list[Array], needs: list[list[int]]) -> Choice:
    k, left = int(least[GRID].argmin()), GRID
    choice = [k]
    for n in range(len(needs) - 1, 0, -1):
        origin = int(back[n][left, k])
        left -= needs[n][k]
        k = origin
        choice.append(k)
    return choice[::-1]
