"""Run the same problems through many solvers and hold their claims against each other.

Every objective in a :class:`~uniap_core.solve.result.Result` was evaluated by the driver, so it is true. What can be
wrong is a bound (an optimum is the claim of one, infeasibility is a bound of infinity); two solvers contradict each
other exactly if the bound of one exceeds the objective of the other.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from uniap_core import interrupts, registry
from uniap_core.errors import Disagreement, Stopped, UniapError
from uniap_core.events import Emit, Progress, silent
from uniap_core.problem import Problem, write
from uniap_core.solve.driver import solve
from uniap_core.solve.plugin import Form, SolverPlugin
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Result, Stop, TrajectoryPoint
from uniap_core.tables import LayerTable, Rank

TOLERANCE = 1e-6
"""Relative difference between a bound and another's objective that is put down to arithmetic."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one solver made of one problem.

    Attributes
    ----------
    exact
        Whether the solver's bound is a proof.
    stop
        Why it stopped; ``None`` if its answer was refused.
    error, cause
        Code and sentence of what went wrong with the solver itself, or of why its answer was refused.
    columns, rows
        Size of what the solver was given, after lowering; ``None`` if it takes the problem itself.
    wall_s
        Seconds from the call to the answer, starting the worker included.
    trajectory
        Incumbents and bounds; time counts from the call, less the starting of the worker, which says nothing of the
        solver.
    """

    solver: str
    version: str = ""
    form: str = ""
    exact: bool = True
    stop: Stop | None = None
    error: str = ""
    cause: str = ""
    objective_s: float | None = None
    bound_s: float | None = None
    gap: float | None = None
    columns: int | None = None
    rows: int | None = None
    build_s: float | None = None
    solve_s: float | None = None
    wall_s: float = 0.0
    trajectory: list[TrajectoryPoint] = []

    @property
    def proof_s(self) -> float:
        """The lower bound that it claims to have proven: ``inf`` if infeasible, ``-inf`` if none."""
        if not self.exact or self.stop is None:
            return -math.inf
        if self.stop is Stop.INFEASIBLE and self.bound_s is None:
            return math.inf
        return -math.inf if self.bound_s is None else self.bound_s


class Contradiction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``claims`` proves a bound (``None``: that nothing is feasible) above an assignment that ``refutes`` found."""

    claims: str
    bound_s: float | None
    refutes: str
    objective_s: float


class ProblemComparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All solvers on one problem; ``file`` is where it was kept if they contradict each other."""

    name: str
    hash: str
    layers: int
    stages: int
    ranks: int = 0
    micro_batches: int
    strategies: int
    entries: list[Entry]
    contradictions: list[Contradiction]
    file: str = ""

    @property
    def best_s(self) -> float | None:
        """The least objective found."""
        return min((e.objective_s for e in self.entries if e.objective_s is not None), default=None)

    def agreement(self, entry: Entry) -> str:
        """How an entry stands to the others: agrees (proven), best, above the best by some percent, contradicts."""
        for c in self.contradictions:
            if entry.solver in (c.claims, c.refutes):
                return f"contradicts {c.refutes if entry.solver == c.claims else c.claims}"
        if entry.error:
            return "failed"
        if entry.exact and entry.stop is not None and entry.stop.proven:
            return "agrees"
        if entry.objective_s is None or self.best_s is None:
            return "no answer"
        above = entry.objective_s / self.best_s - 1 if self.best_s else 0.0
        return "best" if above <= TOLERANCE else f"+{above:.2%}"


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.comparison/1``; an interrupted one has what was done until then."""

    schema: Literal["uniap.comparison/1"] = "uniap.comparison/1"
    time_limit_s: float | None
    gap: float
    threads: int
    problems: list[ProblemComparison]
    interrupted: bool = False


def compare(
    problems: Sequence[Problem],
    solvers: Sequence[str | SolverPlugin],
    request: SolveRequest | None = None,
    emit: Emit = silent,
    *,
    form: Form | None = None,
    keep: str | os.PathLike[str] = ".",
    strict: bool = True,
) -> Comparison:
    """Solve every problem by every solver, one at a time so that seconds are fair.

    Parameters
    ----------
    problems, solvers
        What to solve by what; a solver is a name or a descriptor.
    request
        The same for all.
    emit
        Told of progress, and of every incumbent and bound.
    form
        The rung of the ladder to force on all; ``None`` gives each its native one.
    keep
        Folder for the files of problems on which solvers contradict each other.
    strict
        Whether a contradiction raises once all is done; otherwise see :func:`require_agreement`.

    Ctrl-C ends it; what was done until then is in the comparison.

    Raises
    ------
    Disagreement
        If two exact solvers contradict each other beyond :data:`TOLERANCE`.
    Stopped
        If it was interrupted before any solver was done.
    UnknownName, PluginError
        If a solver does not exist or does not load. A solver that fails while solving is an entry, not an error.
    """
    request = request or SolveRequest()
    plugins = [registry.load("solver", s) if isinstance(s, str) else s for s in solvers]
    found: list[list[Entry]] = []
    try:
        for plugin in plugins:
            _warm_up(plugin, request)
        for _ in _entries(problems, plugins, request, emit, form, found):
            pass
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    if interrupted and not any(found):
        raise Stopped("interrupted before any solver was done", "")
    comparison = Comparison(
        time_limit_s=request.time_limit_s,
        gap=request.gap,
        threads=request.threads,
        problems=[_compare(p, entries, Path(keep)) for p, entries in zip(problems, found, strict=False) if entries],
        interrupted=interrupted,
    )
    if strict:
        require_agreement(comparison)
    return comparison


def _entries(
    problems: Sequence[Problem],
    plugins: Sequence[SolverPlugin],
    request: SolveRequest,
    emit: Emit,
    form: Form | None,
    found: list[list[Entry]],
) -> Iterator[Entry]:
    """Solve each by each; what is done is in ``found``, by problem, whatever ends this."""
    done, total = 0, len(problems) * len(plugins)
    for problem in problems:
        found.append([])
        for plugin in plugins:
            emit(Progress(0.0, done, total, f"{problem.name}: {plugin.name}"))
            entry = _entry(problem, plugin, request, emit, form)
            found[-1].append(entry)
            interrupts.worthwhile()
            if entry.stop is Stop.INTERRUPTED:
                raise KeyboardInterrupt
            done += 1
            yield entry
    emit(Progress(0.0, done, done, "compared"))


def require_agreement(comparison: Comparison) -> None:
    """Raise if any two solvers contradict each other.

    Raises
    ------
    Disagreement
        Naming the first pair, what each says, and the file of the problem.
    """
    for problem in comparison.problems:
        for c in problem.contradictions:
            claim = "that nothing is feasible" if c.bound_s is None else f"that nothing is below {c.bound_s:.9g} s"
            raise Disagreement(
                f"{c.claims} and {c.refutes} disagree on {problem.name}: {c.claims} claims {claim}, "
                f"and {c.refutes} found {c.objective_s:.9g} s, which evaluates to just that",
                f"the bound of {c.claims} is wrong; the problem is kept in {problem.file}",
            )


def _warm_up(plugin: SolverPlugin, request: SolveRequest) -> None:
    """Let the first solve of a process (imports, compilation) not count against anybody's time limit."""
    layer = LayerTable("layer", ("only",), np.ones((1, 1)), np.zeros(1), np.zeros(1))
    trivial = Problem.plain("warm-up", 1, (Rank.of(1.0, 0.0, 1),), (layer,), ())
    limit_s = 30.0 if request.time_limit_s is None else max(10.0, request.time_limit_s)
    first = msgspec.structs.replace(request, time_limit_s=limit_s, warm_start=None, cutoff_s=None)
    with contextlib.suppress(UniapError):  # what is wrong with the solver will be said of a problem that was asked
        if solve(trivial, plugin, first).stop is Stop.INTERRUPTED:
            raise KeyboardInterrupt


def _entry(problem: Problem, plugin: SolverPlugin, request: SolveRequest, emit: Emit, form: Form | None) -> Entry:
    started = time.perf_counter()
    try:
        result = solve(problem, plugin, request, emit, form)
    except UniapError as error:
        wall_s = time.perf_counter() - started
        return Entry(solver=plugin.name, exact=plugin.exact, error=error.code, cause=error.cause, wall_s=wall_s)
    return _from_result(result, plugin.exact, time.perf_counter() - started)


def _from_result(result: Result, exact: bool, wall_s: float) -> Entry:
    sizes = {name: result.statistics.get(name) for name in ("columns", "rows")}
    startup_s = float(result.statistics.get("startup_s", 0.0))
    return Entry(
        solver=result.solver,
        version=result.version,
        form=result.form,
        exact=exact,
        stop=result.stop,
        error=result.failure.code if result.failure else "",
        cause=result.failure.cause if result.failure else "",
        objective_s=result.objective_s,
        bound_s=result.bound_s,
        gap=result.gap,
        columns=int(sizes["columns"]) if sizes["columns"] is not None else None,
        rows=int(sizes["rows"]) if sizes["rows"] is not None else None,
        build_s=result.build_s,
        solve_s=result.solve_s,
        wall_s=wall_s,
        trajectory=[TrajectoryPoint(max(0.0, i.t_s - startup_s), i.objective_s, i.bound_s) for i in result.trajectory],
    )


def _compare(problem: Problem, entries: list[Entry], folder: Path) -> ProblemComparison:
    contradictions = _contradictions(entries)
    file = ""
    if contradictions:
        file = str(folder / f"disagreement-{problem.hash.removeprefix('sha256:')[:12]}.json")
        write(file, problem)
    return ProblemComparison(
        name=problem.name,
        hash=problem.hash,
        layers=len(problem.layers),
        stages=problem.depth,
        ranks=len(problem.ranks),
        micro_batches=problem.micro_batches,
        strategies=max(len(layer.strategies) for layer in problem.layers),
        entries=entries,
        contradictions=contradictions,
        file=file,
    )


def _contradictions(entries: list[Entry]) -> list[Contradiction]:
    """Every claim that some assignment refutes, each with the best assignment that does."""
    found = [e for e in entries if e.objective_s is not None]
    if not found:
        return []
    best = min(found, key=lambda e: e.objective_s or 0.0)
    objective_s = best.objective_s or 0.0
    return [
        Contradiction(
            claims=e.solver,
            bound_s=None if math.isinf(e.proof_s) else e.proof_s,
            refutes=best.solver,
            objective_s=objective_s,
        )
        for e in entries
        if e is not best and e.proof_s > objective_s * (1 + TOLERANCE)
    ]


def installed() -> tuple[str, ...]:
    """Names of the exact solvers whose libraries are installed, the project's own first."""
    found = [plugin.name for plugin in registry.working("solver")[0] if _usable(plugin)]
    return tuple(sorted(found, key=lambda name: (name != "dp", name)))


def _usable(plugin: SolverPlugin) -> bool:
    return plugin.exact and not registry.missing(plugin.modules)
