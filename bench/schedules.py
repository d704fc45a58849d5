"""How right the cost model is about pipeline schedules: errors of each apart, and what choosing by it would lose.

Part of ``python -m bench fidelity``. Reads the pipelined runs of ``runs.csv`` and ``runs_2026.csv``, no constant of
which was fitted to the latter; ``bench/published.csv`` counts to the former.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from uniap_core.estimate import measured_s, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .fidelity import Judged

SAME = (
    "gpu",
    "model",
    "num_gpus",
    "seq",
    "global_batch",
    "micro_batch",
    "tp",
    "pp",
    "cp",
    "ep",
    "recompute",
    "precision",
)
"""What runs have in common that differ in their schedule alone."""


def schedule_of(row: Mapping[str, str]) -> str:
    """The schedule that is priced for a row, with its chunks per rank."""
    pipeline = parse(row, []).candidate.pipeline
    v = pipeline.chunks_per_rank
    return pipeline.schedule + (f" x{v}" if v > 1 else "")


def by_schedule(judged: Iterable[Judged]) -> list[dict[str, object]]:
    """Errors of time per source and schedule, of pipelined runs whose time was measured."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for j in judged:
        if j.time_error is not None:
            found[j.row["row_id"].split(":")[0], schedule_of(j.row).split(" ")[0]].append(j.time_error)
    return [
        {
            "source": source,
            "schedule": schedule,
            "runs": len(errors),
            "time_mean": statistics.fmean(map(abs, errors)),
            "time_median": statistics.median(map(abs, errors)),
            "time_bias": statistics.median(errors),
        }
        for (source, schedule), errors in sorted(found.items())
    ]


def choices(judged: Iterable[Judged]) -> list[dict[str, object]]:
    """Runs that differ in their schedule alone: pace and memory against the first of them, and regret.

    Sources that give tokens per second without a batch cannot be judged by seconds; which schedule is faster, and by
    how much, they say as well.
    """
    groups: dict[tuple[str, ...], list[Judged]] = defaultdict(list)
    for j in judged:
        if _pace(j.row):
            groups[j.row["row_id"].split(":")[0], *(j.row[name] for name in SAME)].append(j)
    lines = []
    for key, runs in sorted(groups.items()):
        kinds = {schedule_of(j.row) for j in runs}
        if len(kinds) < 2 or len(kinds) < len(runs):  # something else differs, that no column says
            continue
        best, chosen = max(_pace(j.row) for j in runs), min(runs, key=lambda j: j.found.iteration_s)
        first = runs[0]
        lines += [
            {
                "source": key[0],
                "model": j.row["model"],
                "schedule": schedule_of(j.row),
                "measured_pace": _pace(j.row) / _pace(first.row) - 1,
                "predicted_pace": first.found.iteration_s / j.found.iteration_s - 1,
                "measured_memory": _gib(j.row) / _gib(first.row) - 1,
                "predicted_memory": j.found.memory_bytes / first.found.memory_bytes - 1,
                "regret": best / _pace(chosen.row) - 1 if j is chosen else "",
            }
            for j in runs
        ]
    return lines


def _gib(row: Mapping[str, str]) -> float:
    """The measured memory, not a number if it was not."""
    try:
        return float(row["mem_gib"])
    except ValueError:
        return math.nan


def _pace(row: Mapping[str, str]) -> float:
    """Iterations or tokens per second, 0 if neither was measured."""
    seconds = measured_s(row)
    try:
        return 1 / seconds if seconds else float(row["tokens_per_s_per_gpu"])
    except ValueError:
        return 0.0
