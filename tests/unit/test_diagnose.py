"""Shortages: exact on chains, never claimed where a plan exists."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings

from tests import synthetic
from uniap_core.diagnose import remedies, shortage
from uniap_core.posing import pose
from uniap_core.problem import Problem
from uniap_core.tables import EdgeTable, LayerTable, Rank
from uniap_core.testing import optimum, problems
from uniap_core.testing.problems import Limits, random_problem


@settings(max_examples=40)
@given(problems())
def test_a_certain_shortage_means_that_nothing_fits(problem):
    short = shortage(problem)
    if short is not None and short.certain:
        assert optimum(problem).assignment is None
        assert short.factor > 1
        assert "needs at least" in short.sentence()


@pytest.mark.parametrize("nothing", [0, 1, 2])
def test_a_stage_without_room_for_its_reserve_is_the_one_at_fault(nothing):
    problem = random_problem(
        np.random.default_rng(1), Limits(layers=(4, 4), stages=(3, 3)), shape="chain", memory="ample"
    )
    stages = list(problem.ranks)
    stages[nothing] = Rank(0.0, 2.0**30, stages[nothing].in_flight)
    short = shortage(Problem.plain("no room", problem.micro_batches, tuple(stages), problem.layers, problem.edges))
    assert short.stage == nothing
    assert short.certain
    assert short.factor == math.inf
    assert short.needed_bytes >= 2.0**30


def test_a_layer_that_is_possible_nowhere_is_the_one_at_fault():
    problem = random_problem(
        np.random.default_rng(1), Limits(layers=(4, 4), stages=(3, 3)), shape="chain", memory="ample"
    )
    layers = list(problem.layers)
    never = np.full_like(layers[2].time_s, math.inf)
    layers[2] = LayerTable("never", layers[2].strategies, never, layers[2].state_bytes, layers[2].stash_bytes)
    short = shortage(Problem.plain("never", problem.micro_batches, problem.ranks, tuple(layers), problem.edges))
    assert short.needed_bytes == math.inf
    assert short.certain


@pytest.mark.parametrize("share", [5e-324, 1e-300, 1e-9, 1e-3])
def test_devices_of_any_memory_are_refused_with_what_is_missing(share):
    tables = synthetic.subject().tables
    ranks = tuple(dataclasses.replace(r, memory_bytes=r.memory_bytes * share) for r in tables.ranks)
    tables = dataclasses.replace(tables, ranks=ranks)
    found = remedies(tables, shortage(pose(tables)))
    assert found
    # No remedy asks for more devices than a cluster may have.
    assert any("times the devices" in words for words in found) == (share > 1e-6)


@settings(max_examples=40)
@given(problems(shapes=("chain",), memories=("tight", "none", "exact")))
def test_on_a_chain_the_needed_memory_is_enough_when_every_strategy_is_possible(problem):
    layers = tuple(dataclasses.replace(t, time_s=np.ones_like(t.time_s)) for t in problem.layers)
    posed = dataclasses.replace(problem, layers=layers)
    short = shortage(posed)
    if short is None or math.isinf(short.factor) or len(layers) < posed.depth:
        return
    stages = tuple(dataclasses.replace(s, memory_bytes=s.memory_bytes * short.factor) for s in posed.ranks)
    assert optimum(posed).assignment is None
    assert optimum(dataclasses.replace(posed, ranks=stages)).assignment is not None


def test_a_layer_that_is_impossible_on_one_stage_does_not_spoil_the_others():
    """Found by random problems: prefix sums over an infinite need were not numbers."""
    zero = np.zeros(1)
    first = LayerTable("a", ("s",), np.array([[0.0], [np.inf]]), zero, zero)
    second = LayerTable("b", ("s",), np.zeros((2, 1)), zero, zero)
    edge = EdgeTable(0, 1, "a.out", np.zeros((1, 1)), np.zeros((1, 1)))
    assert shortage(Problem.plain("p", 1, (Rank.of(0.0, 0.0, 1),) * 2, (first, second), (edge,))) is None
