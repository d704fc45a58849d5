"""The lattice of downsets: its size on known graphs, what is shared, what the compiler's cache does."""

import numpy as np
import pytest
from uniap_dp.codes import TooLarge
from uniap_dp.lattice.cuts import cut, least_times, longest
from uniap_dp.lattice.downsets import build
from uniap_dp.solve import solve

from uniap_core.api import SolveRequest, Stop, silent

from .test_dp_promises import chain


def towers(height, stages=2, **sizes):
    links = [(u, u + 1) for u in range(height - 1)]
    links += [(height + u, height + v) for u, v in links]
    links += [(height - 1, 2 * height), (2 * height - 1, 2 * height)]
    return chain(layers=2 * height + 1, stages=stages, links=links, **sizes)


def test_the_downsets_of_a_chain_are_its_prefixes():
    lattice = build(chain(layers=9), 10_000)
    assert [mask.bit_count() for mask in lattice.masks] == list(range(10))
    assert lattice.path is not None


def test_the_downsets_of_two_towers_are_pairs_of_prefixes():
    lattice = build(towers(5), 100_000)
    assert lattice.size == 6 * 6 + 1
    assert lattice.path is None


def test_strategies_of_one_layout_are_one_class():
    """Six strategies in three layouts: three IN classes and, the consumer's layout mattering, three promises."""
    lattice = build(chain(layers=4, strategies=6), 10_000)
    assert lattice.states.tolist() == [1, 6, 6, 6, 1]
    assert np.diff(lattice.out_start).tolist() == [1, 3, 3, 3, 1]


def test_one_stage_needs_no_promises():
    lattice = build(towers(4, stages=1), 100_000)
    assert np.diff(lattice.out_start).tolist()[1:-1] == [0] * (lattice.size - 2)


def test_every_tree_reaches_each_downset_above_once():
    lattice = build(towers(4), 100_000)
    everywhere = np.ones(lattice.size, dtype=np.bool_)
    for node, mask in enumerate(lattice.masks):
        above = sorted(x for x, other in enumerate(lattice.masks) if other & mask == mask)
        assert sorted(lattice.tree(node, everywhere).node.tolist()) == above


def test_equal_layers_share_their_stages():
    problem = chain(layers=24, stages=4)
    one = problem.layers[0]
    alike = type(problem).plain(
        "alike",
        8,
        problem.ranks,
        tuple(type(one)(u.name, one.strategies, one.time_s, one.state_bytes, one.stash_bytes) for u in problem.layers),
        problem.edges,
    )
    lattice = build(alike, 10_000)
    least = least_times(lattice)
    cuts = cut(lattice, 1.1 * least.sum() / 4, least)
    inner = [root for node, root in cuts.roots.items() if node > 0 and root.tree.node[-1] < 24]
    assert len(inner) > 3
    assert len({root.twin for root in inner}) == 1


def test_bounds_of_stages_enclose():
    lattice = build(chain(layers=12), 10_000)
    cuts = cut(lattice, longest(lattice), least_times(lattice))
    assert (cuts.low <= cuts.high).all()
    assert (cuts.low > 0).all()


def test_budgets_hold():
    with pytest.raises(TooLarge, match="states"):
        build(chain(layers=20), 100)
    with pytest.raises(TooLarge, match="downsets"):
        build(chain(layers=20, links=[(0, 1)]), 4000)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_two_towers_and_late_readers_agree_with_depth_first_search(stages):
    late = [(u, u + 1) for u in range(8)] + [(3, v) for v in (5, 6, 8)]
    for problem in (towers(4, stages, strategies=4), chain(layers=9, stages=stages, strategies=4, links=late)):
        values = []
        for options in ({}, {"max_nodes": 0}):
            raw = solve(problem, SolveRequest(options=options), silent)
            assert raw.stop is Stop.OPTIMAL
            values.append(problem.evaluate(raw.assignment).objective_s)
        assert values[0] == pytest.approx(values[1], rel=1e-12)
