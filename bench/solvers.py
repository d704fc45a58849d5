"""Every solver on the same problems, layers x stages x strategies, and how long each takes against ``dp``.

``python -m bench solvers [--graph chain] [--layers 8,16,34] [--stages 2,4] [--strategies 6,10] [--solvers dp,highs,...]
[--tightness 0.6] [--noise 0] [--micro-batches 8] [--time-limit 30] [--repeat 3] [--json FILE]``. Problems are the
synthetic transformers of ``bench.dp``: chains, one stage of fine-grained memory (``--stages`` has no say),
encoder-decoders, two towers, U-Nets. Times are the least of several solves in warm workers (at least 0.2 s of
them), lowering included; the ratio is to ``dp`` on the same problem in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from uniap_core import registry
from uniap_core.errors import UniapError
from uniap_core.problem import Problem
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Result

from .dp.problems import Shape, chain, encoder_decoder, one_stage, two_towers, u_net

LEAST_S = 0.2
"""Solves are repeated for so long at least: the first ones of a fraction of a millisecond find cold caches."""


GRAPHS: dict[str, Callable[[Shape], Problem]] = {
    "chain": chain,
    "one-stage": lambda shape: one_stage(shape.layers, shape.strategies),
    "encoder-decoder": encoder_decoder,
    "two-towers": two_towers,
    "u-net": u_net,
}


def best_of(problem: Problem, solver: str, limit_s: float, repeat: int) -> Result | None:
    """The fastest of several solves; ``None`` if the solver is not to be had. A limit is met once."""
    best: Result | None = None
    began, count = time.perf_counter(), 0
    while count < repeat or (repeat > 1 and time.perf_counter() - began < LEAST_S):
        count += 1
        try:
            result = driver.solve(problem, solver, SolveRequest(time_limit_s=limit_s))
        except UniapError:
            return best
        if best is None or seconds(result) < seconds(best):
            best = result
        if not result.stop.proven:
            break
    return best


def seconds(result: Result) -> float:
    """Lowering and solving."""
    return result.build_s + result.solve_s


def numbers(text: str) -> list[int]:
    """Integers separated by commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Sweep, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m bench solvers", description=__doc__)
    parser.add_argument("--graph", choices=GRAPHS, default="chain")
    parser.add_argument("--layers", type=numbers, default=[8, 16, 34])
    parser.add_argument("--stages", type=numbers, default=[2, 4])
    parser.add_argument("--strategies", type=numbers, default=[6, 10])
    parser.add_argument("--solvers", type=lambda text: text.split(","), default=None)
    parser.add_argument("--tightness", type=float, default=0.6)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--micro-batches", type=int, default=8)
    parser.add_argument("--time-limit", type=float, default=30.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    exact = [name for name in registry.names("solver") if registry.load("solver", name).exact]
    solvers = chosen.solvers or sorted(exact, key=lambda name: (name != "dp", name))
    # A consumer's layout in the price of a boundary multiplies the states of skip edges; chains bear it.
    free = chosen.graph not in ("chain", "one-stage")
    warm = GRAPHS[chosen.graph](Shape(9, 2, 4, 4, layout_free_cross=free))
    if chosen.graph == "one-stage":
        chosen.stages = [1]
    table = Table("problem", "solver", "form", "columns", "rows", "stop", "objective s", "gap", "seconds", "/ dp")
    rows = []
    for solver in solvers:
        best_of(warm, solver, 60.0, 1)  # starts its worker
    for size in itertools.product(chosen.layers, chosen.stages, chosen.strategies):
        shape = Shape(*size, chosen.micro_batches, chosen.tightness, chosen.noise, layout_free_cross=free)
        problem, reference = GRAPHS[chosen.graph](shape), None
        for solver in solvers:
            result = best_of(problem, solver, chosen.time_limit, chosen.repeat)
            if result is None:
                continue
            if solver == "dp":
                reference = seconds(result)
            row = {
                "problem": "x".join(map(str, size)),
                "solver": solver,
                "form": result.form,
                "columns": result.statistics.get("columns"),
                "rows": result.statistics.get("rows"),
                "stop": str(result.stop),
                "objective_s": result.objective_s,
                "gap": result.gap,
                "seconds": seconds(result),
                "ratio_to_dp": seconds(result) / reference if reference else None,
            }
            rows.append(row)
            table.add_row(*(_text(value) for value in row.values()))
        table.add_section()
    Console(width=max(120, Console().width)).print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
