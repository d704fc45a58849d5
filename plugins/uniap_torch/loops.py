"""Loops over positions or chunks in a tape: the operators of one round, with how often they ran.

A scan written as a Python loop (Mamba's slow path, a recurrence over chunks) runs the same few operators once per
position. Its rounds become one, whose operators ran so many times; then the tape has as many records at any length,
and a graph can be linear in the sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .tape import Event, Packed, Ran

ROUNDS = 8
"""Fewest equal rounds that make a loop: fewer may be a model's own few passes."""

LONGEST = 96
"""Most events of one round."""


def fold(events: list[Event]) -> tuple[list[Event], dict[int, int]]:
    """Fold the loops of a piece of a tape.

    Returns
    -------
    list, dict
        The shorter piece, and keys that now go by another: storages of later rounds by those of the first.
    """
    renamed: dict[int, int] = {}
    size = 1
    while size <= min(LONGEST, len(events) // ROUNDS):
        found = _region(events, size)
        if found is None:
            size += 1
            continue
        start, rounds = found
        end = start + rounds * size
        body, names = _merge(events[start:end], size, rounds)
        renamed = {key: names.get(now, now) for key, now in renamed.items()} | names
        events = events[:start] + body + [_named(e, names) for e in events[end:]]
    return events, renamed


def _region(events: list[Event], size: int) -> tuple[int, int] | None:
    """Where rounds of a size begin to repeat first, and how many there are."""
    numbers: dict[Any, int] = {}
    ids = np.array([numbers.setdefault(_look(e), len(numbers)) for e in events])
    same = np.concatenate([[False], ids[:-size] == ids[size:], [False]])
    edges = np.flatnonzero(same[1:] != same[:-1])
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        rounds = (last - first + size) // size
        if rounds >= ROUNDS and any(isinstance(e, Ran) for e in events[first : first + size]):
            return int(first), int(rounds)
    return None


def _look(event: Event) -> Any:
    """What two rounds must share: everything but the activations they read and make."""
    if isinstance(event, Packed):
        return event.nbytes, event.dtype
    return (
        event.op,
        event.path,
        event.shapes,
        event.shape,
        event.moved,
        event.floating,
        event.causal,
        event.times,
        event.weights,
    )


def _merge(events: list[Event], size: int, rounds: int) -> tuple[list[Event], dict[int, int]]:
    """One round for all: storages of later rounds are those of the first, but for what the last one leaves behind."""
    packed = {e.key for e in events if isinstance(e, Packed)}
    last = events[-size:]
    left = {key for e in last if isinstance(e, Ran) for key in e.makes} - packed
    names: dict[int, int] = {}
    for index, event in enumerate(events[size:], start=size):
        if isinstance(event, Ran):
            first = events[index % size]
            assert isinstance(first, Ran)
            for key, now in zip(event.makes, first.makes, strict=True):
                if key != now and key not in left and key not in first.makes:
                    names.setdefault(key, now)
    names = {key: now for key, now in names.items() if now not in names}
    sizes = _sizes(events, names)
    body: list[Event] = []
    for place in range(size):
        column = events[place::size]
        body += _column(column, names, left, rounds, sizes)
    return body, names


def _sizes(events: list[Event], names: Mapping[int, int]) -> dict[int, int]:
    """Bytes that all rounds keep, by the key that storages now go by."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    for event in events:
        if isinstance(event, Packed) and event.key not in seen:
            seen.add(event.key)
            key = names.get(event.key, event.key)
            found[key] = found.get(key, 0) + event.nbytes
    return found


def _column(
    column: list[Event], names: Mapping[int, int], left: set[int], rounds: int, sizes: Mapping[int, int]
) -> Iterator[Event]:
    """The event that all rounds have at one place."""
    first = column[0]
    if isinstance(first, Packed):
        kept = dict.fromkeys(names.get(e.key, e.key) for e in column if isinstance(e, Packed))
        yield from (Packed(key, sizes[key], first.dtype) for key in kept)
        return
    now = [_named(e, names) for e in (first, column[1], column[-1])]
    reads, makes = list(first.reads), list(first.makes)
    for event in now:
        assert isinstance(event, Ran)
        reads += [key for key in event.reads if key not in reads and key not in left]
        makes += [key for key in event.makes if key not in makes]
    yield Ran(
        first.op,
        first.path,
        tuple(reads),
        tuple(makes),
        first.weights,
        first.shapes,
        first.shape,
        first.moved * rounds,
        first.floating,
        first.causal,
        first.times * rounds,
    )


def _named(event: Event, names: Mapping[int, int]) -> Event:
    def name(key: int) -> int:
        return names.get(key, key)

    return event.renamed(name) if isinstance(event, Packed) else event.renamed(name, event.path)
