"""A search over schedules and chunks: what is considered, what is priced once, what bounds prove, what stays open."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from uniap_core import diagnose, registry, schedules
from uniap_core.costs import Candidate
from uniap_core.errors import UnknownName, UsageError
from uniap_core.pins import Pins
from uniap_core.pipeline import placements, searched, words_of
from uniap_core.posing import pose
from uniap_core.search import candidates, make, sweep
from uniap_core.search.attempt import NO_FASTER
from uniap_core.search.floor import floor_of
from uniap_core.search.pricing import bounded, families, price, sharpened
from uniap_core.search.queue import Queue
from uniap_core.solve.driver import solve
from uniap_core.solve.request import SolveRequest

GPT = "gpt:layers=4,hidden=64,heads=4,vocab=128,seq=32"


def search(schedule="auto", batch=8, pins=(), **fields):
    return replace(make(GPT, "4xA100-80G", batch, schedule=schedule, pins=pins), **fields)


def keys(found):
    return [(c.schedule, c.pp, c.vpp, c.micro_batches) for c in found]


def test_words_stand_for_schedules():
    assert searched("auto") == ("1f1b", "interleaved")
    assert searched("any") == schedules.names()
    assert searched("gpipe") == ("gpipe",)
    with pytest.raises(UnknownName, match="auto, any"):
        searched("zigzag")
    for word in ("auto", "any", *schedules.names()):
        assert words_of(searched(word)) == word


def test_candidates_have_every_number_of_chunks_that_layers_fill():
    layers = 6
    found = keys(candidates(search()))
    assert len(set(found)) == len(found)
    for pp in (1, 2, 4):
        mine = {vpp for schedule, p, vpp, _ in found if (schedule, p) == ("interleaved", pp)}
        assert mine == (set(range(2, layers // pp + 1)) if pp > 1 else set())
        assert {vpp for schedule, p, vpp, _ in found if (schedule, p) == ("1f1b", pp)} == {1}
    assert {c for *_, c in found} == {1, 2, 4, 8}


def test_one_name_searches_what_it_always_did():
    assert keys(candidates(search("1f1b"))) == [("1f1b", pp, 1, c) for pp in (1, 2, 4) for c in (1, 2, 4, 8)]
    assert search("1f1b") == make(GPT, "4xA100-80G", 8, schedule="1f1b")


@pytest.mark.parametrize("name", schedules.names())
def test_every_schedule_is_searched_where_it_has_chunks(name):
    for schedule, pp, vpp, _ in keys(candidates(search(name))):
        assert schedule == name
        assert vpp in placements(name, pp, 6)


@pytest.mark.parametrize(
    ("pins", "left"),
    [
        (("vpp=3",), {("interleaved", 2, 3)}),
        (("vpp>=2", "pp=2"), {("interleaved", 2, 2), ("interleaved", 2, 3)}),
        (("schedule=1f1b", "pp=2"), {("1f1b", 2, 1)}),
        (("schedule!=1f1b", "pp=2", "vpp<=2"), {("interleaved", 2, 2)}),
    ],
)
def test_pins_of_chunks_and_schedules_keep_what_agrees(pins, left):
    assert {key[:3] for key in keys(candidates(search(pins=pins)))} == left


@pytest.mark.parametrize(
    ("pin", "why"),
    [
        ("schedule=zbv", "--schedule zbv searches it"),
        ("vpp=7", "6 layers do not fill 7 chunks"),
        ("vpp=3", "--schedule interleaved or interleaved-zb has these"),
    ],
)
def test_a_pin_on_what_is_not_considered_says_what_would_be(pin, why):
    with pytest.raises(UsageError, match=why):
        candidates(search("1f1b" if pin == "vpp=3" else "auto", pins=(pin,)))


@pytest.mark.parametrize("text", ["schedule=zigzag", "schedule<=1f1b", "layers.0:vpp=2", "vpp=0"])
def test_what_is_no_such_pin_is_refused(text):
    with pytest.raises(UsageError):
        Pins.of((text,))


def test_a_candidate_is_posed_as_it_is_alone_and_bounded_by_its_family_before():
    asked = search()
    for family in families(asked, candidates(asked)):
        assert len({(c.pp, c.micro_batches) for c in family}) == 1
        for one in bounded(asked, family):
            if one.impossible:
                continue
            alone = pose(price(asked, one.candidate))
            while one.raw:
                one = sharpened(asked, one)
            tables = one.variants[0].tables
            assert pose(tables).hash == alone.hash


def test_a_cost_model_that_reads_more_prices_each_candidate(monkeypatch):
    plugin = registry.load("cost model", "analytic")
    asked = search()
    todo = candidates(asked)
    monkeypatch.setattr(registry, "load", lambda *_: replace(plugin, by_ends=False))
    assert families(asked, todo) == [(one,) for one in todo]


shapes = st.sampled_from(
    [("interleaved", 2, 2), ("interleaved", 2, 3), ("zbv", 2, 2), ("v-min", 2, 2), ("interleaved-zb", 3, 2)]
)


def scattered(tables, share, seed):
    """The tables with other costs of each kind and strategy, and memory for a share of what is in flight at most."""
    noise = np.random.default_rng(seed)
    made = {}
    for kind, layer in zip(tables.kinds.layers, tables.layers, strict=True):
        by = noise.lognormal(sigma=0.8, size=(4, len(layer.strategies)))
        names = ("forward_s", "iteration_s", "state_bytes", "stash_bytes")
        made.setdefault(kind, {name: getattr(layer, name) * by[n] for n, name in enumerate(names)})
    layers = [replace(t, **made[kind]) for kind, t in zip(tables.kinds.layers, tables.layers, strict=True)]
    most = sum(float((layer.state_bytes + 4 * layer.stash_bytes).min()) for layer in layers)
    ranks = (replace(r, memory_bytes=r.reserved_bytes + share * most / len(tables.ranks)) for r in tables.ranks)
    return replace(tables, layers=tuple(layers), ranks=tuple(ranks), alike=tables.kinds)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, st.sampled_from([4, 12]), st.floats(0.3, 2.0), st.integers(0, 2**32))
def test_no_bound_is_above_the_optimum(shape, c, share, seed):
    """Coarse bound <= sharper bound <= optimum, and what is called infeasible is."""
    schedule, pp, vpp = shape
    graph, cluster = GPT, f"{pp}xA100-80G"
    asked = make(graph, cluster, 12, schedule=schedule, pins=("tp=1", "sharding!=zero2"))
    candidate = Candidate.of(pp, c, asked.training, schedule, vpp)
    assume(not candidate.pipeline.legal(c))
    tight = scattered(price(asked, candidate), share, seed)
    floor, answer = floor_of(tight), solve(pose(tight), "dp", SolveRequest())
    optimum = math.inf if answer.objective_s is None else answer.objective_s
    assert answer.stop.proven
    assert floor.bound_s(candidate) <= optimum
    assert floor.held_s(candidate) <= optimum
    short = diagnose.shortage(pose(tight))
    assert short is None or math.isinf(optimum)


def test_a_queue_gives_the_least_bound_first_and_sharpens_no_more_than_it_must():
    asked = search()
    priced = [one for family in families(asked, candidates(asked)) for one in bounded(asked, family)]
    waiting = Queue(asked, priced)
    taken = []
    while (one := waiting.take(math.inf)) is not None:
        assert not one.raw
        taken.append(one)
    bounds = [one.bound_s for one in taken]
    assert bounds == sorted(bounds)
    assert {one.candidate for one in taken} == {one.candidate for one in priced if one.bound_s < math.inf}
    untouched = Queue(asked, priced)
    while (one := untouched.take(0.0)) is not None:
        assert one in priced


@pytest.fixture(scope="module")
def found():
    return sweep(search(pins=("pp>=2",)))


def test_a_sweep_has_a_record_of_every_candidate(found):
    asked = search(pins=("pp>=2",))
    assert [(r.schedule, r.pp, r.vpp, r.micro_batches) for r in found.proof] == keys(candidates(asked))
    assert found.plan.verdict.passed
    assert found.plan.schedules == ("1f1b", "interleaved")
    best = found.plan.predicted.iteration_time_s
    for record in found.proof:
        if record.note == NO_FASTER:
            assert record.vpp > 1
            assert record.bound_s >= best * (1 - 0.005)
        if record.schedule == "interleaved" and record.micro_batches < record.pp:
            assert record.outcome in ("impossible", "pruned", "limit", "infeasible", "solved")


def test_schedules_together_are_no_slower_than_each_alone(found):
    alone = sweep(search("1f1b", pins=("pp>=2",))).plan.predicted.iteration_time_s
    assert found.plan.predicted.iteration_time_s <= alone * 1.005


def test_a_solver_that_knows_no_chunks_leaves_them_open():
    asked = search("interleaved", pins=("pp=2", "c=4"), solver="uniform")
    plain = search("auto", pins=("pp=2", "c=4"), solver="alpa")
    assert all(record.outcome != "impossible" for record in sweep(asked).proof)
    opened = [record for record in sweep(plain).proof if record.schedule == "interleaved"]
    assert opened
    assert all(record.outcome in ("limit", "pruned") and record.bound_s is not None for record in opened)


def test_a_proof_does_not_depend_on_how_many_processes_there_were():
    def told(workers):
        proof = sweep(search(pins=("pp>=2", "c>=2"), workers=workers)).proof
        return [(r.schedule, r.pp, r.vpp, r.micro_batches, r.outcome, r.bound_s, r.objective_s) for r in proof]

    assert told(1) == told(2)
