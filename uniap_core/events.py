"""What happens while something runs, as values: progress, incumbents, bounds, notes.

Producers call ``emit(event)`` and know nothing of terminals; sinks (progress bar, plot, log) consume events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event"):
    """Base of all events; ``t_s`` is seconds since the producer started."""

    t_s: float


class Incumbent(Event, frozen=True, tag="incumbent"):
    """A solver found a better assignment, or a better bound, or both.

    ``objective_s`` is ``None`` while there is no assignment, ``bound_s`` while there is no bound.
    """

    objective_s: float | None = None
    bound_s: float | None = None


class Progress(Event, frozen=True, tag="progress"):
    """``done`` of ``total`` pieces of work are finished; ``best`` and ``bound`` are seconds per iteration."""

    done: int
    total: int
    label: str = ""
    best_s: float | None = None
    bound_s: float | None = None


class Note(Event, frozen=True, tag="note"):
    """A sentence worth telling: a fallback that was taken, a plugin that was skipped."""

    text: str


Emit = Callable[[Event], Any]


def silent(event: Event) -> None:
    """The sink that drops everything."""


def progress_of(emit: Emit) -> Emit:
    """The sink for work on the side: its notes are about plans that nobody asked for."""
    return lambda event: None if isinstance(event, Note) else emit(event)
