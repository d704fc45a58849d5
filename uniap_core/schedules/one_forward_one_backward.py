"""1F1B: rank i warms up with P - i forwards, then alternates (Narayanan et al. 2021, PipeDream-flush)."""

from __future__ import annotations

from ..tables import Moment
from .contract import Chunks, Schedule, fills_once, one_per_rank


def in_flight(chunks: Chunks, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
    """Rank i holds ``min(c, P - i)``."""
    return tuple(((float(min(micro_batches, len(chunks) - i)),),) for i in chunks)


SCHEDULE = Schedule(
    name="1f1b",
    summary="one forward, one backward",
    place=one_per_rank("1f1b"),
    weights=fills_once,
    in_flight=in_flight,
)
