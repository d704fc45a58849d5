"""Interleaved 1F1B (Narayanan et al. 2021, section 2.2; Megatron-LM, core/pipeline_parallel/schedules.py).

Micro-batches go in groups of P through the first chunk of a rank, then through its second, and so on; backwards in the
same groups from the last chunk to the first. A rank warms up with ``2 (P - 1 - rank) + (v - 1) P`` forwards, then does
a forward and a backward in turn.
"""

from __future__ import annotations

from .step import BACKWARD, FORWARD, Order, Step


def passes(ranks: int, chunks_per_rank: int, micro_batches: int, group: int) -> list[tuple[int, int]]:
    """What comes through a rank, in turn: (number of the chunk on its rank, micro-batch)."""
    return [
        (turn, m)
        for first in range(0, micro_batches, group)
        for turn in range(chunks_per_rank)
        for m in range(first, min(first + group, micro_batches))
    ]


def order(rank: int, ranks: int, chunks_per_rank: int, micro_batches: int) -> Order:
    """The steps of a rank."""
    flow = passes(ranks, chunks_per_rank, micro_batches, ranks)
    last = (chunks_per_rank - 1) * ranks + rank
    forwards = [Step(FORWARD, turn * ranks + rank, m) for turn, m in flow]
    backwards = [Step(BACKWARD, last - turn * ranks, m) for turn, m in flow]
    warm = min(len(flow), 2 * (ranks - 1 - rank) + (chunks_per_rank - 1) * ranks)
    steps = forwards[:warm]
    for forward, backward in zip(forwards[warm:], backwards, strict=False):
        steps += forward, backward
    return steps + backwards[len(flow) - warm :]
