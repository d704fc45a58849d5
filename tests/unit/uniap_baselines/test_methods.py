"""Each rival finds the best of what it looks at: held against enumeration of exactly that."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_baselines import ALPA, BASELINES, GALVATRON, INTER_ONLY, INTRA_ONLY, UNIFORM, cuts
from uniap_baselines.clock import Clock
from uniap_baselines.line import Line

from uniap_core.posing import pose
from uniap_core.problem import Problem
from uniap_core.solve.driver import solve
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.tables import Rank, Weights
from uniap_core.testing import Limits, optimum, problems

CHAINS = problems(Limits(layers=(1, 6), stages=(1, 3)), shapes=("chain",), memories=("ample", "tight"))
ANY = problems()


def value(problem, plugin, **request):
    """What a baseline finds, ``inf`` if nothing."""
    result = solve(problem, plugin, SolveRequest(**request))
    return math.inf if result.objective_s is None else result.objective_s


def price(problem, ends, choice):
    """An assignment's objective, ``inf`` if it violates anything."""
    found = problem.evaluate(Line(problem).assignment(ends, choice))
    return found.objective_s if found.feasible else math.inf


def all_ends(problem):
    """Every way to cut the row of layers."""
    n = len(problem.layers)
    return [(*inner, n) for inner in combinations(range(1, n), problem.depth - 1)]


def common(problem):
    """Strategies that all layers have, as choices by position."""
    layers = Line(problem).layers
    names = [name for name in layers[0].strategies if all(name in layer.strategies for layer in layers)]
    return [[layer.strategies.index(name) for layer in layers] for name in names]


def unpriced(problem):
    """The problem with free transfers between stages."""
    edges = tuple(replace(edge, cross_s=np.zeros_like(edge.cross_s)) for edge in problem.edges)
    return Problem.plain(problem.name, problem.micro_batches, problem.ranks, problem.layers, edges)


def ample(problem):
    """The problem with memory that binds nothing."""
    stages = tuple(Rank(1e30, s.reserved_bytes, s.in_flight) for s in problem.ranks)
    return Problem.plain(problem.name, problem.micro_batches, stages, problem.layers, problem.edges)


@given(ANY)
@settings(max_examples=40)
def test_uniform_is_the_best_of_its_grid(problem):
    ends = cuts.even(Line(problem))
    expected = min((price(problem, ends, choice) for choice in common(problem)), default=math.inf) if ends else math.inf
    assert value(problem, UNIFORM) == pytest.approx(expected)


@given(ANY)
@settings(max_examples=40)
def test_inter_only_has_the_best_cuts(problem):
    choice = [0] * len(problem.layers)
    expected = min((price(problem, ends, choice) for ends in all_ends(problem)), default=math.inf)
    assert value(problem, INTER_ONLY) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(CHAINS)
@settings(max_examples=40)
def test_alpa_is_optimal_where_memory_and_transfers_are_free(problem):
    free = ample(unpriced(problem))
    assert value(free, ALPA) == pytest.approx(optimum(free).objective_s, rel=1e-9, abs=1e-15)


@given(CHAINS)
@settings(max_examples=40)
def test_galvatron_is_optimal_on_one_stage_where_memory_is_free(problem):
    free = ample(problem)
    if problem.depth == 1:
        expected = optimum(free).objective_s
        assert value(free, GALVATRON) == pytest.approx(expected, rel=1e-9, abs=1e-15)
        assert value(free, INTRA_ONLY) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    else:
        assert value(free, GALVATRON) >= optimum(free).objective_s * (1 - 1e-9)
        assert math.isinf(value(free, INTRA_ONLY))


@given(problems(Limits(stages=(1, 1)), shapes=("chain",), memories=("tight",)))
@settings(max_examples=40)
def test_the_memory_grid_rounds_up(problem):
    """What it finds fits, and what it misses is within the grid's rounding."""
    found = value(problem, INTRA_ONLY)
    best = optimum(problem).objective_s
    assert found >= best * (1 - 1e-9)
    slack = len(problem.layers) / 2048
    stage = problem.ranks[0]
    tighter = Rank(stage.reserved_bytes + stage.budget_bytes * (1 - slack), stage.reserved_bytes, stage.in_flight)
    less = Problem.plain(problem.name, problem.micro_batches, (tighter,), problem.layers, problem.edges)
    assert found <= optimum(less).objective_s * (1 + 1e-9)


@given(st.data())
@settings(max_examples=60)
def test_best_cuts_equal_enumeration(data):
    n = data.draw(st.integers(1, 7))
    depth = data.draw(st.integers(1, n))
    weights = Weights(*(data.draw(st.integers(0, 9)) / 3 for _ in range(3)))
    numbers = st.integers(0, 20)
    cross = np.array(data.draw(st.lists(numbers, min_size=n + 1, max_size=n + 1)), dtype=float)
    runs = []
    for _ in range(depth):
        own = data.draw(st.lists(numbers, min_size=n, max_size=n))
        table = np.array([[sum(own[a:b]) if a < b else 0.0 for b in range(n + 1)] for a in range(n + 1)], dtype=float)
        longest = data.draw(st.integers(1, n))
        table[np.subtract.outer(range(n + 1), range(n + 1)) < -longest] = math.inf
        runs.append(table)
    expected = math.inf
    for inner in combinations(range(1, n), depth - 1):
        ends = (*inner, n)
        terms = [float(run[a, b]) for run, a, b in zip(runs, (0, *inner), ends, strict=True)]
        moved = [float(cross[a]) for a in inner]
        if all(map(math.isfinite, terms)):
            value = weights.sum * sum(terms) + weights.cross * sum(moved) + weights.peak * max(*terms, *moved, 0.0)
            expected = min(expected, value)
    found = cuts.best(runs, cross, weights, Clock(SolveRequest()))
    assert (found[0] if found else math.inf) == pytest.approx(expected)


@given(ANY)
@settings(max_examples=40)
def test_fixed_cuts_leave_no_stage_empty(problem):
    line = Line(problem)
    for ends in (cuts.even(line), cuts.balanced(line)):
        if ends is None:
            assert len(line) < problem.depth
        else:
            assert len(ends) == problem.depth
            assert all(a < b for a, b in zip((0, *ends), ends, strict=False))
            assert ends[-1] == len(line)


@pytest.mark.parametrize("plugin", BASELINES, ids=lambda plugin: plugin.name)
@given(problem=problems(Limits(layers=(1, 5)), memories=("ample",)))
@settings(max_examples=10)
def test_a_baseline_proves_nothing(plugin, problem):
    result = solve(problem, plugin)
    assert result.stop is Stop.NODE_LIMIT
    assert result.bound_s is None
    assert "heuristic" in result.raw_status or "one stage" in result.raw_status


def test_even_stages_count_repeated_layers():
    """The embedding and the head go along with the first and the last blocks."""
    from uniap_cost_analytic.pricing import price as tables

    from uniap_core.cluster import preset
    from uniap_core.costs import Candidate, Training
    from uniap_core.models import load
    from uniap_core.strategy import StrategySpace

    graph = load("gpt:layers=8,hidden=256,heads=8,seq=128")
    candidate = Candidate.of(4, 4, Training(global_batch=16))
    line = Line(pose(tables(graph, preset("8xA100-80G"), StrategySpace(), candidate)))
    assert cuts.even(line) == (3, 5, 7, 10)
    assert [line.layers[at].name for at in line.blocks] == [f"layers.{i}" for i in range(8)]
