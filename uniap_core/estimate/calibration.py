"""``uniap calibrate runs.csv``: fit a cost model's constants to measured runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import artifact, fence, registry
from ..errors import UniapError
from .plan import Plan, Price, parse, predict

if TYPE_CHECKING:
    import os

MEASURED = ("iter_time_s", "iter_time_s_derived")
"""Columns of the measured time per iteration, the first that is filled counts."""


def measured_s(row: Mapping[str, str]) -> float | None:
    """The measured seconds per iteration of a row, or ``None``."""
    for name in MEASURED:
        try:
            value = float(row.get(name) or "")
        except ValueError:
            continue
        if 0 < value < float("inf"):
            return value
    return None


def runs_of(rows: Iterable[Mapping[str, str]], module: Any, weights: Mapping[str, float] | None = None) -> list[Any]:
    """The runs that a calibrator fits to: rows with a measured time and a plan that parses.

    Parameters
    ----------
    module
        The calibrator, a module with a ``Run``.
    weights
        By what comes before the colon of ``row_id``; default 1.
    """
    found = []
    for row in rows:
        seconds = measured_s(row)
        if seconds is None:
            continue
        try:
            plan = parse(row, [])
        except UniapError:
            continue
        generations = frozenset(node.device.generation for node in plan.cluster.nodes)
        source = re.split(":", row.get("row_id") or "")[0]
        found.append(module.Run(seconds, generations, _predictor(plan), (weights or {}).get(source, 1.0)))
    return found


def _predictor(plan: Plan) -> Any:
    def seconds(price: Price) -> float:
        return predict(plan, price).iteration_s

    return seconds


def calibrator(cost_model: str) -> Any:
    """The module ``calibrate`` of a cost model's package.

    Raises
    ------
    PluginError
        If the cost model has none.
    """
    import importlib

    package = registry.load("cost model", cost_model).price.partition(":")[0].partition(".")[0]
    with fence.guard(
        f"cost model {cost_model!r} cannot be calibrated: {package}.calibrate", "choose one that can: analytic"
    ):
        return importlib.import_module(f"{package}.calibrate")


def calibrate_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], cost_model: str = "analytic"
) -> dict[str, Any]:
    """Fit a cost model to the runs of a CSV file and write its constants.

    Returns
    -------
    By device generation: number of runs, mean absolute error before and after, constants and their 95 % intervals.

    Raises
    ------
    BadFile, BadValue
        If the file cannot be read, or has too few measured runs of a generation.
    """
    from . import read_rows

    module = calibrator(cost_model)
    rows = read_rows(source)[1]
    with fence.guard(f"cost model {cost_model!r}: calibrate"):
        fitted = module.calibrate(runs_of(rows, module))
    artifact.write_text(target, module.to_toml(fitted, f"fitted to {source} by uniap calibrate"))
    return {
        generation: {
            "runs": fit.runs,
            "error_before": fit.error_before,
            "error_after": fit.error_after,
            "constants": {name: getattr(fit.constants, name) for name in fit.intervals},
            "intervals": dict(fit.intervals),
        }
        for generation, fit in fitted.items()
    }
