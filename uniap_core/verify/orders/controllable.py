"""V-Half and V-Min (Qi et al. 2024, arXiv 2405.15362): a building block on a V, repeated and squeezed.

The block says in which unit of time each rank runs the forward and the input gradient of both its chunks for one
micro-batch (appendix of the paper; stable patterns of sail-sg/zero-bubble-pipeline-parallelism). It repeats every six
units, and weight gradients take the two units that are left. Then the ramps are reordered, as the paper does: before
the first micro-batch is back at the first rank, forwards move ahead into idle units as long as the rank holds no more
of either chunk than it does at some time anyway; after the last forward has begun, input gradients move ahead of
weight gradients.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import repeat

from .step import FORWARD, INPUT, WEIGHT, Order, Step

PERIOD = 6
"""Units of time per micro-batch: forward, input and weight gradient of two chunks."""

SETTLED = 8
"""Periods after which the weight gradients have found their units."""

CALLS = ((FORWARD, 0), (FORWARD, 1), (INPUT, 1), (INPUT, 0))
"""What a rank does for a micro-batch, in turn: kind, and which of its chunks."""

Slot = tuple[int, int, int]
"""Kind, which of the rank's chunks, micro-batch."""


def block(schedule: str, ranks: int, rank: int) -> tuple[int, int, int, int]:
    """The units of time at which a rank runs its :data:`CALLS` for the first micro-batch."""
    if schedule == "v-half":
        turn = 3 if ranks % 2 == 0 else 0  # keeps the four apart, modulo the period
        return 2 * rank, 3 * ranks - rank - 2, 3 * ranks + turn + 2 * rank - 1, 6 * ranks + turn - rank - 2
    turn = 2 if ranks % 3 == 0 else 0
    return rank, 2 * ranks - rank - 1, 2 * ranks + turn + rank, 4 * ranks + turn - rank - 1


@dataclass
class _Grid:
    """What one rank does when; weight gradients, first come first served, in the units that nothing else takes."""

    at: dict[int, Slot]
    when: dict[Slot, int] = field(init=False)

    def __post_init__(self) -> None:
        self.when = {slot: t for t, slot in self.at.items()}

    def move(self, slot: Slot, t: int) -> None:
        """Put a slot elsewhere."""
        del self.at[self.when[slot]]
        self.at[t], self.when[slot] = slot, t

    def filled(self) -> dict[int, Slot]:
        """With the weight gradients."""
        waiting: deque[Slot] = deque()
        rows, t = {}, 0
        end = max(self.at)
        while t <= end or waiting:
            if t in self.at:
                rows[t] = self.at[t]
                if rows[t][0] == INPUT:
                    waiting.append((WEIGHT, *rows[t][1:]))
            elif waiting:
                rows[t] = waiting.popleft()
            t += 1
        return rows

    def held(self) -> set[tuple[int, int]]:
        """What the rank holds at once, micro-batches of each of its chunks."""
        rows = self.filled()
        counts, seen = [0, 0], set()
        for t in sorted(rows):
            kind, chunk, _ = rows[t]
            counts[chunk] += kind == FORWARD
            seen.add((counts[0], counts[1]))
            counts[chunk] -= kind == WEIGHT
        return seen

    def within(self, limits: set[tuple[int, int]]) -> bool:
        """Whether it never holds more than at one of some moments."""
        return all(counts in limits or any(map(_covers, limits, repeat(counts))) for counts in self.held())


def _covers(limit: tuple[int, int], counts: tuple[int, int]) -> bool:
    return counts[0] <= limit[0] and counts[1] <= limit[1]


def orders(schedule: str, ranks: int, micro_batches: int) -> tuple[Order, ...]:
    """The steps of each rank."""
    back = block(schedule, ranks, 0)[-1]
    # Beyond the ramps each period repeats the one before: few micro-batches show all there is.
    seen = min(micro_batches, 2 * (back // PERIOD) + SETTLED)
    grids = [_Grid(_starts(schedule, ranks, rank, seen)) for rank in range(ranks)]
    limits = [grid.held() for grid in grids]
    begun = grids[0].when[FORWARD, 0, seen - 1]
    for t, rank, slot in sorted((t, rank, slot) for rank, grid in enumerate(grids) for t, slot in grid.at.items()):
        if t < back or (back < begun < t and slot[0] == INPUT):
            _ahead(grids, rank, slot, t, limits[rank])
    cut = begun - PERIOD
    return tuple(_steps(grid.filled(), cut, micro_batches - seen, rank, ranks) for rank, grid in enumerate(grids))


def _starts(schedule: str, ranks: int, rank: int, micro_batches: int) -> dict[int, Slot]:
    starts = list(zip(CALLS, block(schedule, ranks, rank), strict=True))
    return {t + PERIOD * m: (*call, m) for call, t in starts for m in range(micro_batches)}


def _ahead(grids: list[_Grid], rank: int, slot: Slot, t: int, limits: set[tuple[int, int]]) -> None:
    """Move a slot to the first idle unit after what it needs, as far as memory allows."""
    grid = grids[rank]
    for free in range(_ready(grids, rank, slot), t):
        if free not in grid.at:
            grid.move(slot, free)
            if grid.within(limits):
                return
            grid.move(slot, t)


def _ready(grids: list[_Grid], rank: int, slot: Slot) -> int:
    """The unit after the last thing that a slot waits for: its neighbour on the V, and the micro-batch before."""
    kind, chunk, m = slot
    needs = []
    source = rank - 1 if (kind == FORWARD) == (chunk == 0) else rank + 1
    if 0 <= source < len(grids):
        needs.append(grids[source].when[slot])
    elif slot[:2] != CALLS[0]:
        needs.append(grids[rank].when[*CALLS[CALLS.index((kind, chunk)) - 1], m])  # the turn of the V
    if m:
        needs.append(grids[rank].when[kind, chunk, m - 1])
    return max(needs, default=-1) + 1


def _steps(rows: dict[int, Slot], cut: int, more: int, rank: int, ranks: int) -> Order:
    """The steps in turn, with the period that begins at ``cut`` so many times more."""
    turns = sorted(rows.items())
    before = [slot for t, slot in turns if t < cut]
    period = [slot for t, slot in turns if cut <= t < cut + PERIOD] if more else []
    after = [slot for t, slot in turns if t >= cut]
    slots = before + [(kind, chunk, m + n) for n in range(more) for kind, chunk, m in period]
    slots += [(kind, chunk, m + more) for kind, chunk, m in after]
    chunks = rank, 2 * ranks - 1 - rank
    return [Step(kind, chunks[chunk], m) for kind, chunk, m in slots]
