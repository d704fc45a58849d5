"""A program into HiGHS and its answer out. Linear rows only: HiGHS must never be handed a Hessian (no MIQP)."""

from __future__ import annotations

import time
from typing import Any

import highspy
import msgspec
import numpy as np
from highspy import HighsModelStatus

from uniap_core.api import Emit, Found, Incumbent, Note, Program, RawResult, SolveRequest, Stop, UsageError

from .options import HighsOptions

STOPS = {
    HighsModelStatus.kOptimal: Stop.OPTIMAL,
    HighsModelStatus.kInfeasible: Stop.INFEASIBLE,
    # The objective is a sum of times: never unbounded.
    HighsModelStatus.kUnboundedOrInfeasible: Stop.INFEASIBLE,
    HighsModelStatus.kTimeLimit: Stop.TIME_LIMIT,
    HighsModelStatus.kIterationLimit: Stop.NODE_LIMIT,
    HighsModelStatus.kSolutionLimit: Stop.NODE_LIMIT,
    HighsModelStatus.kObjectiveBound: Stop.NODE_LIMIT,
    HighsModelStatus.kObjectiveTarget: Stop.NODE_LIMIT,
    HighsModelStatus.kInterrupt: Stop.INTERRUPTED,
    HighsModelStatus.kHighsInterrupt: Stop.INTERRUPTED,
    HighsModelStatus.kMemoryLimit: Stop.MEMORY_LIMIT,
    HighsModelStatus.kUnbounded: Stop.NUMERIC,
    HighsModelStatus.kUnknown: Stop.NUMERIC,
    HighsModelStatus.kModelEmpty: Stop.CRASH,
    HighsModelStatus.kModelError: Stop.CRASH,
    HighsModelStatus.kLoadError: Stop.CRASH,
    HighsModelStatus.kPresolveError: Stop.CRASH,
    HighsModelStatus.kSolveError: Stop.CRASH,
    HighsModelStatus.kPostsolveError: Stop.CRASH,
    HighsModelStatus.kNotset: Stop.CRASH,
}

WRONG_PRESOLVE = ("1.14.0",)
"""Versions whose presolve cuts off optimal points and calls others optimal (HiGHS#2961, #3043, #3073, #3094)."""


def solve(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve a linear program over one-hot groups."""
    began = time.perf_counter()
    options = msgspec.convert(request.options, HighsOptions)
    # The pool of threads is global and keeps the size of its first use.
    highspy.Highs.resetGlobalScheduler(True)
    highs = highspy.Highs()
    _configure(highs, request, options)
    if highs.version() in WRONG_PRESOLVE:
        highs.setOptionValue("presolve", "off")
        emit(Note(0.0, f"HiGHS {highs.version()} has a presolve that loses optima: it is off; install highspy<1.14"))
    if highs.passModel(_model(program)) == highspy.HighsStatus.kError:
        raise ValueError("HiGHS refuses the model")
    if program.start is not None:
        chosen = np.flatnonzero(program.integer).astype(np.int32)
        highs.setSolution(len(chosen), chosen, program.start[chosen])
    _listen(highs, emit)
    _run(highs, request, began)
    failed = highs.getModelStatus() == HighsModelStatus.kSolveError
    if failed or _lost_optimum(highs, program):
        what = "HiGHS failed" if failed else "HiGHS's presolve cut off an optimum"
        emit(Note(time.perf_counter() - began, f"{what}; solving again without presolve"))
        highs.clearSolver()
        highs.setOptionValue("presolve", "off")
        _run(highs, request, began)
    return _answer(highs)


def probe() -> str:
    """Version; HiGHS needs no licence."""
    highs = highspy.Highs()
    return f"HiGHS {highs.version()} (MIT)"


def _run(highs: Any, request: SolveRequest, began: float) -> None:
    if request.time_limit_s is not None:
        highs.setOptionValue("time_limit", max(0.0, request.time_limit_s - (time.perf_counter() - began)))
    highs.run()


def _lost_optimum(highs: Any, program: Program) -> bool:
    """Whether a point is called optimal though its own choice has a cheaper one (seen with 1.13.1; HiGHS#3274)."""
    if highs.getModelStatus() != HighsModelStatus.kOptimal:
        return False
    point = program.complete(program.choice(np.array(highs.getSolution().col_value)))
    least, claimed = float(program.cost @ point), highs.getInfo().objective_function_value
    return least < claimed * (1 - 1e-6) and program.evaluate(point).violation <= 1e-7


def _configure(highs: Any, request: SolveRequest, options: HighsOptions) -> None:
    settings = {
        "output_flag": request.log_path is not None,
        "log_to_console": False,
        "log_file": request.log_path or "",
        "threads": request.threads,
        "random_seed": request.seed,
        "mip_rel_gap": request.gap,
        "mip_abs_gap": 0.0,
        "primal_feasibility_tolerance": 1e-9,
        "mip_feasibility_tolerance": 1e-9,
        "presolve": options.presolve,
        "mip_heuristic_effort": options.heuristic_effort,
    }
    for name, value in settings.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise UsageError(f"HiGHS refuses {name} = {value!r}", "give a value that this version of it takes")


def _model(program: Program) -> highspy.HighsLp:
    rows = program.constraints()
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = program.cost, program.lower, program.upper
    model.row_lower_, model.row_upper_ = rows.lower, rows.upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = rows.start, rows.column, rows.value
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    model.integrality_ = [kinds[whole] for whole in program.integer.astype(int)]
    return model


def _listen(highs: Any, emit: Emit) -> None:
    def improved(event: Any) -> None:
        out = event.data_out
        point = np.array(out.mip_solution)
        emit(Found(out.running_time, out.objective_function_value, _finite(out.mip_dual_bound), values=point))

    def logged(event: Any) -> None:
        emit(Incumbent(event.data_out.running_time, None, _finite(event.data_out.mip_dual_bound)))

    highs.cbMipImprovingSolution += improved
    highs.cbMipLogging += logged


def _answer(highs: Any) -> RawResult:
    status, info = highs.getModelStatus(), highs.getInfo()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return RawResult(
        stop=STOPS[status],
        values=np.array(highs.getSolution().col_value) if found else None,
        objective_s=info.objective_function_value if found else None,
        bound_s=_finite(info.mip_dual_bound),
        raw_status=highs.modelStatusToString(status),
        version=highs.version(),
        statistics={"nodes": max(0, info.mip_node_count), "iterations": max(0, info.simplex_iteration_count)},
    )


def _finite(bound: float) -> float | None:
    return bound if abs(bound) < 1e30 else None
