"""ZBV (Qi et al. 2023, section 6, and torch's ``ScheduleZBVZeroBubble``): two chunks per rank on a V, no waiting.

Each rank fills up with forwards, alternates forward and backward of both chunks, each with its weight gradient at
once, and drains with input gradients first; weight gradients fill what is left.
"""

from __future__ import annotations

from collections.abc import Iterator

from .step import FORWARD, INPUT, WEIGHT, Order, Step


def order(rank: int, ranks: int, micro_batches: int) -> Order:
    """The steps of a rank."""
    # The rule is for full pipelines: fewer micro-batches leave gaps in it.
    full = max(2 * ranks - 1, micro_batches)
    return [step for step in _steps(rank, ranks, full) if step.micro_batch < micro_batches]


def _steps(rank: int, ranks: int, micro_batches: int) -> Iterator[Step]:
    down, up = rank, 2 * ranks - 1 - rank
    count = {(kind, chunk): 0 for kind in (FORWARD, INPUT, WEIGHT) for chunk in (down, up)}

    def run(kind: int, chunk: int) -> Step:
        count[kind, chunk] += 1
        return Step(kind, chunk, count[kind, chunk] - 1)

    def both(chunk: int) -> Iterator[Step]:
        yield run(INPUT, chunk)
        yield run(WEIGHT, chunk)

    for _ in range(2 * (ranks - rank) - 1):
        yield run(FORWARD, down)
    for _ in range(rank):
        yield run(FORWARD, up)
        yield run(FORWARD, down)
    for _ in range(ranks - rank):
        yield run(FORWARD, up)
        yield from both(up)
    while count[FORWARD, up] < micro_batches:
        if count[FORWARD, down] < micro_batches:
            yield run(FORWARD, down)
        yield from both(down)
        yield run(FORWARD, up)
        yield from both(up)
    for _ in range(rank):
        yield run(INPUT, down)
        yield run(INPUT, up)
    for _ in range(ranks - rank):
        yield run(INPUT, down)
        yield run(WEIGHT, down)
    for chunk in (up, down):
        while count[WEIGHT, chunk] < micro_batches:
            yield run(WEIGHT, chunk)
