"""Fit the shipped constants of the analytic cost model to the fit half of the published runs (``make calibrate``).

Every source weighs the same within a generation. Runs do not count that fail a consistency check of their table, that
fine-tune adapters alone, that state neither precision nor recomputation, or whose source warns of 40 % scatter.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path

import msgspec
from uniap_cost_analytic import calibrate as fit
from uniap_cost_analytic.constants import Constants

from uniap_core import artifact
from uniap_core.estimate.calibration import measured_s, runs_of

from .measured import fitted, out_of_scope, rows, source_of

TARGET = Path(__file__).resolve().parents[1] / "plugins" / "uniap_cost_analytic" / "constants.toml"
MOST_RUNS = 160
"""Runs of one source that are fitted, drawn with a fixed seed."""

START = {
    "default": Constants(),
    "volta": Constants(memory_share=0.85),
    "ampere": Constants(attention_share=0.6),
    "hopper": Constants(attention_share=0.33),
    "blackwell": Constants(matmul_share=0.7, attention_share=0.35, host_s=3e-5, host_backward_s=2.5e-5),
}
"""Where each fit starts, and the center of its prior."""


def usable(row: dict[str, str]) -> bool:
    """Whether a run says what was run, once, and was measured on a quiet machine."""
    silent = not (row["precision"] or row["recompute"])
    noisy = "vary +-40%" in row["notes"]
    return not (out_of_scope(row) or silent or noisy or measured_s(row) is None)


def chosen() -> list[dict[str, str]]:
    """The runs of the fit half, at most :data:`MOST_RUNS` of a source."""
    by_source: dict[str, list[dict[str, str]]] = {}
    for row in rows("runs.csv"):
        if usable(row) and fitted(row):
            by_source.setdefault(source_of(row), []).append(row)
    draw = random.Random(0)
    return [row for found in by_source.values() for row in draw.sample(found, min(len(found), MOST_RUNS))]


def weights_of(table: list[dict[str, str]]) -> dict[str, float]:
    """Weight of a run by its source: many near-copies count less each."""
    return {source: (40 / n) ** 0.5 for source, n in Counter(map(source_of, table)).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=TARGET, help="file of constants to write")
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    table = chosen()
    found = fit.calibrate(runs_of(table, weights_of(table)), START, options.steps)
    title = (
        "Constants of the analytic cost model by device generation, written by make calibrate.\n"
        "# Fitted to the fit half (bench/measured.py) of published runs; 95 % intervals behind the values."
    )
    default = "\n".join(f"{k} = {v:.4g}" for k, v in msgspec.structs.asdict(START["default"]).items())
    text = f"{fit.to_toml(found, title)}\n[default]\n{default}\n"
    artifact.write_text(options.output, text)
    for generation, result in found.items():
        print(
            f"{generation:<10} {result.runs:4} runs  error {100 * result.error_before:5.1f} % -> "
            f"{100 * result.error_after:5.1f} %"
        )
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
