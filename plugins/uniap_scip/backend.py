"""A program into SCIP and its answer out. Quadratic rows are SCIP's own; the objective must be linear, and is."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
from pyscipopt import Eventhdlr, Expr, Model
from pyscipopt.scip import PY_SCIP_EVENTTYPE as SCIP_EVENTTYPE
from pyscipopt.scip import PY_SCIP_PARAMEMPHASIS as SCIP_PARAMEMPHASIS
from pyscipopt.scip import ExprCons, Term

from uniap_core.api import Emit, Found, Incumbent, Program, RawResult, SolveRequest, Stop

from .options import ScipOptions

STOPS = {
    "optimal": Stop.OPTIMAL,
    # The gap limit is the request's: within it, an answer may be called optimal.
    "gaplimit": Stop.OPTIMAL,
    "infeasible": Stop.INFEASIBLE,
    # The objective is a sum of times: never unbounded.
    "inforunbd": Stop.INFEASIBLE,
    "unbounded": Stop.NUMERIC,
    "timelimit": Stop.TIME_LIMIT,
    "memlimit": Stop.MEMORY_LIMIT,
    "nodelimit": Stop.NODE_LIMIT,
    "totalnodelimit": Stop.NODE_LIMIT,
    "stallnodelimit": Stop.NODE_LIMIT,
    "restartlimit": Stop.NODE_LIMIT,
    "sollimit": Stop.NODE_LIMIT,
    "bestsollimit": Stop.NODE_LIMIT,
    "primallimit": Stop.NODE_LIMIT,
    "duallimit": Stop.NODE_LIMIT,
    "userinterrupt": Stop.INTERRUPTED,
    "unknown": Stop.CRASH,
}

EVENTS = (SCIP_EVENTTYPE.BESTSOLFOUND, SCIP_EVENTTYPE.DUALBOUNDIMPROVED)


def solve(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve a program with linear or quadratic rows."""
    began = time.perf_counter()
    model = Model(program.name)
    columns = _build(model, program)
    _configure(model, request, msgspec.convert(request.options, ScipOptions))
    accepted = _start(model, columns, program)
    model.includeEventhdlr(_Listener(columns, emit), "uniap", "reports incumbents and bounds")
    if request.time_limit_s is not None:
        model.setParam("limits/time", max(0.0, request.time_limit_s - (time.perf_counter() - began)))
    model.optimize()
    return _answer(model, columns, accepted)


def probe() -> str:
    """Version; SCIP needs no licence."""
    return f"SCIP {Model().version()} (Apache-2.0)"


def _build(model: Any, program: Program) -> list[Any]:
    kinds = np.where(program.integer, "I", "C")
    bounds = zip(kinds, program.lower.tolist(), program.upper.tolist(), program.cost.tolist(), strict=True)
    columns = [model.addVar(vtype=kind, lb=low, ub=high, obj=cost) for kind, low, high, cost in bounds]
    rows = program.constraints()
    terms: list[dict[Any, float]] = [{} for _ in range(len(rows))]
    single = [Term(column) for column in columns]
    for r, c, value in zip(rows.row.tolist(), rows.column.tolist(), rows.value.tolist(), strict=True):
        terms[r][single[c]] = value
    for r, a, b, value in zip(*(part.tolist() for part in program.products), strict=True):
        terms[r][Term(columns[a], columns[b])] = value
    for expression, low, high in zip(terms, rows.lower.tolist(), rows.upper.tolist(), strict=True):
        ends = {"lhs": low} if np.isfinite(low) else {}
        ends |= {"rhs": high} if np.isfinite(high) else {}
        model.addCons(ExprCons(Expr(expression), **ends))
    return columns


def _configure(model: Any, request: SolveRequest, options: ScipOptions) -> None:
    if options.emphasis != "default":
        model.setEmphasis(getattr(SCIP_PARAMEMPHASIS, options.emphasis.upper()))
    model.setParam("limits/gap", request.gap)
    model.setParam("limits/nodes", options.nodes)
    model.setParam("numerics/feastol", 1e-9)
    # Products of one column with several others as one term, not as one "and" each: half the time or less.
    model.setParam("constraints/nonlinear/reformbinprodsfac", options.factor_terms)
    model.setParam("randomization/randomseedshift", request.seed)
    model.setParam("lp/threads", request.threads)
    if request.memory_limit_bytes is not None:
        model.setParam("limits/memory", request.memory_limit_bytes / 2**20)
    model.hideOutput(request.log_path is None)
    if request.log_path is not None:
        model.setLogfile(request.log_path)


def _start(model: Any, columns: list[Any], program: Program) -> int:
    if program.start is None:
        return 0
    point = model.createSol()
    for column, value in zip(columns, program.start.tolist(), strict=True):
        model.setSolVal(point, column, value)
    return int(model.addSol(point))


class _Listener(Eventhdlr):
    """Reports every better point and every better bound."""

    def __init__(self, columns: list[Any], emit: Emit) -> None:
        self.columns, self.emit = columns, emit

    def eventinit(self) -> None:
        for kind in EVENTS:
            self.model.catchEvent(kind, self)

    def eventexit(self) -> None:
        for kind in EVENTS:
            self.model.dropEvent(kind, self)

    def eventexec(self, event: Any) -> None:
        model, bound = self.model, _finite(self.model.getDualbound())
        if event.getType() == SCIP_EVENTTYPE.BESTSOLFOUND:
            best = model.getBestSol()
            point = np.array([model.getSolVal(best, column) for column in self.columns])
            self.emit(Found(model.getSolvingTime(), model.getSolObjVal(best), bound, values=point))
        elif bound is not None:
            self.emit(Incumbent(model.getSolvingTime(), None, bound))


def _answer(model: Any, columns: list[Any], accepted: int) -> RawResult:
    status, best = model.getStatus(), model.getBestSol() if model.getNSols() else None
    return RawResult(
        stop=STOPS[status],
        values=None if best is None else np.array([model.getSolVal(best, column) for column in columns]),
        objective_s=None if best is None else model.getSolObjVal(best),
        bound_s=_finite(model.getDualbound()),
        raw_status=status,
        version=str(model.version()),
        statistics={"nodes": model.getNTotalNodes(), "starts_accepted": accepted},
    )


def _finite(bound: float) -> float | None:
    return float(bound) if abs(bound) < 1e20 else None
