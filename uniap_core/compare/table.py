"""A comparison as a rich table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .run import Entry, ProblemComparison

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("solver", "form", "stop", "objective s", "bound s", "gap", "cols", "rows", "build s", "solve s", "")
"""Column headings; the last column says how the entry stands to the others."""


def table(problem: ProblemComparison) -> Table:
    """One row per solver, fastest proof first."""
    from rich.table import Table

    versions = ", ".join(f"{e.solver} {e.version}" for e in ranked(problem) if e.version)
    drawn = Table(
        title=title(problem),
        title_justify="left",
        caption=versions,
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in HEADINGS:
        words = heading in ("solver", "form", "stop", "")
        # Numbers stay whole on a narrow terminal; the last column wraps.
        drawn.add_column(
            heading.replace(" s", "\ns"), justify="left" if words else "right", no_wrap=heading != "", overflow="fold"
        )
    for entry in ranked(problem):
        drawn.add_row(*cells(problem, entry), style="bold red" if _wrong(problem, entry) else "")
    return drawn


def title(problem: ProblemComparison) -> str:
    """Name and size of the problem."""
    return (
        f"{problem.name}: {problem.layers} layers, {_stages(problem)}, up to {problem.strategies} strategies, "
        f"{problem.micro_batches} micro-batches"
    )


def _stages(problem: ProblemComparison) -> str:
    several = 0 < problem.ranks < problem.stages
    return f"{problem.stages} chunks on {problem.ranks} stages" if several else f"{problem.stages} stages"


def ranked(problem: ProblemComparison) -> list[Entry]:
    """Entries with proofs first, then by objective, then by seconds."""

    def key(entry: Entry) -> tuple[bool, bool, float, float]:
        proven = entry.stop is not None and entry.stop.proven and entry.exact
        objective_s = entry.objective_s if entry.objective_s is not None else float("inf")
        return not proven, entry.stop is None, round(objective_s, 9), _seconds(entry)

    return sorted(problem.entries, key=key)


def cells(problem: ProblemComparison, entry: Entry) -> list[str]:
    """The texts of one row, in the order of :data:`HEADINGS`."""
    return [
        entry.solver,
        entry.form,
        entry.stop.value if entry.stop else entry.error,
        _number(entry.objective_s, ".6g"),
        _number(entry.bound_s, ".6g"),
        _number(entry.gap, ".2%") if entry.gap is None or entry.gap >= 5e-5 else "0",
        _number(entry.columns, "d"),
        _number(entry.rows, "d"),
        _number(entry.build_s, ".2f"),
        _number(entry.solve_s, ".2f"),
        entry.cause if entry.error else problem.agreement(entry),
    ]


def _wrong(problem: ProblemComparison, entry: Entry) -> bool:
    return bool(entry.error) or any(entry.solver == c.claims for c in problem.contradictions)


def _seconds(entry: Entry) -> float:
    return (entry.build_s or 0.0) + (entry.solve_s or 0.0) or entry.wall_s


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
