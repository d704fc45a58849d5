"""Pipeline schedules: what each does to memory.

``in_flight`` counts the micro-batches whose activations a stage holds at its peak.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import UnknownName


def _gpipe(stage: int, depth: int, micro_batches: int) -> int:
    """Every micro-batch's forward runs before the first backward (Huang et al. 2019)."""
    return micro_batches


def _one_forward_one_backward(stage: int, depth: int, micro_batches: int) -> int:
    """Stage i warms up with P - i forwards, then alternates (Narayanan et al. 2021, PipeDream-flush)."""
    return min(micro_batches, depth - stage)


SCHEDULES: dict[str, Callable[[int, int, int], int]] = {"gpipe": _gpipe, "1f1b": _one_forward_one_backward}


def in_flight(schedule: str, stage: int, depth: int, micro_batches: int) -> int:
    """Micro-batches in flight at the peak on a stage.

    Parameters
    ----------
    schedule
        A key of :data:`SCHEDULES`.
    stage, depth
        The stage's index and the number of stages, P.
    micro_batches
        Micro-batches per iteration, c.

    Raises
    ------
    UnknownName
        If there is no such schedule.
    """
    if schedule not in SCHEDULES:
        raise UnknownName(f"there is no schedule named {schedule!r}", f"known: {', '.join(SCHEDULES)}")
    return SCHEDULES[schedule](stage, depth, micro_batches)
