"""An integer program into CP-SAT and its answer out."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from ortools.sat.python import cp_model

from uniap_core.api import Emit, Found, Incumbent, Program, RawResult, SolveRequest, Stop

from .options import CpSatOptions

STOPS = {
    "OPTIMAL": Stop.OPTIMAL,
    "INFEASIBLE": Stop.INFEASIBLE,
    # Both mean that a limit came first.
    "FEASIBLE": Stop.TIME_LIMIT,
    "UNKNOWN": Stop.TIME_LIMIT,
    "MODEL_INVALID": Stop.CRASH,
}


def solve(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve an integer program over one-hot groups."""
    began = time.perf_counter()
    options = msgspec.convert(request.options, CpSatOptions)
    model, columns = _build(program)
    solver = cp_model.CpSolver()
    log = _configure(solver, request, options)
    solver.best_bound_callback = lambda bound: emit(Incumbent(time.perf_counter() - began, None, _finite(bound)))
    if request.time_limit_s is not None:
        solver.parameters.max_time_in_seconds = max(0.01, request.time_limit_s - (time.perf_counter() - began))
    status = solver.solve(model, _Listener(columns, emit))
    if request.log_path is not None:
        with open(request.log_path, "w") as file:
            file.write("\n".join(log) + "\n")
    return _answer(solver, status, columns, options)


def probe() -> str:
    """Version; CP-SAT needs no licence."""
    return f"CP-SAT of OR-Tools {version('ortools')} (Apache-2.0)"


def _build(program: Program) -> tuple[Any, list[Any]]:
    model = cp_model.CpModel()
    bounds = zip(program.lower.astype(np.int64).tolist(), program.upper.astype(np.int64).tolist(), strict=True)
    columns = [model.new_int_var(low, high, "") for low, high in bounds]
    for members in program.groups:
        model.add_exactly_one(columns[c] for c in members)
    rows = program.rows
    value = rows.value.astype(np.int64)
    lower = np.where(np.isinf(rows.lower), cp_model.INT_MIN, np.nan_to_num(rows.lower, neginf=0).astype(np.int64))
    upper = np.where(np.isinf(rows.upper), cp_model.INT_MAX, np.nan_to_num(rows.upper, posinf=0).astype(np.int64))
    for r in range(len(rows)):
        span = slice(rows.start[r], rows.start[r + 1])
        chosen = [columns[c] for c in rows.column[span]]
        expression = cp_model.LinearExpr.weighted_sum(chosen, value[span].tolist())
        model.add_linear_constraint(expression, int(lower[r]), int(upper[r]))
    priced = np.flatnonzero(program.cost)
    weights = program.cost[priced].astype(np.int64).tolist()
    model.minimize(cp_model.LinearExpr.weighted_sum([columns[c] for c in priced], weights))
    if program.start is not None:
        for column, hint in zip(columns, np.ceil(program.start).astype(np.int64).tolist(), strict=True):
            model.add_hint(column, hint)
    return model, columns


def _configure(solver: Any, request: SolveRequest, options: CpSatOptions) -> list[str]:
    log: list[str] = []
    parameters = solver.parameters
    parameters.num_workers, parameters.random_seed = request.threads, request.seed
    parameters.relative_gap_limit = request.gap
    parameters.linearization_level = options.linearization
    # This presolve step adds coefficients into 32-bit integers and then "proves" wrong optima (or-tools#5293).
    parameters.presolve_inclusion_work_limit = 0
    if options.deterministic_limit:
        parameters.max_deterministic_time = options.deterministic_limit
    if request.memory_limit_bytes is not None:
        parameters.max_memory_in_mb = request.memory_limit_bytes // 2**20
    if request.log_path is not None:
        parameters.log_search_progress, parameters.log_to_stdout = True, False
        solver.log_callback = log.append
    return log


class _Listener(cp_model.CpSolverSolutionCallback):
    """Reports every better point."""

    def __init__(self, columns: list[Any], emit: Emit) -> None:
        super().__init__()
        self._columns, self._emit = columns, emit

    def on_solution_callback(self) -> None:
        point = np.array([self.value(column) for column in self._columns], dtype=float)
        bound = _finite(self.best_objective_bound)
        self._emit(Found(self.wall_time, self.objective_value, bound, values=point))


def _answer(solver: Any, status: Any, columns: list[Any], options: CpSatOptions) -> RawResult:
    name = solver.status_name(status)
    found = name in ("OPTIMAL", "FEASIBLE")
    stop = STOPS[name]
    if stop is Stop.TIME_LIMIT and options.deterministic_limit:
        stop = Stop.NODE_LIMIT
    return RawResult(
        stop=stop,
        values=np.array([solver.value(column) for column in columns], dtype=float) if found else None,
        objective_s=solver.objective_value if found else None,
        bound_s=_finite(solver.best_objective_bound) if name != "INFEASIBLE" else None,
        raw_status=name,
        version=version("ortools"),
        statistics={"branches": solver.num_branches, "conflicts": solver.num_conflicts},
    )


def _finite(bound: float) -> float | None:
    return float(bound) if abs(bound) < 2**62 else None
