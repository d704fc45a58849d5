"""The oracle against the one interpreter, assignment by assignment; and the generators against their promises."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core.errors import BadValue
from uniap_core.problem import Assignment, from_file, to_file
from uniap_core.testing.oracle import optimum, placements
from uniap_core.testing.problems import MEMORIES, SHAPES, Limits, hard_problem, problems, random_problem

TINY = Limits(layers=(1, 4), stages=(1, 3), strategies=(1, 3), micro_batches=(1, 4))


def every_assignment(problem):
    stages = itertools.product(range(problem.depth), repeat=len(problem.layers))
    strategies = list(itertools.product(*(range(len(layer.strategies)) for layer in problem.layers)))
    return (Assignment(i, k) for i in stages for k in strategies)


def brute_force(problem):
    values = [problem.evaluate(assignment) for assignment in every_assignment(problem)]
    return min((value.objective_s for value in values if value.feasible), default=math.inf)


@given(problems(Limits(layers=(1, 4), stages=(1, 3), strategies=(1, 2), micro_batches=(1, 4))))
def test_oracle_equals_evaluating_every_assignment(problem):
    found = optimum(problem)
    assert found.objective_s == pytest.approx(brute_force(problem), rel=1e-12)
    if found.feasible:
        assert problem.evaluate(found.assignment).feasible


@given(problems(TINY))
def test_placements_are_those_without_a_violation_of_order_or_an_empty_stage(problem):
    first = tuple(0 for _ in problem.layers)
    allowed = {
        stage
        for stage in itertools.product(range(problem.depth), repeat=len(problem.layers))
        if not any(
            v.startswith("order") or "has no layer" in v for v in problem.evaluate(Assignment(stage, first)).violations
        )
    }
    listed = list(placements(problem))
    assert len(listed) == len(set(listed))
    assert set(listed) == allowed


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory", MEMORIES)
def test_a_seed_gives_the_same_problem_and_a_witness_keeps_its_promise(shape, memory):
    for seed in range(25):
        problem = random_problem(np.random.default_rng(seed), shape=shape, memory=memory)
        again = random_problem(np.random.default_rng(seed), shape=shape, memory=memory)
        assert problem.hash == again.hash
        assert from_file(to_file(problem)).hash == problem.hash
        if memory in ("ample", "tight", "exact"):
            assert optimum(problem).feasible
        if memory == "none":
            assert not optimum(problem).feasible


def test_bulk_generation_reaches_what_it_promises():
    rng = np.random.default_rng(0)
    drawn = [random_problem(rng) for _ in range(300)]
    assert {len(p.layers) for p in drawn} == set(range(1, 7))
    assert {p.depth for p in drawn} == set(range(1, 5))
    assert any(p.micro_batches == 1 for p in drawn)
    assert any(len({len(layer.strategies) for layer in p.layers}) > 1 for p in drawn), "ragged"
    assert any(np.isinf(layer.time_s).any() for p in drawn for layer in p.layers), "impossible strategies"
    assert any(len(edges) > 1 for p in drawn for edges in p.tensors.values()), "shared tensors"
    assert any(p.order != tuple(range(len(p.layers))) for p in drawn), "layers not listed in order"
    infeasible = sum(not optimum(p).feasible for p in drawn)
    assert 30 < infeasible < 150


def test_memory_exactly_at_the_limit_binds():
    rng = np.random.default_rng(1)
    at_limit = 0
    for _ in range(40):
        problem = random_problem(rng, memory="exact")
        used = problem.evaluate(optimum(problem).assignment).memory_bytes
        at_limit += any(u == s.memory_bytes for u, s in zip(used, problem.ranks, strict=True))
    assert at_limit >= 20


def test_oracle_refuses_what_it_cannot_enumerate():
    with pytest.raises(BadValue, match="combinations"):
        optimum(hard_problem(layers=20))


@given(st.data())
def test_hypothesis_and_numpy_build_alike(data):
    shape, memory = data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(MEMORIES))
    problem = data.draw(problems(TINY, (shape,), (memory,)))
    assert problem.name == f"{shape}-{memory}"
    if shape == "chain":
        assert len(problem.edges) == len(problem.layers) - 1


@given(problems(Limits(layers=(1, 3), stages=(1, 2), strategies=(1, 2), micro_batches=(1, 2))))
def test_every_assignment_has_an_objective(problem):
    for assignment in every_assignment(problem):
        value = problem.evaluate(assignment)
        assert not math.isnan(value.objective_s)
        assert math.isinf(value.objective_s) == any("not possible" in v for v in value.violations)
