"""Tensors between layers: what ranks lack under another layout, and what crosses to the next stage."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.constants import Constants
from uniap_cost_analytic.edges import _lacking, edge_tables, message_s, wires

from uniap_core.api import TOKENS, Candidate, Flow, Layout, Pipeline, Strategy, Training
from uniap_core.cluster import Cluster, preset

CONSTANTS = Constants()
FLOW = Flow("a", "b", "a.out", TOKENS, 4096)
DEGREES = [d for d in itertools.product((1, 2, 4), repeat=3) if d[0] * d[1] * d[2] == 8]


def tables(a: Strategy, b: Strategy, cluster: str = "2x8xA100-80G", pp: int = 2, c: int = 4, **training: object):
    candidate = Candidate.of(pp, c, Training(global_batch=64, **training))  # type: ignore[arg-type]
    inside, over = edge_tables(FLOW, 2048, (a,), (b,), preset(cluster), candidate, CONSTANTS)
    return float(inside[0, 0]), float(over[0, 0])


def held(rank: int, layout: tuple[int, int, int, bool], samples: int, positions: int) -> set[tuple[int, int]]:
    """The (sample, position) cells of a rank, counted out: tensor parallel innermost, then context, then data.

    Context-parallel ranks have two pieces of a sequence, one from either end, and slices are cut of what a rank has.
    """
    tp, dp, cp, spread = layout
    t, k, d = rank % tp, rank // tp % cp, rank // (tp * cp)
    cells = samples // dp
    mine = set(range(d * cells, (d + 1) * cells))
    half = positions // (2 * cp)
    ends = (k, 2 * cp - 1 - k) if cp > 1 else (0, 1)
    own = [position for end in ends for position in range(end * half, (end + 1) * half)]
    width = len(own) // (tp if spread else 1)
    return set(itertools.product(mine, own[t * width :][:width] if spread else own))


def laid(tp: int, dp: int, cp: int, spread: bool) -> Layout:
    return Strategy(tp=tp, dp=dp, cp=cp, sequence_parallel=spread).layout


@settings(max_examples=60)
@given(st.sampled_from(DEGREES), st.sampled_from(DEGREES), st.booleans(), st.booleans())
def test_what_a_rank_lacks_is_what_counting_cells_says(one, other, spread_one, spread_other):
    a, b = (*one, spread_one and one[0] > 1), (*other, spread_other and other[0] > 1)
    size = 16
    worst = Fraction(0)
    for rank in range(8):
        wanted = held(rank, b, size, size)
        worst = max(worst, Fraction(len(wanted - held(rank, a, size, size)), len(wanted)))
    lacking, piece = _lacking(*(laid(*layout) for layout in (a, b)))
    assert lacking == pytest.approx(float(worst))
    assert piece == pytest.approx(len(held(0, b, size, size)) / size**2)


def test_equal_layouts_reshard_for_nothing_and_cross_for_something():
    inside, over = tables(Strategy(tp=2, dp=4), Strategy(tp=2, dp=4, sharding="zero3"))
    assert inside == 0.0
    assert over > 0.0


def test_one_stage_has_nothing_to_cross():
    assert tables(Strategy(tp=2, dp=8), Strategy(tp=4, dp=4), pp=1)[1] == 0.0


@given(st.floats(1, 1e9), st.floats(1, 4))
def test_a_larger_message_is_never_faster(size, factor):
    over = wires(preset("4x8xA100-80G"), Pipeline.of("1f1b", 4), CONSTANTS)
    assert message_s(size * factor, over, CONSTANTS) >= message_s(size, over, CONSTANTS)


def test_a_boundary_inside_a_node_is_cheaper_than_one_over_the_network():
    assert sent("8xA100-80G", Pipeline.of("1f1b", 2)) < sent("2x8xA100-80G", Pipeline.of("1f1b", 2))


def sent(cluster: str | Cluster, shape: Pipeline, size: float = 1e8) -> float:
    machine = preset(cluster) if isinstance(cluster, str) else cluster
    return message_s(size, wires(machine, shape, CONSTANTS), CONSTANTS)


def test_the_slowest_boundary_is_the_one_that_counts_whoever_sends():
    """Each pair of devices counted out, against the wires of whole ranks."""
    for machine in map(preset, ("2x6xA100-80G", "3x4xA100-80G", "4x2xA100-80G", "12xA100-80G")):
        for shape in (
            *(Pipeline.of("1f1b", p) for p in (2, 3, 4, 6, 12) if machine.devices % p == 0),
            *(Pipeline.of("interleaved", p, 2) for p in (2, 3, 4) if machine.devices % p == 0),
            Pipeline("vee", 2, (0, 1, 1, 0)),
        ):
            slowest = 0.0
            for here, there in zip(shape.chunks, shape.chunks[1:], strict=False):
                pairs = list(zip(shape.block(here, machine.devices), shape.block(there, machine.devices), strict=True))
                nodes = [(machine.node_of[a], machine.node_of[b]) for a, b in pairs]
                for m, n in nodes:
                    link = machine.nodes[m].link
                    rate = link.bandwidth_Bps * CONSTANTS.link_share
                    if here == there:
                        continue
                    if m != n:
                        beside = max(sum(x == m and x != y for x, y in nodes), sum(y == n and x != y for x, y in nodes))
                        link = machine.inter
                        rate = link.bandwidth_Bps * CONSTANTS.inter_share / beside
                    slowest = max(slowest, link.latency_s + 1e8 / rate + CONSTANTS.message_s)
            assert sent(machine, shape) == pytest.approx(slowest), (machine.name, shape)


def test_a_stage_that_straddles_nodes_sends_over_the_network():
    # Devices 0-3, 4-7 and 8-11 in nodes of six: device 2 sends to 6, device 3 to 7.
    assert sent("2x6xA100-80G", Pipeline.of("1f1b", 3)) > 1.5 * sent("12xA100-80G", Pipeline.of("1f1b", 3))


def test_the_way_back_to_the_first_rank_may_be_the_slowest():
    machine = preset("2x2xA100-80G")
    only = Pipeline("twice", 4, (0, 1, 0))  # never leaves the first node
    back = Pipeline("round", 4, (0, 1, 3, 0))
    assert sent(machine, only) == sent("4xA100-80G", only)
    assert sent(machine, back) > sent(machine, only)


def test_ranks_that_hold_the_same_send_parts_where_they_can():
    whole = tables(Strategy(tp=8, dp=1), Strategy(tp=8, dp=1))[1]
    parts = tables(Strategy(tp=8, dp=1), Strategy(tp=8, dp=1), scatter_gather=True)[1]
    assert parts < whole
