"""GPipe: every micro-batch's forward runs before the first backward (Huang et al. 2019)."""

from __future__ import annotations

from ..tables import Moment
from .contract import BACKWARD, FORWARD, Chunks, Schedule, Shape, Work, fills_once, one_per_rank


def moments(chunks: Chunks, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
    """All of them, on every rank."""
    return (((float(micro_batches),),),) * len(chunks)


def work(rank: int, shape: Shape) -> Work:
    """All forwards, then all backwards."""
    return [(FORWARD, 0)] * shape.micro_batches + [(BACKWARD, 0)] * shape.micro_batches


SCHEDULE = Schedule(
    name="gpipe",
    summary="all forwards, then all backwards",
    place=one_per_rank("gpipe"),
    weights=fills_once,
    work=work,
    moments=moments,
)
