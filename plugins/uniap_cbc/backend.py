"""A linear program into CBC through PuLP and its answer out.

PuLP says "Optimal" when a time limit leaves an incumbent, and never says the bound. The log does, so it decides.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pulp

from uniap_core.api import Emit, Program, RawResult, SolveRequest, Stop

from .options import CbcOptions

STOPS = {
    "Optimal solution found": Stop.OPTIMAL,
    "Optimal solution found (within gap tolerance)": Stop.OPTIMAL,
    "Problem proven infeasible": Stop.INFEASIBLE,
    "Linear relaxation infeasible": Stop.INFEASIBLE,
    # The objective is a sum of times: never unbounded.
    "Linear relaxation unbounded": Stop.NUMERIC,
    "Stopped on time limit": Stop.TIME_LIMIT,
    "Stopped on node limit": Stop.NODE_LIMIT,
    "Stopped on iterations limit": Stop.NODE_LIMIT,
    "Stopped on solution limit": Stop.NODE_LIMIT,
    "Stopped on user ctrl-c": Stop.INTERRUPTED,
    "User ctrl-c": Stop.INTERRUPTED,
    "Run abandoned": Stop.NUMERIC,
}


def solve(program: Program, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve a linear program over one-hot groups. CBC reports nothing while it runs."""
    began = time.perf_counter()
    options = msgspec.convert(request.options, CbcOptions)
    if options.library == "ortools":
        from .newer import solve_newer

        return solve_newer(program, request, began)
    model, columns = _build(program)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(request.log_path or f"{folder}/log")
        command = pulp.COIN_CMD(
            path=pulp.PULP_CBC_CMD.pulp_cbc_path,
            msg=False,
            # With "threads 1" CBC runs its parallel code on one thread, and that one sometimes sleeps for seconds.
            threads=request.threads if request.threads > 1 else None,
            gapRel=request.gap,
            gapAbs=0.0,
            maxNodes=options.nodes or None,
            warmStart=program.start is not None,
            logPath=str(log),
            # Integer preprocessing "proved" a point that breaks the order of layers (corpus: cbc-preprocessing).
            options=[f"randomCbcSeed {request.seed + 1}", "primalT 1e-9", "integerT 1e-9", "preprocess off"],
        )
        command.tmpDir = folder
        if request.time_limit_s is not None:
            command.timeLimit = max(0.05, request.time_limit_s - (time.perf_counter() - began))
        model.solve(command)
        return _answer(model, columns, program, log.read_text(errors="replace"))


def probe() -> str:
    """Version of the binary; CBC needs no licence."""
    with tempfile.TemporaryDirectory() as folder:
        model = pulp.LpProblem("probe")
        model += pulp.LpVariable("x", 0, 1, cat="Binary")
        command = pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False, logPath=f"{folder}/log")
        command.tmpDir = folder
        model.solve(command)
        return f"CBC {_version(Path(folder, 'log').read_text())} in PuLP {pulp.__version__} (EPL-2.0)"


def _build(program: Program) -> tuple[Any, list[Any]]:
    kinds = np.where(program.integer, "Integer", "Continuous").tolist()
    ends = zip(program.lower.tolist(), program.upper.tolist(), kinds, strict=True)
    columns = [pulp.LpVariable(f"c{number}", *end) for number, end in enumerate(ends)]
    model = pulp.LpProblem("uniap", pulp.LpMinimize)
    model += pulp.LpAffineExpression([(columns[c], program.cost[c]) for c in np.flatnonzero(program.cost)])
    rows = program.constraints()
    for r in range(len(rows)):
        span = slice(rows.start[r], rows.start[r + 1])
        entries = zip((columns[c] for c in rows.column[span]), rows.value[span].tolist(), strict=True)
        expression = pulp.LpAffineExpression(list(entries))
        low, high = float(rows.lower[r]), float(rows.upper[r])
        if low == high:
            model += expression == low
            continue
        if np.isfinite(low):
            model += expression >= low
        if np.isfinite(high):
            model += expression <= high
    if program.start is not None:
        for column, value in zip(columns, program.start.tolist(), strict=True):
            column.setInitialValue(value)
    return model, columns


def _answer(model: Any, columns: list[Any], program: Program, log: str) -> RawResult:
    status = (re.findall(r"^Result - (.*?)\s*$", log, re.M) or ["no result in the log"])[-1]
    stop = STOPS.get(status, Stop.CRASH)
    if stop is Stop.CRASH and model.status == pulp.LpStatusInfeasible:
        # Found by preprocessing, which ends without a result line.
        status, stop = "Infeasible", Stop.INFEASIBLE
    found = stop is not Stop.INFEASIBLE and model.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    values = np.array([column.value() or 0.0 for column in columns]) if found else None
    objective = float(program.cost @ values) if found else None
    best = float((re.findall(r"Search completed - best objective ([-+.\de]+)", log) or ["inf"])[-1])
    if stop is Stop.INFEASIBLE and best < 1e49:
        # The search ended with a point; only CBC's last check of it went wrong. If it was the start, it is known.
        status += ", after a completed search that had a point"
        started = program.start is not None and abs(program.cost @ program.start - best) <= 1e-6 * abs(best)
        stop = Stop.OPTIMAL if started else Stop.NUMERIC
        values, objective = (program.start, best) if started else (None, None)
    bound = re.findall(r"^Lower bound:\s*(\S+)", log, re.M)
    proven = objective if stop is Stop.OPTIMAL else None
    return RawResult(
        stop=stop,
        values=values,
        objective_s=objective,
        bound_s=float(bound[-1]) if bound else proven,
        raw_status=status,
        version=f"{_version(log)} (PuLP {pulp.__version__})",
        statistics={
            "nodes": int((re.findall(r"^Enumerated nodes:\s*(\d+)", log, re.M) or [0])[-1]),
            "starts_accepted": len(re.findall(r"MIPStart provided solution with cost", log)),
        },
    )


def _version(log: str) -> str:
    found = re.search(r"^Version:\s*(\S+)", log, re.M)
    return found[1] if found else "unknown"
