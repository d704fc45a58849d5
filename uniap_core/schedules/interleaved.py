"""Interleaved 1F1B: v chunks per rank, laid round the ranks v times (Narayanan et al. 2021, section 2.2).

Idle time is that of 1F1B over v; what is in flight is more, and counted by replaying each rank's order as
Megatron-LM (core/pipeline_parallel/schedules.py) runs it, in groups of P micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from ..tables import Moment, Weights
from .contract import Chunks, Schedule


def place(ranks: int, chunks_per_rank: int) -> Chunks | str:
    """Chunk j on rank ``j mod P``."""
    if ranks < 2 or chunks_per_rank < 2:
        return "interleaving needs two ranks and two chunks on each"
    return tuple(range(ranks)) * chunks_per_rank


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """The ramp is over after one chunk of each rank: ``(1 / v, 1 / v, c - 1 / v)``."""
    share = len(set(chunks)) / len(chunks)
    return Weights(share, share, micro_batches - share)


def in_flight(chunks: Chunks, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
    """The counts of each rank's chunks at the moments that no other moment exceeds."""
    ranks = max(chunks) + 1
    # From three groups on, further groups repeat what was seen.
    seen = micro_batches if micro_batches <= 3 * ranks else 2 * ranks + micro_batches % ranks
    return tuple(_moments(rank, ranks, len(chunks) // ranks, seen) for rank in range(ranks))


@cache
def _moments(rank: int, ranks: int, chunks: int, micro_batches: int) -> tuple[Moment, ...]:
    counts, seen = [0] * chunks, set()
    steps = micro_batches * chunks
    warm_up = min(steps, 2 * (ranks - rank - 1) + (chunks - 1) * ranks)
    forwards, backwards = _forwards(ranks, chunks, micro_batches), _backwards(ranks, chunks, micro_batches)
    for step in range(steps):
        counts[next(forwards)] += 1
        seen.add(tuple(counts))
        if step >= warm_up:
            counts[next(backwards)] -= 1
    return _undominated(seen)


def _forwards(ranks: int, chunks: int, micro_batches: int) -> Iterator[int]:
    """The chunk of each forward: groups of P micro-batches go through chunk after chunk."""
    for first in range(0, micro_batches, ranks):
        for chunk in range(chunks):
            yield from [chunk] * min(ranks, micro_batches - first)


def _backwards(ranks: int, chunks: int, micro_batches: int) -> Iterator[int]:
    """The chunk of each backward: the same, from the last chunk to the first."""
    return (chunks - 1 - chunk for chunk in _forwards(ranks, chunks, micro_batches))


def _undominated(moments: set[tuple[int, ...]]) -> tuple[Moment, ...]:
    kept = [m for m in moments if not any(o != m and all(a >= b for a, b in zip(o, m, strict=True)) for o in moments)]
    return tuple(tuple(float(count) for count in moment) for moment in sorted(kept))


SCHEDULE = Schedule(
    name="interleaved",
    summary="1F1B over several chunks per rank",
    place=place,
    weights=weights,
    in_flight=in_flight,
)
