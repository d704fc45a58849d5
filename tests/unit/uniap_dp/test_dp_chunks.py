"""Ranks that hold several chunks: the optimum on small problems, honest bounds on the way and on large ones."""

import itertools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from uniap_dp.chunks import counts
from uniap_dp.chunks.arrays import pose
from uniap_dp.chunks.relax import Climb
from uniap_dp.chunks.repair import balanced, even, polish, refit
from uniap_dp.chunks.search import can_cut
from uniap_dp.chunks.whole import try_cuts
from uniap_dp.solve import lower_bound, solve

from bench.dp.chunked import chunked
from uniap_core import schedules
from uniap_core.api import SolveRequest, Stop, silent
from uniap_core.problem import read
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import CHUNKED, MEMORIES, SHAPES, SMALL_CHUNKED, random_problem

FOLDER = Path(__file__).parents[2] / "data" / "problems2"
OPTIMA = json.loads((FOLDER / "optima.json").read_text())
KINDS = tuple(itertools.product(MEMORIES, SHAPES, CHUNKED))
BULK = int(os.environ.get("UNIAP_DP_CHUNKS", "300"))
BLOCKS = 6


def agrees(problem, truth_s):
    """Hold the answer and the bound alone against the optimum."""
    raw = solve(problem, SolveRequest(), silent)
    assert lower_bound(problem) <= truth_s
    if truth_s == math.inf:
        assert raw.stop is Stop.INFEASIBLE
        return
    assert raw.stop is Stop.OPTIMAL, raw.raw_status
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert value.objective_s == pytest.approx(truth_s, rel=1e-9, abs=1e-15)
    assert truth_s * (1 - 1e-9) - 1e-15 <= raw.bound_s <= truth_s * (1 + 1e-13)


@pytest.mark.parametrize("name", sorted(OPTIMA))
def test_published_optima_are_met(name):
    agrees(read(FOLDER / f"{name}.json"), math.inf if OPTIMA[name] is None else OPTIMA[name])


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_chunks_agree_with_enumeration(block):
    for seed in range(block, BULK, BLOCKS):
        memory, shape, placement = KINDS[seed % len(KINDS)]
        rng = np.random.default_rng(seed)
        problem = random_problem(rng, SMALL_CHUNKED, memory=memory, shape=shape, placement=placement)
        agrees(problem, optimum(problem).objective_s)


@pytest.mark.parametrize("seed", range(20))
def test_every_step_of_the_dual_is_below_the_optimum(seed):
    memory, shape, placement = KINDS[seed % len(KINDS)]
    rng = np.random.default_rng(1000 + seed)
    problem = random_problem(rng, SMALL_CHUNKED, memory=memory, shape=shape, placement=placement)
    truth_s, posed = optimum(problem).objective_s, pose(problem)
    if (posed.flow.cap < 0).any():
        return
    climb = Climb(posed)
    for _ in range(60):
        assert climb.round().bound <= truth_s


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_polish_keeps_order_and_chunks_and_never_leaves_what_fits(noise):
    problem = chunked(24, 4, 2, 6, noise=noise, tightness=0.5)
    posed = pose(problem)
    climb = Climb(posed)
    for _ in range(40):
        climb.round()
    path = climb.best.path.copy()
    path[:, 0] = balanced(posed, climb.best.dual, even(posed))
    fitted, _ = refit(posed, climb.best.dual, path)
    before, after = (problem.evaluate(posed.assignment(p)) for p in (fitted, polish(posed, fitted, 100_000)))
    assert set(np.diff(polish(posed, fitted, 100_000)[:, 0]).tolist()) <= {0, 1}
    assert after.feasible
    assert not before.feasible or after.objective_s <= before.objective_s


@pytest.mark.parametrize("schedule", ["interleaved"])
def test_a_limit_leaves_a_plan_and_a_bound_below_it(schedule):
    problem = chunked(40, 4, 3, 8, schedule=schedule)
    raw = solve(problem, SolveRequest(time_limit_s=1.0), silent)
    assert raw.assignment is not None
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert 0.5 * value.objective_s < raw.bound_s <= value.objective_s
    again = solve(problem, SolveRequest(cutoff_s=raw.bound_s * 0.9), silent)
    assert (again.stop, again.bound_s, again.assignment) == (Stop.INFEASIBLE, raw.bound_s * 0.9, None)


def test_a_gap_ends_the_search_and_answers_repeat():
    problem = chunked(40, 4, 3, 8)
    answers = [solve(problem, SolveRequest(gap=0.2), silent) for _ in range(2)]
    assert answers[0].assignment == answers[1].assignment
    assert answers[0].bound_s == answers[1].bound_s
    value = problem.evaluate(answers[0].assignment).objective_s
    assert answers[0].stop is Stop.OPTIMAL
    assert answers[0].bound_s >= value * (1 - 0.2)


@pytest.mark.parametrize("schedule", ["interleaved", "zbv"])
@pytest.mark.parametrize("seed", range(12))
def test_counts_of_equal_layers_bound_every_plan_below_a_goal(schedule, seed):
    if schedule not in schedules.names():
        pytest.skip("no such schedule yet")
    rng = np.random.default_rng(seed)
    layers, tightness = int(rng.integers(6, 9)), float(rng.choice([0.0, 0.5, 0.9, 1.0]))
    problem = chunked(layers, 2, 2, 3, micro_batches=8, tightness=tightness, noise=0.0, schedule=schedule)
    truth_s, posed = optimum(problem).objective_s, pose(problem)
    assert counts.equal_run(posed) is not None
    climb = Climb(posed)
    for goal in (truth_s * 0.9, truth_s * 1.001, truth_s * 1.5):
        for room in (4, 1600):
            for dual in (climb.best.dual, climb.round().dual):
                assert counts.bound(posed, dual, goal, room) <= min(goal, truth_s)
    agrees(problem, truth_s)


def test_equal_layers_are_proven_where_the_dual_alone_leaves_a_gap():
    problem = chunked(34, 4, 3, 8, noise=0.0)
    climb = Climb(pose(problem))
    for _ in range(60):
        climb.round()
    raw = solve(problem, SolveRequest(gap=0.005), silent)
    assert raw.stop is Stop.OPTIMAL
    assert climb.best.bound < 0.97 * problem.evaluate(raw.assignment).objective_s


@pytest.mark.parametrize("block", range(3))
def test_cutting_a_chain_in_every_way_finds_the_optimum_and_nothing_below_it(block):
    tried = 0
    for seed in range(block, 120, 3):
        memory, _, placement = KINDS[seed % len(KINDS)]
        rng = np.random.default_rng(2000 + seed)
        problem = random_problem(rng, SMALL_CHUNKED, memory=memory, shape="chain", placement=placement)
        truth_s, posed = optimum(problem).objective_s, pose(problem)
        if (posed.flow.cap < 0).any() or not can_cut(posed):
            continue
        tried += 1
        point = Climb(posed).best
        paths, ended = try_cuts(posed, point, math.inf, 1_000_000, lambda: None)
        assert ended
        values = [problem.evaluate(posed.assignment(path)) for path in paths]
        assert all(value.feasible for value in values)
        assert min((value.objective_s for value in values), default=math.inf) == pytest.approx(truth_s, rel=1e-9)
        if truth_s < math.inf:
            assert try_cuts(posed, point, truth_s * (1 - 1e-9), 1_000_000, lambda: None)[0] == []
    assert tried


def test_perturbed_layers_are_proven_where_the_dual_alone_leaves_a_gap():
    problem = chunked(20, 4, 2, 8)
    raw = solve(problem, SolveRequest(), silent)
    climb = Climb(pose(problem))
    for _ in range(60):
        climb.round()
    assert raw.stop is Stop.OPTIMAL
    assert climb.best.bound < 0.97 * problem.evaluate(raw.assignment).objective_s
