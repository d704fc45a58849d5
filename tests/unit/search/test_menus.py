"""What each layer may choose: pins on experts, strategies that no best plan needs, and what a search says of itself."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from uniap_core.costs import Candidate
from uniap_core.errors import UsageError
from uniap_core.pins import Pins
from uniap_core.posing import pose
from uniap_core.report.words import axes_searched, proof_line
from uniap_core.search import candidates, make, outside, price, sweep, tables_of
from uniap_core.search.dominance import undominated
from uniap_core.search.pricing import Variant
from uniap_core.solve.driver import solve
from uniap_core.strategy import Strategy

MIXTURE = "mixtral:layers=2,hidden=512,heads=8,kv_heads=4,ffn=1792,vocab=512,seq=2048,experts=4"
DENSE = "llama:layers=2,hidden=512,heads=8,kv_heads=4,ffn=1024,vocab=512,seq=2048"
MACHINE = "4xA100-40G"


@pytest.fixture(scope="module")
def free():
    return sweep(make(MIXTURE, MACHINE, 8))


@pytest.mark.parametrize("pin", ["ep=4", "ep>=2", "etp=1", "layers.1:ep=2"])
def test_a_pin_on_experts_means_the_layers_that_have_some(pin, free):
    found = sweep(make(MIXTURE, MACHINE, 8, pins=[pin])).plan
    embedding, *blocks, head = (layer.strategy for layer in found.layers)
    one = Pins.of([pin]).pins[0]
    assert all(one.holds(s[one.key]) for s in (blocks[1:] if one.where else blocks))
    assert {(s.ep, s.folded) for s in (embedding, head)} == {(1, False)}
    assert found.predicted.iteration_time_s >= free.plan.predicted.iteration_time_s * (1 - 1e-9)


def test_a_uniform_plan_spreads_its_experts():
    found = sweep(make(MIXTURE, MACHINE, 8, pins=["uniform", "ep=4"])).plan
    assert len({layer.strategy for layer in found.layers}) == 1
    assert found.layers[0].strategy.ep == 4


@pytest.mark.parametrize(
    ("model", "pin", "reason"),
    [
        (MIXTURE, "ep=3", "4 experts do not divide by ep 3"),
        (MIXTURE, "etp=3", "each expert is cut as tensor parallelism cuts all else, or not at all"),
        (MIXTURE, "embedding:ep=4", "the search considers ep 1"),
        (DENSE, "ep=4", "has no experts"),
        (DENSE, "etp=1", "has no experts"),
        (DENSE, "cp=2", "considered for sequences of 8192 or more, and this has 2048"),
        (DENSE.replace("2048", "8194"), "cp=2", "the sequence of 8194 does not divide by twice cp 2"),
        (DENSE.replace("2048", "32768"), "cp=32", "considered down to 2048 positions on each rank"),
        ("vit:layers=2,hidden=64,heads=4,image=32,patch=8,classes=10", "cp=2", "has no sequence"),
    ],
)
def test_a_pin_that_nothing_considered_satisfies_says_why(model, pin, reason):
    with pytest.raises(UsageError) as refused:
        candidates(make(model, MACHINE, 8, pins=[pin]))
    assert reason in refused.value.cause


# --- dominance --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    search = make(MIXTURE, MACHINE, 8)
    return price(search, Candidate.of(2, 4, search.training))


def test_what_is_left_out_has_another_that_is_nowhere_worse(tables):
    problem = pose(tables)
    for u, kept in enumerate(undominated(tables)):
        layer, table = tables.layers[u], problem.layers[u]
        ends = [np.hstack([e.reshard_s, e.cross_s]) for e in tables.edges if e.source == u]
        ends += [np.hstack([e.reshard_s.T, e.cross_s.T]) for e in tables.edges if e.target == u]
        costs = np.vstack([table.time_s, table.state_bytes, table.stash_bytes])
        assert 0 < len(kept) < len(layer.strategies)
        for k in range(len(layer.strategies)):
            alike = [x for x in range(len(layer.strategies)) if all((rows[x] == rows[k]).all() for rows in ends)]
            better = [x for x in alike if x != k and (costs[:, x] <= costs[:, k]).all()]
            strictly = [x for x in better if (costs[:, x] < costs[:, k]).any() or x < k]
            assert (k in kept) == (not strictly)


def test_an_answer_of_the_lean_tables_is_one_of_the_whole(tables):
    variant = Variant(tables, 0.0, kept=undominated(tables))
    lean, whole = (solve(pose(t), "dp") for t in (variant.lean, tables))
    assert lean.objective_s == pytest.approx(whole.objective_s, rel=1e-12)
    assert pose(tables).evaluate(variant.assignment(lean.assignment)).objective_s == lean.objective_s


def test_a_plan_is_verified_against_all_strategies_and_its_proof_counts_the_dominated(free):
    plan = free.plan
    assert pose(tables_of(plan)).hash == plan.hashes.problem
    counted = [r for r in plan.proof if isinstance(r.dominated, int)]
    assert counted
    assert all(0 < r.dominated < r.strategies for r in counted)
    text = proof_line(plan.proof, plan.bound_s, plan.predicted.iteration_time_s, axes_searched(plan.proposal))
    assert "tp, dp, ep, etp, sharding, recompute of each layer" in text
    assert f"{sum(r.dominated for r in counted):,} of " in text
    uniform = sweep(make(DENSE, MACHINE, 8, pins=["uniform"])).plan
    assert all(not isinstance(r.dominated, int) for r in uniform.proof)
    assert axes_searched(uniform.proposal) == "tp, dp, sharding, recompute of all layers together"


def test_baselines_keep_all_strategies_and_spread_experts_alike():
    """What they look at (one strategy everywhere, plain data parallelism) may be dominated layer by layer."""
    found = sweep(make(MIXTURE, MACHINE, 8, solver="uniform")).plan
    assert all(not isinstance(r.dominated, int) for r in found.proof)
    embedding, *blocks, head = (layer.strategy for layer in found.layers)
    assert len(set(blocks)) == 1
    assert embedding == head == msgspec.structs.replace(blocks[0], ep=1, etp=msgspec.UNSET)
    assert blocks[0].ep > 1
    best = sweep(make(MIXTURE, MACHINE, 8, pins=["uniform"])).plan
    assert found.predicted.iteration_time_s >= best.predicted.iteration_time_s * (1 - 1e-9)


# --- what is outside --------------------------------------------------------------------------------------------


def test_every_strategy_of_a_menu_is_inside_and_others_are_named(tables):
    search, candidate = make(MIXTURE, MACHINE, 8), tables.candidate
    menus = [layer.strategies for layer in tables.layers]
    assert outside(search, candidate, [menu[0] for menu in menus]) == ""
    assert outside(search, candidate, [menu[-1] for menu in menus]) == ""
    plain = menus[0][0]
    odd = [plain, Strategy(dp=2, cp=1, ep=2), _without_slices(menus), plain]
    assert outside(search, candidate, odd) == "tp2-dp1 without sequence parallelism"
    later = Candidate.of(2, 3, msgspec.structs.replace(search.training, global_batch=9))
    assert outside(search, later, [plain] * 4).startswith("micro_batches 3: 3 does not divide")
    assert outside(replace(search, schedules=("gpipe",)), candidate, [plain] * 4).startswith("schedule 1f1b: ")


def _without_slices(menus):
    """A strategy of tensor parallelism without sequence parallelism."""
    return next(
        Strategy(tp=s.tp, dp=s.dp, ep=s.ep, sharding=s.sharding, recompute=s.recompute)
        for s in menus[2]
        if s.tp == 2 and s.ep == 1 and not s.folded
    )
