"""The sweep: complete proofs, cutoffs, limits, interrupts, workers."""

from __future__ import annotations

import math

import pytest

from uniap_core.advise import grid, why
from uniap_core.advise.prices import pin_prices
from uniap_core.advise.relax import relaxations
from uniap_core.advise.replan import replan
from uniap_core.cluster import load
from uniap_core.errors import Infeasible, NotEnoughTime, UsageError
from uniap_core.plan import check_seal, read, write
from uniap_core.posing import pose
from uniap_core.search import candidates, make, price, sweep
from uniap_core.search.pricing import lower_bound, simple_bound
from uniap_core.solve.driver import solve

SMALL = "gpt:layers=6,hidden=512,heads=8,seq=256"


def small(**options):
    return make(SMALL, "8xV100-32G", 32, **options)


@pytest.fixture(scope="module")
def found():
    return sweep(small())


def test_every_candidate_has_a_record_and_all_are_closed(found):
    search = small()
    assert {(r.pp, r.micro_batches) for r in found.proof} == {(c.pp, c.micro_batches) for c in candidates(search)}
    assert found.proven
    assert "proof" in {check.name for check in found.plan.verdict.checks}
    assert all(r.note for r in found.proof if r.outcome in ("impossible", "infeasible"))


def test_the_answer_is_the_best_of_all_candidates_solved_one_by_one(found):
    search = small()
    optima = []
    for record, candidate in zip(found.proof, candidates(search), strict=True):
        assert (record.schedule, record.pp, record.vpp) == (candidate.schedule, candidate.pp, candidate.vpp)
        assert record.micro_batches == candidate.micro_batches
        if record.outcome == "impossible":
            continue
        problem = pose(price(search, candidate))
        optimum = solve(problem, "dp").objective_s
        if optimum is None:
            assert record.outcome == "infeasible"
            continue
        optima.append(optimum)
        assert simple_bound(problem) <= optimum * (1 + 1e-12)
        assert lower_bound(search, problem) <= optimum * (1 + 1e-9)
        assert record.bound_s <= optimum * (1 + 1e-9)
        if record.outcome == "solved":
            assert math.isclose(record.objective_s, optimum, rel_tol=1e-9)
    assert math.isclose(min(optima), found.plan.predicted.iteration_time_s, rel_tol=1e-9)


def test_a_sweep_says_what_came_of_it_in_a_line(found):
    assert len(repr(found)) < 300
    assert "proven" in repr(found)
    assert repr(found.plan) in repr(found)


def test_workers_change_nothing_but_the_order(found):
    with_two = sweep(small(workers=2))
    assert len(with_two.proof) == len(found.proof)
    assert with_two.proven
    assert with_two.plan.predicted == found.plan.predicted


def test_top_solves_the_best_candidates_to_the_end():
    plans = sweep(small(top=3)).plans
    times = [plan.predicted.iteration_time_s for plan in plans]
    assert len({(plan.pp, plan.micro_batches) for plan in plans}) == 3
    assert times == sorted(times)


def test_no_time_is_no_plan():
    with pytest.raises(NotEnoughTime, match="no plan was found"):
        sweep(small(time_limit=0.0))


def test_an_interrupt_keeps_the_best_plan_so_far():
    seen = []

    def stop_after_two(event):
        seen.append(event)
        if getattr(event, "best_s", None) is not None:
            raise KeyboardInterrupt

    found = sweep(small(top=4), stop_after_two)
    assert found.interrupted
    assert not found.proven
    assert found.plan.verdict.passed
    assert found.plan.bound_s <= found.plan.predicted.iteration_time_s
    assert len(found.proof) == len(candidates(small()))


def test_an_interrupt_before_any_plan_is_said():
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(NotEnoughTime, match="interrupted"):
        sweep(small(), stop)


def test_a_plan_survives_its_file(found, tmp_path):
    write(tmp_path / "plan.json", found.plan)
    again = read(tmp_path / "plan.json")
    assert again == found.plan
    check_seal(again)


def test_uniform_plans_are_proven_over_every_strategy():
    uniform = sweep(small(pins=["uniform"]))
    assert uniform.proven
    assert len({layer.strategy for layer in uniform.plan.layers}) == 1
    two = sweep(small(pins=["max_strategies=2"]))
    free = sweep(small())
    times = [s.plan.predicted.iteration_time_s for s in (free, two, uniform)]
    assert times == sorted(times)


def test_the_price_of_a_pin_is_the_difference_of_two_optima(found):
    search = small(pins=["pp=4", "tp=2"])
    pinned = sweep(search)
    prices = pin_prices(search, pinned)
    assert [p.pin for p in prices] == ["pp=4", "tp=2", "pp=4, tp=2"]
    assert math.isclose(prices[-1].free_s, found.plan.predicted.iteration_time_s, rel_tol=1e-9)
    assert all(p.slower >= 0 for p in prices)


def test_reasons_and_alternatives(found):
    reasons = why.explain(found.plan)
    assert reasons.sentences
    worse = why.why_not(found.plan, "tp=8")
    assert worse.slower > 0
    assert why.why_not(found.plan, f"pp={found.plan.pp}").slower == pytest.approx(0, abs=1e-9)
    nothing = why.why_not(found.plan, "dp=3")
    assert nothing.slower is None
    with pytest.raises(UsageError, match="no layer"):
        why.of_layer(found.plan, "layers.99")


def test_relaxations_are_verified_and_small():
    search = make("gpt3-13b", "8xV100-16G", 8)
    with pytest.raises(Infeasible, match="GiB short"):
        sweep(search)
    changes = relaxations(search)
    assert any("GiB of memory" in c.change for c in changes)
    assert any("times the devices" in c.change for c in changes)
    assert all(c.iteration_time_s > 0 for c in changes)


def test_the_front_of_a_grid_is_not_dominated():
    points = grid.grid(small(), [load("8xV100-32G"), load("4xV100-32G"), load("8xA100-80G")], [16, 32])
    front = [p for p in points if p.pareto]
    assert front
    for p in front:
        for q in points:
            assert not (q.tokens_per_s > p.tokens_per_s and q.devices <= p.devices
                        and q.price_per_million_tokens <= p.price_per_million_tokens)  # fmt: skip
    assert grid.to_csv(points).count("\n") == len(points) + 1


def test_replanning_to_the_same_cluster_keeps_everything(found):
    new, kept = replan(found.plan, small())
    assert kept.slower <= 1e-9
    assert kept.what.startswith("stages")
    assert [layer.strategy.tp for layer in new.plan.layers] == [layer.strategy.tp for layer in found.plan.layers]
