"""Solve one problem with one plugin: lower it, run the plugin where it cannot do harm, check all that it says."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from .. import fence, interrupts, limits, registry
from .. import problem as problems
from ..errors import BadValue, MalformedAnswer, PluginError, SolverCrashed, SolverFailed, UsageError
from ..events import Emit, Event, Incumbent, Note, silent
from ..problem import Assignment, Evaluation, Problem
from ..program.ir import Array, with_row
from ..program.ladder import Lowered, lower, next_lower
from ..program.start import start
from . import process
from .channel import Finished, PackedArray, Report, SolverJob, finished, report_of, unpack
from .claims import NUMERIC, TOLERANCE, Claim, judge
from .plugin import Form, SolverPlugin
from .request import SolveRequest
from .result import Result, Stop

MEMORY_CUTS = 20
"""Points rejected for memory within the solver's tolerance are cut off and solved again, at most so often."""


def solve(
    problem: Problem,
    solver: str | SolverPlugin,
    request: SolveRequest = SolveRequest(),  # noqa: B008 - frozen
    emit: Emit = silent,
    form: Form | str | None = None,
    pose: str | None = None,
) -> Result:
    """Solve a problem and check the answer.

    A plugin's crash, hang or memory kill ends as a result with that stop reason, its ``failure`` set, and the best
    incumbent that was reported before. A pipeline that the plugin does not know (its ``weights`` and ``chunks``) ends
    as ``unsupported``, unless it accepts a program, which says all of it.

    Parameters
    ----------
    problem
        What to solve.
    solver
        A plugin's name, or its descriptor.
    request
        Limits, tolerances and hints.
    emit
        Called with :class:`~uniap_core.events.Incumbent` and :class:`~uniap_core.events.Note` events.
    form
        A form that the plugin accepts; its native one by default. If that one is larger than the solver's licence
        allows, the next lower form is tried, with a note; a form that is asked for here is not replaced.
    pose
        The formulation for plugins that take a program, ``"joint"`` or ``"paper"``; the cheaper one by default.

    Raises
    ------
    UnknownName, PluginError
        If the plugin does not exist, does not load, or lacks its library.
    UsageError, BadValue
        For a form it does not take, an option or a value that it refuses, or a warm start that is not feasible.
    SolverLied
        If a claim does not survive the check; each kind of claim has its own subclass.
    """
    plugin = registry.load("solver", solver) if isinstance(solver, str) else solver
    _check_plugin(plugin)
    _check_request(problem, plugin, request)
    request = msgspec.structs.replace(request, time_limit_s=limits.time_limit(request.time_limit_s, "time_limit_s"))
    chosen = _check_form(plugin, form)
    session = _Session(problem, plugin, request, emit, time.monotonic())
    while True:
        result = session.run(chosen, pose)
        refused = result.stop is Stop.LICENSE or plugin.refusal(problem, chosen)
        lower_form = next_lower(chosen, plugin.forms) if form is None and refused else None
        if lower_form is None:
            return result
        emit(Note(session.elapsed(), f"{plugin.name}: {result.raw_status}; solving the {lower_form} form instead"))
        session.statistics["fallback"] = f"{chosen} form: {result.raw_status}"
        chosen = lower_form


def probe(solver: str | SolverPlugin) -> str:
    """Version and licence of a solver, in its plugin's words.

    Raises
    ------
    UnknownName, PluginError
        If it is not there or does not work.
    """
    plugin = registry.load("solver", solver) if isinstance(solver, str) else solver
    _check_plugin(plugin)
    return registry.call(plugin, "probe", returns=str) if plugin.inline else process.probe(plugin.probe)


@dataclass(eq=False)
class _Session:
    """One call of :func:`solve`: its clock, what was found so far."""

    problem: Problem
    plugin: SolverPlugin
    request: SolveRequest
    emit: Emit
    began: float
    best: Assignment | None = None
    best_s: float | None = None
    bound_s: float | None = None
    trajectory: list[Incumbent] = field(default_factory=list)
    statistics: dict[str, int | float | str] = field(default_factory=dict)

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def deadline(self) -> float | None:
        return None if self.request.time_limit_s is None else self.began + self.request.time_limit_s

    def run(self, form: Form, pose: str | None) -> Result:
        """Lower to a form, run, judge."""
        refusal = self.plugin.refusal(self.problem, form)
        if refusal:
            return self._result(form, None, Finished(stop=Stop.UNSUPPORTED, raw_status=refusal), None, 0.0, 0.0)
        began, lowered = time.monotonic(), None
        worker = None if self.plugin.inline else process.hire(self.plugin.solve)
        try:
            if form is not Form.PROBLEM:
                lowered = self._lower(form, pose)
            build_s = time.monotonic() - began
        except BaseException as error:
            if worker is not None:
                process.release(self.plugin.solve, worker)
            if not isinstance(error, KeyboardInterrupt) or self.best is None:
                raise
            answer = Finished(stop=Stop.INTERRUPTED, raw_status="interrupted")
            return self._result(form, None, answer, None, time.monotonic() - began, 0.0)
        if lowered is not None and not lowered.program.solvable:
            if worker is not None:
                process.release(self.plugin.solve, worker)
            answer = Finished(stop=Stop.INFEASIBLE, raw_status="some layer has no possible stage and strategy")
            return self._result(form, lowered, answer, None, build_s, 0.0)
        began = time.monotonic()
        outcome = self._ask(worker, lowered)
        for _ in range(MEMORY_CUTS):
            cut = None if lowered is None else self._memory_cut(lowered, outcome)
            if cut is None:
                break
            lowered = cut
            worker = None if self.plugin.inline else process.hire(self.plugin.solve)
            outcome = self._ask(worker, lowered)
        if lowered is not None and isinstance(outcome, Finished):
            outcome = self._close(lowered, outcome)
        seconds = time.monotonic() - began
        if isinstance(outcome, process.Death):
            answer = Finished(stop=outcome.stop, raw_status=str(outcome.failure.cause))
            return self._result(form, lowered, answer, outcome.failure, build_s, seconds)
        self.statistics["startup_s"] = round(max(0.0, seconds - outcome.seconds), 6)
        return self._result(form, lowered, outcome, None, build_s, outcome.seconds)

    def _lower(self, form: Form, pose: str | None) -> Lowered:
        request, limit_s = self.request, math.inf if self.request.cutoff_s is None else self.request.cutoff_s
        first = self._first()
        if first is not None:
            first_s = self.problem.evaluate(first).objective_s
            first, limit_s = (first, first_s) if first_s < limit_s else (None, limit_s)
        lowered = lower(self.problem, form, pose, limit_s)
        program = lowered.program
        if not program.solvable:
            return lowered
        if first is not None:
            lowered = lowered.started(first)
        size = program.size
        self.statistics.update(columns=size.columns, rows=size.rows, nonzeros=size.nonzeros, products=size.products)
        return lowered if request.cutoff_s is None else _limited(lowered, request.cutoff_s)

    def _first(self) -> Assignment | None:
        """What a program starts from: the caller's warm start, or one found here, which is the first incumbent."""
        if self.request.warm_start is not None:
            return self.request.warm_start
        found = start(self.problem)
        if found is not None:
            self.statistics["start_s"] = self.problem.evaluate(found).objective_s
            self._hear(Report(assignment=found), None)
        return found

    def _ask(self, worker: process.Worker | None, lowered: Lowered | None) -> Finished | process.Death:
        request = msgspec.structs.replace(self.request, warm_start=None if lowered else self.request.warm_start)
        if worker is None:
            return self._ask_inline(request, lowered)
        job = SolverJob(
            target=self.plugin.solve,
            request=request,
            problem=None if lowered else problems.to_file(self.problem),
            program=lowered.program if lowered else None,
            deadline=self.deadline,
        )
        try:
            return process.run(worker, job, lambda report: self._hear(report, lowered))
        except KeyboardInterrupt:
            return process.Death(Stop.INTERRUPTED, SolverFailed("interrupted"))

    def _ask_inline(self, request: SolveRequest, lowered: Lowered | None) -> Finished | process.Death:
        def emit(event: Event) -> None:
            report = report_of(event)
            if report is not None:
                self._hear(report, lowered)

        if request.time_limit_s is not None:
            request = msgspec.structs.replace(request, time_limit_s=max(0.0, request.time_limit_s - self.elapsed()))
        function = registry.resolve(self.plugin.solve)
        began = time.monotonic()
        try:
            with fence.guard(self.plugin.name):
                raw = function(lowered.program if lowered else self.problem, request, emit)
                return finished(raw, time.monotonic() - began)
        except MalformedAnswer as error:
            return process.Death(Stop.CRASH, error)
        except KeyboardInterrupt:
            return process.Death(Stop.INTERRUPTED, SolverFailed("interrupted"))
        except PluginError as error:
            return process.Death(Stop.CRASH, SolverCrashed(error.cause, error.fix))

    def _hear(self, report: Report, lowered: Lowered | None) -> None:
        """Take a report: evaluate its assignment, keep what is better, tell the caller."""
        if report.note is not None:
            self.emit(Note(self.elapsed(), report.note))
            return
        better = False
        assignment = report.assignment
        if lowered is not None:
            assignment = None if report.values is None else lowered.up(self._point(lowered, report.values))
        if assignment is not None:
            evaluation = self._evaluate(assignment)
            if evaluation.feasible and (self.best_s is None or evaluation.objective_s < self.best_s):
                self.best, self.best_s, better = assignment, evaluation.objective_s, True
                interrupts.worthwhile()
        bound = _seconds(report.bound, lowered, bound=True)
        if bound is not None and not math.isnan(bound) and (self.bound_s is None or bound > self.bound_s):
            self.bound_s, better = bound, True
        if better:
            self._record()

    def _record(self) -> None:
        point = Incumbent(self.elapsed(), self.best_s, self.bound_s)
        self.trajectory.append(point)
        self.emit(point)

    def _memory_cut(self, lowered: Lowered, outcome: Finished | process.Death) -> Lowered | None:
        """The program without a point that exceeds some rank's memory by less than a solver's tolerance."""
        if isinstance(outcome, process.Death) or outcome.values is None:
            return None
        program = lowered.program
        assignment = lowered.up(self._point(lowered, outcome.values))
        evaluation = self.problem.evaluate(assignment)
        for i, (rank, used) in enumerate(zip(self.problem.ranks, evaluation.memory_bytes, strict=True)):
            if rank.memory_bytes * (1 + problems.MEMORY_TOLERANCE) < used <= rank.memory_bytes * (1 + 1e-5):
                here = [g for g, j in enumerate(assignment.stage) if self.problem.chunks[j] == i]
                choice = lowered.choose(assignment)
                columns = program.group_column[program.group_start[here] + choice[here]]
                self.statistics["memory_cuts"] = int(self.statistics.get("memory_cuts", 0)) + 1
                return replace(lowered, program=with_row(program, columns, 1.0, len(here) - 1.0))
        return None

    def _close(self, lowered: Lowered, answer: Finished) -> Finished:
        """Ask again for what is better, where "optimal" is claimed with a bound that is a little off the objective."""
        if answer.stop is not Stop.OPTIMAL or answer.values is None or answer.bound_s is None:
            return answer
        value = self.problem.evaluate(lowered.up(self._point(lowered, answer.values)))
        bound = answer.bound_s * lowered.program.unit_s
        off = abs(value.objective_s - bound) / value.objective_s if value.objective_s > 0 else 0.0
        if not value.feasible or not max(TOLERANCE, self.request.gap) < off <= NUMERIC:
            return answer
        limit_s = value.objective_s * (1 - TOLERANCE)
        worker = None if self.plugin.inline else process.hire(self.plugin.solve)
        again = self._ask(worker, _limited(lowered, limit_s))
        self.statistics["closing_rounds"] = 1
        if isinstance(again, process.Death) or not again.stop.proven:
            return answer
        if again.stop is Stop.OPTIMAL:
            return again
        proven = (limit_s + lowered.program.error_s) / lowered.program.unit_s
        return msgspec.structs.replace(answer, bound_s=proven)

    def _result(
        self,
        form: Form,
        lowered: Lowered | None,
        answer: Finished,
        failure: SolverFailed | None,
        build_s: float,
        solve_s: float,
    ) -> Result:
        claim = self._claim(lowered, answer, failure)
        verdict = judge(self.problem, self.request, claim, self.best)
        last = self.trajectory[-1] if self.trajectory else None
        if last is None or (last.objective_s, last.bound_s) != (verdict.objective_s, verdict.bound_s):
            self.best_s, self.bound_s = verdict.objective_s, verdict.bound_s
            self._record()
        return Result(
            problem=self.problem.hash,
            solver=self.plugin.name,
            version=answer.version,
            form=str(form),
            stop=verdict.stop,
            objective_s=verdict.objective_s,
            bound_s=verdict.bound_s,
            assignment=verdict.assignment,
            build_s=build_s,
            solve_s=solve_s,
            raw_status="; ".join(filter(None, (answer.raw_status, verdict.note))),
            trajectory=tuple(self.trajectory),
            statistics={**answer.statistics, **self.statistics},
            failure=failure,
        )

    def _claim(self, lowered: Lowered | None, answer: Finished, failure: SolverFailed | None) -> Claim:
        assignment = answer.assignment
        if lowered is not None and answer.values is not None:
            assignment = lowered.up(self._point(lowered, answer.values))
        if assignment is not None:
            self._evaluate(assignment)
        bound = _seconds(answer.bound_s, lowered, bound=True)
        return Claim(
            solver=self.plugin.name,
            exact=self.plugin.exact,
            rounded=lowered is not None,
            stop=answer.stop,
            assignment=assignment,
            objective_s=_seconds(answer.objective_s, lowered),
            bound_s=self.bound_s if bound is None and failure is not None else bound,
        )

    def _point(self, lowered: Lowered, packed: PackedArray) -> Array:
        """A solver's point, if it has a number for every column."""
        point, columns = unpack(packed), lowered.program.cost.shape
        if point.shape != columns or np.isnan(point).any():
            raise MalformedAnswer(
                f"{self.plugin.name} returned {point.shape} values for {columns[0]} columns"
                if point.shape != columns
                else f"{self.plugin.name} returned a value that is not a number",
                "correct the plugin",
            )
        return point

    def _evaluate(self, assignment: Assignment) -> Evaluation:
        """What an assignment is worth; one that is none of this problem is the solver's fault, not the caller's."""
        try:
            return self.problem.evaluate(assignment)
        except BadValue as error:
            cause = f"{self.plugin.name} returned no assignment of the problem: {error.cause}"
            raise MalformedAnswer(cause, "correct the plugin") from None


def _limited(lowered: Lowered, limit_s: float) -> Lowered:
    """With the objective limited, and without a start that the limit may exclude."""
    program = lowered.program
    priced = program.cost.nonzero()[0]
    limit = (limit_s + program.error_s) / program.unit_s
    within = with_row(program, priced, program.cost[priced], limit)
    excluded = program.start is not None and float(program.cost @ program.start) > limit
    return replace(lowered, program=replace(within, start=None if excluded else program.start))


def _seconds(value: float | None, lowered: Lowered | None, *, bound: bool = False) -> float | None:
    """A value in a program's units as seconds; a bound less the error of rounding."""
    if value is None or lowered is None:
        return value
    return value * lowered.program.unit_s - (lowered.program.error_s if bound else 0.0)


def _check_plugin(plugin: SolverPlugin) -> None:
    fence.descriptor(f"solver {getattr(plugin, 'name', '')!r}", plugin, SolverPlugin)
    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"solver {plugin.name!r} needs {', '.join(absent)}, not installed here", plugin.install)


def _check_form(plugin: SolverPlugin, form: Form | str | None) -> Form:
    try:
        chosen = plugin.takes if form is None else Form(form)
    except ValueError:
        raise UsageError(f"there is no form {form!r}", f"choose one of {', '.join(Form)}") from None
    if chosen not in plugin.forms:
        raise UsageError(
            f"solver {plugin.name!r} does not take the {chosen} form", f"it takes {', '.join(plugin.forms)}"
        )
    return chosen


def _check_request(problem: Problem, plugin: SolverPlugin, request: SolveRequest) -> None:
    memory = limits.Size | None
    bounds = {"gap": limits.Gap, "threads": limits.Threads, "seed": limits.Seed, "memory_limit_bytes": memory}
    for name, bound in bounds.items():
        limits.check(getattr(request, name), bound, name)
    if request.options and not plugin.options:
        raise UsageError(f"solver {plugin.name!r} has no options of its own", "remove them")
    if plugin.options:
        kind: Any = registry.resolve(plugin.options)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise PluginError(f"solver {plugin.name!r}: its options are no msgspec struct", "correct the descriptor")
        try:
            msgspec.convert(request.options, kind)
        except msgspec.ValidationError as error:
            known = ", ".join(kind.__struct_fields__)
            raise UsageError(f"options of solver {plugin.name!r}: {error}", f"it has: {known}") from None
    if request.warm_start is not None:
        evaluation = problem.evaluate(request.warm_start)
        if not evaluation.feasible:
            raise BadValue(f"the warm start is not feasible: {evaluation.violations[0]}", "give a feasible one")
