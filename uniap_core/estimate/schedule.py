"""The pipeline that a row states: its schedule by the names of several sources, its ranks and chunks."""

from __future__ import annotations

from .. import schedules
from ..errors import BadValue
from ..pipeline import Pipeline

ALIASES = {
    "1f1b-interleaved": "interleaved",
    "interleaved1f1b": "interleaved",
    "zb": "zb-h1",
    "zb1p": "zb-h1",
    "zbb": "zb-h1",
    "zero-bubble": "zb-h1",
    "interleavedzerobubble": "interleaved-zb",
    "zbv-formatted": "zbv",
    "zbvzerobubble": "zbv",
}
"""What sources (Primus, torch) call schedules that have another name here."""

OVER_CHUNKS = {"1f1b": "interleaved", "zb-h1": "interleaved-zb"}
"""Schedules of one chunk per rank, and the same over several."""


def stated(schedule: str, ranks: int, chunks_per_rank: int | None, micro_batches: int) -> Pipeline:
    """The pipeline of a schedule's name, else 1F1B; interleaved where there are several chunks per rank.

    Parameters
    ----------
    chunks_per_rank
        ``None`` if nobody says: as few as the schedule has.

    Raises
    ------
    BadValue
        If there is no such schedule, or it cannot run so many ranks, chunks or micro-batches.
    """
    text = schedule.strip().lower()
    name = ALIASES.get(text, text) or schedules.DEFAULT
    if name not in schedules.names():
        raise BadValue(f"schedule is {schedule!r}", f"known: {', '.join(schedules.names())}")
    if ranks == 1:
        return Pipeline.of(schedules.DEFAULT, 1)
    if (chunks_per_rank or 1) > 1:
        name = OVER_CHUNKS.get(name, name)
    fewest = 2 if isinstance(schedules.find(name).place(ranks, 1), str) else 1
    pipeline = Pipeline.of(name, ranks, chunks_per_rank or fewest)
    if reason := pipeline.legal(micro_batches):
        raise BadValue(reason, "correct the schedule or the batch")
    return pipeline
