"""Problems that are replayed for ever, for every solver: the corner cases, and every failure ever found.

A case is a file ``uniap.case/1`` in the folder ``cases``: a problem, its optimum, and why it is kept. A failing
property test leaves its smallest problem in the folder that :func:`failures` names; ``python -m uniap_core.testing
PROBLEM.json --why "..."`` makes a case of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from uniap_core import artifact
from uniap_core.errors import UsageError
from uniap_core.problem import Problem, ProblemFile, from_file, read, to_file, write

from .oracle import optimum

FOLDER = Path(__file__).with_name("cases")
"""Cases shipped with the kit."""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.case/1``; ``objective_s`` is the optimum, ``None`` if infeasible."""

    schema: Literal["uniap.case/1"] = "uniap.case/1"
    why: str
    objective_s: float | None
    problem: ProblemFile

    @property
    def optimum_s(self) -> float:
        """The optimum, ``inf`` if infeasible."""
        return math.inf if self.objective_s is None else self.objective_s


def cases(folder: Path = FOLDER) -> Iterator[tuple[str, Case]]:
    """Name and content of every case of a folder, by name."""
    for path in sorted(folder.glob("*.json")):
        yield path.stem, artifact.read(path, Case)


def keep(problem: Problem, name: str, why: str, folder: Path = FOLDER) -> Path:
    """Write a case; the optimum is found by enumeration.

    Raises
    ------
    BadValue
        If the problem is too large to enumerate.
    """
    found = optimum(problem)
    path = folder / f"{name}.json"
    objective = found.objective_s if found.feasible else None
    artifact.write(path, Case(why=why, objective_s=objective, problem=to_file(problem)))
    return path


def failures() -> Path:
    """Where failing tests leave their problems: ``$UNIAP_FAILURES``, or ``failed-problems`` in the working folder."""
    return Path(os.environ.get("UNIAP_FAILURES", "failed-problems"))


def save_failure(problem: Problem, name: str) -> Path:
    """Write a failing problem; a later, smaller one of the same test takes its place."""
    folder = failures()
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "-", name)
    path = folder / f"{plain}.json"
    write(path, problem)
    return path


def main(arguments: list[str] | None = None) -> None:
    """Make a case of a problem file."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m uniap_core.testing", description=main.__doc__)
    parser.add_argument("problem", type=Path)
    parser.add_argument("--why", required=True, help="what it once broke, in one sentence")
    parser.add_argument("--name", help="name of the case; default: the file's name")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    name = chosen.name or chosen.problem.stem
    if (chosen.folder / f"{name}.json").exists():
        raise UsageError(f"there is a case named {name} already", "choose another --name")
    print(keep(read(chosen.problem), name, chosen.why, chosen.folder))


def decoded(case: Case) -> Problem:
    """The problem of a case."""
    return from_file(case.problem)
