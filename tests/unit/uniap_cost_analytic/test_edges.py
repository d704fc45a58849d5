"""Tensors between layers: what ranks lack under another layout, and what crosses to the next stage."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.constants import Constants
from uniap_cost_analytic.edges import _lacking, edge_tables, message_s

from uniap_core.api import TOKENS, Candidate, Flow, Layout, Strategy, Training
from uniap_core.cluster import preset

CONSTANTS = Constants()
FLOW = Flow("a", "b", "a.out", TOKENS, 4096)
DEGREES = [d for d in itertools.product((1, 2, 4), repeat=3) if d[0] * d[1] * d[2] == 8]


def tables(a: Strategy, b: Strategy, cluster: str = "2x8xA100-80G", pp: int = 2, c: int = 4, **training: object):
    candidate = Candidate.of(pp, c, Training(global_batch=64, **training))  # type: ignore[arg-type]
    inside, over = edge_tables(FLOW, 2048, (a,), (b,), preset(cluster), candidate, CONSTANTS)
    return float(inside[0, 0]), float(over[0, 0])


def held(rank: int, layout: tuple[int, int, int, bool], samples: int, positions: int) -> set[tuple[int, int]]:
    """The (sample, position) cells of a rank, counted out: tensor parallel innermost, then context, then data."""
    tp, dp, cp, spread = layout
    t, k, d = rank % tp, rank // tp % cp, rank // (tp * cp)
    cells = samples // dp
    mine = set(range(d * cells, (d + 1) * cells))
    parts = cp * tp if spread else cp
    part = k * tp + t if spread else k
    width = positions // parts
    return set(itertools.product(mine, range(part * width, (part + 1) * width)))


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
    cluster = preset("4x8xA100-80G")
    assert message_s(size * factor, cluster, 4, CONSTANTS) >= message_s(size, cluster, 4, CONSTANTS)


def test_a_boundary_inside_a_node_is_cheaper_than_one_over_the_network():
    assert message_s(1e8, preset("8xA100-80G"), 2, CONSTANTS) < message_s(1e8, preset("2x8xA100-80G"), 2, CONSTANTS)


def test_ranks_that_hold_the_same_send_parts_where_they_can():
    whole = tables(Strategy(tp=8, dp=1), Strategy(tp=8, dp=1))[1]
    parts = tables(Strategy(tp=8, dp=1), Strategy(tp=8, dp=1), scatter_gather=True)[1]
    assert parts < whole
