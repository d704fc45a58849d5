"""What the rivals' search spaces cost: ``python -m bench.baselines [-o FILE.json] [--jobs N]``.

For each model, cluster and batch: the proven optimum over the joint space, and how much slower the best plan of each
baseline is, over the same candidates, cost tables and memory limits. Every plan is priced by the same evaluation, so
the difference is due to the search space and the method alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from uniap_baselines import BASELINES

from uniap_core import models
from uniap_core.cluster import load
from uniap_core.costs import Training
from uniap_core.errors import BadValue, Infeasible
from uniap_core.posing import pose
from uniap_core.problem import Problem
from uniap_core.search import Search, candidates, price, sweep
from uniap_core.solve.driver import solve

JOBS = (
    ("bert-huge", "8xV100-32G", 32),
    ("bert-huge", "2x4xTITANXp-12G", 16),
    ("t5-large", "2x4xTITANXp-12G", 8),
    ("vit-huge", "8xV100-32G", 128),
    ("swin-huge", "8xV100-32G", 32),
    ("llama-7b", "8xA100-40G", 8),
    ("llama-7b", "8xA100-40G", 32),
    ("llama-13b", "8xA100-40G", 32),
    ("llama3-8b", "8xA100-80G", 32),
    ("gpt3-2.7b", "2x4xTITANXp-12G", 16),
    ("llama2-70b", "4x8xA100-80G", 64),
    ("llama3-70b", "4x8xH100-80G", 64),
    ("mixtral-8x7b", "4x8xH100-80G", 64),
)
"""Model, cluster, batch."""


@dataclass(frozen=True)
class Row:
    """One job: the optimum in seconds per iteration, and each baseline's plan relative to it.

    ``slower`` is 0.1 for a plan that takes a tenth longer, ``inf`` if the baseline finds none; ``seconds`` is its
    planning time over all candidates, pricing not included.
    """

    model: str
    cluster: str
    batch: int
    optimum_s: float
    proven: bool
    planning_s: float
    slower: dict[str, float]
    seconds: dict[str, float]


def compare(model: str, cluster: str, batch: int) -> Row | None:
    """The row of a job, or ``None`` if nothing fits at all."""
    machine = load(cluster)
    search = Search(
        graph=models.load(model),
        cluster=machine,
        training=Training(global_batch=batch, precision=machine.best_precision),
    )
    started = time.perf_counter()
    try:
        best = sweep(search)
    except (Infeasible, BadValue):
        return None
    planning_s = time.perf_counter() - started
    posed = problems(search)
    slower, seconds = {}, {}
    for plugin in BASELINES:
        started = time.perf_counter()
        results = [solve(problem, plugin) for problem in posed]
        seconds[plugin.name] = time.perf_counter() - started
        found = min((r.objective_s for r in results if r.objective_s is not None), default=math.inf)
        slower[plugin.name] = found / best.plan.predicted.iteration_time_s - 1
        if best.proven and slower[plugin.name] < -1e-9:
            raise SystemExit(f"{plugin.name} beats the proven optimum of {model} on {cluster}: one of them is wrong")
    return Row(model, cluster, batch, best.plan.predicted.iteration_time_s, best.proven, planning_s, slower, seconds)


def problems(search: Search) -> list[Problem]:
    """Every candidate that can be priced."""
    found = []
    for candidate in candidates(search):
        try:
            found.append(pose(price(search, candidate)))
        except BadValue:
            continue
    return found


def show(rows: list[Row]) -> None:
    names = [plugin.name for plugin in BASELINES]
    print(f"{'model':<14}{'cluster':<17}{'batch':>6}{'optimum':>10}" + "".join(f"{name:>12}" for name in names))
    for row in rows:
        cells = "".join(
            f"{'none fits':>12}" if math.isinf(row.slower[name]) else f"{row.slower[name]:>+12.1%}" for name in names
        )
        mark = "" if row.proven else " (not proven)"
        print(f"{row.model:<14}{row.cluster:<17}{row.batch:>6}{row.optimum_s:>9.3f}s{cells}{mark}")
    times = [sum(row.seconds[name] for row in rows) for name in names]
    print(f"{'planning time':<37}{sum(row.planning_s for row in rows):>9.1f}s" + "".join(f"{t:>11.1f}s" for t in times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the rows as JSON here")
    parser.add_argument("--jobs", type=int, default=len(JOBS), help="only the first so many jobs")
    options = parser.parse_args()
    rows = []
    for job in JOBS[: options.jobs]:
        row = compare(*job)
        if row is None:
            print(f"{job}: no plan fits")
            continue
        rows.append(row)
        show(rows[-1:])
    print()
    show(rows)
    if options.output:
        options.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
