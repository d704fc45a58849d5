"""Strategies, their names and their space."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniap_core.errors import BadValue
from uniap_core.strategy import AXES, RECOMPUTES, SHARDINGS, Strategy, StrategySpace, divisors, parse

strategies = st.builds(
    Strategy,
    tp=st.sampled_from([1, 2, 4, 8]),
    dp=st.sampled_from([4, 8, 12]),
    cp=st.sampled_from([1, 2]),
    ep=st.sampled_from([1, 2, 4]),
    sharding=st.sampled_from(SHARDINGS),
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


def test_names_are_as_documented():
    full = Strategy(tp=2, dp=4, sharding="zero3", recompute="full", sequence_parallel=True)
    assert full.name == "tp2-dp4-zero3-full-sp"
    assert full.words == "tp2 x dp4 zero3, recompute full"
    assert Strategy(tp=2, cp=2, dp=4, ep=8).words == "tp2 x dp4 x cp2 x ep8"
    assert Strategy(tp=1, dp=4).name == "tp1-dp4"


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


def test_pinned_degrees_may_leave_the_node():
    assert {s.tp for s in StrategySpace(tp=(16,)).strategies(16, 8)} == {16}


def test_expert_parallelism_must_divide():
    with pytest.raises(BadValue, match="ep 3"):
        Strategy(dp=4, ep=3)


@given(st.integers(1, 5000))
def test_divisors(number):
    assert divisors(number) == tuple(d for d in range(1, number + 1) if number % d == 0)
