"""All solvers in one process and on one problem: they do not disturb each other, and they agree."""

import numpy as np
import pytest

from uniap_core import registry
from uniap_core.compare import compare
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.testing import Limits, availability, hard_problem, optimum, random_problem


@pytest.fixture(scope="module")
def solvers():
    found = [registry.load("solver", name) for name in registry.names("solver")]
    usable = [plugin for plugin in found if not registry.missing(plugin.modules)]
    for plugin in found:
        if plugin not in usable and availability.required(plugin.name):
            availability.absence(plugin.name, "not installed")
    return usable


def test_all_solvers_agree_on_small_problems(solvers, tmp_path):
    rng = np.random.default_rng(20)
    problems = [random_problem(rng, Limits(layers=(4, 6), stages=(1, 3))) for _ in range(12)]
    compared = compare(problems, solvers, SolveRequest(time_limit_s=60), keep=tmp_path)
    for problem, side_by_side in zip(problems, compared.problems, strict=True):
        best = optimum(problem)
        for entry in side_by_side.entries:
            assert not entry.error, (entry.solver, entry.cause)
            if entry.exact:
                assert entry.stop is (Stop.OPTIMAL if best.feasible else Stop.INFEASIBLE), entry.solver
                assert side_by_side.agreement(entry) == "agrees"


def test_all_solvers_stay_consistent_when_time_is_short(solvers, tmp_path):
    """Bounds and incumbents of solvers that were cut off may not contradict each other either."""
    problem = hard_problem(layers=10, stages=3, strategies=5)
    compared = compare([problem], solvers, SolveRequest(time_limit_s=3), keep=tmp_path)
    assert not compared.problems[0].contradictions
    assert sum(entry.objective_s is not None for entry in compared.problems[0].entries) >= 2
