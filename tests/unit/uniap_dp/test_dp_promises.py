"""What the solver promises besides the optimum: honest stops, bounds and incumbents under every kind of limit."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from uniap_dp.solve import lower_bound, solve

from uniap_core.api import (
    Assignment,
    BadValue,
    EdgeTable,
    LayerTable,
    Problem,
    Rank,
    SolveRequest,
    Stop,
    silent,
)
from uniap_core.testing.problems import hard_problem


def chain(layers=24, stages=3, strategies=6, seed=0, memory=1.0, micro_batches=8, links=None):
    """A chain (or other links) whose strategies trade time for memory; memory 0 is too little, 1 is tight."""
    rng = np.random.default_rng(seed)
    names = tuple(f"s{k}" for k in range(strategies))
    speed = np.linspace(1, 2, strategies)
    tables = []
    for u in range(layers):
        time = speed * rng.uniform(0.8, 1.2, strategies)
        need = np.rint(1e6 * rng.uniform(0.8, 1.2, strategies) / speed**1.5)
        tables.append(LayerTable(f"layer{u}", names, np.tile(time, (stages, 1)), need, need / 8))
    level = np.arange(strategies) // 2
    table = 0.05 * np.abs(level[:, None] - level[None, :])
    links = links or [(u, u + 1) for u in range(layers - 1)]
    edges = tuple(EdgeTable(u, v, f"t{u}", table, table + 0.01) for u, v in links)
    least = sum(float(t.state_bytes.min() + 2 * t.stash_bytes.min()) for t in tables) / stages
    limit = least * (0.5 if memory == 0 else 1.4 * memory)
    return Problem.plain("chain", micro_batches, (Rank.of(limit, 0.0, 2),) * stages, tuple(tables), edges)


@pytest.fixture(scope="module")
def problem():
    return chain()


@pytest.fixture(scope="module")
def proven(problem):
    raw = solve(problem, SolveRequest(), silent)
    assert raw.stop is Stop.OPTIMAL
    return raw, problem.evaluate(raw.assignment).objective_s


def test_events_tell_ever_better_incumbents_and_bounds(problem, proven):
    events = []
    solve(problem, SolveRequest(), events.append)
    objectives = [e.objective_s for e in events if e.objective_s is not None]
    bounds = [e.bound_s for e in events if e.bound_s is not None]
    assert all(a >= b for a, b in pairwise(objectives))
    assert all(a <= b for a, b in pairwise(bounds))
    assert objectives[-1] == proven[1]
    assert bounds[-1] <= proven[1]


def test_a_time_limit_leaves_a_bound_and_says_so(problem, proven):
    raw = solve(problem, SolveRequest(time_limit_s=0.0), silent)
    assert raw.stop is Stop.TIME_LIMIT
    assert 0 <= raw.bound_s <= proven[1]


def test_a_label_budget_leaves_an_incumbent_and_an_honest_gap():
    large = chain(layers=40, stages=1, strategies=12, memory=0.9)
    best = large.evaluate(solve(large, SolveRequest(), silent).assignment).objective_s
    raw = solve(large, SolveRequest(options={"max_labels": 50}), silent)
    assert raw.stop is Stop.MEMORY_LIMIT
    value = large.evaluate(raw.assignment)
    assert value.feasible
    assert raw.bound_s <= best <= value.objective_s


def test_an_interrupt_keeps_the_incumbent(problem, proven):
    def interrupt(event):
        if event.objective_s is not None:
            raise KeyboardInterrupt

    raw = solve(problem, SolveRequest(), interrupt)
    assert raw.stop is Stop.INTERRUPTED
    assert problem.evaluate(raw.assignment).feasible
    assert raw.bound_s <= proven[1]


def test_a_cutoff_at_the_optimum_proves_that_nothing_is_below(problem, proven):
    raw = solve(problem, SolveRequest(cutoff_s=proven[1]), silent)
    assert raw.stop is Stop.INFEASIBLE
    assert raw.bound_s == proven[1]


def test_a_cutoff_just_above_the_optimum_finds_it(problem, proven):
    raw = solve(problem, SolveRequest(cutoff_s=proven[1] * (1 + 1e-6)), silent)
    assert raw.stop is Stop.OPTIMAL
    assert problem.evaluate(raw.assignment).objective_s == pytest.approx(proven[1], rel=1e-12)


def test_nothing_is_below_a_cutoff_of_zero(problem):
    assert solve(problem, SolveRequest(cutoff_s=0.0), silent).stop is Stop.INFEASIBLE


def test_a_memory_limit_is_a_label_budget():
    large = chain(layers=40, stages=1, strategies=12, memory=0.9)
    assert solve(large, SolveRequest(memory_limit_bytes=10_000), silent).stop is Stop.MEMORY_LIMIT


WAYS = {"chain": {}, "lattice": {"max_steps": 0}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gap", [0.0, 0.05, 0.5, 0.999, 1.0])
def test_any_gap_is_met_and_not_exceeded(problem, proven, gap, way):
    raw = solve(problem, SolveRequest(gap=gap, options=WAYS[way]), silent)
    assert raw.stop is Stop.OPTIMAL
    value = problem.evaluate(raw.assignment)
    assert value.feasible
    assert raw.bound_s <= proven[1] <= value.objective_s
    assert (value.objective_s - raw.bound_s) / value.objective_s <= max(gap, 1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0])
def test_a_gap_hides_no_plan_below_a_cutoff(problem, proven, gap, way):
    """What is called infeasible below a cutoff has no plan there, however wide the gap."""
    cutoff_s = proven[1] * 1.01
    raw = solve(problem, SolveRequest(gap=gap, cutoff_s=cutoff_s, options=WAYS[way]), silent)
    assert raw.stop is Stop.OPTIMAL
    assert problem.evaluate(raw.assignment).objective_s < cutoff_s


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0])
def test_a_gap_is_met_depth_first(gap):
    small = chain(layers=5, stages=2, strategies=3, links=[(0, 1), (0, 2), (1, 3), (2, 3), (2, 4)])
    raw = solve(small, SolveRequest(gap=gap, options={"max_steps": 0}), silent)
    assert raw.stop is Stop.OPTIMAL
    value = small.evaluate(raw.assignment)
    assert value.feasible
    assert (value.objective_s - raw.bound_s) / value.objective_s <= max(gap, 1e-9)


def test_a_warm_start_is_the_first_incumbent(problem, proven):
    events = []
    solve(problem, SolveRequest(warm_start=proven[0].assignment), events.append)
    assert events[0].objective_s == proven[1]


def test_an_infeasible_warm_start_is_ignored(problem, proven):
    start = Assignment((0,) * 24, (0,) * 24)
    raw = solve(problem, SolveRequest(warm_start=start), silent)
    assert problem.evaluate(raw.assignment).objective_s == proven[1]


def test_too_little_memory_is_proven_by_the_bound_alone():
    short = chain(memory=0)
    assert lower_bound(short) == np.inf
    raw = solve(short, SolveRequest(), silent)
    assert raw.stop is Stop.INFEASIBLE
    assert raw.bound_s is None


def test_more_stages_than_layers_is_infeasible():
    assert solve(chain(layers=2, stages=3), SolveRequest(), silent).stop is Stop.INFEASIBLE


def test_a_lattice_over_its_budget_is_unsupported_with_the_count():
    raw = solve(hard_problem(), SolveRequest(), silent)
    assert raw.stop is Stop.UNSUPPORTED
    assert "budget" in raw.raw_status or "more than" in raw.raw_status


def test_an_unknown_option_is_a_users_mistake(problem):
    with pytest.raises(BadValue, match="option"):
        solve(problem, SolveRequest(options={"labels": 3}), silent)


def test_the_descriptor_imports_no_compiler():
    code = "import sys, uniap_dp; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bigger_steps_of_the_same_answer():
    """Scaling all times scales the optimum; scaling all bytes changes nothing."""
    one = chain(layers=12)
    layers = tuple(
        LayerTable(t.name, t.strategies, t.time_s * 1024, t.state_bytes * 3, t.stash_bytes * 3) for t in one.layers
    )
    edges = tuple(EdgeTable(e.source, e.target, e.tensor, e.reshard_s * 1024, e.cross_s * 1024) for e in one.edges)
    stages = tuple(Rank(s.memory_bytes * 3, s.reserved_bytes * 3, s.in_flight) for s in one.ranks)
    other = Problem.plain("scaled", one.micro_batches, stages, layers, edges)
    a = one.evaluate(solve(one, SolveRequest(), silent).assignment).objective_s
    b = other.evaluate(solve(other, SolveRequest(), silent).assignment).objective_s
    assert b == pytest.approx(1024 * a, rel=1e-12)
