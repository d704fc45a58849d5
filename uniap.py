"""uniap from Python: plan, solve, compare, verify.

>>> import uniap
>>> best = uniap.plan("bert-huge", "8xV100-32G", batch=32)
>>> best.plan.pp, best.proven
(1, True)

Importing this module is cheap: what a function needs is imported when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniap_core.cluster import Cluster
    from uniap_core.compare import Comparison
    from uniap_core.events import Emit
    from uniap_core.graph import ModelGraph
    from uniap_core.plan import Plan
    from uniap_core.problem import Problem
    from uniap_core.search import Search, Sweep
    from uniap_core.solve.result import Result
    from uniap_core.verify.verdict import Verdict

__all__ = ["compare", "plan", "problem", "solve", "verify"]


def plan(
    model: str | ModelGraph,
    cluster: str | Cluster,
    batch: int,
    *,
    pins: Sequence[str] = (),
    emit: Emit | None = None,
    **options: Any,
) -> Sweep:
    """Find the fastest plan, prove it and verify it.

    Parameters
    ----------
    model
        A zoo name, graph file, ``hf:`` config, ``package.module:factory``, or a graph.
    cluster
        A preset ("4x8xH100-80G"), a TOML file, or a cluster.
    batch
        Samples per iteration over all devices.
    pins
        What is fixed: ``"pp=4"``, ``"tp<=4"``, ``"layers.0-15:recompute=full"``, ``"uniform"``.
    emit
        A function that takes progress events.
    **options
        As on the command line: seq, precision, schedule, solver, cost_model, executor, top, time_limit, workers.

    Returns
    -------
    Sweep
        ``.plan`` is the answer, ``.proof`` has a record per candidate, ``.proven`` says whether all are closed. In a
        notebook it shows itself as a report.

    Raises
    ------
    uniap_core.errors.UniapError
        With cause and remedy: unknown names, bad values, infeasible (says what would make it fit).
    """
    from uniap_core.events import silent
    from uniap_core.report.notebook import shown
    from uniap_core.search import sweep

    return shown(sweep(_search(model, cluster, batch, pins=pins, **options), emit or silent))


def problem(
    model: str | ModelGraph, cluster: str | Cluster, batch: int, *, pp: int, micro_batches: int, **options: Any
) -> Problem:
    """The cost tables of one candidate as a problem, for any solver (options as for :func:`plan`)."""
    from uniap_core.costs import Candidate, check_candidate
    from uniap_core.search import price

    search = _search(model, cluster, batch, **options)
    candidate = Candidate.of(pp, micro_batches, search.training, search.schedule)
    check_candidate(search.cluster, candidate)
    return price(search, candidate).problem


def solve(posed: Problem | str, solver: str = "dp", **request: Any) -> Result:
    """Solve one problem (or problem file) by any solver; ``request`` has the fields of SolveRequest."""
    from uniap_core.solve import driver
    from uniap_core.solve.request import SolveRequest

    return driver.solve(_posed(posed), solver, SolveRequest(**request))


def compare(
    problems: Problem | str | Sequence[Problem | str], solvers: Sequence[str] = (), **request: Any
) -> Comparison:
    """Solve the same problems by many solvers side by side (all installed ones by default)."""
    from uniap_core import compare as comparison
    from uniap_core.solve.request import SolveRequest

    many = [problems] if isinstance(problems, str) or not isinstance(problems, Sequence) else list(problems)
    posed = [_posed(one) for one in many]
    return comparison.compare(posed, tuple(solvers) or comparison.installed(), SolveRequest(**request))


def verify(subject: Plan | str | os.PathLike[str], **options: Any) -> Verdict:
    """Judge a plan (or plan file) by code that is independent of every solver.

    ``cross_check_by="highs"`` also solves it again; ``profile`` is the profile that it was priced from, if any.
    """
    from uniap_core.plan import Plan, read
    from uniap_core.search import verify_plan

    return verify_plan(subject if isinstance(subject, Plan) else read(subject), **options)


def _search(model: str | ModelGraph, cluster: str | Cluster, batch: int, **options: Any) -> Search:
    from uniap_core.search import make

    return make(model, cluster, batch, **options)


def _posed(posed: Problem | str) -> Problem:
    if isinstance(posed, str):
        from uniap_core.problem import read

        return read(posed)
    return posed
