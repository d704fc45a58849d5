"""The one pass over short chains: the same optimum as over the lattice, and what it says when it ends early."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uniap_dp.chain import bounds as chain_bounds
from uniap_dp.chain import search as chain
from uniap_dp.chain import skips
from uniap_dp.options import DpOptions
from uniap_dp.solve import solve

from bench.dp.problems import Shape, encoder_decoder, one_stage, u_net
from bench.dp.problems import chain as transformer
from uniap_core.api import EdgeTable, Problem, SolveRequest, Stop, silent
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import Limits, problems, random_problem

FEW_SKIPS = Limits(layers=(4, 7), stages=(1, 5), strategies=(1, 4), micro_batches=(1, 32))
MEDIUM = Limits(layers=(7, 28), stages=(1, 6), strategies=(1, 8), micro_batches=(1, 32))
PLENTY = DpOptions()
LATTICE = {"max_steps": 0}


def search(problem, goal=math.inf, most=PLENTY.max_labels, steps=PLENTY.max_steps):
    return chain.search(problem, goal, most, steps)


def by_lattice(problem):
    raw = solve(problem, SolveRequest(options=LATTICE), silent)
    assert raw.stop in (Stop.OPTIMAL, Stop.INFEASIBLE)
    return math.inf if raw.assignment is None else problem.evaluate(raw.assignment).objective_s


def agrees(problem):
    """Hold one chain against the lattice; False if the search ended early."""
    found, truth = search(problem), by_lattice(problem)
    if not found.done:
        assert found.bound_s <= truth * (1 + 1e-12)
        return False
    if found.assignment is None:
        assert truth == math.inf
        return True
    value = problem.evaluate(found.assignment)
    assert value.feasible
    assert value.objective_s == pytest.approx(truth, rel=1e-11, abs=1e-300)
    assert found.bound_s == pytest.approx(truth, rel=1e-11, abs=1e-300)
    return True


@pytest.mark.parametrize("block", range(10))
def test_random_chains_agree_with_the_lattice(block):
    """Ragged, unequal, permuted; with memory that is ample, tight, exact, a byte short, or none."""
    seeds = range(block * 30, (block + 1) * 30)
    done = [agrees(random_problem(np.random.default_rng(seed), MEDIUM, shape="chain")) for seed in seeds]
    assert sum(done) >= 27  # where nearly all times are equal, labels abound


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=problems(shapes=("chain",)))
def test_drawn_chains_agree_with_enumeration(problem):
    found, truth = search(problem), optimum(problem)
    assert found.done
    assert (found.assignment is not None) == truth.feasible
    if truth.feasible:
        assert problem.evaluate(found.assignment).objective_s == pytest.approx(truth.objective_s, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("tightness", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_transformers_agree_with_the_lattice(stages, tightness):
    for noise in (0.0, 0.2):
        assert agrees(transformer(Shape(18, stages, 10, 16, tightness, noise, random_edges=noise > 0)))


@given(problem=problems(shapes=("skip", "shared", "dag")))
def test_a_boundary_costs_at_least_what_its_tensors_cost_at_least(problem):
    at = {layer: position for position, layer in enumerate(problem.order)}
    least = skips.least_tolls(problem)
    for u in range(len(at)):
        crossing = [e for e in problem.edges if at[e.source] < u <= at[e.target]]
        tensors = {e.tensor for e in crossing}
        tolls = [max(float(e.cross_s.min()) for e in crossing if e.tensor == tensor) for tensor in tensors]
        assert least[u] == pytest.approx(math.fsum(tolls), rel=1e-12)


@pytest.mark.parametrize("shape", ["skip", "shared"])
@pytest.mark.parametrize("block", range(4))
def test_random_chains_with_skip_edges_agree_with_the_lattice(block, shape):
    seeds = range(block * 25, (block + 1) * 25)
    found = [random_problem(np.random.default_rng(seed), FEW_SKIPS, shape=shape) for seed in seeds]
    assert sum(agrees(problem) for problem in found if search(problem) is not None) >= 15


@pytest.mark.parametrize("layout_free", [True, False])
@pytest.mark.parametrize(("graph", "layers"), [(encoder_decoder, 16), (u_net, 8)])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_encoder_decoders_and_u_nets_agree_with_the_lattice(stages, graph, layers, layout_free):
    for tightness in (0.3, 0.9):
        assert agrees(graph(Shape(layers, stages, 6, 8, tightness, 0.1, layout_free_cross=layout_free)))


@pytest.mark.parametrize("seed", range(20))
def test_strategies_that_only_skip_edges_tell_apart_stay_apart(seed):
    problem = random_problem(np.random.default_rng(seed), FEW_SKIPS, shape="skip", memory="tight")
    edges = tuple(
        EdgeTable(e.source, e.target, e.tensor, 0 * e.reshard_s, 0 * e.cross_s) if e.target == e.source + 1 else e
        for e in problem.edges
    )
    assert agrees(Problem.plain("free links", problem.micro_batches, problem.ranks, problem.layers, edges))


def test_a_tensor_on_a_link_and_a_skip_edge_crosses_once():
    problem = encoder_decoder(Shape(6, 3, 4, 8, 0.6))
    found = search(problem)
    assert found.bound_s == pytest.approx(optimum(problem).objective_s, rel=1e-11)
    apart = [EdgeTable(e.source, e.target, f"{e.source}-{e.target}", e.reshard_s, e.cross_s) for e in problem.edges]
    dearer = Problem.plain("apart", 8, problem.ranks, problem.layers, tuple(apart))
    assert search(dearer).bound_s > found.bound_s
    assert agrees(dearer)


@pytest.mark.parametrize(("layers", "strategies"), [(16, 12), (48, 20), (96, 8)])
def test_one_stage_of_fine_grained_memory_agrees_with_the_lattice(layers, strategies):
    assert agrees(one_stage(layers, strategies))


@pytest.mark.parametrize(("layers", "strategies"), [(8, 6), (24, 12), (64, 20)])
def test_the_bound_on_one_stage_is_as_high_as_any_price_of_memory_makes_it(layers, strategies):
    problem = one_stage(layers, strategies)
    edges = {e.source: e.reshard_s for e in problem.edges}
    stage = problem.ranks[0]

    def dual(price):
        behind = np.zeros(strategies)
        for u in reversed(problem.order):
            layer = problem.layers[u]
            own = layer.time_s[0] + price * (layer.state_bytes + layer.stash_bytes) + behind
            behind = (edges[u - 1] + own).min(axis=1) if u else own
        return float(behind.min()) - price * (stage.memory_bytes - stage.reserved_bytes)

    highest = max(dual(price) for price in np.geomspace(1e-15, 1e-9, 4000))
    bound = search(problem, steps=0).bound_s
    assert highest * (1 - 1e-9) <= bound <= by_lattice(problem)


@given(sums=st.lists(st.integers(0, 200), min_size=1, max_size=60), off=st.integers(0, 3))
def test_a_front_over_cuts_is_never_above_what_was_put_in(sums, off):
    front, n = np.full((chain_bounds.CORNERS + 1, 2), math.nan), 0
    pairs = [(s, 300 - s + s * x * off % 5) for x, s in enumerate(sums)]
    for s, t in pairs:
        n = chain_bounds.put(front[:-1], n, float(s), float(t), 3.0)
        assert n <= chain_bounds.CORNERS
    assert np.isnan(front[-1]).all()
    kept = front[:n]
    for s, t in pairs:
        assert ((kept[:, 0] <= s) & (kept[:, 1] <= t)).any()
    for x in range(n):
        lower = (kept <= kept[x]).all(axis=1)
        assert lower.sum() == 1


@pytest.mark.parametrize("seed", range(20))
def test_an_early_end_leaves_a_bound_that_holds(seed):
    problem = random_problem(np.random.default_rng(seed), MEDIUM, shape="chain", memory="tight")
    truth = by_lattice(problem)
    for limits in ({"steps": 1}, {"steps": 300}, {"most": 2}, {"most": 20}):
        found = search(problem, **limits)
        assert found.bound_s <= truth * (1 + 1e-12)
        assert found.done == (found.assignment is not None)


def test_where_the_pass_ends_early_the_lattice_takes_over():
    problem = transformer(Shape(16, 2, 6))
    assert not search(problem, steps=300).done
    raw = solve(problem, SolveRequest(options={"max_steps": 300}), silent)
    assert raw.stop is Stop.OPTIMAL
    assert problem.evaluate(raw.assignment).objective_s == pytest.approx(by_lattice(problem), rel=1e-11)


def test_goals_are_met_or_proven_out_of_reach():
    problem = transformer(Shape(12, 3, 8, noise=0.2))
    truth = by_lattice(problem)
    below = search(problem, goal=truth * (1 - 1e-9))
    assert below.done
    assert below.assignment is None
    assert below.bound_s == truth * (1 - 1e-9)
    above = search(problem, goal=truth * (1 + 1e-9))
    assert problem.evaluate(above.assignment).objective_s == pytest.approx(truth, rel=1e-12)


def test_what_is_no_short_chain_is_left_alone():
    short = transformer(Shape(6, 2, 4))
    assert search(short) is not None
    apart = (*short.edges[:3], *short.edges[4:])
    assert search(Problem.plain("apart", 4, short.ranks, short.layers, apart)) is None
    assert search(transformer(Shape(chain.MOST_LAYERS + 1, 2, 4))) is None
    assert search(transformer(Shape(64, 16, 40))) is None
    assert search(transformer(Shape(64, 1, 40))) is not None


def test_events_rise_and_fall():
    events = []
    problem = transformer(Shape(12, 3, 8))
    solve(problem, SolveRequest(), events.append)
    objectives = [e.objective_s for e in events if e.objective_s is not None]
    bounds = [e.bound_s for e in events if e.bound_s is not None]
    assert objectives
    assert bounds
    assert all(a >= b for a, b in pairwise(objectives))
    assert all(a <= b for a, b in pairwise(bounds))
