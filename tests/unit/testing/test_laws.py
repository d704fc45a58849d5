"""The laws are held against the oracle, and each of them catches a solver that breaks it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniap_core.problem import Problem
from uniap_core.testing.laws import LAWS
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import Limits, problems, random_problem

SMALL = Limits(layers=(1, 5), strategies=(1, 3))
CHUNKED = Limits(layers=(4, 5), stages=(1, 3), ranks=(2, 2), chunks=(2, 2), strategies=(1, 2))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@given(problem=problems(SMALL), seed=st.integers(0, 99))
def test_the_oracle_obeys(law, problem, seed):
    if law.applies(problem):
        changed = law.change(problem, np.random.default_rng(seed))
        assert law.holds(optimum(problem).objective_s, optimum(changed).objective_s)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@settings(max_examples=25)
@given(problem=problems(CHUNKED, placements=("weighted", "loop", "vee")), seed=st.integers(0, 99))
def test_the_oracle_obeys_whatever_the_pipeline(law, problem, seed):
    if law.applies(problem):
        changed = law.change(problem, np.random.default_rng(seed))
        assert law.holds(optimum(problem).objective_s, optimum(changed).objective_s)


def _wrong_solvers():
    """Solvers wrong in one respect, with the law that tells."""

    def without_last_layer_first(problem):  # a bias for the order of listing
        first = problem.layers[0]
        return optimum(replace(problem, layers=(replace(first, time_s=first.time_s * 0.5), *problem.layers[1:])))

    def no_reshard(problem):
        layers = [replace(x, time_s=x.time_s * np.linspace(1, 0.5, x.time_s.shape[1])) for x in problem.layers]
        return optimum(replace(problem, layers=tuple(layers)))

    def rounds_times(problem):
        return optimum(replace(problem, layers=tuple(replace(x, time_s=x.time_s + 0.3) for x in problem.layers)))

    def fixed_bytes(problem):
        stages = tuple(replace(s, reserved_bytes=s.reserved_bytes + 30) for s in problem.ranks)
        return optimum(replace(problem, ranks=stages))

    def likes_little_memory(problem):
        factor = 1 + sum(s.memory_bytes for s in problem.ranks)
        return optimum(replace(problem, layers=tuple(replace(x, time_s=x.time_s * factor) for x in problem.layers)))

    def divides_by_c(problem):
        return optimum(
            replace(problem, layers=tuple(replace(x, time_s=x.time_s / problem.micro_batches) for x in problem.layers))
        )

    def takes_the_last(problem):
        layers = [replace(x, time_s=x.time_s[:, -1:].repeat(x.time_s.shape[1], 1)) for x in problem.layers]
        return optimum(replace(problem, layers=tuple(layers)))

    def first_stage_free(problem: Problem):
        layers = []
        for x in problem.layers:
            times = x.time_s.copy()
            times[0] *= 0.5
            layers.append(replace(x, time_s=times))
        return optimum(replace(problem, layers=tuple(layers)))

    return {
        "relabelling layers changes nothing": without_last_layer_first,
        "relabelling strategies changes nothing": no_reshard,
        "scaling times scales the optimum": rounds_times,
        "scaling bytes changes nothing": fixed_bytes,
        "more memory is never worse": likes_little_memory,
        "more micro-batches are never faster": divides_by_c,
        "a dominated strategy changes nothing": takes_the_last,
        "reversing the flow changes nothing": first_stage_free,
    }


def test_every_law_has_a_solver_that_breaks_it():
    assert set(_wrong_solvers()) == {law.name for law in LAWS}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_wrong_solver_is_caught(law):
    wrong = _wrong_solvers()[law.name]
    rng = np.random.default_rng(0)
    caught = 0
    for _ in range(60):
        problem = random_problem(rng, SMALL)
        if law.applies(problem):
            changed = law.change(problem, rng)
            caught += not law.holds(wrong(problem).objective_s, wrong(changed).objective_s)
    assert caught


def test_infeasible_and_feasible_are_not_close():
    law = LAWS[0]
    assert law.holds(math.inf, math.inf)
    assert not law.holds(math.inf, 1.0)
    assert not law.holds(1.0, math.inf)
    assert LAWS[4].holds(math.inf, 1.0)
