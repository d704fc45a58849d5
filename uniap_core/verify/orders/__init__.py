"""What each rank does in turn, schedule by schedule: written from the published rules, a file each.

The verifier's own: nothing here comes from the planner's formulas (:mod:`uniap_core.schedules`), and the two are held
against each other. A schedule that is not here is refused; a pipeline whose chunks lie elsewhere is none of it.
"""

from __future__ import annotations

from ...errors import BadValue, UnknownName
from . import controllable, dualpipev, gpipe, interleaved, one_forward_one_backward, zbv, zero_bubble
from .step import BACKWARD, BESIDE, FORWARD, INPUT, LETTERS, WEIGHT, WITH_IT, Order, Step, loop, vee

__all__ = [
    "BACKWARD",
    "BESIDE",
    "FOLDED",
    "FORWARD",
    "INPUT",
    "LETTERS",
    "LOOPED",
    "SPLITTING",
    "WEIGHT",
    "WITH_IT",
    "Order",
    "Step",
    "known",
    "orders",
]

SINGLE = ("gpipe", "1f1b", "zb-h1")
"""Schedules of one chunk per rank."""

LOOPED = ("interleaved", "interleaved-zb")
"""Schedules of any number of chunks per rank, two at least (Narayanan et al. 2021, section 2.2; Qi et al. 2024)."""

FOLDED = ("zbv", "dualpipev", "v-half", "v-min")
"""Schedules of two chunks per rank, down the ranks and up again (Qi et al. 2024; DeepSeek's DualPipe, folded)."""

SPLITTING = ("zb-h1", "interleaved-zb", "zbv", "dualpipev", "v-half", "v-min")
"""Schedules that run the two parts of backwards apart."""


def known() -> tuple[str, ...]:
    """The names of all schedules that the verifier can replay."""
    return SINGLE + LOOPED + FOLDED


def orders(schedule: str, chunks: tuple[int, ...], micro_batches: int, whole: int = 0) -> tuple[Order, ...]:
    """The steps of each rank.

    Parameters
    ----------
    chunks
        Pipeline rank of each chunk, in the order of the flow.
    whole
        If these are the first of more micro-batches, how many those are: they decide what goes in groups.

    Raises
    ------
    UnknownName
        If the verifier does not know the schedule.
    BadValue
        If the schedule does not lay its chunks like this, or cannot run so few micro-batches.
    """
    if schedule not in known():
        raise UnknownName(f"the verifier does not know the schedule {schedule!r}", f"known: {', '.join(known())}")
    ranks = len(set(chunks))
    placed = vee(ranks) if schedule in FOLDED else loop(ranks, len(chunks))
    if chunks != placed or (schedule in SINGLE and len(chunks) != ranks):
        raise BadValue(f"{schedule} does not lay its chunks on ranks {list(chunks)[:12]}", "plan again")
    if schedule == "dualpipev" and micro_batches < 2 * ranks:
        raise BadValue(
            f"dualpipev needs {2 * ranks} micro-batches on {ranks} ranks, not {micro_batches}", "use more micro-batches"
        )
    if schedule in ("v-half", "v-min"):
        return controllable.orders(schedule, ranks, micro_batches)
    size = interleaved.group(ranks, whole or micro_batches)
    return tuple(_order(schedule, rank, ranks, len(chunks) // ranks, micro_batches, size) for rank in range(ranks))


def _order(schedule: str, rank: int, ranks: int, chunks_per_rank: int, micro_batches: int, size: int) -> Order:
    match schedule:
        case "gpipe":
            return gpipe.order(rank, micro_batches)
        case "1f1b":
            return one_forward_one_backward.order(rank, ranks, micro_batches)
        case "interleaved":
            return interleaved.order(rank, ranks, chunks_per_rank, micro_batches, size)
        case "zb-h1" | "interleaved-zb":
            return zero_bubble.order(rank, ranks, chunks_per_rank, micro_batches, size)
        case "zbv":
            return zbv.order(rank, ranks, micro_batches)
        case _:
            return dualpipev.order(rank, ranks, micro_batches)
