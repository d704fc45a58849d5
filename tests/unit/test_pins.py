"""Pins: the grammar, what they restrict, what they refuse."""

from __future__ import annotations

import pytest

from uniap_core.errors import BadValue, UsageError
from uniap_core.pins import Pins, parse
from uniap_core.posing import pose
from uniap_core.search import candidates, make, price
from uniap_core.strategy import StrategySpace


@pytest.fixture(scope="module")
def tables():
    search = make("gpt:layers=4,hidden=256,heads=8,seq=128", "8xA100-40G", 16)
    return price(search, next(c for c in candidates(search) if (c.pp, c.micro_batches) == (2, 2)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pp",
        "pp=",
        "pp=0",
        "pp=x",
        "speed=3",
        "recompute=half",
        "recompute<=full",
        "layers.0:pp=2",
        "tp=-1",
        "a:b:tp=1",
    ],
)
def test_what_is_no_pin_is_refused_with_the_grammar(text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.fix


def test_candidate_pins():
    pins = Pins.of(["pp=4", "c>=8"])
    assert pins.allows(4, 8)
    assert not pins.allows(2, 8)
    assert not pins.allows(4, 4)


def test_a_global_pin_restricts_every_layer(tables):
    pinned = Pins.of(["tp<=2", "recompute!=full"]).restrict(tables)
    assert all(s.tp <= 2 and s.recompute != "full" for layer in pinned.layers for s in layer.strategies)
    assert len(pose(pinned).layers) == len(tables.layers)


def test_a_pin_by_position_counts_the_repeated_blocks(tables):
    pinned = Pins.of(["layers.1-2:recompute=full"]).restrict(tables)
    only_full = [layer.name for layer in pinned.layers if {s.recompute for s in layer.strategies} == {"full"}]
    assert only_full == ["layers.1", "layers.2"]


def test_a_pin_by_pattern(tables):
    pinned = Pins.of(["head:tp=4", "emb*:tp=1"]).restrict(tables)
    assert {s.tp for s in pinned.layers[-1].strategies} == {4}
    assert {s.tp for s in pinned.layers[0].strategies} == {1}


def test_a_pin_that_matches_no_layer_is_refused(tables):
    with pytest.raises(UsageError, match="matches no layer"):
        Pins.of(["decoder.0:tp=1"]).restrict(tables)


def test_pins_that_leave_a_layer_nothing_are_named(tables):
    with pytest.raises(BadValue, match=r"tp=1, tp=2 leave layer embedding no strategy"):
        Pins.of(["tp=1", "tp=2"]).restrict(tables)


def test_limits_on_strategies_narrow_the_space():
    assert Pins.of(["uniform"]).narrow(StrategySpace()).uniform
    assert Pins.of(["max_strategies=2"]).narrow(StrategySpace()).max_strategies == 2
    assert Pins().narrow(StrategySpace()) == StrategySpace()


@pytest.mark.parametrize("own", [None, 1, 2, 3])
@pytest.mark.parametrize("pins", [[], ["uniform"], ["max_strategies=2"], ["max_strategies<=4", "max_strategies=3"]])
def test_a_limit_that_is_looser_than_the_space_widens_nothing(own, pins):
    asked = [pin.value for pin in Pins.of(pins).pins]
    most = Pins.of(pins).narrow(StrategySpace(max_strategies=own)).max_strategies
    assert most == min([*asked, *([own] if own else [])], default=None)


def test_a_pinned_limit_does_not_loosen_what_the_executor_runs():
    search = make("gpt3-1.3b", "8xA100-80G", 16, executor="megatron", pins=["max_strategies=2"])
    assert search.space.max_strategies == search.free_space.max_strategies == 1


def test_selection_keeps_prices_and_sharing(tables):
    pins = Pins.of(["tp=2"])
    pinned = pins.restrict(tables)
    first, second = pinned.layers[1], pinned.layers[2]
    assert first.forward_s is second.forward_s
    whole = tables.layers[1]
    for k, strategy in enumerate(first.strategies):
        old = whole.strategies.index(strategy)
        assert (first.forward_s[:, k] == whole.forward_s[:, old]).all()
        assert first.state_bytes[k] == whole.state_bytes[old]
    edge, full = pinned.edges[1], tables.edges[1]
    rows = [whole.strategies.index(s) for s in first.strategies]
    columns = [tables.layers[2].strategies.index(s) for s in second.strategies]
    assert (edge.reshard_s == full.reshard_s[rows][:, columns]).all()
