"""Pins of the whole grammar: a plan that satisfies them, or an error that names them and what is considered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uniap_core.advise.prices import pin_prices
from uniap_core.errors import BadValue, UniapError, UsageError
from uniap_core.models import load
from uniap_core.pins import Pins, satisfies
from uniap_core.plan import Plan
from uniap_core.search import Considered, candidates, make, price, sweep

# Six heads and twelve devices in nodes of four: no degree divides everything.
GRAPH = load("gpt:layers=3,hidden=48,heads=6,vocab=100,seq=32")
CLUSTER = "3x4xA100-80G"
BATCH = 12

NUMBERS = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12, 16])
PLACES = st.sampled_from(["", "", "", "layers.*:", "layers.1:", "layers.0-1:", "head:", "emb*:"])
ORDERS = st.sampled_from(["=", "=", "!=", "<=", ">="])


@st.composite
def pins(draw: st.DrawFn) -> str:
    """A pin."""
    key = draw(st.sampled_from(["pp", "micro_batches", "c", "tp", "dp", "cp", "ep", "sharding", "recompute", "most"]))
    if key == "most":
        return draw(st.sampled_from(["uniform", "max_strategies=1", "max_strategies<=2"]))
    if key in ("sharding", "recompute"):
        values = {"sharding": ["none", "zero1", "zero2", "zero3"], "recompute": ["none", "selective", "full"]}[key]
        return f"{draw(PLACES)}{key}{draw(st.sampled_from(['=', '!=']))}{draw(st.sampled_from(values))}"
    where = draw(PLACES) if key in ("tp", "dp", "cp", "ep") else ""
    return f"{where}{key}{draw(ORDERS)}{draw(NUMBERS)}"


def satisfied(plan: Plan, texts: list[str]) -> bool:
    asked = Pins.of(texts)
    on = asked.of_layers([layer.name for layer in plan.layers])
    limits = [int(pin.value) for pin in asked.pins if pin.key == "max_strategies"]
    return (
        asked.allows(plan.pp, plan.micro_batches)
        and all(satisfies(layer.strategy, mine) for layer, mine in zip(plan.layers, on, strict=True))
        and all(len({layer.strategy for layer in plan.layers}) <= most for most in limits)
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(pins(), min_size=1, max_size=3, unique=True), st.sampled_from([None, "fsdp", "megatron"]))
@example(["cp=2"], None)
@example(["ep=4"], None)
@example(["tp=12"], None)
@example(["dp=5"], None)
@example(["pp=5"], "fsdp")
@example(["c=8"], None)
@example(["tp=4"], None)
@example(["layers.1:tp=4", "pp=1"], None)
@example(["head:sharding=zero3"], "megatron")
@example(["tp=4", "dp=12"], None)
@example(["uniform", "head:tp=4"], None)
@example(["max_strategies<=2", "emb*:tp=1", "layers.*:tp=2", "head:tp=4"], None)
@example(["uniform", "layers.0:tp=1", "layers.1:tp=2"], None)
def test_any_pins_lead_to_a_plan_that_satisfies_them_or_to_an_error_that_names_them(texts, executor):
    outcome = planned(texts, executor)
    if isinstance(outcome, Plan):
        assert satisfied(outcome, texts)
    else:
        assert any(text in outcome.cause for text in texts), outcome.cause
        assert any(words in outcome.cause for words in ("the search considers", "considered are", "it has")), outcome
        assert outcome.fix


def planned(texts: list[str], executor: str | None) -> Plan | UniapError:
    try:
        return sweep(make(GRAPH, CLUSTER, BATCH, pins=texts, executor=executor)).plan
    except (UsageError, BadValue) as refused:
        return refused


SAID = [
    (["cp=2"], None, "the search considers cp 1:"),
    (["ep=4"], None, "the search considers ep 1:"),
    (["tp=12"], None, "considers tp 1, 2, 4: tensor parallelism stays inside a node"),
    (["tp=8"], None, "considers tp 1, 2, 4: 8 does not divide the 12 devices"),
    (["dp=8"], None, "8 does not divide the 12 devices"),
    (["pp=6"], None, "considers pp 1, 2, 3, 4: 5 layers do not fill 6 stages"),
    (["pp=5"], None, "5 does not divide the 12 devices"),
    (["micro_batches=8"], None, "considers micro_batches 1, 2, 3, 4, 6, 12: 8 does not divide the batch of 12"),
    (["sharding=zero3"], "megatron", "considers sharding none, zero1; megatron runs nothing else here"),
    (["layers.0:recompute=selective"], "megatron", "considers recompute full, none; megatron runs nothing else here"),
    (["tp=4"], None, "layer embedding no strategy: it has tp 1, 2"),
    (["tp=4"], None, "6 heads of attention do not divide by tp 4"),
    (["pp>=3", "pp<=2"], None, "nothing satisfies the pins pp>=3, pp<=2 together; considered are pp 1, 2, 3, 4"),
]


@pytest.mark.parametrize(("texts", "executor", "words"), SAID)
def test_what_is_not_considered_is_said_with_what_is_and_why(texts, executor, words):
    with pytest.raises((UsageError, BadValue)) as refused:
        sweep(make(GRAPH, CLUSTER, BATCH, pins=texts, executor=executor))
    assert words in refused.value.cause
    assert refused.value.exit_code == 2


def test_a_pin_that_excludes_nothing_has_no_price():
    search = make(GRAPH, CLUSTER, BATCH, pins=["cp<=4", "recompute=full"])
    free, paid, both = pin_prices(search, sweep(search))
    assert free.sentence() == "pinning cp<=4 excludes nothing: the search considers cp 1 alone"
    assert "considers" not in paid.sentence()
    assert both.free_s == paid.free_s


def test_what_is_considered_is_what_is_priced():
    """Every value that is called considered stands in some candidate's tables, where nothing else rules it out."""
    search = make("gpt:layers=3,hidden=48,heads=12,vocab=96,seq=48", CLUSTER, BATCH)
    known = Considered(search)
    able = [c for c in candidates(search) if known.strategies(c.pp, c.micro_batches, known.extents[0])]
    strategies = {s for c in able for layer in price(search, c).layers for s in layer.strategies}
    for key in ("tp", "dp", "cp", "ep", "sharding", "recompute"):
        pin = Pins.of([f"{key}!=full" if key == "recompute" else f"{key}!=none" if key == "sharding" else f"{key}>=1"])
        assert set(known.values(pin.pins[0])) == {getattr(s, key) for s in strategies}


def test_a_pin_on_all_layers_needs_a_value_that_all_of_them_have():
    """What an executor runs may differ between layers."""
    search = replace(make(GRAPH, CLUSTER, BATCH, pins=["tp=2"]), regimes=(Pins.of(["layers.0:tp=1"]),))
    with pytest.raises(UsageError, match="pin 'tp=2': the search considers tp 1"):
        candidates(search)
    assert Considered(search).excludes(Pins.of(["tp=1"]).pins[0])
    assert candidates(replace(search, pins=Pins.of(["layers.1:tp=2"])))


def test_a_limit_on_strategies_is_a_limit():
    with pytest.raises(UsageError, match="max_strategies is a limit"):
        Pins.of(["max_strategies>=2"])
