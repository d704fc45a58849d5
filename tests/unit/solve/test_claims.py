"""What is made of a claim: proofs stay proofs, trouble is named, lies are refused."""

import math

import numpy as np
import pytest

from uniap_core import errors
from uniap_core.problem import Assignment, Problem
from uniap_core.solve.claims import Claim, judge
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.tables import LayerTable, Rank

GOOD, BAD = Assignment((0,), (0,)), Assignment((0,), (1,))
BEST_S, WORST_S = 2.0, 3.0


@pytest.fixture
def problem():
    layer = LayerTable("u", ("a", "b"), np.array([[BEST_S, WORST_S]]), np.zeros(2), np.zeros(2))
    return Problem.plain("two strategies", 1, (Rank.of(1.0, 0.0, 1),), (layer,), ())


def claim(**said):
    said = {"stop": Stop.OPTIMAL, "assignment": GOOD, "objective_s": None, "bound_s": BEST_S, **said}
    return Claim(**{"solver": "s", "exact": True, "rounded": True, **said})


def test_a_proof_is_a_proof(problem):
    verdict = judge(problem, SolveRequest(), claim(), None)
    assert (verdict.stop, verdict.objective_s, verdict.bound_s) == (Stop.OPTIMAL, BEST_S, BEST_S)


def test_the_best_reported_assignment_wins(problem):
    verdict = judge(problem, SolveRequest(), claim(stop=Stop.TIME_LIMIT, assignment=BAD, bound_s=1.0), GOOD)
    assert (verdict.assignment, verdict.objective_s, verdict.bound_s) == (GOOD, BEST_S, 1.0)


@pytest.mark.parametrize(("off", "stop"), [(1e-8, Stop.OPTIMAL), (1e-5, Stop.NUMERIC)])
def test_small_deviations_of_floating_point(problem, off, stop):
    verdict = judge(problem, SolveRequest(), claim(bound_s=BEST_S * (1 - off)), None)
    assert verdict.stop is stop
    assert verdict.bound_s < BEST_S


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"bound_s": BEST_S * 0.99}, errors.UnprovenOptimum),
        ({"bound_s": BEST_S * 0.99, "rounded": False}, errors.UnprovenOptimum),
        ({"bound_s": BEST_S * (1 - 1e-5), "rounded": False}, errors.UnprovenOptimum),
        ({"bound_s": None}, errors.UnprovenOptimum),
        ({"assignment": None}, errors.UnprovenOptimum),
        ({"exact": False}, errors.UnprovenOptimum),
        ({"bound_s": 2.1}, errors.WrongBound),
        ({"bound_s": math.nan}, errors.WrongBound),
        ({"objective_s": 1.9}, errors.WrongObjective),
        ({"objective_s": 2.1, "rounded": False}, errors.WrongObjective),
    ],
)
def test_lies(problem, said, error):
    with pytest.raises(error) as caught:
        judge(problem, SolveRequest(), claim(**said), None)
    assert type(caught.value) is error


def test_a_bound_slightly_above_the_objective_is_no_bound(problem):
    verdict = judge(problem, SolveRequest(), claim(bound_s=BEST_S * (1 + 1e-4)), None)
    assert (verdict.stop, verdict.objective_s, verdict.bound_s) == (Stop.NUMERIC, BEST_S, None)
    assert "above the objective" in verdict.note


def test_a_requested_gap_is_enough(problem):
    verdict = judge(problem, SolveRequest(gap=0.1), claim(bound_s=1.85), None)
    assert (verdict.stop, verdict.bound_s) == (Stop.OPTIMAL, 1.85)


def test_slack_epigraph_columns_are_no_lie(problem):
    assert judge(problem, SolveRequest(), claim(objective_s=2.5), None).objective_s == BEST_S


def test_a_cutoff_turns_what_is_not_below_it_into_its_proof(problem):
    request = SolveRequest(cutoff_s=BEST_S)
    verdict = judge(problem, request, claim(), None)
    assert (verdict.stop, verdict.assignment, verdict.bound_s) == (Stop.INFEASIBLE, None, BEST_S)
    open_ = judge(problem, request, claim(stop=Stop.TIME_LIMIT, bound_s=1.5), None)
    assert (open_.stop, open_.assignment, open_.bound_s) == (Stop.TIME_LIMIT, None, 1.5)


def test_infeasible_is_held_against_what_is_known(problem):
    nothing = claim(stop=Stop.INFEASIBLE, assignment=None, bound_s=None)
    assert judge(problem, SolveRequest(), nothing, None).bound_s is None
    assert judge(problem, SolveRequest(cutoff_s=1.0), nothing, None).bound_s == 1.0
    for request, best in (
        (SolveRequest(), GOOD),
        (SolveRequest(warm_start=GOOD), None),
        (SolveRequest(cutoff_s=2.5), GOOD),
    ):
        with pytest.raises(errors.FalseInfeasible):
            judge(problem, request, nothing, best)
    assert judge(problem, SolveRequest(cutoff_s=BEST_S, warm_start=GOOD), nothing, None).stop is Stop.INFEASIBLE
