"""Progress on stderr: a bar on a terminal, nothing elsewhere; silent for the first moments."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..events import Emit, Event, Note, Progress
from ..quoting import line, terminal

PATIENCE_S = 0.8
"""No bar for anything shorter."""


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Emit]:
    """A sink of events for the duration of a piece of work."""
    bar = _Bar(title, shown=not quiet and sys.stderr.isatty())
    try:
        yield bar.emit
    finally:
        bar.close()


class _Bar:
    def __init__(self, title: str, *, shown: bool) -> None:
        self.title, self.shown = title, shown
        self.display: Any = None
        self.task: Any = None

    def emit(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Note):
            print(terminal(event.text), file=sys.stderr)
        if isinstance(event, Progress) and self.shown and (self.display or event.t_s > PATIENCE_S):
            self._show(event)

    def _show(self, event: Progress) -> None:
        if self.display is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self.display = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.display.start()
            self.task = self.display.add_task(self.title, total=event.total, state="")
        state = f"best {event.best_s:.4g} s" if event.best_s is not None else line(event.label[:24])
        if event.bound_s is not None and event.best_s is not None:
            state += f", bound {event.bound_s:.4g} s"
        self.display.update(self.task, completed=event.done, total=event.total, state=state)

    def close(self) -> None:
        """Take the bar away."""
        if self.display is not None:
            self.display.stop()
