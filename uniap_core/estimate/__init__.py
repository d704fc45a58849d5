"""Predict published or planned runs from a table: ``uniap estimate runs.csv -o out.csv``.

Columns read and written are in docs/formats.md. A row that cannot be predicted keeps blank predictions and says why;
it never stops the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .. import artifact, cost_models
from ..costs import Price
from ..devices import GIB
from ..errors import BadFile, PluginError, UniapError
from ..quoting import cell
from .calibration import calibrate_file, measured_s
from .plan import Plan, parse
from .prediction import Prediction, predict
from .space import kept_out

if TYPE_CHECKING:
    import os

WRITTEN = ("pred_iter_time_s", "pred_mem_gib", "pred_fits", "pred_note", "pred_in_space", "pred_why_not")

__all__ = [
    "Plan",
    "Prediction",
    "WRITTEN",
    "calibrate_file",
    "estimate",
    "estimate_file",
    "measured_s",
    "parse",
    "predict",
    "pricer",
    "read_rows",
]


def pricer(cost_model: str = "analytic") -> Price:
    """The price function of a cost model by name.

    Raises
    ------
    UnknownName, PluginError
        If there is no such cost model or it does not load.
    """
    return cost_models.pricer(cost_model)


def estimate(rows: Iterable[Mapping[str, str]], cost_model: str = "analytic") -> list[dict[str, str]]:
    """The rows with predictions added.

    Parameters
    ----------
    rows
        By column name, as the csv module reads them.

    Returns
    -------
    One row each, in order, with all columns kept and those of :data:`WRITTEN` added.
    """
    price = pricer(cost_model)
    return [_estimated(row, price) for row in rows]


def _estimated(row: Mapping[str, str], price: Price) -> dict[str, str]:
    notes: list[str] = []
    out = {key: value for key, value in row.items() if key is not None} | dict.fromkeys(WRITTEN, "")
    try:
        plan = parse(row, notes)
        prediction = predict(plan, price, notes)
        reason = kept_out(row, plan, prediction, notes)
    except PluginError:
        raise
    except UniapError as error:
        return out | {"pred_note": f"not predicted: {error.cause}"}
    return out | {
        "pred_iter_time_s": f"{prediction.iteration_s:.6g}",
        "pred_mem_gib": f"{prediction.memory_bytes / GIB:.4f}",
        "pred_fits": "true" if prediction.fits else "false",
        "pred_note": f"assumed: {'; '.join(notes)}" if notes else "",
        "pred_in_space": "false" if reason else "true",
        "pred_why_not": reason,
    }


def read_rows(source: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a CSV file.

    Raises
    ------
    BadFile
        If the file is missing, not UTF-8 text, not CSV, or has no header.
    """
    try:
        text = artifact.read_bytes(source).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(f"{source} is not UTF-8 text", "save it as CSV in UTF-8") from None
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
    except csv.Error as error:
        raise BadFile(f"{source} is not CSV: {error}", "correct the quoting") from None
    header = [name for name in reader.fieldnames or () if name]
    if not header:
        raise BadFile(f"{source} has no header", "name the columns in the first line (docs/formats.md)")
    return header, rows


def estimate_file(source: str | os.PathLike[str], target: str | os.PathLike[str], cost_model: str = "analytic") -> int:
    """Read a CSV file, write it with predictions, whole or not at all; returns the number of rows predicted.

    Raises
    ------
    BadFile
        If the file cannot be read (see :func:`read_rows`) or the target cannot be written.
    """
    header, rows = read_rows(source)
    predicted = estimate(rows, cost_model)
    buffer = io.StringIO(newline="")
    fields = [*header, *(name for name in WRITTEN if name not in header)]
    writer = csv.DictWriter(buffer, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: cell(value or "") for name, value in row.items()} for row in predicted)
    artifact.write_text(target, buffer.getvalue())
    return sum(1 for row in predicted if row["pred_iter_time_s"])
