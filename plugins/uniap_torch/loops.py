"""Loops over positions or chunks in a tape: the operators of one round, with how often they ran.

A scan written as a Python loop (Mamba's slow path, a recurrence over chunks) runs the same few operators once per
position. Its rounds become one, whose operators ran so many times; then the tape has as many records at any length,
and a graph can be linear in the sequence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .tape import Event, Packed, Ran

ROUNDS = 8
"""Fewest equal rounds that make a loop: fewer may be a model's own few passes."""

LONGEST = 96
"""Most events of one round."""


Step = tuple[Ran, tuple[Packed, ...]]
"""An operator, and what autograd kept after it until the next one (the first round keeps less than the others)."""


def fold(events: list[Event]) -> tuple[list[Event], dict[int, int]]:
    """Fold the loops of a piece of a tape.

    Returns
    -------
    list, dict
        The shorter piece, and keys that now go by another: storages of later rounds by those of the first.
    """
    before, steps = _steps(events)
    renamed: dict[int, int] = {}
    size = 1
    looks = _looks(steps)
    while size <= min(LONGEST, len(steps) // ROUNDS):
        found = _region(looks, size)
        if found is None:
            size += 1
            continue
        start, rounds = found
        end = start + rounds * size
        body, names = _merge(steps[start:end], size, rounds)
        renamed = {key: names.get(now, now) for key, now in renamed.items()} | names
        steps = steps[:start] + body + [_named(step, names) for step in steps[end:]]
        looks = _looks(steps)
    if not renamed:
        return events, renamed
    folded: list[Event] = [*before]
    for ran, packs in steps:
        folded += [ran, *packs]
    return folded, renamed


def _steps(events: list[Event]) -> tuple[list[Packed], list[Step]]:
    """Operators with what was kept after each, and what was kept before the first."""
    before: list[Packed] = []
    ran: list[Ran] = []
    packs: list[list[Packed]] = [before]
    for event in events:
        if isinstance(event, Ran):
            ran.append(event)
            packs.append([])
        else:
            packs[-1].append(event)
    return before, [(r, tuple(p)) for r, p in zip(ran, packs[1:], strict=True)]


def _looks(steps: list[Step]) -> Any:
    """A number per operator, equal where they look alike."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(_look(ran), len(numbers)) for ran, _ in steps])


def _region(ids: Any, size: int) -> tuple[int, int] | None:
    """Where rounds of a size begin to repeat first, and how many there are."""
    same = np.concatenate([[False], ids[:-size] == ids[size:], [False]])
    edges = np.flatnonzero(same[1:] != same[:-1])
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        rounds = (last - first + size) // size
        if rounds >= ROUNDS:
            return int(first), int(rounds)
    return None


def _look(ran: Ran) -> Any:
    """What two rounds must share: everything but the activations they read and make."""
    return ran.op, ran.path, ran.shapes, ran.shape, ran.moved, ran.floating, ran.causal, ran.times, ran.weights


def _merge(steps: list[Step], size: int, rounds: int) -> tuple[list[Step], dict[int, int]]:
    """One round for all: storages of later rounds are those of the first, but for what the last one leaves behind."""
    kept = {pack.key for _, packs in steps for pack in packs}
    left = {key for ran, _ in steps[-size:] for key in ran.makes} - kept
    names: dict[int, int] = {}
    for index, (ran, _) in enumerate(steps[size:], start=size):
        first = steps[index % size][0]
        for key, now in zip(ran.makes, first.makes, strict=True):
            if key != now and key not in left and key not in first.makes:
                names.setdefault(key, now)
    names = {key: now for key, now in names.items() if now not in names}
    sizes: dict[int, int] = defaultdict(int)
    for pack in {pack.key: pack for _, packs in reversed(steps) for pack in reversed(packs)}.values():
        sizes[names.get(pack.key, pack.key)] += pack.nbytes
    return [_column(steps[place::size], names, left, rounds, sizes) for place in range(size)], names


def _column(
    column: list[Step], names: Mapping[int, int], left: set[int], rounds: int, sizes: Mapping[int, int]
) -> Step:
    """What all rounds have at one place."""
    first = column[0][0]
    reads, makes = list(first.reads), list(first.makes)
    for step in (column[0], column[1], column[-1]):
        ran, _ = _named(step, names)
        reads += [key for key in ran.reads if key not in reads and key not in left]
        makes += [key for key in ran.makes if key not in makes]
    types = {names.get(pack.key, pack.key): pack.dtype for _, packs in column for pack in packs}
    ran = replace(
        first,
        reads=tuple(reads),
        makes=tuple(makes),
        moved=first.moved * rounds,
        times=first.times * rounds,
    )
    return ran, tuple(Packed(key, sizes[key], dtype) for key, dtype in types.items())


def _named(step: Step, names: Mapping[int, int]) -> Step:
    def name(key: int) -> int:
        return names.get(key, key)

    ran, packs = step
    return ran.renamed(name, ran.path), tuple(pack.renamed(name) for pack in packs)
