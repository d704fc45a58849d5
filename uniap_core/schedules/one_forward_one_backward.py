"""1F1B: rank i warms up with P - i forwards, then alternates (Narayanan et al. 2021, PipeDream-flush)."""

from __future__ import annotations

from ..tables import Moment
from .contract import BACKWARD, FORWARD, Chunks, Schedule, Shape, Work, fills_once, one_per_rank


def moments(chunks: Chunks, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
    """Rank i holds ``min(c, P - i)``."""
    return tuple(((float(min(micro_batches, len(chunks) - i)),),) for i in chunks)


def work(rank: int, shape: Shape) -> Work:
    """``P - i - 1`` forwards, one forward and one backward in turn, the backwards that are left."""
    warm_up = min(shape.micro_batches, shape.ranks - rank - 1)
    turns = [(FORWARD, 0), (BACKWARD, 0)] * (shape.micro_batches - warm_up)
    return [(FORWARD, 0)] * warm_up + turns + [(BACKWARD, 0)] * warm_up


SCHEDULE = Schedule(
    name="1f1b",
    summary="one forward, one backward",
    place=one_per_rank("1f1b"),
    weights=fills_once,
    work=work,
    moments=moments,
)
