"""The grids of a strategy: groups partition the ranks, and the verifier's own account of them is the same."""

from __future__ import annotations

import math
from itertools import pairwise
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core.axes import DENSE, EXPERT, GROUPED, SHARDED, Grid, Layout, Span, arrange
from uniap_core.costs import MEMORY_PARTS
from uniap_core.strategy import RECOMPUTES, SHARDINGS, Strategy, divisors
from uniap_core.verify import layout as verifier

sizes = st.sampled_from([1, 2, 3, 4, 6])
spans = st.builds(Span, sizes, sizes)


@st.composite
def strategies(draw: st.DrawFn) -> Strategy:
    tp, cp, dp = draw(st.sampled_from([1, 2, 3, 4])), draw(st.sampled_from([1, 2, 3])), draw(sizes)
    etp, sharding = draw(st.sampled_from([1, tp])), draw(st.sampled_from(SHARDINGS))
    ep = draw(st.sampled_from(divisors(tp * cp * dp // etp)))
    copies = gcd(cp * dp, tp * cp * dp // (etp * ep)) if sharding != "none" else 1
    return Strategy(
        tp=tp,
        cp=cp,
        dp=dp,
        ep=ep,
        etp=etp,
        sharding=sharding,
        replicate=draw(st.sampled_from([r for r in divisors(copies) if r == 1 or r < cp * dp])),
        recompute=draw(st.sampled_from(RECOMPUTES)),
        sequence_parallel=draw(st.booleans()),
    )


# --- spans ------------------------------------------------------------------------------------------------------


@given(spans, st.integers(1, 3), st.integers(0, 5))
def test_groups_of_a_span_partition_the_ranks(span: Span, blocks: int, first: int) -> None:
    ranks = range(first, first + blocks * span.size * span.stride)
    groups = span.groups(ranks)
    assert len(groups) * span.size == len(ranks)
    assert sorted(rank for group in groups for rank in group) == list(ranks)
    for group in groups:
        assert len(group) == span.size
        assert {b - a for a, b in pairwise(group)} <= {span.stride}


@given(spans, st.integers(1, 3), st.data())
def test_place_peers_and_part_speak_of_the_same_groups(span: Span, blocks: int, data: st.DataObject) -> None:
    ranks = range(blocks * span.size * span.stride)
    rank = data.draw(st.sampled_from(ranks))
    group = next(group for group in span.groups(ranks) if rank in group)
    assert group[span.place(rank)] == rank
    assert tuple(span.peers(rank)) == group
    held = [range(2 * span.size)[span.part(peer, 2 * span.size)] for peer in group]
    assert [thing for part in held for thing in part] == list(range(2 * span.size))


@given(spans, st.integers(1, 3), st.data())
def test_a_split_span_is_a_grid_of_two(span: Span, blocks: int, data: st.DataObject) -> None:
    ranks = range(blocks * span.size * span.stride)
    inner, outer = span.split(data.draw(st.sampled_from(divisors(span.size))))
    whole = {frozenset(group) for group in span.groups(ranks)}
    assert inner.size * outer.size == span.size
    for part in (inner, outer):
        assert all(any(group <= big for big in whole) for group in map(frozenset, part.groups(ranks)))
    places = outer.place(np.arange(len(ranks))) * inner.size + inner.place(np.arange(len(ranks)))
    assert (places == span.place(np.arange(len(ranks)))).all()


# --- grids ------------------------------------------------------------------------------------------------------


@given(strategies())
def test_both_grids_arrange_the_devices_of_the_stage(strategy: Strategy) -> None:
    grids = strategy.grids
    assert grids.dense.ranks == grids.expert.ranks == strategy.devices
    assert (grids.dense.names, grids.expert.names) == (DENSE, EXPERT)
    for grid in (grids.dense, grids.expert):
        coordinates = {tuple(grid.span(name).place(rank) for name in grid.names) for rank in range(grid.ranks)}
        assert len(coordinates) == grid.ranks, "each rank has a place of its own"


@given(strategies())
def test_neighbours_within_a_group_are_as_far_apart_as_the_axes_inside_are_wide(strategy: Strategy) -> None:
    tp, cp, ep, etp = strategy.tp, strategy.cp, strategy.ep, strategy["etp"]
    grids = strategy.grids
    assert [grids.dense.span(name).stride for name in ("tp", "cp", "dp")] == [1, tp, tp * cp]
    assert [grids.expert.span(name).stride for name in ("etp", "ep", "edp")] == [1, etp, etp * ep]
    assert grids.data == Span(cp * strategy.dp, tp)
    assert grids.expert_data.size * etp * ep == grids.data.size * tp


@given(strategies(), st.integers(0, 64))
def test_the_verifier_comes_to_the_same_groups(strategy: Strategy, first: int) -> None:
    ranks = range(first, first + strategy.devices)
    own = verifier.groups(ranks, strategy)
    found = strategy.groups(ranks)
    copied = ("shard", "replicate") if strategy.replicate > 1 else ()
    assert set(found) == {*GROUPED, *copied} == set(own)
    sizes = {kind: strategy[kind] for kind in GROUPED if kind != "edp"} | {"edp": strategy.grids.expert_data.size}
    sizes |= {"replicate": strategy.replicate, "shard": strategy.cp * strategy.dp // strategy.replicate}
    for kind, groups in found.items():
        assert set(groups) == set(own[kind])
        assert {len(group) for group in groups} == {sizes[kind]}


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]), st.data())
def test_experts_may_be_cut_otherwise_than_what_is_dense(tp: int, cp: int, dp: int, data: st.DataObject) -> None:
    """Parallel folding: experts may be spread over ranks that tensor parallelism cuts all else over."""
    devices = tp * cp * dp
    etp = data.draw(st.sampled_from(divisors(devices)))
    ep = data.draw(st.sampled_from(divisors(devices // etp)))
    grids = arrange(tp=tp, cp=cp, dp=dp, ep=ep, etp=etp)
    assert grids.dense == arrange(tp=tp, cp=cp, dp=dp).dense
    assert grids.expert.ranks == devices
    assert grids.expert.span("ep") == Span(ep, etp)
    assert grids.expert_data == Span(devices // (etp * ep), etp * ep)


def test_axes_that_are_no_neighbours_form_no_span() -> None:
    with pytest.raises(ValueError, match="no neighbours"):
        arrange(tp=2, cp=2, dp=2).dense.span("tp", "dp")


def test_an_expert_grid_must_hold_the_same_ranks() -> None:
    with pytest.raises(ValueError, match=r"ep 3 does not divide dp \* cp = 4"):
        arrange(tp=3, dp=4, ep=3)
    assert arrange(tp=3, dp=4, ep=3, etp=1).expert.sizes == (1, 3, 4)
    with pytest.raises(ValueError, match="ep 4 does not divide"):
        arrange(tp=3, dp=2, ep=4, etp=1)


@given(strategies(), st.integers(1, 4))
def test_meshes_have_the_ranks_where_the_groups_have_them(strategy: Strategy, stages: int) -> None:
    """A device mesh numbers its ranks row by row; its last dimension is the innermost axis."""
    grid = strategy.grids.dense.piled("pp", stages)
    shape, names = grid.mesh()
    mesh = np.arange(math.prod(shape)).reshape(shape)
    for dimension, name in enumerate(names):
        rows = np.moveaxis(mesh, dimension, -1).reshape(-1, shape[dimension])
        assert {tuple(row) for row in rows.tolist()} == set(grid.span(name).groups(range(grid.ranks)))


def test_a_mesh_leaves_out_only_what_has_one_rank() -> None:
    grid = Grid(("tp", "cp", "dp"), (2, 1, 4)).beside("shard", 2, inside="dp").piled("pp", 3)
    assert grid.mesh("cp") == ((3, 2, 2, 2), ("pp", "dp", "shard", "tp"))
    with pytest.raises(ValueError, match="more than one rank"):
        grid.mesh("tp")


# --- what is cut ------------------------------------------------------------------------------------------------


@given(strategies())
def test_activations_are_cut_over_all_ranks_that_do_not_hold_the_same(strategy: Strategy) -> None:
    layout = strategy.layout
    assert layout == Layout(strategy.grids.dense, strategy.sequence_parallel)
    cells = [(layout.samples.place(rank), layout.rows.place(rank)) for rank in range(strategy.devices)]
    copies = 1 if strategy.sequence_parallel else strategy.tp
    assert len(set(cells)) * copies == strategy.devices
    assert all(cells.count(cell) == copies for cell in set(cells))


@given(strategies())
def test_shards_and_replicas_together_hold_the_same_parameters(strategy: Strategy) -> None:
    for data in (strategy.grids.data, strategy.grids.expert_data):
        share, copies = strategy.shards(data)
        assert share.size * copies.size == data.size
        assert copies.size == (strategy.replicate if SHARDED[strategy.sharding] else data.size)
        assert copies.size == 1 or copies.stride == data.stride * share.size


def test_each_sharding_cuts_what_the_one_before_cuts_and_more() -> None:
    assert tuple(SHARDED) == SHARDINGS
    assert SHARDED["none"] == ()
    assert all(set(less) < set(more) for less, more in pairwise(SHARDED.values()))
    assert set(SHARDED["zero3"]) <= set(MEMORY_PARTS)


@given(strategies(), st.sampled_from(["parameters", "gradients", "optimizer"]))
def test_a_state_is_cut_over_the_ranks_that_hold_it(strategy: Strategy, state: str) -> None:
    whole = (1, 1)
    experts = strategy.devices // (strategy["etp"] * strategy.ep)
    over_all = (strategy.cp * strategy.dp // strategy.replicate, experts // strategy.replicate)
    assert strategy.parts(state) == (over_all if state in SHARDED[strategy.sharding] else whole)
