"""What a pipeline schedule has to say: where chunks lie, what the objective weighs, what is in flight when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..tables import Moment, Weights

Chunks = tuple[int, ...]
"""Pipeline rank of each chunk, in the order of the flow."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One way to order forwards and backwards of micro-batches over ranks. A file of this package each.

    Attributes
    ----------
    name, summary
        What commands and files call it, and a line for people.
    place
        ``place(ranks, chunks_per_rank)``: pipeline rank of each chunk, or the reason (text) why there is no such
        placement.
    weights
        ``weights(chunks, c)``: what the objective multiplies, from the idle time of the schedule.
    in_flight
        ``in_flight(chunks, c)``: per rank its moments; each a count of micro-batches per chunk of that rank.
    """

    name: str
    summary: str
    place: Callable[[int, int], Chunks | str]
    weights: Callable[[Chunks, int], Weights]
    in_flight: Callable[[Chunks, int], tuple[tuple[Moment, ...], ...]]


def one_per_rank(name: str) -> Callable[[int, int], Chunks | str]:
    """The placement of schedules that know one chunk per rank."""

    def place(ranks: int, chunks_per_rank: int) -> Chunks | str:
        if chunks_per_rank != 1:
            return f"{name} has one chunk per rank, not {chunks_per_rank}"
        return tuple(range(ranks))

    return place


def fills_once(chunks: Chunks, micro_batches: int) -> Weights:
    """Weights of a pipeline that fills and drains once (UniAP, eq. 1): all, then the slowest c - 1 times."""
    return Weights(1.0, 1.0, float(micro_batches - 1))
