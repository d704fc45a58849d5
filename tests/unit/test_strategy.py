"""Strategies, their names and their space."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from uniap_core.errors import BadValue
from uniap_core.strategy import (
    AXES,
    FREE,
    LEAST,
    LONG,
    RECOMPUTES,
    SHARDINGS,
    Extent,
    Strategy,
    StrategySpace,
    divisors,
    parse,
)

strategies = st.builds(
    Strategy,
    tp=st.sampled_from([1, 2, 4, 8]),
    etp=st.sampled_from([1, UNSET]),
    dp=st.sampled_from([4, 8, 12]),
    cp=st.sampled_from([1, 2]),
    ep=st.sampled_from([1, 2]),
    sharding=st.sampled_from(SHARDINGS[1:]),
    replicate=st.sampled_from([1, 2]),
    recompute=st.sampled_from(RECOMPUTES),
    sequence_parallel=st.booleans(),
)


@given(strategies)
def test_a_name_says_everything(strategy):
    assert parse(strategy.name) == strategy


def test_every_field_is_an_axis():
    assert tuple(axis.name for axis in AXES) == Strategy.__struct_fields__
    plain = Strategy()
    assert all(plain[axis.name] == axis.value(None) for axis in AXES)


def test_how_experts_are_cut_is_stored_only_where_all_else_is_cut_otherwise():
    as_tp, whole = Strategy(tp=2, dp=4, ep=4, etp=2), Strategy(tp=2, dp=4, ep=8, etp=1)
    assert as_tp == Strategy(tp=2, dp=4, ep=4)
    assert as_tp.name == "tp2-dp4-ep4"
    assert b"etp" not in msgspec.json.encode(as_tp)
    assert (whole.name, whole["etp"], as_tp["etp"]) == ("tp2-dp4-ep8-etp1", 1, 2)
    assert parse(whole.name) == whole


def test_names_are_as_documented():
    full = Strategy(tp=2, dp=4, sharding="zero3", recompute="full", sequence_parallel=True)
    assert full.name == "tp2-dp4-zero3-full-sp"
    assert full.words == "tp2 x dp4 zero3, recompute full"
    assert Strategy(tp=2, cp=2, dp=4, ep=8).words == "tp2 x dp4 x cp2 x ep8"
    assert Strategy(tp=1, dp=4).name == "tp1-dp4"
    copied = Strategy(dp=16, sharding="zero3", replicate=2)
    assert (copied.name, copied.words) == ("tp1-dp16-zero3-replicate2", "tp1 x dp16 zero3 in 2 replicas")


@pytest.mark.parametrize("name", ["", "tp0-dp1", "dp1-tp1", "tp1-dp1-zero4", "tp1-dp1 ", "tp1-dp1-full-zero1"])
def test_other_names_are_refused(name):
    with pytest.raises(BadValue, match="is not a strategy"):
        parse(name)


@given(st.integers(1, 64), st.integers(1, 8))
def test_every_strategy_of_a_space_uses_all_devices_of_the_stage(devices, node):
    found = StrategySpace().strategies(devices, node)
    assert len(set(found)) == len(found)
    assert all(s.devices == devices and s.tp <= node for s in found)
    assert all(s.sharding == "none" for s in found if s.dp == 1)
    assert any(s.tp == 1 for s in found)
    assert {(s.ep, s.cp, s.folded) for s in found} == {(1, 1, False)}


@given(st.sampled_from([1, 4, 8, 24, 64]), st.integers(0, 16), st.sampled_from([0, 4096, 8192, 65536, 65537]))
def test_a_layer_is_offered_what_it_can_be_cut_into(devices, experts, positions):
    found = StrategySpace().strategies(devices, 8, Extent(experts, positions))
    assert len(set(found)) == len(found)
    for s in found:
        assert s.devices == devices
        assert experts % s.ep == 0
        assert s["etp"] in (1, s.tp)
        assert s.cp == 1 or (positions % (2 * s.cp) == 0 and positions >= LONG and positions // s.cp >= LEAST)
    degrees = {(s.tp, s.ep, s["etp"]) for s in found}
    for tp in (tp for tp in divisors(8) if devices % tp == 0):
        wanted = {(ep, etp) for etp in (tp, 1) for ep in divisors(experts or 1) if devices % (etp * ep) == 0}
        assert {(ep, etp) for t, ep, etp in degrees if t == tp} == (wanted if experts else {(1, tp)})


def test_whole_experts_need_ranks_that_hold_different_rows():
    space = StrategySpace(sequence_parallel=False)
    assert not any(s.folded for s in space.strategies(8, 8, Extent(experts=8)))
    assert {s["etp"] for s in StrategySpace(tp=(4,), etp=(1,)).strategies(8, 8, Extent(experts=8))} == {1}


def test_degrees_that_a_space_names_are_offered_to_all_as_they_were():
    old = StrategySpace(cp=(1,), ep=(1, 2))
    assert old.strategies(8, 8, Extent(8, 65536)) == old.strategies(8, 8)
    assert not any(s.folded or s.cp > 1 for s in old.strategies(8, 8))


def test_pinned_degrees_may_leave_the_node():
    assert {s.tp for s in StrategySpace(tp=(16,)).strategies(16, 8)} == {16}


def test_expert_parallelism_must_divide():
    with pytest.raises(BadValue, match="ep 3"):
        Strategy(dp=4, ep=3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sharding": "none", "replicate": 2}, "nothing is sharded"),
        ({"sharding": "zero3", "replicate": 3}, "does not part the 16 ranks"),
        ({"sharding": "zero3", "replicate": 16}, "does not part the 16 ranks"),
        ({"sharding": "zero1", "replicate": 4, "ep": 8}, "the 2 ranks that hold the same experts"),
    ],
)
def test_replicas_that_there_cannot_be_are_refused(fields, said):
    with pytest.raises(BadValue, match=said):
        Strategy(dp=16, **fields)


def test_replicas_are_considered_where_a_shard_group_would_span_nodes():
    def found(devices, space=FREE):
        return {(s.tp, s.sharding, s.replicate) for s in space.strategies(devices, 8) if s.replicate > 1}

    assert not found(8)
    assert not found(16, StrategySpace())
    assert found(16) == {(tp, sharding, 2) for tp in (1, 2, 4) for sharding in ("zero1", "zero3")}
    assert {r for tp, sharding, r in found(1024) if (tp, sharding) == (2, "zero3")} == {128, 16}
    stated = StrategySpace(tp=(1,), shardings=("none", "zero2"), replicate=(1, 4, 5, 16))
    assert found(16, stated) == {(1, "zero2", 4)}


@given(st.integers(1, 5000))
def test_divisors(number):
    assert divisors(number) == tuple(d for d in range(1, number + 1) if number % d == 0)
