"""``uniap new solver NAME``: the files of a plugin distribution that works from the start.

The solver that is written is exact and slow (it tries everything), so its test file, the conformance kit, passes;
its author replaces one function and keeps it passing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template

from .artifact import write_text
from .errors import BadFile, UsageError

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "$name, a solver for uniap"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["uniap"]

[project.optional-dependencies]
test = ["uniap[testing]"]

[project.entry-points."uniap.solvers"]
$name = "$package:SOLVER"

[tool.hatch.build.targets.wheel]
packages = ["$package"]

[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "README.md": """\
# $distribution

$name, a solver for [uniap](https://pypi.org/project/uniap/).

    pip install -e '.[test]'
    uniap solve problem.json --solver $name
    pytest                                     # uniap's conformance kit
""",
    "$package/__init__.py": '''\
"""$name, a solver for uniap."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="$name",
    summary="tries every assignment",  # one line for uniap plugins
    takes=Form.PROBLEM,  # or Form.QUADRATIC, Form.MILP, Form.INTEGER: then solve() is given a Program
    exact=True,  # whether "optimal" is a proof
    modules=(),  # libraries it imports, such as ("mysolver",); found without importing them
    install="",  # the command that installs them
    solve="$package.backend:solve",
    probe="$package.backend:probe",
)
''',
    "$package/backend.py": '''\
"""The solver itself. It runs in a process of its own; only this module may import a solver library."""

import math
import time

from uniap_core.api import Assignment, Emit, Found, Problem, RawResult, SolveRequest, Stop


def probe() -> str:
    """Version and licence in one line; raises if the solver cannot be used."""
    return "$name 0.1"


def solve(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Try every assignment that can still be the best; stop at the time limit."""
    began = time.monotonic()
    deadline = math.inf if request.time_limit_s is None else began + request.time_limit_s
    best, best_s = None, math.inf if request.cutoff_s is None else request.cutoff_s
    partial = [((), (), [0.0] * problem.depth, [s.reserved_bytes for s in problem.ranks])]
    rest_s = [math.fsum(problem.layers[u].time_s.min() for u in problem.order[n:]) for n in range(len(problem.order))]
    while partial:
        if time.monotonic() > deadline:
            return RawResult(stop=Stop.TIME_LIMIT, assignment=best)
        stage, strategy, time_s, memory = partial.pop()
        number = len(stage)
        if number == len(problem.layers):
            found = sorted(zip(problem.order, stage, strategy, strict=True))
            assignment = Assignment(tuple(i for _, i, _ in found), tuple(k for _, _, k in found))
            value = problem.evaluate(assignment)  # this method is what a problem means
            if value.feasible and value.objective_s < best_s:
                best, best_s = assignment, value.objective_s
                emit(Found(t_s=time.monotonic() - began, objective_s=best_s, assignment=best))
            continue
        # Whatever follows takes at least this long, resharding and transfers aside.
        if math.fsum(time_s) + rest_s[number] + (problem.micro_batches - 1) * max(time_s) >= best_s:
            continue
        layer = problem.layers[problem.order[number]]
        for i, limits in enumerate(problem.ranks):
            need = layer.state_bytes + limits.peak_in_flight[0] * layer.stash_bytes
            for k in range(len(layer.strategies)):
                fits = memory[i] + need[k] <= limits.memory_bytes * (1 + 1e-9)
                if fits and math.isfinite(layer.time_s[i, k]):
                    times, used = list(time_s), list(memory)
                    times[i] += layer.time_s[i, k]
                    used[i] += need[k]
                    partial.append(((*stage, i), (*strategy, k), times, used))
    if best is None:
        return RawResult(stop=Stop.INFEASIBLE, bound_s=request.cutoff_s)
    return RawResult(stop=Stop.OPTIMAL, assignment=best, objective_s=best_s, bound_s=best_s)
''',
    "tests/test_$package.py": """\
from uniap_core.testing import Limits, SolverSuite


class Test$title(SolverSuite):
    solver = "$name"
    # Trying everything is slow: remove this line once it is a real solver.
    limits = law_limits = Limits(layers=(1, 4), stages=(1, 3), strategies=(1, 3))
""",
}
"""Path and text of each file; ``$$name`` and the like are filled in."""


def new_solver(name: str, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a solver plugin that works and passes the conformance kit.

    Parameters
    ----------
    name
        The name users will type: lower-case letters, digits and dashes.
    folder
        Where the distribution goes; made if it does not exist, refused if it has any of the files.

    Returns
    -------
    The files written.

    Raises
    ------
    UsageError
        For a name that cannot be one.
    BadFile
        If a file is there already, or the folder cannot be written.
    """
    package = "uniap_" + name.replace("-", "_")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} cannot be the name of a solver", "use lower-case letters, digits and dashes, as in my-solver"
        )
    words = {
        "name": name,
        "package": package,
        "distribution": f"uniap-{name}",
        "title": "".join(part.capitalize() for part in name.split("-")),
    }
    texts = {Path(folder) / _fill(path, words): _fill(text, words) for path, text in FILES.items()}
    for path in texts:
        if path.exists():
            raise BadFile(f"{path} exists already", "name another folder")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadFile(f"{path.parent} cannot be made: {error.strerror}", "name a folder you may write") from None
        write_text(path, text)
    return list(texts)


def _fill(text: str, words: dict[str, str]) -> str:
    return Template(text).substitute(words)
