"""Chunked pipelines: what is asked of the exact solver on them, what it has, and what others have after a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from uniap_dp.solve import solve

from uniap_core.api import Problem, SolveRequest, silent
from uniap_core.errors import UniapError
from uniap_core.solve import driver

from .chunked import chunked

CONSOLE = Console(width=150)
GAP = 0.005
RIVALS = ("highs", "cpsat", "scip")

CASES: dict[str, tuple[Callable[[], Problem], float, float]] = {
    "16 layers, 4 x 2, 8 strategies, perturbed": (lambda: chunked(16, 4, 2, 8), 0.0, 5.0),
    "34 layers, 4 x 3, 8, perturbed": (lambda: chunked(34, 4, 3, 8), GAP, 10.0),
    "80 layers, 4 x 5, 16, equal": (lambda: chunked(80, 4, 5, 16, noise=0.0), GAP, 10.0),
    "80 layers, 8 x 5, 16, perturbed": (lambda: chunked(80, 8, 5, 16), GAP, 10.0),
    "128 layers, 8 x 8, 16, perturbed": (lambda: chunked(128, 8, 8, 16), GAP, 10.0),
    "128 layers, 16 x 4, 16, equal": (lambda: chunked(128, 16, 4, 16, noise=0.0), GAP, 10.0),
    "128 layers, 16 x 4, 16, perturbed": (lambda: chunked(128, 16, 4, 16), GAP, 10.0),
}
"""Problems with the gap and the seconds that are asked for; gap 0 is a proven optimum."""


def chunks(rivals_s: float = 0.0) -> list[dict[str, object]]:
    """Solve every case, and where seconds are given for them, let other solvers try for so long."""
    solve(chunked(8, 2, 2, 3), SolveRequest(), silent)
    table = Table(title="Ranks of several chunks, tightness 0.8; processor seconds")
    columns = ["case", "asked", "seconds", "objective s", "gap", "met"]
    for column in columns + [f"{name} after {rivals_s:g} s: gap, against dp" for name in RIVALS if rivals_s]:
        table.add_column(column, justify="left" if column == "case" else "right")
    records = []
    for name, (posed, gap, limit_s) in CASES.items():
        problem = posed()
        began = time.process_time()
        raw = solve(problem, SolveRequest(gap=gap or 1e-9), silent)
        seconds = time.process_time() - began
        best = problem.evaluate(raw.assignment).objective_s if raw.assignment else math.inf
        left = 1 - (raw.bound_s or 0.0) / best
        met = left <= max(gap, 1e-8) and seconds <= limit_s
        record: dict[str, object] = {"case": name, "seconds": seconds, "objective_s": best, "gap": left, "met": met}
        asked = (f"{gap:.1%}" if gap else "optimum") + f", {limit_s:g} s"
        row = [name, asked, f"{seconds:.2f}", f"{best:.6g}", f"{left:.2%}", "yes" if met else "no"]
        for rival in RIVALS if rivals_s else ():
            text, record[rival] = _rival(problem, rival, rivals_s, best)
            row.append(text)
        table.add_row(*row)
        records.append(record)
    CONSOLE.print(table)
    return records


def _rival(problem: Problem, name: str, seconds: float, best: float) -> tuple[str, float | None]:
    """What another solver has in the end: its own gap, and its plan against ``best``."""
    try:
        found = driver.solve(problem, name, SolveRequest(time_limit_s=seconds))
    except UniapError as error:
        return str(error.cause), None
    if found.objective_s is None:
        return f"no plan ({found.stop.value})", None
    gap = 1 - (found.bound_s or 0.0) / found.objective_s
    return f"{gap:.1%}, {found.objective_s / best - 1:+.2%}", found.objective_s
