"""A program into Gurobi and its answer out. Too large a model for the licence at hand stops with ``license``."""

from __future__ import annotations

import time
from typing import Any

import gurobipy as gp
import msgspec
import numpy as np
from gurobipy import GRB

from uniap_core.api import Emit, Found, Incumbent, Program, RawResult, SolveRequest, Stop

from .options import GurobiOptions

STOPS = {
    GRB.Status.OPTIMAL: Stop.OPTIMAL,
    GRB.Status.INFEASIBLE: Stop.INFEASIBLE,
    # The objective is a sum of times: never unbounded.
    GRB.Status.INF_OR_UNBD: Stop.INFEASIBLE,
    GRB.Status.UNBOUNDED: Stop.NUMERIC,
    GRB.Status.CUTOFF: Stop.INFEASIBLE,
    GRB.Status.ITERATION_LIMIT: Stop.NODE_LIMIT,
    GRB.Status.NODE_LIMIT: Stop.NODE_LIMIT,
    GRB.Status.SOLUTION_LIMIT: Stop.NODE_LIMIT,
    GRB.Status.USER_OBJ_LIMIT: Stop.NODE_LIMIT,
    GRB.Status.WORK_LIMIT: Stop.NODE_LIMIT,
    GRB.Status.TIME_LIMIT: Stop.TIME_LIMIT,
    GRB.Status.MEM_LIMIT: Stop.MEMORY_LIMIT,
    GRB.Status.INTERRUPTED: Stop.INTERRUPTED,
    GRB.Status.NUMERIC: Stop.NUMERIC,
    GRB.Status.SUBOPTIMAL: Stop.NUMERIC,
    GRB.Status.LOADED: Stop.CRASH,
    GRB.Status.INPROGRESS: Stop.CRASH,
    # LOCALLY_OPTIMAL and LOCALLY_INFEASIBLE, since version 13; no proofs.
    18: Stop.NUMERIC,
    19: Stop.NUMERIC,
}

REFUSALS = {
    GRB.Error.SIZE_LIMIT_EXCEEDED: Stop.LICENSE,
    GRB.Error.NO_LICENSE: Stop.LICENSE,
    GRB.Error.OUT_OF_MEMORY: Stop.MEMORY_LIMIT,
}

VERSION = ".".join(map(str, gp.gurobi.version()))


def solve(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve a program with linear or quadratic rows."""
    began = time.perf_counter()
    try:
        with _environment() as env, gp.Model(env=env) as model:
            columns = _build(model, program)
            _configure(model, request, msgspec.convert(request.options, GurobiOptions))
            if request.time_limit_s is not None:
                model.Params.TimeLimit = max(0.0, request.time_limit_s - (time.perf_counter() - began))
            model.optimize(_listener(columns, emit))
            return _answer(model, columns)
    except gp.GurobiError as error:
        if error.errno not in REFUSALS:
            raise
        return RawResult(stop=REFUSALS[error.errno], raw_status=str(error), version=VERSION)


def probe() -> str:
    """Version and licence; a small linear program tells whether the licence limits size."""
    with _environment() as env, gp.Model(env=env) as model:
        model.addVars(2001)
        try:
            model.optimize()
        except gp.GurobiError as error:
            if error.errno != GRB.Error.SIZE_LIMIT_EXCEEDED:
                raise
            limits = "2000 columns and rows; 200 columns with quadratic terms"
            return f"Gurobi {VERSION}, size-limited licence ({limits})"
    return f"Gurobi {VERSION}, full licence"


def _environment() -> Any:
    env = gp.Env(empty=True)
    env.setParam("LogToConsole", 0)
    env.start()
    return env


def _build(model: Any, program: Program) -> list[Any]:
    kinds = np.where(program.integer, GRB.INTEGER, GRB.CONTINUOUS).tolist()
    columns = model.addVars(
        len(kinds), lb=program.lower.tolist(), ub=program.upper.tolist(), obj=program.cost.tolist(), vtype=kinds
    ).values()
    columns = list(columns)
    if program.start is not None:
        model.setAttr("Start", columns, program.start.tolist())
    rows = program.constraints()
    quadratic = _quadratic(program, columns)
    for r in range(len(rows)):
        span = slice(rows.start[r], rows.start[r + 1])
        expression = gp.LinExpr(rows.value[span].tolist(), [columns[c] for c in rows.column[span]])
        if r in quadratic:
            expression = quadratic[r] + expression
        low, high = float(rows.lower[r]), float(rows.upper[r])
        if low == high:
            model.addConstr(expression == low)
            continue
        if np.isfinite(low):
            model.addConstr(expression >= low)
        if np.isfinite(high):
            model.addConstr(expression <= high)
    return columns


def _quadratic(program: Program, columns: list[Any]) -> dict[int, Any]:
    row, left, right, value = program.products
    found = {}
    for r in np.unique(row).tolist():
        here = row == r
        found[r] = gp.QuadExpr()
        found[r].addTerms(value[here].tolist(), [columns[c] for c in left[here]], [columns[c] for c in right[here]])
    return found


def _configure(model: Any, request: SolveRequest, options: GurobiOptions) -> None:
    model.Params.OutputFlag = int(request.log_path is not None)
    model.Params.LogFile = request.log_path or ""
    model.Params.MIPGap, model.Params.MIPGapAbs = request.gap, 0.0
    model.Params.Threads, model.Params.Seed = request.threads, request.seed
    model.Params.FeasibilityTol = model.Params.IntFeasTol = model.Params.OptimalityTol = 1e-9
    model.Params.MIPFocus = options.mip_focus
    if options.work_limit:
        model.Params.WorkLimit = options.work_limit
    if request.memory_limit_bytes is not None:
        model.Params.SoftMemLimit = request.memory_limit_bytes / 1e9


def _listener(columns: list[Any], emit: Emit) -> Any:
    def heard(model: Any, where: int) -> None:
        if where == GRB.Callback.MIPSOL:
            point = np.array(model.cbGetSolution(columns))
            objective, bound = model.cbGet(GRB.Callback.MIPSOL_OBJ), model.cbGet(GRB.Callback.MIPSOL_OBJBND)
            emit(Found(model.cbGet(GRB.Callback.RUNTIME), objective, _finite(bound), values=point))
        elif where == GRB.Callback.MIP:
            bound = _finite(model.cbGet(GRB.Callback.MIP_OBJBND))
            emit(Incumbent(model.cbGet(GRB.Callback.RUNTIME), None, bound))

    return heard


def _answer(model: Any, columns: list[Any]) -> RawResult:
    found = model.SolCount > 0
    names = {getattr(GRB.Status, name): name for name in dir(GRB.Status) if name.isupper()}
    return RawResult(
        stop=STOPS[model.Status],
        values=np.array(model.getAttr("X", columns)) if found else None,
        objective_s=model.ObjVal if found else None,
        bound_s=_finite(model.ObjBound),
        raw_status=names[model.Status],
        version=VERSION,
        statistics={"nodes": model.NodeCount, "work": model.Work},
    )


def _finite(bound: float) -> float | None:
    return bound if abs(bound) < GRB.INFINITY else None
