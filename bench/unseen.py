"""How right the cost model is about a source it was not fitted to: leave one out, fit again, predict.

For every source of published runs the constants are fitted to the fit half of all others, from the same start as
``make calibrate``, and the source's runs are predicted: all of them, of either half. Where it is the only source of a
device generation, the start itself is what predicts.
"""

from __future__ import annotations

import argparse
import statistics

from rich.console import Console
from rich.table import Table
from uniap_cost_analytic import calibrate as fit

from uniap_core.estimate.calibration import runs_of

from .calibrate import START, chosen, usable, weights_of
from .fidelity import judge
from .measured import rows, source_of


def main() -> None:
    """Print a line per source."""
    parser = argparse.ArgumentParser(prog="python -m bench unseen", description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    table = Table("source", "runs", "mean error %", "median", "signed median")
    sample = chosen()
    measured = [row for row in rows("runs.csv") if usable(row)]
    for source in dict.fromkeys(map(source_of, measured)):
        others = [row for row in sample if source_of(row) != source]
        found = fit.calibrate(runs_of(others, weights_of(others)), START, options.steps)
        constants = START | {generation: fitted.constants for generation, fitted in found.items()}
        judged, _ = judge((row for row in measured if source_of(row) == source), fit.price_with(constants))
        errors = [100 * run.time_error for run in judged if run.time_error is not None]
        middle, signed = statistics.median(map(abs, errors)), statistics.median(errors)
        mean = statistics.fmean(map(abs, errors))
        table.add_row(source, str(len(errors)), f"{mean:.1f}", f"{middle:.1f}", f"{signed:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
