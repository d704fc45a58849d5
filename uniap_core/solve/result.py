"""What a solver said (:class:`RawResult`) and what the driver makes of it (:class:`Result`)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..events import Incumbent
from ..problem import Assignment


class Stop(enum.StrEnum):
    """Why a solver stopped. Only ``optimal`` and ``infeasible`` are proofs."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time_limit"
    NODE_LIMIT = "node_limit"
    MEMORY_LIMIT = "memory_limit"
    INTERRUPTED = "interrupted"
    LICENSE = "license"
    NUMERIC = "numeric"
    CRASH = "crash"
    UNSUPPORTED = "unsupported"

    @property
    def proven(self) -> bool:
        """True if the stop is a proof."""
        return self in (Stop.OPTIMAL, Stop.INFEASIBLE)


@dataclass(frozen=True, kw_only=True)
class RawResult:
    """A plugin's answer, in the vocabulary of the form it takes.

    Attributes
    ----------
    stop
        Why it stopped.
    assignment
        The best assignment, for plugins that take the problem itself.
    values
        The best point, one value per column, for plugins that take a program.
    bound_s
        Proven lower bound in the objective's units, or ``None``. With ``infeasible`` under a cutoff: the cutoff.
    raw_status
        The solver's own words.
    version
        Of the solver library.
    statistics
        Counters worth reporting: nodes, labels, iterations, whether a warm start was accepted.
    """

    stop: Stop
    assignment: Assignment | None = None
    values: Sequence[float] | None = None
    bound_s: float | None = None
    raw_status: str = ""
    version: str = ""
    statistics: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A checked answer: the assignment was evaluated, the stop reason and the bound were held against it.

    ``bound_s`` is ``None`` if there is none, or the problem is infeasible without a cutoff; ``gap`` is
    ``(objective - bound) / objective``.
    """

    problem: str
    solver: str
    version: str
    form: str
    stop: Stop
    objective_s: float | None
    bound_s: float | None
    assignment: Assignment | None
    build_s: float
    solve_s: float
    raw_status: str
    trajectory: tuple[Incumbent, ...] = ()
    statistics: dict[str, int | float | str] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """Relative gap, or ``None`` without an assignment or a bound."""
        if self.objective_s is None or self.bound_s is None:
            return None
        return max(0.0, self.objective_s - self.bound_s) / self.objective_s if self.objective_s else 0.0


class PlacedLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer's place in a result file."""

    layer: str
    stage: int
    strategy: str


class TrajectoryPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Incumbent and bound at a time."""

    t_s: float
    objective_s: float | None
    bound_s: float | None


class ResultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.result/1``."""

    schema: Literal["uniap.result/1"] = "uniap.result/1"
    problem: str
    solver: str
    version: str
    stop: Stop
    objective_s: float | None
    bound_s: float | None
    gap: float | None
    assignment: list[PlacedLayer] | None
    build_s: float
    solve_s: float
    raw_status: str
    trajectory: list[TrajectoryPoint]
    form: str = "problem"
    statistics: dict[str, int | float | str] = {}
