"""Interleaved 1F1B: v chunks per rank, laid round the ranks v times (Narayanan et al. 2021, section 2.2).

Idle time is that of 1F1B over v; what is in flight is more, and counted in each rank's order as Megatron-LM
(core/pipeline_parallel/schedules.py) and torch (distributed.pipelining, ScheduleInterleaved1F1B) run it, in groups of
P micro-batches where P divides c (:func:`~.contract.group_size`). Rank i holds ``2 (P - i - 1) + (v - 1) P + 1`` chunks
at once.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import BACKWARD, FORWARD, Chunks, Schedule, Shape, Work, in_turn, loop


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """The ramp is over after one chunk of each rank: ``(1/v, cross, c - 1/v)``.

    With fewer micro-batches than ranks, each further round waits for the P - c that are missing. A group of P comes
    round exactly when its next chunk is free, so that its first micro-batch meets each of the ``v P - 1`` boundaries on
    the way of the first group, and on the way back of the last: ``cross = 1``. Longer groups hide all but P - 1.
    """
    ranks, v, _, group = Shape.of(chunks, micro_batches)
    missing = max(0, ranks - micro_batches)
    ramp = 1 / v + (1 - 1 / v) * missing / (ranks - 1)
    ends = group, micro_batches % group or group
    cross = sum(1.0 if end <= ranks else (ranks - 1) / (len(chunks) - 1) for end in ends) / 2
    return Weights(ramp, cross, max(0.0, micro_batches - ramp))


def work(rank: int, shape: Shape) -> Work:
    """``2 (P - i - 1) + (v - 1) g`` forwards, one forward and one backward in turn, the backwards that are left."""
    forwards, backwards = by_group(FORWARD, shape), by_group(BACKWARD, shape)
    warm_up = min(len(forwards), 2 * (shape.ranks - rank - 1) + (shape.chunks_per_rank - 1) * shape.group)
    return forwards[:warm_up] + in_turn([*forwards[warm_up:], *[None] * warm_up], backwards)


def by_group(kind: str, shape: Shape) -> Work:
    """One kind of work alone: groups of micro-batches go through chunk after chunk, backwards from the last."""
    whole, rest = divmod(shape.micro_batches, shape.group)
    chunks = range(shape.chunks_per_rank)
    through = chunks if kind == FORWARD else reversed(chunks)
    group = [(kind, chunk) for chunk in through]
    return [one for one in group for _ in range(shape.group)] * whole + [one for one in group for _ in range(rest)]


SCHEDULE = Schedule(
    name="interleaved",
    summary="1F1B over several chunks per rank",
    place=loop,
    weights=weights,
    work=work,
)
