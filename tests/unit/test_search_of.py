"""From a plan back to its search: the same job, freedom, pins, regime and prices, for whoever asks afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.editing import changed
from uniap_core import artifact, export, plan
from uniap_core.advise.why import why_not
from uniap_core.errors import Inexpressible, Unverified, UsageError
from uniap_core.pins import Pins
from uniap_core.posing import pose
from uniap_core.profile import Profile
from uniap_core.search import Search, make, sweep, tables_of, verify_plan

OLD = Path(__file__).parents[1] / "data" / "v0_1"
GPT = "gpt:layers=2,hidden=64,heads=4,vocab=128,seq=32"
LLAMA = "llama:layers=2,hidden=64,heads=4,kv_heads=2,ffn=128,vocab=128,seq=32"


@pytest.fixture(scope="module")
def titan():
    """A plan made for torchtitan, found under the regime of pipelines."""
    found = sweep(make(LLAMA, "4xA100-80G", 8, executor="torchtitan", pins=["pp=2", "c>=2"])).plan
    assert found.regime
    return found


@pytest.fixture(scope="module")
def measured():
    return artifact.read(OLD / "profile.json", Profile)


@pytest.fixture(scope="module")
def profiled(measured):
    return sweep(make(GPT, "4xA100-80G", 8, precision="fp32", cost_model="profiled", profile=measured)).plan


# --- what an executor asks of its plans -------------------------------------------------------------------------


@pytest.mark.parametrize("pin", ["tp=2", "tp=1", "sharding=zero3", "sharding=none", "recompute=full", "c=4", "pp=2"])
def test_alternatives_of_a_plan_for_an_executor_are_such_that_it_can_run(titan, pin):
    other = why_not(titan, pin)
    assert other.reason
    if other.slower is not None:
        assert other.slower >= 0
    if pin == "sharding=zero3":  # torchtitan keeps gradients whole in a pipeline
        assert other.slower is None
        assert other.reason.startswith("not searched: "), other.reason


def test_alternatives_under_another_regime_of_the_executor_are_seen():
    asked = make(LLAMA, "4xA100-80G", 8, executor="torchtitan")
    free = sweep(asked).plan
    assert len(asked.regimes) > 1
    assert Pins.of(free.regime) in asked.regimes
    assert Search.of(free).regimes == asked.regimes
    for pin in ("c=1", "c=8", "pp=2"):
        other = why_not(free, pin)
        own = sweep(make(LLAMA, "4xA100-80G", 8, executor="torchtitan", pins=[pin])).plan
        assert other.iteration_time_s == own.predicted.iteration_time_s
        assert other.slower >= 0


def test_a_regime_that_no_executor_here_has_is_kept_alone(titan):
    strange = changed(titan, regime=("pp=2", "tp<=4"))
    assert Search.of(strange).regimes == (Pins.of(["pp=2", "tp<=4"]),)


# --- prices that were measured ----------------------------------------------------------------------------------


def test_a_measured_plan_is_explained_with_its_profile(profiled, measured):
    other = why_not(profiled, "dp=2", profile=measured)
    assert other.slower >= 0
    assert other.iteration_time_s > 0
    assert verify_plan(profiled, profile=measured).passed


def test_without_its_profile_the_remedy_is_named(profiled):
    for ask in (lambda: why_not(profiled, "dp=2"), lambda: verify_plan(profiled), lambda: tables_of(profiled)):
        with pytest.raises(UsageError, match="priced from measurements") as refused:
            ask()
        assert "--profile" in refused.value.fix


def test_an_export_that_is_refused_prices_the_nearest_plan_with_the_profile_alone(measured, tmp_path):
    pins = ["pp=1", "tp=1", "sharding=zero3"]  # Megatron-LM's optimizer is zero1
    asked = make(GPT, "4xA100-80G", 8, precision="fp32", cost_model="profiled", profile=measured, pins=pins)
    sharded = sweep(asked).plan
    with pytest.raises(Unverified, match="priced from measurements") as unjudged:
        export.export(sharded, "megatron", tmp_path / "out")
    assert "--profile" in unjudged.value.fix
    with pytest.raises(Inexpressible, match="zero1") as refused:
        export.export(sharded, "megatron", tmp_path / "out", measured)
    assert "the nearest plan that it can run (pp" in refused.value.fix


def test_a_plan_that_is_priced_otherwise_now_is_stale(profiled, measured):
    slower = tuple(msgspec.structs.replace(t, forward_s=2 * t.forward_s) for t in measured.layers)
    with pytest.raises(Unverified, match="stale"):
        why_not(profiled, "dp=2", profile=msgspec.structs.replace(measured, layers=list(slower)))


def test_another_version_of_the_same_prices_compares(titan):
    renamed = changed(titan, cost_model="analytic/0")
    assert why_not(renamed, "tp=2") == why_not(titan, "tp=2")


# --- the rest of the search -------------------------------------------------------------------------------------


def test_the_search_of_a_plan_is_the_search_it_came_from():
    asked = make(GPT, "2x2xA100-80G", 4, schedule="gpipe", pins=["layers.0:recompute=full", "uniform"])
    search = Search.of(sweep(asked).plan)
    for name in ("graph", "cluster", "training", "space", "free_space", "pins", "regimes", "cost_model", "solver"):
        assert getattr(search, name) == getattr(asked, name), name


def test_the_solver_is_the_one_that_found_the_plan_where_it_is_installed():
    found = plan.read(OLD / "plan.json")
    assert Search.of(changed(found, solver="uniform")).solver == "uniform"
    assert Search.of(changed(found, solver="nobody")).solver == Search.solver


def test_what_beats_an_unproven_plan_is_called_faster():
    free = make(GPT, "4xA100-80G", 8)
    worse = sweep(replace(free, pins=Pins.of(["tp=4"]))).plan
    unpinned = changed(worse, pins=())
    hashes = msgspec.structs.replace(worse.hashes, problem=pose(tables_of(unpinned)).hash)
    other = why_not(changed(unpinned, hashes=hashes), "dp=4")
    assert other.slower < 0
    assert "faster" in other.reason
