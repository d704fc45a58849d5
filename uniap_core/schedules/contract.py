"""What a pipeline schedule has to say: where chunks lie, in what order each rank works, and what follows from that.

A schedule's file states once what each rank does in turn, as *work*: kinds and chunks, without micro-batch numbers,
as each kind of work of a chunk takes the micro-batches in their order. The order of steps (:meth:`Schedule.order`) and
what is in flight (:meth:`Schedule.in_flight`) are read from it. The weights of the objective are closed forms; tests
hold them against a replay of the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..tables import Array, Moment, Weights

Chunks = tuple[int, ...]
"""Pipeline rank of each chunk, in the order of the flow."""

Work = list[tuple[str, int]]
"""What one rank does, in its order: a kind (:class:`Step`) and which of the rank's own chunks, 0 first in the flow."""

FORWARD, BACKWARD, INPUT, WEIGHT = "F", "B", "I", "W"


class Shape(NamedTuple):
    """What a rank's work depends on: P, v, c, and the micro-batches of a group (:func:`group_size`)."""

    ranks: int
    chunks_per_rank: int
    micro_batches: int
    group: int

    @classmethod
    def of(cls, chunks: Chunks, micro_batches: int) -> Shape:
        """The shape of a pipeline with these chunks."""
        ranks = max(chunks) + 1
        return cls(ranks, len(chunks) // ranks, micro_batches, group_size(ranks, micro_batches))

    @property
    def settled(self) -> Shape:
        """A shape with the same moments and no more micro-batches than it takes to see them all.

        An order that has settled repeats itself after a group, so that huge numbers of micro-batches cost nothing.
        """
        kept = 3 * self.group
        beyond = self.micro_batches - kept
        return self if beyond < self.group else self._replace(micro_batches=kept + beyond % self.group)


def in_turn(*columns: Iterable[tuple[str, int] | None]) -> Work:
    """One of each column in turn, where there is one."""
    return [one for row in zip(*columns, strict=True) for one in row if one]


WorkOf = Callable[[int, Shape], Work]
"""What a rank does, by its number and the shape of the pipeline."""


class Step(NamedTuple):
    """One piece of work of a rank.

    Attributes
    ----------
    kind
        ``F`` forward, ``B`` full backward, ``I`` gradient of the input alone, ``W`` gradient of the weights alone.
    chunk
        Index of the chunk in the order of the flow.
    micro_batch
        Counted from 0.
    """

    kind: str
    chunk: int
    micro_batch: int


Order = tuple[tuple[Step, ...], ...]
"""Per rank what it runs, in its order."""


def _any_number(ranks: int, chunks_per_rank: int, micro_batches: int) -> str:
    return ""


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
        ``weights(chunks, c)``: what the objective multiplies. On a uniform pipeline ``sum`` times the ``P - 1`` other
        ranks is the idle time, and ``cross`` the share of all transfers that idle time has in it.
    work
        ``work(rank, shape)``: what a rank does.
    moments
        ``moments(chunks, c)``: what :meth:`in_flight` answers, where a closed form is known.
    legal
        ``legal(ranks, chunks_per_rank, c)``: why the schedule itself cannot run so many micro-batches, or ``""``.
        What a runtime demands beyond that, its executor says.
    paired
        A forward directly before a full backward runs with it as one: it waits for the inputs of both, and both hand
        over at its end.
    """

    name: str
    summary: str
    place: Callable[[int, int], Chunks | str]
    weights: Callable[[Chunks, int], Weights]
    work: WorkOf
    moments: Callable[[Chunks, int], tuple[tuple[Moment, ...], ...]] | None = None
    legal: Callable[[int, int, int], str] = _any_number
    paired: bool = False

    def order(self, chunks: Chunks, micro_batches: int) -> Order:
        """Per rank what it runs: chunks by their index in the flow, micro-batches counted."""
        shape = Shape.of(chunks, micro_batches)
        own: list[list[int]] = [[] for _ in range(shape.ranks)]
        for j, rank in enumerate(chunks):
            own[rank].append(j)
        return tuple(tuple(_numbered(self.work(rank, shape), mine)) for rank, mine in enumerate(own))

    def in_flight(self, chunks: Chunks, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
        """Per rank its moments; each a count of micro-batches per chunk of that rank.

        A forward stashes one micro-batch of its chunk; a full backward, or the gradient of the weights, lets go of it.
        The gradient of the input alone lets go of nothing: the tables know one number of stashed bytes per layer, most
        of it inputs of products, which the gradient of the weights reads. (The published figures, of P, P + 1/2, P / 2
        and P / 3 micro-batches, count so as well.)

        Only counts that can bind are kept: not those that another one exceeds in every chunk, nor those between two
        others on a line (while a rank lets go of one chunk and takes on another, only the ends of that time can be the
        worst).
        """
        if self.moments is not None:
            return self.moments(chunks, micro_batches)
        return _all_moments(self.work, Shape.of(chunks, micro_batches).settled)


def one_per_rank(name: str) -> Callable[[int, int], Chunks | str]:
    """The placement of schedules that know one chunk per rank."""

    def place(ranks: int, chunks_per_rank: int) -> Chunks | str:
        if chunks_per_rank != 1:
            return f"{name} has one chunk per rank, not {chunks_per_rank}"
        return tuple(range(ranks))

    return place


def loop(ranks: int, chunks_per_rank: int) -> Chunks | str:
    """Chunk j on rank ``j mod P``: round the ranks v times."""
    if ranks < 2 or chunks_per_rank < 2:
        return "interleaving needs two ranks and two chunks on each"
    return tuple(range(ranks)) * chunks_per_rank


def vee(ranks: int, chunks_per_rank: int) -> Chunks | str:
    """There and back: chunk j on rank j, then on rank ``2P - 1 - j``, so that rank 0 has both ends of the flow."""
    if ranks < 2 or chunks_per_rank != 2:
        return "a placement there and back needs two ranks and exactly two chunks on each"
    return (*range(ranks), *reversed(range(ranks)))


def fills_once(chunks: Chunks, micro_batches: int) -> Weights:
    """Weights of a pipeline that fills and drains once (UniAP, eq. 1): all, then the slowest c - 1 times."""
    return Weights(1.0, 1.0, float(micro_batches - 1))


def at_least(wanted: Callable[[int], int], why: str) -> Callable[[int, int, int], str]:
    """The rule that a schedule needs ``wanted(ranks)`` micro-batches."""

    def legal(ranks: int, chunks_per_rank: int, micro_batches: int) -> str:
        least = wanted(ranks)
        return "" if micro_batches >= least else f"{why}: {least} micro-batches or more, not {micro_batches}"

    return legal


def group_size(ranks: int, micro_batches: int) -> int:
    """Micro-batches that go through one chunk before a rank turns to its next (``microbatch_group_size_per_vp_stage``).

    The smallest that Megatron-LM accepts: P or more, and P or more in the last group too. An order with smaller groups
    can wait for itself for ever. P where that divides c; where c has no such divisor but ``c // (c // P)`` groups are
    even, that is what torch takes as well. With fewer than P micro-batches, one group of all of them.
    """
    size = min(ranks, micro_batches)
    while micro_batches % size and micro_batches % size < ranks:
        size += 1
    return size


def _numbered(work: Work, own: Sequence[int]) -> Iterable[Step]:
    # A full backward is both of its halves: the next weight gradient is of the micro-batch after it.
    halves = {FORWARD: FORWARD, BACKWARD: INPUT, INPUT: INPUT, WEIGHT: WEIGHT}
    done = dict.fromkeys(((kind, chunk) for kind in (FORWARD, INPUT, WEIGHT) for chunk in range(len(own))), 0)
    for kind, chunk in work:
        micro_batch = done[halves[kind], chunk]
        done[halves[kind], chunk] += 1
        if kind == BACKWARD:
            done[WEIGHT, chunk] += 1
        yield Step(kind, own[chunk], micro_batch)


@lru_cache(maxsize=1024)
def _all_moments(work: WorkOf, shape: Shape) -> tuple[tuple[Moment, ...], ...]:
    return tuple(_moments(work(rank, shape), shape.chunks_per_rank) for rank in range(shape.ranks))


_WAYS = {FORWARD: 0, BACKWARD: 1, WEIGHT: 1, INPUT: 2}
"""A stash comes, goes, stays."""


def _moments(work: Work, chunks: int) -> tuple[Moment, ...]:
    code = {(kind, chunk): way * chunks + chunk for kind, way in _WAYS.items() for chunk in range(chunks)}
    way, chunk = np.divmod(np.fromiter(map(code.__getitem__, work), np.int64, len(work)), chunks)
    moved = way < 2
    gain, chunk = 1 - 2 * way[moved], chunk[moved]
    change = np.zeros((len(gain), chunks), dtype=np.int64)
    change[np.arange(len(gain)), chunk] = gain
    highest = (gain > 0) & (np.append(gain[1:], -1) < 0)
    counts = _ends_of_lines(change.cumsum(axis=0)[highest])
    return _undominated(set(map(tuple, counts.tolist())))


def _ends_of_lines(counts: Array) -> Array:
    """Without the rows that lie halfway between the row before and the row after."""
    if len(counts) < 3:
        return counts
    steps = np.diff(counts, axis=0)
    kept = np.concatenate([[True], (steps[1:] != steps[:-1]).any(axis=1), [True]])
    return np.asarray(counts[kept])


def _undominated(counts: set[tuple[int, ...]]) -> tuple[Moment, ...]:
    kept = [m for m in counts if not any(o != m and all(a >= b for a, b in zip(o, m, strict=True)) for o in counts)]
    return tuple(tuple(float(count) for count in moment) for moment in sorted(kept))
