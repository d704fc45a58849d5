"""Interleaved zero bubble: gradients of inputs first, those of weights in what would be idle time.

The order is ZB1P of Qi et al. 2023 (Zero Bubble Pipeline Parallelism, arXiv 2401.10241) over v chunks per rank, as
torch runs it (distributed.pipelining, ScheduleInterleavedZeroBubble): half the warm-up of interleaved 1F1B, and rank i
starts with gradients of weights after i of inputs, so that every rank holds P micro-batches.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import FORWARD, INPUT, WEIGHT, Chunks, Schedule, Shape, Work, at_least, in_turn, loop
from .interleaved import by_group


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """Idle are (P - 1) forwards of one chunk, of the three equal parts F = I = W of a micro-batch: ``1 / (3 v)``.

    Transfers meet the ramp twice as a rank goes from forwards to gradients without waiting for one in between: of the
    ``2 (v P - 1)`` of a micro-batch, ``(v + 3) P - 4`` with groups of P, and ``4 (P - 1)`` with longer ones.
    """
    ranks, v, _, group = Shape.of(chunks, micro_batches)
    met = (v + 3) * ranks - 4 if group == ranks else 4 * (ranks - 1)
    ramp = 1 / (3 * v)
    return Weights(ramp, met / (2 * (len(chunks) - 1)), micro_batches - ramp)


def work(rank: int, shape: Shape) -> Work:
    """``P - i - 1 + (v - 1) g`` forwards, then forward, input gradient and, after i of those, weight gradient."""
    forwards, inputs, late = (by_group(kind, shape) for kind in (FORWARD, INPUT, WEIGHT))
    warm_up = min(len(forwards), shape.ranks - rank - 1 + (shape.chunks_per_rank - 1) * shape.group)
    wait = min(rank, len(late))
    delayed = [*[None] * wait, *late[: len(late) - wait]]
    turns = in_turn([*forwards[warm_up:], *[None] * warm_up], inputs, delayed)
    return forwards[:warm_up] + turns + late[len(late) - wait :]


SCHEDULE = Schedule(
    name="interleaved-zb",
    summary="interleaved, weight gradients fill idle time",
    place=loop,
    weights=weights,
    work=work,
    legal=at_least(lambda ranks: ranks, "interleaved zero bubble needs one per rank"),
)
