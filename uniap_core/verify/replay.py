"""The events of a schedule as a graph: is every step there, does it hang, what runs after what, what is alive when.

None of this needs durations: each rank runs its steps in the order of the schedule, and each link carries what is sent
in the order it is sent. So one pass over the steps finds an order in which events can be priced (or that there is
none), and a simulation is a walk along it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from ..errors import BadValue
from ..tables import Array
from .orders import BACKWARD, BESIDE, FORWARD, INPUT, LETTERS, WEIGHT, WITH_IT, Order, orders
from .orders.interleaved import group

KEPT = 16
"""Replays that are remembered; the plans of a sweep share few shapes."""

ROW = np.array([0, 1, 1, 2, 0, 1])
"""Row of each kind of step in the table of events: whole backwards and input gradients answer the same call."""

MOST_EVENTS = 150_000
"""Steps that are gone through one by one; where there are more, fewer micro-batches show how they go on."""


@dataclass(frozen=True, eq=False)
class Replay:
    """The steps of all ranks of one pipeline, checked.

    Attributes
    ----------
    chunks
        Pipeline rank of each chunk, in the order of the flow.
    orders
        The steps of each rank.

    Raises
    ------
    BadValue
        If a step is missing, done twice, on the wrong rank or out of turn, or if ranks wait for each other for ever.
    """

    chunks: tuple[int, ...]
    micro_batches: int
    orders: tuple[Order, ...]

    def __post_init__(self) -> None:
        for fault in self._faults():
            raise BadValue(f"the order of the schedule is wrong: {fault}", "choose another schedule; report it")
        self.walk  # noqa: B018 - finds out whether it hangs

    @cached_property
    def steps(self) -> tuple[Array, ...]:
        """Per rank, its steps as rows of (kind, chunk, micro-batch)."""
        return tuple(np.array(order, dtype=np.int64).reshape(-1, 3) for order in self.orders)

    @cached_property
    def walk(self) -> Walk:
        """Events in an order in which each comes after all that it waits for."""
        return _walk(self)

    @cached_property
    def alive(self) -> tuple[Array, ...]:
        """Per rank, micro-batches of each of its chunks that are held during each of its steps: (steps, chunks).

        A forward holds its micro-batch from its start on, a backward until its end; where the backward is in two
        parts, the gradient of the weights needs the inputs until its own end.
        """
        return tuple(_alive(rows, self.on(rank)) for rank, rows in enumerate(self.steps))

    def on(self, rank: int) -> list[int]:
        """The chunks of a rank, in the order of the flow."""
        return [j for j, i in enumerate(self.chunks) if i == rank]

    def _faults(self) -> Iterator[str]:
        if len(self.orders) != max(self.chunks) + 1:
            yield f"{len(self.orders)} ranks have steps, and there are {max(self.chunks) + 1}"
        for rank, rows in enumerate(self.steps):
            own, c = self.on(rank), self.micro_batches
            stray = ~np.isin(rows[:, 1], own) | (rows[:, 2] < 0) | (rows[:, 2] >= c)
            if stray.any():
                yield f"rank {rank} runs {_named(rows[stray.argmax()])}, which is not its own"
                continue
            yield from _incomplete(rank, rows, own, c)


def _named(row: Sequence[int]) -> str:
    return f"{LETTERS[row[0]]} of chunk {row[1]}, micro-batch {row[2]}"


def _incomplete(rank: int, rows: Array, own: list[int], micro_batches: int) -> Iterator[str]:
    """What is wrong with the steps of one rank: it is to run every micro-batch of its chunks once, in turn."""
    kinds, depth = WEIGHT + 1, max(own) + 1
    rows = np.where(rows == [[BESIDE, -1, -1]], FORWARD, np.where(rows == [[WITH_IT, -1, -1]], BACKWARD, rows))
    turn = np.full((kinds, depth, micro_batches), len(rows))
    count = np.zeros_like(turn)
    np.add.at(count, (rows[:, 0], rows[:, 1], rows[:, 2]), 1)
    turn[rows[:, 0], rows[:, 1], rows[:, 2]] = np.arange(len(rows))
    if (count > 1).any():
        yield f"rank {rank} runs {_named(np.argwhere(count > 1)[0])} twice"
    back = count[BACKWARD] + count[INPUT]
    due = np.zeros((depth, micro_batches), dtype=int)
    due[own] = 1
    owes = (FORWARD, count[FORWARD], due), (BACKWARD, back, due), (WEIGHT, count[WEIGHT], count[INPUT])
    for kind, done, owed in owes:
        if (done != owed).any():
            at = np.argwhere(done != owed)[0]
            yield f"rank {rank} runs {_named((kind, *at))} {done[tuple(at)]} times instead of {owed[tuple(at)]}"
    whole = np.minimum(turn[BACKWARD], turn[INPUT])
    for kind, before, after in ((BACKWARD, turn[FORWARD], whole), (WEIGHT, turn[INPUT], turn[WEIGHT])):
        early = (after < before) & (after < len(rows))
        if early.any():
            yield f"rank {rank} runs {_named((kind, *np.argwhere(early)[0]))} before what it needs"


@lru_cache(maxsize=KEPT)
def replay(schedule: str, chunks: tuple[int, ...], micro_batches: int, whole: int = 0) -> Replay:
    """The replay of a schedule, or of the first of a ``whole`` lot of micro-batches.

    Raises
    ------
    UniapError
        If the verifier does not know the schedule, if its chunks lie elsewhere, or if it hangs.
    """
    return Replay(chunks, micro_batches, orders(schedule, chunks, micro_batches, whole))


def shortened(ranks: int, depth: int, micro_batches: int, share: float = 1.0) -> int:
    """Micro-batches that are gone through one by one: all, or as many as (a share of) :data:`MOST_EVENTS` allow.

    Whole groups are left out, so that the last one is as ragged as it was.
    """
    most = max(8 * ranks, int(share * MOST_EVENTS) // (3 * depth))
    size = group(ranks, micro_batches)
    return micro_batches - size * max(0, -(-(micro_batches - most) // size))


def held(schedule: str, chunks: tuple[int, ...], micro_batches: int) -> tuple[Array, ...]:
    """Per rank, micro-batches of each of its chunks that are held during its steps: (steps, chunks).

    Of a great many micro-batches as many steps as it takes to see every count.

    Raises
    ------
    UniapError
        If the verifier does not know the schedule, if its chunks lie elsewhere, or if it hangs.
    """
    few = shortened(max(chunks) + 1, len(chunks), micro_batches)
    rows = replay(schedule, chunks, few, micro_batches).alive
    if schedule == "gpipe" and few < micro_batches:  # the only one that holds more, the more there are
        ramp = np.arange(1, micro_batches + 1)
        return (np.concatenate([ramp, ramp[::-1]])[:, None],) * len(rows)
    return rows


@dataclass(frozen=True, eq=False)
class Walk:
    """Events in an order in which each comes after all that it waits for; parallel lists.

    Attributes
    ----------
    event
        Number of the event: ``(row * J + chunk) * c + micro_batch``; ``3 J c`` where a pair waits for what its backward
        needs.
    rank, duration
        Who runs it, and its entry in the flat table of durations (kinds, J); the last entry is nothing.
    needs
        The event whose result it waits for, or -1.
    link, boundary
        On what link it sends (-1: nothing, or to its own rank), and the entry in the flat table of transfers
        (2, J - 1).
    links
        Number of links.
    """

    event: list[int]
    rank: list[int]
    duration: list[int]
    needs: list[int]
    link: list[int]
    boundary: list[int]
    links: int


def _walk(replay: Replay) -> Walk:
    """One pass: whoever can go on goes on, and what it has done wakes whoever waits for it."""
    depth, c = len(replay.chunks), replay.micro_batches
    number = np.arange(3 * depth * c).reshape(3, depth, c)
    before = np.full((3, depth, c), -1)
    before[0, 1:] = number[0, :-1]
    before[1, :-1] = number[1, 1:]
    needs: list[int] = before.ravel().tolist()
    events = [_events(steps, number) for steps in replay.steps]
    done, waiting, visited = bytearray(3 * depth * c), dict[int, int](), list[int]()
    at, ready = [0] * len(events), list(range(len(events)))[::-1]
    while ready:
        rank = ready.pop()
        queue, k = events[rank], at[rank]
        while k < len(queue):
            event = queue[k]
            need = needs[event if event >= 0 else ~event]
            if need >= 0 and not done[need]:
                waiting[need] = rank
                break
            visited.append(event)
            if event >= 0:
                done[event] = 1
            if event in waiting:
                ready.append(waiting.pop(event))
            k += 1
        at[rank] = k
    stuck = [rank for rank, queue in enumerate(events) if at[rank] < len(queue)]
    if stuck:
        event = events[stuck[0]][at[stuck[0]]]
        row, j, m = np.unravel_index(event if event >= 0 else ~event, before.shape)
        raise BadValue(
            f"the pipeline hangs: rank {stuck[0]} waits for ever to run {'FBW'[row]} of chunk {j}, micro-batch {m}",
            "choose another number of micro-batches or another schedule",
        )
    return _collect(replay, np.array(visited), before.ravel())


def _events(steps: Array, number: Array) -> list[int]:
    """The numbers of a rank's events in turn; before a pair, its backward's inverted: what it needs is waited for."""
    own = number[ROW[steps[:, 0]], steps[:, 1], steps[:, 2]]
    pairs = np.flatnonzero(steps[:, 0] == BESIDE)
    if not len(pairs):
        return list(own.tolist())
    return list(np.insert(own, pairs, ~own[pairs + 1]).tolist())


def _collect(replay: Replay, visited: Array, needs: Array) -> Walk:
    depth, c, chunks = len(replay.chunks), replay.micro_batches, np.array(replay.chunks)
    link, boundary = np.full((3, depth), -1), np.full((3, depth), -1)
    ends: dict[tuple[int, int], int] = {}
    for j, (i, k) in enumerate(pairwise(replay.chunks)):
        for row, chunk, way in ((0, j, (i, k)), (1, j + 1, (k, i))):
            if i != k:
                link[row, chunk], boundary[row, chunk] = ends.setdefault(way, len(ends)), row * (depth - 1) + j
    kind = np.zeros((3, depth, c), dtype=np.int64)
    for steps in replay.steps:
        kind[ROW[steps[:, 0]], steps[:, 1], steps[:, 2]] = steps[:, 0]
    waits = visited < 0
    event = np.where(waits, ~visited, visited)
    place = event // c  # of (row, chunk)
    return Walk(
        event=np.where(waits, 3 * depth * c, event).tolist(),
        rank=chunks[place % depth].tolist(),
        duration=np.where(waits, len(LETTERS) * depth, kind.ravel()[event] * depth + place % depth).tolist(),
        needs=needs[event].tolist(),
        link=np.where(waits, -1, link.ravel()[place]).tolist(),
        boundary=boundary.ravel()[place].tolist(),
        links=len(ends),
    )


def _alive(rows: Array, own: list[int]) -> Array:
    """Held during each step: begun by now, less ended before."""
    mine = rows[:, 1:2] == own
    begun = np.cumsum(mine & np.isin(rows[:, :1], (FORWARD, BESIDE)), axis=0)
    ends = mine & np.isin(rows[:, :1], (BACKWARD, WITH_IT, WEIGHT))
    return np.asarray(begun - np.cumsum(ends, axis=0) + ends)


def undominated(rows: Array) -> Array:
    """The different rows that no other row exceeds."""
    seen = np.unique(rows, axis=0)
    # A row that exceeds another has the greater sum: those are asked first, and few are kept.
    kept = np.empty((0, rows.shape[1]), dtype=rows.dtype)
    for row in seen[np.argsort(-seen.sum(axis=1), kind="stable")]:
        if not (kept >= row).all(axis=1).any():
            kept = np.vstack([kept, row])
    return kept
