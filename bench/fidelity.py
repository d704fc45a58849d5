"""How right the cost model is about published runs: errors, ranking, regret, memory, and what each term buys.

Prices every run of ``runs.csv`` whose plan is given (bench/measured.py says where it is) through the code of
``uniap estimate`` and prints, for the report half alone unless ``--half all``:

- per source, mean and median absolute relative error of time and of memory, and the median signed error;
- per source, over its ranking groups, the mean rank correlation (Spearman) between predicted and measured times, and
  the regret: measured time of the plan predicted fastest over that of the fastest measured, minus 1;
- per source and pipeline schedule, the same errors, of all pipelined runs, ``runs_2026.csv`` included; and where runs
  differ in their schedule alone, how much faster each is measured and predicted than the first, and the regret of the
  choice (bench/schedules.py);
- what was predicted of runs that fitted and of runs that ran out of memory;
- with ``--ablation``, the same errors with one term of the model switched off at a time;
- with ``--plot FILE``, predicted against measured times as a scatter plot.

Memory of sources that read whole devices (nvidia-smi) is compared with the context added; the table marks them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from uniap_cost_analytic import kernels, layers, links
from uniap_cost_analytic.calibrate import price_with
from uniap_cost_analytic.constants import Constants, shipped

from uniap_core.costs import Price
from uniap_core.devices import GIB
from uniap_core.errors import UniapError
from uniap_core.estimate import Prediction, measured_s, parse, predict

from .measured import fitted, out_of_scope, rows, source_of
from .schedules import by_schedule, choices

WHOLE_DEVICE = ("bigscience_v100", "dlperf_v100", "sailor_validation")
"""Sources that read the memory of the whole device, context and communication buffers included."""


@dataclass(frozen=True)
class Judged:
    """A run with its prediction."""

    row: dict[str, str]
    found: Prediction

    @property
    def time_error(self) -> float | None:
        """Relative error of the time, or ``None`` if none was measured."""
        seconds = measured_s(self.row)
        return None if seconds is None else self.found.iteration_s / seconds - 1

    @property
    def memory_error(self) -> float | None:
        """Relative error of the memory, or ``None`` if none was measured."""
        try:
            gib = float(self.row["mem_gib"])
        except ValueError:
            return None
        context = self.found.context_bytes if source_of(self.row) in WHOLE_DEVICE else 0.0
        return (self.found.memory_bytes + context) / GIB / gib - 1


def judge(table: Iterable[dict[str, str]], price: Price) -> tuple[list[Judged], Counter[str]]:
    """Predict every row; the counter says why rows could not be."""
    judged, why = [], Counter()
    for row in table:
        try:
            judged.append(Judged(row, predict(parse(row, []), price)))
        except UniapError as error:
            why[f"{source_of(row)}: {error.cause}"] += 1
    return judged, why


def errors(judged: list[Judged]) -> list[dict[str, object]]:
    """Errors of time and memory per source."""
    table = []
    for source in sorted({source_of(j.row) for j in judged}):
        mine = [j for j in judged if source_of(j.row) == source]
        line: dict[str, object] = {"source": source}
        for name, values in (("time", [j.time_error for j in mine]), ("memory", [j.memory_error for j in mine])):
            known = [v for v in values if v is not None]
            line[f"{name}_runs"] = len(known)
            if known:
                line[f"{name}_mean"] = statistics.fmean(map(abs, known))
                line[f"{name}_median"] = statistics.median(map(abs, known))
                line[f"{name}_bias"] = statistics.median(known)
        table.append(line)
    return table


def regrets(judged: list[Judged], half: str) -> list[dict[str, object]]:
    """Rank correlation and regret per source, over its groups of the chosen half."""
    by_id = {j.row["row_id"]: j for j in judged}
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for group in rows("ranking_groups.csv"):
        if half != "all" and fitted(group) != (half == "fit"):
            continue
        pairs = []
        for name in group["row_ids"].split():
            seconds = measured_s(by_id[name].row) if name in by_id else None
            if seconds is not None:
                pairs.append((by_id[name].found.iteration_s, seconds))
        if len(pairs) > 1:
            chosen, best = min(pairs)[1], min(seconds for _, seconds in pairs)
            found[source_of(group)].append((chosen / best - 1, correlation(pairs)))
    return [
        {
            "source": source,
            "groups": len(values),
            "rank_correlation": statistics.fmean(c for _, c in values),
            "regret_mean": statistics.fmean(r for r, _ in values),
            "regret_median": statistics.median(r for r, _ in values),
            "regret_worst": max(r for r, _ in values),
        }
        for source, values in sorted(found.items())
    ]


def correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's rank correlation."""
    ranks = [np.argsort(np.argsort(column)) for column in np.array(pairs).T]
    return float(np.corrcoef(*ranks)[0, 1])


def confusion(judged: list[Judged]) -> Counter[tuple[str, str]]:
    """What was predicted of runs that fitted and of those that ran out of memory."""
    seen: Counter[tuple[str, str]] = Counter()
    for j in judged:
        ran = measured_s(j.row) is not None
        if ran or "OOM" in j.row["mem_gib"].upper():
            seen["ran" if ran else "out of memory", "fits" if j.found.fits else "does not fit"] += 1
    return seen


ABLATIONS: dict[str, dict[str, float]] = {
    "host pace": {"host_s": 0.0, "host_backward_s": 0.0},
    "memory-bound operators": {"memory_share": 1e3},
    "overlap of communication": {"overlap": 0.0},
    "link efficiency": {"link_share": 1.0, "inter_share": 1.0},
    "fixed times of collectives": {"collective_s": 0.0, "message_s": 0.0},
    "attention apart from matrix products": {"attention_share": 0.85},
}
"""Terms of the model, and constants that switch each off."""


def ablation(table: list[dict[str, str]], base: list[Judged]) -> list[tuple[str, float]]:
    """Mean absolute error of time over sources with each term switched off, and with the tiles of products."""

    def mean(judged: list[Judged]) -> float:
        return statistics.fmean(float(line["time_mean"]) for line in errors(judged) if "time_mean" in line)  # type: ignore[arg-type]

    found = [("the model", mean(base))]
    for name, changes in ABLATIONS.items():
        constants: dict[str, Constants] = {
            generation: msgspec.structs.replace(kept, **changes) for generation, kept in shipped().items()
        }
        found.append((f"without {name}", mean(judge(table, price_with(constants))[0])))
    tiles, blend = kernels.TILES, layers.BLEND
    kernels.TILES = ((1, 1, 1.0),)
    kernels.matmul_s.cache_clear()
    found.append(("without tiles and waves", mean(judge(table, price_with({}))[0])))
    kernels.TILES = tiles
    kernels.matmul_s.cache_clear()
    layers.BLEND = blend
    links.collective_s.cache_clear()
    return found


def pipelined() -> list[Judged]:
    """All runs of several ranks, whichever half they belong to, that can be predicted."""
    table = [row for name in ("runs.csv", "runs_2026.csv") for row in rows(name)]
    table = [row for row in table if row["pp"] not in ("", "1") and not out_of_scope(row)]
    return judge(table, price_with({}))[0]


def plot(judged: list[Judged], path: Path) -> None:
    """Predicted against measured times, one color per source."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 6))
    for source in sorted({source_of(j.row) for j in judged}):
        points = [
            (measured_s(j.row), j.found.iteration_s)
            for j in judged
            if source_of(j.row) == source and measured_s(j.row) is not None
        ]
        if points:
            axes.scatter(*zip(*points, strict=True), s=8, alpha=0.6, label=source)
    low, high = axes.get_xlim()[0], axes.get_xlim()[1]
    ends = [max(low, 0.05), high]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="measured s per iteration", ylabel="predicted s per iteration")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def percent(value: object) -> str:
    """A ratio as a percentage, blank if there is none."""
    return f"{100 * value:.1f}" if isinstance(value, float) and math.isfinite(value) else ""


def show(title: str, table: list[dict[str, object]], columns: dict[str, Callable[[object], str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for line in table:
        print("| " + " | ".join(form(line.get(name, "")) for name, form in columns.items()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("report", "fit", "all"), default="report")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = [
        row
        for row in rows("runs.csv")
        if not out_of_scope(row) and (options.half == "all" or fitted(row) == (options.half == "fit"))
    ]
    judged, why = judge(table, price_with({}))
    share = {f"{kind}_{name}": percent for kind in ("time", "memory") for name in ("mean", "median", "bias")}
    order = ["time_runs", "time_mean", "time_median", "time_bias", "memory_runs", "memory_mean", "memory_median"]
    found = errors(judged)
    show(
        f"Errors in percent, {options.half} half",
        found,
        {"source": str, **{name: share.get(name, str) for name in [*order, "memory_bias"]}},
    )
    ranked = regrets(judged, options.half)
    show(
        "Ranking and regret in percent",
        ranked,
        {
            "source": str,
            "groups": str,
            "rank_correlation": lambda v: f"{v:.3f}",
            **dict.fromkeys(("regret_mean", "regret_median", "regret_worst"), percent),
        },
    )
    piped = pipelined()
    show(
        "Errors of pipelined runs by schedule in percent, all runs",
        by_schedule(piped),
        {
            "source": str,
            "schedule": str,
            "runs": str,
            "time_mean": percent,
            "time_median": percent,
            "time_bias": percent,
        },
    )
    show(
        "Schedules against the first of their group in percent, and regret of the choice",
        choices(piped),
        {
            "source": str,
            "model": str,
            "schedule": str,
            **dict.fromkeys(
                ("measured_pace", "predicted_pace", "measured_memory", "predicted_memory", "regret"), percent
            ),
        },
    )
    print("\n### Memory: what the upper bound said\n")
    for (happened, said), count in sorted(confusion(judged).items()):
        print(f"- {happened}, predicted {said}: {count}")
    print(f"\n{sum(why.values())} rows were not predicted:\n")
    for reason, count in why.most_common():
        print(f"- {count} x {reason}")
    if options.ablation:
        print("\n### Ablation: mean absolute error of time in percent, mean over sources\n")
        for name, value in ablation(table, judged):
            print(f"- {name}: {100 * value:.1f}")
    if options.plot:
        plot(judged, options.plot)
    if options.json:
        options.json.write_text(json.dumps({"errors": found, "regret": ranked}, indent=1) + "\n")


if __name__ == "__main__":
    main()
