"""A plan judged again, by name: its tables are priced afresh, and another solver may try to beat it."""

from __future__ import annotations

from .. import cost_models
from ..events import Emit, silent
from ..plan import Plan
from ..posing import pose
from ..problem import Problem
from ..profile import Profile
from ..solve.driver import solve
from ..solve.request import SolveRequest
from ..solve.result import Result
from ..verify import cross_check, verify, with_checks
from ..verify.properties import fuzz
from ..verify.verdict import Check, Verdict
from .pricing import tables_of


def verify_plan(
    plan: Plan,
    *,
    profile: Profile | None = None,
    cross_check_by: str | None = None,
    time_limit_s: float | None = None,
    tolerance: float | None = None,
) -> Verdict:
    """Judge a plan against freshly priced tables.

    Parameters
    ----------
    plan
        The plan; its own verdict and seal are not believed.
    profile
        The measurements it was priced from, if any.
    cross_check_by
        A solver that must not find anything better.
    time_limit_s
        For that solver.
    tolerance
        Relative difference of closed form and simulation that may be; ``None`` allows what theory explains.

    Raises
    ------
    UniapError
        If it cannot be priced again (:func:`~uniap_core.search.pricing.tables_of`).
    """
    tables = tables_of(plan, profile)
    verdict = verify(plan.proposal, tables, plan.proof, tolerance=tolerance)
    if cross_check_by is None or not verdict.passed:
        return verdict
    return with_checks(
        verdict, check_again(pose(tables), plan.predicted.iteration_time_s, cross_check_by, time_limit_s)
    )


def check_again(problem: Problem, objective_s: float, solver: str, time_limit_s: float | None = None) -> list[Check]:
    """The checks that nothing better than an objective exists, by a solver's name."""

    def resolve(posed: Problem, cutoff_s: float) -> Result:
        return solve(posed, solver, SolveRequest(cutoff_s=cutoff_s, time_limit_s=time_limit_s))

    return cross_check(problem, objective_s, resolve, solver=solver)


def check_properties(
    count: int,
    *,
    cost_model: str = "analytic",
    solver: str = "dp",
    seed: int = 0,
    time_limit_s: float | None = None,
    emit: Emit = silent,
) -> Verdict:
    """Fuzz a cost model and a solver with random models, clusters and spaces.

    Parameters
    ----------
    count
        Random cases.
    cost_model, solver
        Names of the plugins to test.
    time_limit_s
        No case is begun after so many seconds.
    """
    return fuzz(
        count,
        price=cost_models.pricer(cost_model),
        solve=lambda posed: solve(posed, solver),
        seed=seed,
        time_limit_s=time_limit_s,
        emit=emit,
    )
