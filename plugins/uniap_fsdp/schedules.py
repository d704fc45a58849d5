"""The schedules that torch runs, and what it asks of a plan for each. Reads numbers alone; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb-h1", "interleaved-zb", "zbv", "dualpipev")
"""torch has no V-Half and no V-Min."""

PLAIN = ("gpipe", "1f1b", "zb-h1")
"""One chunk per rank."""

VEE = ("zbv", "dualpipev")
"""Two chunks per rank, down and up again; the others lie round the ranks."""

ROUNDS = ("interleaved", "zb-h1", "interleaved-zb")
"""Run in rounds of as many micro-batches as there are ranks, or a few more."""

SPLIT = ("zb-h1", "interleaved-zb", "zbv", "dualpipev")
"""Backward passes come apart into gradients of inputs and gradients of weights."""

SPLIT_PINS = ("recompute=none", "sharding!=zero2", "sharding!=zero3")
"""What layers may do under those: others would gather, reduce or compute again in both halves."""


def misplaced(schedule: str, ranks: int, chunks: Sequence[int]) -> str | None:
    """Why torch has no such placement of chunks, or ``None`` if it has."""
    count = len(chunks)
    if schedule in PLAIN:
        wanted, words = tuple(range(ranks)), "one chunk per rank"
    elif schedule in VEE:
        wanted, words = (*range(ranks), *reversed(range(ranks))), "two chunks per rank, down the ranks and up again"
    else:
        wanted, words = tuple(range(ranks)) * max(2, count // ranks), "two or more chunks per rank, round the ranks"
    return None if tuple(chunks) == wanted else f"torch's {schedule} has {words}"


def miscounted(schedule: str, ranks: int, micro_batches: int) -> str | None:
    """Why torch does not run a schedule with so many micro-batches, or ``None`` if it does.

    In torch/distributed/pipelining/schedules.py interleaved schedules take equal rounds, as a plan does wherever there
    are such (``uniap_core.schedules``, ``group_size``). DualPipeV wants a micro-batch for every chunk.
    """
    rounds = max(1, micro_batches // ranks)
    if schedule in ROUNDS and micro_batches % rounds:
        return (
            f"{schedule} takes {rounds} equal rounds on {ranks} ranks, and the plan has {micro_batches} micro-batches"
        )
    if schedule == "dualpipev" and micro_batches < 2 * ranks:
        return f"dualpipev wants a micro-batch for each of {2 * ranks} chunks, and the plan has {micro_batches}"
    return None


def regimes(schedule: str, ranks: Sequence[int], micro_batches: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Alternative sets of pins under which a schedule runs, for those numbers of ranks and of micro-batches."""
    split = SPLIT_PINS if schedule in SPLIT else ()
    if schedule not in ROUNDS and schedule != "dualpipev":
        yield split
        return
    for p in ranks:
        wrong = tuple(f"micro_batches!={c}" for c in micro_batches if miscounted(schedule, p, c))
        if len(wrong) < len(micro_batches):
            yield (f"pp={p}", *wrong, *split)
