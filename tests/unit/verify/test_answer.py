"""Verdicts on bare answers, and cross-checks: what broken solvers say does not pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings

from uniap_core.problem import Assignment
from uniap_core.tables import EdgeTable
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import SMALL, problems, random_problem
from uniap_core.verify import cross_check, verify_result
from uniap_core.verify.exhaust import TooLarge, exhaust


@dataclass(frozen=True)
class Answer:
    problem: str
    stop: str
    objective_s: float | None = None
    bound_s: float | None = None
    gap: float | None = None
    assignment: Assignment | None = None


def honest(posed):
    best = optimum(posed)
    if not best.feasible:
        return Answer(posed.hash, "infeasible")
    return Answer(posed.hash, "optimal", best.objective_s, best.objective_s, 0.0, best.assignment)


def failed(posed, answer):
    return {check.name for check in verify_result(posed, answer).failed}


@pytest.fixture
def posed():
    rng = np.random.default_rng(7)
    while True:
        posed = random_problem(rng, replace(SMALL, stages=(2, 3), layers=(3, 4)), shape="chain", memory="tight")
        if optimum(posed).feasible and posed.micro_batches > 1 and optimum(posed).objective_s > 0:
            return posed


@settings(max_examples=60, deadline=None)
@given(problems())
def test_honest_answers_pass(posed):
    assert failed(posed, honest(posed)) == set()


def test_lies_fail_for_the_right_reason(posed):
    answer = honest(posed)
    lies = {
        "objective": [
            replace(answer, objective_s=answer.objective_s * 0.99),
            replace(answer, bound_s=answer.bound_s * 0.9),  # an optimum with a gap
            replace(answer, bound_s=None, gap=None),
            replace(answer, gap=0.5),
            replace(answer, stop="infeasible"),
        ],
        "bound": [replace(answer, bound_s=answer.bound_s * 1.01), replace(answer, bound_s=math.nan)],
        "current": [replace(answer, problem="sha256:0")],
        "claim": [replace(answer, assignment=None)],
        "layers": [replace(answer, assignment=Assignment(answer.assignment.stage[:-1], answer.assignment.strategy))],
        "strategies": [replace(answer, assignment=replaced(answer.assignment, strategy=99))],
    }
    for name, answers in lies.items():
        for lie in answers:
            assert name in failed(posed, lie), (name, lie)


def test_layers_out_of_order_fail():
    alike = random_problem(np.random.default_rng(3), replace(SMALL, stages=(3, 3), layers=(4, 4)), memory="ample")
    times = [replace(layer, time_s=np.ones_like(layer.time_s)) for layer in alike.layers]
    edges = tuple(EdgeTable(u, u + 1, f"t{u}", *_zeros(times[u], times[u + 1])) for u in range(3))
    posed = replace(alike, layers=tuple(times), edges=edges)
    said = Answer(posed.hash, "time_limit", assignment=Assignment((0, 2, 1, 2), (0, 0, 0, 0)))
    assert {"order", "contiguity", "quotient", "objective"} == failed(posed, said)


def _zeros(u, v):
    return [np.zeros((len(u.strategies), len(v.strategies)))] * 2


def replaced(assignment, strategy):
    return Assignment(assignment.stage, (strategy, *assignment.strategy[1:]))


def test_memory_over_the_limit_fails(posed):
    tight = replace(posed, ranks=tuple(replace(s, memory_bytes=s.memory_bytes / 100) for s in posed.ranks))
    assert "memory" in failed(tight, replace(honest(posed), problem=tight.hash))


# --- exhaustion -------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(problems())
def test_exhaustion_equals_enumeration(posed):
    best = optimum(posed)
    found, _ = exhaust(posed, math.inf, budget=2_000_000)
    if not best.feasible:
        assert found is None
        return
    assert posed.evaluate(found).feasible
    assert posed.evaluate(found).objective_s == pytest.approx(best.objective_s, rel=1e-9)
    assert exhaust(posed, best.objective_s * (1 - 1e-9), budget=2_000_000)[0] is None


def test_exhaustion_gives_up(posed):
    with pytest.raises(TooLarge):
        exhaust(posed, math.inf, budget=3)


# --- cross-check ------------------------------------------------------------------------------------------------


def test_cross_check_of_an_optimum(posed):
    best = honest(posed)

    def none_below(problem, cutoff):
        assert cutoff < best.objective_s
        return Answer(problem.hash, "infeasible", bound_s=cutoff)

    checks = cross_check(posed, best.objective_s, none_below, solver="second")
    assert [(check.name, check.passed) for check in checks] == [("cross-check", True), ("exhaustion", True)]


def test_cross_check_finds_what_is_better(posed):
    best = honest(posed)
    worse = best.objective_s * 1.1
    checks = cross_check(posed, worse, lambda problem, cutoff: best, solver="second")
    assert [check.passed for check in checks] == [False, False]
    assert "second found" in checks[0].evidence


def test_a_second_solver_that_lies_is_not_believed(posed):
    best = honest(posed)
    lie = replace(best, assignment=Assignment(best.assignment.stage[::-1], best.assignment.strategy), objective_s=0.0)
    (check, exhausted) = cross_check(posed, best.objective_s, lambda problem, cutoff: lie, solver="liar")
    assert not check.passed
    assert "does not verify" in check.evidence
    assert exhausted.passed


def test_an_undecided_cross_check_is_no_pass(posed):
    undecided = Answer(posed.hash, "time_limit", bound_s=0.0)
    checks = cross_check(posed, honest(posed).objective_s, lambda p, c: undecided, solver="slow", budget=3)
    assert [(check.name, check.passed) for check in checks] == [("cross-check", False)]
    assert "more time" in checks[0].fix


def test_a_claim_of_infeasibility_is_tested(posed):
    best = honest(posed)
    checks = cross_check(posed, math.inf, lambda problem, cutoff: best, solver="second")
    assert [check.passed for check in checks] == [False, False]
