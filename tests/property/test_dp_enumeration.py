"""The exact solver against enumeration on random small problems: all of its ways with chains and graphs."""

import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from uniap_dp.codes import TooLarge
from uniap_dp.lattice.cuts import lattice_bound
from uniap_dp.lattice.downsets import build
from uniap_dp.solve import lower_bound, solve

from uniap_core.api import SolveRequest, Stop, silent
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import problems, random_problem

COUNT = int(os.environ.get("UNIAP_DP_CASES", "2000"))
"""Random problems; a nightly run asks for 50 000."""

BLOCK = 100
LATTICE = {"max_states": 5_000, "max_nodes": 0, "max_steps": 0}
"""Options that keep chains from the one pass and small graphs from the depth-first search."""


def check(problem, options):
    """Hold one problem against enumeration; False if the options leave it unsupported."""
    raw = solve(problem, SolveRequest(options=options), silent)
    if raw.stop is Stop.UNSUPPORTED:
        return False
    truth = optimum(problem)
    if not truth.feasible:
        assert raw.stop is Stop.INFEASIBLE
        assert raw.assignment is None
        return True
    assert raw.stop is Stop.OPTIMAL
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert math.isclose(value.objective_s, truth.objective_s, rel_tol=1e-9, abs_tol=1e-15)
    assert raw.bound_s <= truth.objective_s * (1 + 1e-13)
    assert raw.bound_s >= truth.objective_s * (1 - 1e-9)
    return True


def bounds(problem):
    """All lower bounds that there are."""
    found = [lower_bound(problem)]
    try:
        if problem.depth <= len(problem.layers):
            found.append(lattice_bound(build(problem, LATTICE["max_states"]))[0])
    except TooLarge:
        pass
    return found


@pytest.mark.parametrize("block", range(COUNT // BLOCK))
def test_agrees_with_enumeration(block):
    supported = 0
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        chain = seed % 2 == 0
        problem = random_problem(np.random.default_rng(seed), shape="chain" if chain else None)
        assert max(bounds(problem)) <= optimum(problem).objective_s
        assert check(problem, {})
        supported += check(problem, LATTICE)
    assert supported >= 0.8 * BLOCK


@settings(max_examples=COUNT // 20, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems())
def test_agrees_with_enumeration_on_drawn_problems(problem):
    assert check(problem, {})
