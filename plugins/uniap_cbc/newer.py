"""The newer CBC inside OR-Tools: in the process, with its bound and its nodes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ortools.linear_solver import pywraplp

from uniap_core.api import Program, RawResult, SolveRequest, Stop

STOPS = {
    pywraplp.Solver.OPTIMAL: Stop.OPTIMAL,
    # A limit came first, with or without a point.
    pywraplp.Solver.FEASIBLE: Stop.TIME_LIMIT,
    pywraplp.Solver.NOT_SOLVED: Stop.TIME_LIMIT,
    pywraplp.Solver.INFEASIBLE: Stop.INFEASIBLE,
    # The objective is a sum of times: never unbounded.
    pywraplp.Solver.UNBOUNDED: Stop.NUMERIC,
    pywraplp.Solver.ABNORMAL: Stop.CRASH,
    pywraplp.Solver.MODEL_INVALID: Stop.CRASH,
}

NAMES = {
    getattr(pywraplp.Solver, name): name
    for name in ("OPTIMAL", "FEASIBLE", "INFEASIBLE", "UNBOUNDED", "ABNORMAL", "MODEL_INVALID", "NOT_SOLVED")
}


def solve_newer(program: Program, request: SolveRequest, began: float) -> RawResult:
    """Solve a linear program over one-hot groups."""
    solver = pywraplp.Solver.CreateSolver("CBC")
    columns = _build(solver, program)
    parameters = pywraplp.MPSolverParameters()
    parameters.SetDoubleParam(parameters.RELATIVE_MIP_GAP, request.gap)
    solver.SetNumThreads(request.threads)
    if program.start is not None:
        solver.SetHint(columns, program.start.tolist())
    if request.time_limit_s is not None:
        left = request.time_limit_s - (time.perf_counter() - began)
        solver.set_time_limit(max(1, int(1000 * left)))
    status = solver.Solve(parameters)
    found = status in (pywraplp.Solver.OPTIMAL, pywraplp.Solver.FEASIBLE)
    infeasible = status == pywraplp.Solver.INFEASIBLE
    return RawResult(
        stop=STOPS[status],
        values=np.array([column.solution_value() for column in columns]) if found else None,
        objective_s=solver.Objective().Value() if found else None,
        bound_s=None if infeasible else solver.Objective().BestBound(),
        raw_status=NAMES[status],
        version=f"{solver.SolverVersion()} (OR-Tools)",
        statistics={"nodes": max(0, solver.nodes())},
    )


def _build(solver: Any, program: Program) -> list[Any]:
    bounds = zip(program.lower.tolist(), program.upper.tolist(), program.integer.tolist(), strict=True)
    columns = [solver.Var(low, high, whole, "") for low, high, whole in bounds]
    objective = solver.Objective()
    for c in np.flatnonzero(program.cost):
        objective.SetCoefficient(columns[c], float(program.cost[c]))
    objective.SetMinimization()
    rows = program.constraints()
    ends = zip(rows.lower.tolist(), rows.upper.tolist(), strict=True)
    constraints = [solver.Constraint(low, high) for low, high in ends]
    for r, c, value in zip(rows.row.tolist(), rows.column.tolist(), rows.value.tolist(), strict=True):
        constraints[r].SetCoefficient(columns[c], value)
    return columns
