"""``uniap calibrate runs.csv``: fit a cost model's constants to measured runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from .. import artifact, registry
from ..costs import Calibration, Fit, MeasuredRun, Price
from ..errors import PluginError, UniapError
from .plan import Plan, parse
from .prediction import predict

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


def runs_of(rows: Iterable[Mapping[str, str]], weights: Mapping[str, float] | None = None) -> list[MeasuredRun]:
    """The runs that constants may be fitted to: rows with a measured time and a plan that parses.

    Parameters
    ----------
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
        generations = frozenset(device.generation for device in plan.cluster.device_kinds)
        source = re.split(":", row.get("row_id") or "")[0]
        found.append(MeasuredRun(seconds, generations, _predictor(plan), (weights or {}).get(source, 1.0)))
    return found


def _predictor(plan: Plan) -> Callable[[Price], float]:
    def seconds(price: Price) -> float:
        return predict(plan, price).iteration_s

    return seconds


def calibrate_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], cost_model: str = "analytic"
) -> Mapping[str, Fit]:
    """Fit a cost model to the runs of a CSV file and write its constants; returns the fits by device generation.

    Raises
    ------
    BadFile, BadValue
        If the file cannot be read, or has too few measured runs of a generation.
    PluginError
        If the cost model has no constants to fit.
    """
    from . import read_rows

    plugin = registry.load("cost model", cost_model)
    if not plugin.calibrate:
        able = [other.name for other in registry.working("cost model")[0] if other.calibrate]
        raise PluginError(f"cost model {cost_model!r} cannot be calibrated", f"choose one that can: {', '.join(able)}")
    runs = runs_of(read_rows(source)[1])
    title = f"fitted to {source} by uniap calibrate"
    found = registry.call(plugin, "calibrate", runs, title, returns=Calibration)
    artifact.write_text(target, found.text)
    return found.fits
