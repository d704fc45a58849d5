"""What a solver said (:class:`RawResult`) and what the driver makes of it (:class:`Result`)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from ..errors import BadFile, SolverFailed
from ..events import Incumbent
from ..problem import Assignment, Problem


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
    objective_s, bound_s
        What the solver says of its point, and its proven lower bound (with ``infeasible`` under a cutoff: the
        cutoff), or ``None``; in seconds, or in the program's units for plugins that take a program.
    raw_status
        The solver's own words.
    version
        Of the solver library.
    statistics
        Counters worth reporting: nodes, labels, iterations, whether a warm start was accepted.
    """

    stop: Stop
    assignment: Assignment | None = None
    values: Sequence[float] | np.ndarray | None = None
    objective_s: float | None = None
    bound_s: float | None = None
    raw_status: str = ""
    version: str = ""
    statistics: dict[str, int | float | str] = field(default_factory=dict)


class Found(Incumbent, frozen=True, tag="found", kw_only=True):
    """An incumbent with the point itself, for plugins to emit: it survives even if the solver does not.

    Either ``assignment`` (plugins that take the problem) or ``values``, one per column (those that take a program).
    """

    assignment: Assignment | None = None
    values: Sequence[float] | np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """A checked answer: the assignment was evaluated, the stop reason and the bound were held against it.

    ``bound_s`` is ``None`` if there is none, or the problem is infeasible without a cutoff; ``gap`` is
    ``(objective - bound) / objective``. ``failure`` says what went wrong with the solver itself, for callers who
    want to raise it.
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
    failure: SolverFailed | None = None

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


def to_file(result: Result, problem: Problem) -> ResultFile:
    """The document that describes a result of ``problem``."""
    return ResultFile(
        problem=result.problem,
        solver=result.solver,
        version=result.version,
        stop=result.stop,
        objective_s=result.objective_s,
        bound_s=result.bound_s,
        gap=result.gap,
        assignment=_placed(result.assignment, problem),
        build_s=result.build_s,
        solve_s=result.solve_s,
        raw_status=result.raw_status,
        trajectory=[TrajectoryPoint(e.t_s, e.objective_s, e.bound_s) for e in result.trajectory],
        form=result.form,
        statistics=dict(result.statistics),
    )


def from_file(document: ResultFile, problem: Problem) -> Result:
    """The result that a document describes. Its claims are read, not checked: that is the verifier's work.

    Raises
    ------
    BadFile
        If the document is of another problem, or places layers or strategies that this problem does not have.
    """
    if document.problem != problem.hash:
        raise BadFile(
            f"the result is of problem {document.problem[:19]}... and this is {problem.name!r}, {problem.hash[:19]}...",
            "give the problem file that was solved",
        )
    return Result(
        problem=document.problem,
        solver=document.solver,
        version=document.version,
        form=document.form,
        stop=document.stop,
        objective_s=document.objective_s,
        bound_s=document.bound_s,
        assignment=_assignment(document.assignment, problem),
        build_s=document.build_s,
        solve_s=document.solve_s,
        raw_status=document.raw_status,
        trajectory=tuple(Incumbent(p.t_s, p.objective_s, p.bound_s) for p in document.trajectory),
        statistics=dict(document.statistics),
    )


def _placed(assignment: Assignment | None, problem: Problem) -> list[PlacedLayer] | None:
    if assignment is None:
        return None
    chosen = zip(problem.layers, assignment.stage, assignment.strategy, strict=True)
    return [PlacedLayer(layer.name, i, layer.strategies[k]) for layer, i, k in chosen]


def _assignment(placed: list[PlacedLayer] | None, problem: Problem) -> Assignment | None:
    if placed is None:
        return None
    by_name = {p.layer: p for p in placed}
    if len(by_name) != len(placed) or set(by_name) != {layer.name for layer in problem.layers}:
        raise BadFile("the result does not place every layer of the problem once", "solve the problem again")
    strategy = []
    for layer in problem.layers:
        name = by_name[layer.name].strategy
        if name not in layer.strategies:
            raise BadFile(
                f"the result gives layer {layer.name} the strategy {name!r}, which it does not have",
                f"it has {', '.join(layer.strategies)}",
            )
        strategy.append(layer.strategies.index(name))
    return Assignment(tuple(by_name[layer.name].stage for layer in problem.layers), tuple(strategy))
