"""The exact solver against enumeration on random small problems, and what it promises about limits."""

import math
import os

import numpy as np
import pytest
from uniap_dp.bounds import lower_bound
from uniap_dp.solve import solve

from uniap_core.api import SolveRequest, Stop, silent
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import random_problem

COUNT = int(os.environ.get("UNIAP_DP_CASES", "2000"))
BLOCK = 100
SMALL_LATTICE = {"max_states": 5_000}


def check(problem):
    """Hold one problem against enumeration; False if its lattice is over the (small) budget."""
    raw = solve(problem, SolveRequest(options=SMALL_LATTICE), silent)
    if raw.stop is Stop.UNSUPPORTED:
        return False
    truth = optimum(problem)
    if not truth.feasible:
        assert raw.stop is Stop.INFEASIBLE
        assert raw.assignment is None
        return True
    assert lower_bound(problem) <= truth.objective_s
    assert raw.stop is Stop.OPTIMAL
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert math.isclose(value.objective_s, truth.objective_s, rel_tol=1e-9, abs_tol=1e-15)
    assert raw.bound_s is None or raw.bound_s <= truth.objective_s * (1 + 1e-13)
    assert truth.objective_s == 0 or raw.bound_s >= truth.objective_s * (1 - 1e-9)
    return True


@pytest.mark.parametrize("block", range(COUNT // BLOCK))
def test_agrees_with_enumeration(block):
    supported = 0
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rng = np.random.default_rng(seed)
        supported += check(random_problem(rng, shape="chain" if seed % 2 else None))
    assert supported >= 0.6 * BLOCK
