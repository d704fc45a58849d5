"""Exporting through the gate: only sealed plans, only what the runtime can run, else the nearest plan and its price."""

import dataclasses

import pytest
from uniap_megatron import EXECUTOR as MEGATRON
from uniap_torchtitan import EXECUTOR as TORCHTITAN

from tests.editing import changed
from tests.planned import planned
from uniap_core import export as exports
from uniap_core import plan as plans
from uniap_core.errors import BadFile, Inexpressible, UnknownName, Unverified
from uniap_core.execute import Capability, ExecutorPlugin
from uniap_core.export import export, nearest, obstacles

DENSE = ExecutorPlugin(name="dense", summary="", capability=Capability(shardings=("none", "zero1"), families=("gpt",)))


@pytest.fixture(scope="module")
def mixed():
    """A plan with two strategies, which Megatron-LM cannot run."""
    return planned("gpt", lambda name: "tp1-dp8-zero3" if name < "layers.3" else "tp2-dp4-sp", micro_batches=2)


@pytest.fixture(scope="module")
def offered(mixed):
    """The nearest plan that Megatron-LM can run."""
    return nearest(mixed, MEGATRON)


def test_an_edited_plan_is_not_exported(tmp_path):
    plan = changed(planned("gpt", "tp1-dp8"), global_batch=32)
    with pytest.raises(Unverified):
        export(plan, MEGATRON, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_refusal_names_reasons_nearest_plan_and_price(mixed, tmp_path):
    with pytest.raises(Inexpressible) as refused:
        export(mixed, MEGATRON, tmp_path / "out")
    assert "one tensor-parallel degree" in refused.value.cause
    assert "the nearest plan that it can run" in refused.value.fix
    assert "s per iteration" in refused.value.fix
    assert refused.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_the_nearest_plan_is_sealed_and_exports(offered, tmp_path):
    plans.check_seal(offered)
    assert obstacles(offered, MEGATRON) == []
    assert export(offered, MEGATRON, tmp_path)


def test_the_nearest_plan_is_the_best_of_the_capability(mixed, offered):
    """No uniform none or zero1 plan of the same job, written by hand, is faster."""
    for cuts, strategy, count in (((), "tp1-dp8", 1), ((), "tp1-dp8-zero1", 2), ((4,), "tp1-dp4", 4)):
        other = planned(mixed.model, strategy, cuts=cuts, micro_batches=count)
        assert offered.predicted.iteration_time_s <= other.predicted.iteration_time_s * (1 + 1e-9)


def test_no_plan_is_near_if_the_model_is_out_of_reach():
    plan = planned("vit-huge", "tp1-dp8")
    assert nearest(plan, MEGATRON) is None
    with pytest.raises(Inexpressible, match="family") as refused:
        export(plan, MEGATRON, "nowhere")
    assert "another executor" in refused.value.fix


def test_without_a_function_the_capability_decides():
    assert obstacles(planned("gpt", "tp1-dp8-zero1"), DENSE) == []
    assert "zero3" in obstacles(planned("gpt", "tp1-dp8-zero3"), DENSE)[0]
    assert "llama" in obstacles(planned("llama", "tp1-dp8"), DENSE)[0]
    plain = dataclasses.replace(DENSE, capability=Capability(recomputes=("none",), schedules=("1f1b",)))
    assert len(obstacles(planned("gpt", "tp1-dp8-full", schedule="gpipe"), plain)) == 2
    split = dataclasses.replace(DENSE, capability=Capability(sequence_parallel=False))
    assert obstacles(planned("gpt", "tp2-dp4-sp"), split)
    assert not obstacles(planned("gpt", "tp2-dp4"), split)


def test_regimes_bound_the_nearest_plan():
    """What torchtitan can shard depends on stages and micro-batches."""
    plan = planned("llama", "tp1-dp4-zero3", cuts=(4,), micro_batches=4)
    assert obstacles(plan, TORCHTITAN)
    other = nearest(plan, TORCHTITAN)
    assert other is not None
    assert obstacles(other, TORCHTITAN) == []


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="cannot be made"):
        export(planned("gpt", "tp1-dp8"), MEGATRON, tmp_path / "file" / "out")


def test_an_unknown_executor_is_named():
    with pytest.raises(UnknownName):
        exports.load("nemo")


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2, 3)])
def test_a_plan_survives_its_file(cuts, tmp_path):
    """Stages of one layer and plans of one stage sum nothing: a whole-number zero would break the seal."""
    plan = planned("gpt", f"tp1-dp{8 // (len(cuts) + 1)}", cuts=cuts, micro_batches=2)
    plans.write(tmp_path / "plan.json", plan)
    plans.check_seal(plans.read(tmp_path / "plan.json"))
