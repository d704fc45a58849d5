"""The published measurements that the cost model is fitted to and judged by, and which half is which.

Most are not part of the repository: ``../shared/measured`` beside the checkout, or the folder that ``UNIAP_MEASURED``
names, holds ``runs.csv`` and ``ranking_groups.csv``. ``published.csv`` here has runs of the same form that were read
since (Megatron Bridge 25.09 to 26.02, torchtitan on A100; the column ``source`` says from which commit).

A group is all runs of one source with the same GPU, model, layers, hidden size, number of GPUs and global batch; its
half is the parity of the first byte of the SHA-256 of those fields joined by ``|``: even is fitted, odd is reported
and never fitted.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

PUBLISHED = Path(__file__).with_name("published.csv")

FIELDS = ("gpu", "model", "layers", "hidden", "num_gpus", "global_batch")


def folder() -> Path:
    """The folder of measurements, or exit saying what is needed."""
    root = Path(os.environ.get("UNIAP_MEASURED") or Path(__file__).resolve().parents[2] / "shared" / "measured")
    if not (root / "runs.csv").is_file():
        sys.exit(f"{root} has no runs.csv: put the published measurements there or name them by UNIAP_MEASURED")
    return root


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one of the files; ``runs.csv`` with those of ``published.csv``."""
    files = [folder() / name] + [PUBLISHED] * (name == "runs.csv")
    found = []
    for path in files:
        with path.open(newline="") as file:
            found += list(csv.DictReader(file))
    return [_scheduled(row) for row in found]


def _scheduled(row: dict[str, str]) -> dict[str, str]:
    """The row with the schedule that its notes state in a column of its own."""
    said = re.search(r"pipeline schedule ([\w-]+)", row.get("notes") or "")
    return row | {"schedule": said[1]} if said else row


def source_of(row: Mapping[str, str]) -> str:
    """The source of a run or of a group of runs."""
    return row["file"] if "file" in row else row["row_id"].split(":")[0]


def out_of_scope(row: Mapping[str, str]) -> bool:
    """Rows that contradict themselves, train adapters alone, which no column says, or in a precision not modelled."""
    beyond = "LoRA" in row["notes"] or "SUSPECT" in row["notes"] or "FP4" in row["precision"]
    return bool(row["auto_flags"]) or beyond


def fitted(row: Mapping[str, str]) -> bool:
    """Whether a run, or a group of runs, belongs to the half that constants may be fitted to."""
    key = "|".join([source_of(row), *(row[name] for name in FIELDS)])
    return hashlib.sha256(key.encode()).digest()[0] % 2 == 0
