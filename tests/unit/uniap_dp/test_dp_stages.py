"""Stage tables, the program over them, and rounds of both: each against what brute force says of a small chain."""

import itertools
import math

import numpy as np
import pytest
from uniap_dp.arena import Arena, OutOfLabels
from uniap_dp.lattice import cuts as bounds
from uniap_dp.lattice import plans, rounds
from uniap_dp.lattice.downsets import build
from uniap_dp.lattice.stage_tables import Leg, priced, strategies, tabulate
from uniap_dp.ledger import Ledger

from uniap_core.api import Assignment, Problem, SolveRequest, Weights, silent
from uniap_core.testing.oracle import optimum

from .test_dp_promises import chain

PLENTY = 1_000_000


@pytest.fixture
def problem():
    """Five layers of four strategies on two stages, of unequal weights."""
    plain = chain(layers=5, stages=2, strategies=4, memory=1.1)
    weights = Weights(0.5, 2.0, 3.5)
    return Problem(plain.name, 8, weights, plain.ranks, plain.chunks, plain.layers, plain.edges)


@pytest.fixture
def lattice(problem):
    return build(problem, 10_000)


@pytest.fixture
def cuts(lattice):
    return bounds.cut(lattice, bounds.longest(lattice), bounds.least_times(lattice))


def of_stage(problem, chosen, rank=0):
    """Seconds and bytes of consecutive layers (position: strategy) in one stage."""
    held = problem.ranks[rank].peak_in_flight[0]
    tables = [(problem.layers[u], k) for u, k in chosen.items()]
    time_s = sum(float(t.time_s[rank, k]) for t, k in tables)
    inside = [e for e in problem.edges if e.source in chosen and e.target in chosen]
    time_s += sum(float(e.reshard_s[chosen[e.source], chosen[e.target]]) for e in inside)
    return time_s, sum(float(t.state_bytes[k] + held * t.stash_bytes[k]) for t, k in tables)


def least(problem, first, stop):
    """The least time of a stage over layers that fits, by trying every choice."""
    cap, best = problem.ranks[0].budget_bytes, math.inf
    for ks in itertools.product(range(4), repeat=stop - first):
        time_s, need = of_stage(problem, dict(zip(range(first, stop), ks, strict=True)))
        best = min(best, time_s if need <= cap else math.inf)
    return best


def table_of(lattice, cuts, node, arena, limits=math.inf, width=0):
    root = cuts.roots[node]
    limits = np.full(len(root.tree.parent), limits)
    return root, tabulate(lattice, 0, root, limits, np.array([0.0, 1e-7]), arena, lambda: None, width)


def test_a_stage_table_holds_the_least_time_that_fits(problem, lattice, cuts):
    _, table = table_of(lattice, cuts, 0, Arena(PLENTY))
    for stop in range(1, 6):
        truth = least(problem, 0, stop)
        assert float(table.value[stop].min(initial=math.inf)) == pytest.approx(truth, rel=1e-12)


def test_what_is_beyond_its_limit_is_not_in_the_table(problem, lattice, cuts):
    truth = least(problem, 0, 3)
    _, below = table_of(lattice, cuts, 0, Arena(PLENTY), truth * (1 - 1e-9))
    assert below.value[3].min() == math.inf
    _, at = table_of(lattice, cuts, 0, Arena(PLENTY), truth * (1 + 1e-9))
    assert at.value[3].min() == pytest.approx(truth, rel=1e-12)


def test_a_beam_never_beats_the_table(lattice, cuts):
    _, exact = table_of(lattice, cuts, 0, Arena(PLENTY))
    _, beam = table_of(lattice, cuts, 0, Arena(PLENTY), width=1)
    assert (beam.value[3] >= exact.value[3]).all()


def test_the_strategies_behind_an_entry_take_its_time_and_fit(problem, lattice, cuts):
    arena = Arena(PLENTY)
    root, table = table_of(lattice, cuts, 0, arena)
    time_s = table.value[3]
    start, state = (int(x) for x in np.unravel_index(time_s.argmin(), time_s.shape))
    leg = Leg(0, 0, 3, start, state, float(time_s.min()))
    chosen = strategies(lattice, root, leg, np.array([0.0]), arena, lambda: None)
    assert sorted(chosen) == [0, 1, 2]
    got_s, need = of_stage(problem, chosen)
    assert got_s == pytest.approx(leg.time_s, rel=1e-12)
    assert need <= problem.ranks[0].budget_bytes * (1 + 1e-9)


@pytest.mark.parametrize("recipe", [(1.0, 0.0), (0.0, 1.0)])
def test_priced_paths_are_fastest_or_smallest(problem, lattice, cuts, recipe):
    chosen = priced(lattice, 0, cuts.roots[0], 3, np.array(recipe))
    every = [of_stage(problem, dict(enumerate(ks))) for ks in itertools.product(range(4), repeat=3)]
    which = recipe.index(1.0)
    assert of_stage(problem, chosen)[which] == pytest.approx(min(pair[which] for pair in every), rel=1e-12)


def test_the_program_over_stages_finds_the_optimum_of_exact_tables(problem, lattice, cuts):
    arena, truth = Arena(PLENTY), optimum(problem).objective_s
    tables = {node: table_of(lattice, cuts, node, arena) for node in range(5)}
    last = lattice.size - 1
    choices = [
        [plans.Choice(0, item, item, tables[0][1]) for item in range(1, last)],
        [plans.Choice(node, last - node, last, tables[node][1]) for node in range(1, last)],
    ]
    cutoff = truth * (1 + 1e-9)
    behind = bounds.fronts(cuts, cuts.low, lattice.objective, cutoff, backward=True, relax=True)
    value, legs = plans.join(lattice, cuts, choices, cutoff, behind, arena)
    assert value == pytest.approx(truth, rel=1e-12)
    assert [leg.stage for leg in legs] == [0, 1]
    below = truth * (1 - 1e-9)
    behind = bounds.fronts(cuts, cuts.low, lattice.objective, below, backward=True, relax=True)
    found = plans.join(lattice, cuts, choices, below, behind, arena)
    assert found is None or found[0] > below


def test_rounds_prove_the_optimum_and_offer_its_plan(problem, lattice):
    ledger, truth = Ledger(problem, SolveRequest(), silent), optimum(problem)
    rounds.prove(lattice, ledger, Arena(PLENTY))
    assert ledger.objective == pytest.approx(truth.objective_s, rel=1e-12)
    assert truth.objective_s * (1 - 1e-9) <= ledger.bound <= truth.objective_s


def test_rounds_without_room_for_labels_leave_a_bound_that_holds():
    large = chain(layers=40, stages=1, strategies=12, memory=0.9)
    truth = Ledger(large, SolveRequest(), silent)
    rounds.prove(build(large, PLENTY), truth, Arena(PLENTY))
    ledger = Ledger(large, SolveRequest(), silent)
    with pytest.raises(OutOfLabels):
        rounds.prove(build(large, PLENTY), ledger, Arena(50))
    assert 0 < ledger.bound <= truth.objective <= ledger.objective


def test_rounds_below_a_goal_out_of_reach_find_nothing(problem, lattice):
    truth = optimum(problem).objective_s
    ledger = Ledger(problem, SolveRequest(cutoff_s=truth * (1 - 1e-6)), silent)
    rounds.prove(lattice, ledger, Arena(PLENTY))
    assert ledger.assignment is None or ledger.objective >= ledger.cutoff
    assert ledger.bound >= ledger.goal * (1 - 1e-9)


def test_a_ledger_keeps_the_better_plan_and_the_higher_bound(problem):
    ledger, best = Ledger(problem, SolveRequest(gap=0.5), silent), optimum(problem)
    ledger.offer(Assignment((0,) * 5, (0,) * 5))
    assert ledger.assignment is None  # stage 1 is empty
    assert ledger.goal == math.inf
    ledger.offer(best.assignment)
    assert ledger.goal == pytest.approx(0.5 * best.objective_s)
    ledger.prove(2.0)
    ledger.prove(1.0)
    assert ledger.bound == 2.0
