"""Cases of the exact solver, each a table of time, labels and memory; ratios are within one run."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from uniap_dp.chain.search import search
from uniap_dp.options import DpOptions
from uniap_dp.solve import solve

from uniap_core.api import Problem, RawResult, SolveRequest, silent

from . import grid
from .problems import Shape, chain, encoder_decoder, one_stage, two_towers, u_net

CONSOLE = Console(width=140)
REPEAT = 3
SIZES = {
    8: [(2, 6), (4, 10)],
    20: [(2, 10), (4, 16)],
    34: [(2, 16), (4, 16), (8, 10), (8, 16)],
    50: [(4, 10), (4, 16), (8, 6)],
    64: [(2, 6), (4, 6), (8, 10)],
}
"""Layers of short chains, and their (stages, strategies)."""


def timed(call: Callable[[], RawResult]) -> tuple[float, RawResult]:
    """Least wall seconds of several calls, and the last answer."""
    best = float("inf")
    for _ in range(REPEAT):
        began = time.perf_counter()
        answer = call()
        best = min(best, time.perf_counter() - began)
        if best > 5:
            break
    return best, answer


def measure(problem: Problem, options: dict[str, bool | int | float | str] | None = None) -> tuple[float, RawResult]:
    """Solve with ``dp``, compiled and warm."""
    return timed(lambda: solve(problem, SolveRequest(time_limit_s=300, options=options or {}), silent))


def peak_mb() -> float:
    """Peak memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(title: str, rows: list[tuple[str, Problem]]) -> list[dict[str, object]]:
    """Solve and print one row per problem."""
    measure(chain(Shape(8, 2, 4)))
    table = Table(title=title)
    for column in ("case", "stop", "seconds", "labels", "peak MB", "objective s", "gap"):
        table.add_column(column, justify="left" if column in ("case", "stop") else "right")
    records = []
    for name, problem in rows:
        seconds, raw = measure(problem)
        objective = problem.evaluate(raw.assignment).objective_s if raw.assignment else float("nan")
        gap = (objective - (raw.bound_s or 0.0)) / objective
        table.add_row(
            name, raw.stop.value, f"{seconds:.3f}", str(raw.statistics["labels"]), f"{peak_mb():.0f}",
            f"{objective:.6g}", f"{gap:.1e}",
        )  # fmt: skip
        records.append({"case": name, "stop": raw.stop.value, "seconds": seconds, **raw.statistics, "gap": gap})
    CONSOLE.print(table)
    return records


def chains() -> list[dict[str, object]]:
    """Transformer chains, equal and perturbed, up to 128 layers on 16 stages with tight memory."""
    shapes = {
        "34 layers, P=2, 10 strategies": Shape(34, 2, 10),
        "34 layers, P=8, 14 strategies": Shape(34, 8, 14),
        "the same, perturbed 20 %": Shape(34, 8, 14, noise=0.2),
        "82 layers (70B), P=8, 16": Shape(82, 8, 16),
        "the same, perturbed 20 %, tight": Shape(82, 8, 16, tightness=0.8, noise=0.2),
        "128 layers (405B), P=16, 16, perturbed, tight": Shape(128, 16, 16, 64, 0.8, 0.2),
        "the same, every pair reshards at its own cost": Shape(128, 16, 16, 64, 0.8, 0.2, random_edges=True),
        "256 layers, P=64, 64 strategies, perturbed": Shape(256, 64, 64, 128, 0.8, 0.2),
    }
    return report("Chains", [(name, chain(shape)) for name, shape in shapes.items()])


def graphs() -> list[dict[str, object]]:
    """Encoder-decoders, two towers and U-Nets: lattices of downsets with carried strategies."""
    rows = []
    for stages in (1, 2, 4, 8, 16):
        shape = Shape(48, stages, 12, 32, 0.6, 0.2, layout_free_cross=True)
        rows.append((f"encoder-decoder, 24 + 24 layers, P={stages}", encoder_decoder(shape)))
    for stages in (2, 4, 8, 16, 32):
        shape = Shape(49, stages, 8, 32, 0.6, 0.2, layout_free_cross=True)
        rows.append((f"two towers, 2 x 24 layers and a head, P={stages}", two_towers(shape)))
    rows.append(("U-Net, 24 layers, 3 skips, P=4", u_net(Shape(24, 4, 8, 32, 0.6, 0.2, layout_free_cross=True))))
    return report("Graphs", rows)


def one_stage_cases() -> list[dict[str, object]]:
    """One stage with fine-grained memory, against a plain dynamic program on a 1-MB grid."""
    measure(chain(Shape(8, 2, 4)))
    table = Table(title="One stage of 40 GB; the rival is a dynamic program on a 1-MB grid, vectorized")
    for column in ("layers", "strategies", "dp s", "grid s", "ratio", "dp objective s", "grid objective s"):
        table.add_column(column, justify="right")
    records = []
    for layers in (32, 64, 96):
        for strategies in (20, 24):
            problem = one_stage(layers, strategies)
            seconds, raw = measure(problem)
            began = time.perf_counter()
            rival = grid.solve(problem)
            rival_s = time.perf_counter() - began
            ours = problem.evaluate(raw.assignment).objective_s
            table.add_row(
                str(layers), str(strategies), f"{seconds:.3f}", f"{rival_s:.2f}", f"{rival_s / seconds:.0f}",
                f"{ours:.6g}", f"{rival:.6g}",
            )  # fmt: skip
            records.append({"layers": layers, "strategies": strategies, "dp_s": seconds, "grid_s": rival_s})
    CONSOLE.print(table)
    return records


def passes() -> list[dict[str, object]]:
    """Chains of up to 64 layers, and chains with skip edges, by the one pass and over the lattice alone."""
    measure(chain(Shape(8, 2, 4)))
    memory = {"ample": (16, 0.3, 0.2), "middling, equal layers": (8, 0.6, 0.0), "tight": (32, 0.9, 0.2)}
    rows = {
        f"chains of {layers}, {name}": [chain(Shape(layers, *size, *rest)) for size in sizes]
        for layers, sizes in SIZES.items()
        for name, rest in memory.items()
    }
    for name, graph in (("encoder-decoder", encoder_decoder), ("U-Net", u_net)):
        for size in ((8, 2, 6), (16, 4, 6), (24, 4, 8), (48, 2, 12)):
            shape = Shape(*size, 8, 0.6, 0.1, layout_free_cross=True)
            rows[f"{name} of {size[0]}, P={size[1]}, {size[2]} strategies"] = [graph(shape)]
    table = Table(title="Milliseconds by the one pass and over the lattice; chains: 2 to 8 stages, 6 to 16 strategies")
    for column in ("problems", "number", "one pass", "lattice", "ratio", "passes given up"):
        table.add_column(column, justify="left" if column == "problems" else "right")
    records = []
    for name, problems in rows.items():
        pass_s = sum(measure(problem)[0] for problem in problems)
        lattice_s = sum(measure(problem, {"max_steps": 0})[0] for problem in problems)
        limits = DpOptions().max_labels, DpOptions().max_steps
        found = [search(problem, math.inf, *limits) for problem in problems]
        given_up = sum(outcome is None or not outcome.done for outcome in found)
        table.add_row(
            name, str(len(problems)), f"{1000 * pass_s:.2f}", f"{1000 * lattice_s:.2f}", f"{lattice_s / pass_s:.1f}",
            str(given_up),
        )  # fmt: skip
        records.append({"problems": name, "pass_s": pass_s, "lattice_s": lattice_s, "given_up": given_up})
    CONSOLE.print(table)
    return records


def start() -> list[dict[str, object]]:
    """First solves by each way to solve, one after the other: compiling their loops, loading them from the cache."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for when in ("first ever", "cache warm"):
            command = ["/usr/bin/env", f"NUMBA_CACHE_DIR={folder}", sys.executable, "-m", "bench.dp.start"]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds: dict[str, float] = json.loads(out)
            seconds["in total"] = sum(seconds.values())
            for way, value in seconds.items():
                CONSOLE.print(f"{when}, {way}: {value:.2f} s")
                records.append({"way": way, "case": when, "seconds": value})
    return records


def sweeps() -> list[dict[str, object]]:
    """Whole sweeps over (stages, micro-batches), every candidate proven."""
    from uniap_core import search

    cases = [
        ("bert-huge", "8xA100-40G", 32),
        ("t5-large", "2x8xA100-40G", 64),
        ("llama2-70b", "64x8xH100-80G", 1024),
        ("llama3-405b", "128x8xH100-80G", 1024),
        ("llama3-405b", "2048x8xH100-80G", 2048),
    ]
    table = Table(title="Sweeps with the analytic cost model, pricing and verifying included")
    for column in ("model", "cluster", "batch", "seconds", "candidates", "open"):
        table.add_column(column, justify="right")
    records = []
    search.sweep(search.make("bert-base", "8xA100-40G", 8))
    for model, cluster, batch in cases:
        began = time.perf_counter()
        found = search.sweep(search.make(model, cluster, batch))
        seconds = time.perf_counter() - began
        left = sum(record.outcome == "limit" for record in found.proof)
        table.add_row(model, cluster, str(batch), f"{seconds:.2f}", str(len(found.proof)), str(left))
        records.append({"model": model, "cluster": cluster, "batch": batch, "seconds": seconds, "open": left})
    CONSOLE.print(table)
    return records
