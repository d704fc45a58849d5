"""Interleaved 1F1B (Narayanan et al. 2021, section 2.2; Megatron-LM, core/pipeline_parallel/schedules.py).

Micro-batches go in groups of g through the first chunk of a rank, then through its second, and so on; backwards in the
same groups from the last chunk to the first. A rank warms up with ``2 (P - 1 - rank) + (v - 1) g`` forwards, then does
a forward and a backward in turn.
"""

from __future__ import annotations

from .step import BACKWARD, FORWARD, Order, Step


def group(ranks: int, micro_batches: int) -> int:
    """Micro-batches that go through a chunk before the next, g.

    Megatron-LM wants P at least, in the last group too: the smallest such size. Fewer than P go as one group.
    """
    sizes = range(min(ranks, micro_batches), micro_batches + 1)
    return next(g for g in sizes if micro_batches % g == 0 or micro_batches % g >= ranks)


def passes(chunks_per_rank: int, micro_batches: int, size: int) -> list[tuple[int, int]]:
    """What comes through a rank, in turn, in groups of a size: (number of the chunk on its rank, micro-batch)."""
    return [
        (turn, m)
        for first in range(0, micro_batches, size)
        for turn in range(chunks_per_rank)
        for m in range(first, min(first + size, micro_batches))
    ]


def order(rank: int, ranks: int, chunks_per_rank: int, micro_batches: int, size: int) -> Order:
    """The steps of a rank, with groups of a size."""
    flow = passes(chunks_per_rank, micro_batches, size)
    last = (chunks_per_rank - 1) * ranks + rank
    forwards = [Step(FORWARD, turn * ranks + rank, m) for turn, m in flow]
    backwards = [Step(BACKWARD, last - turn * ranks, m) for turn, m in flow]
    warm = min(len(flow), 2 * (ranks - 1 - rank) + (chunks_per_rank - 1) * size)
    steps = forwards[:warm]
    for forward, backward in zip(forwards[warm:], backwards, strict=False):
        steps += forward, backward
    return steps + backwards[len(flow) - warm :]
