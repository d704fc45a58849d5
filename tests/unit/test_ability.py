"""Law 11: what a search finds for an executor, the executor runs; what it cannot run is refused before the search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planned import planned
from uniap_core import registry
from uniap_core.cluster import Cluster, Node, preset
from uniap_core.costs import Training
from uniap_core.errors import UsageError
from uniap_core.events import silent
from uniap_core.execute import Capability, ExecutorPlugin
from uniap_core.export import _beyond, nearest, obstacles, refusal
from uniap_core.models import load
from uniap_core.modules import MODULES
from uniap_core.search import best_precision, check_ability, make, moved, narrow, regimes_of
from uniap_core.strategy import FREE, StrategySpace

LLAMA = "llama:layers=4,hidden=128,heads=8,kv_heads=4,ffn=256,vocab=512,seq=64"

REFUSED = [
    # model, cluster, precision named, executor, what is said of it, and the remedy
    ("bert-huge", "8xV100-32G", "fp16", "fsdp", "does not train in fp16", "--precision fp32"),
    ("bert-huge", "8xH100-80G", "fp8", "fsdp", "does not train in fp8", "--precision bf16"),
    ("vit-huge", "8xA100-40G", None, "fsdp", "no torch model of the family 'vit'", "trace one"),
    ("mixtral-8x7b", "8xA100-40G", None, "fsdp", "no torch model of the family 'mixtral'", "trace one"),
    ("bert-huge", "8xA100-40G", "tf32", "megatron", "does not train in tf32", "--precision bf16"),
    ("t5-large", "8xA100-40G", None, "megatron", "family t5", "llama"),
    ("llama-7b", "8xV100-32G", "fp16", "torchtitan", "does not train in fp16", "--precision fp32"),
    ("llama-7b", "8xP100-16G", None, "torchtitan", "does not run on P100-16G (pascal)", "volta"),
    ("llama-7b", "8xH100-80G", "fp8", "torchtitan", "does not train in fp8", "--precision bf16"),
]


@pytest.mark.parametrize(("model", "cluster", "precision", "executor", "cause", "fix"), REFUSED)
def test_what_an_executor_cannot_run_is_refused_before_anything_is_priced(
    model, cluster, precision, executor, cause, fix
):
    with pytest.raises(UsageError) as refused:
        make(model, cluster, 32, precision=precision, executor=executor)
    assert cause in refused.value.cause
    assert fix in refused.value.fix


CHOSEN = [
    ("bert-huge", "8xV100-32G", "fsdp", "fp32"),
    ("bert-huge", "8xA100-40G", "fsdp", "bf16"),
    ("gpt2", "2x4xTITANXp-12G", "fsdp", "fp32"),
    ("bert-huge", "8xV100-32G", "megatron", "fp16"),
    ("llama-7b", "8xV100-32G", "torchtitan", "fp32"),
]


@pytest.mark.parametrize(("model", "cluster", "executor", "precision"), CHOSEN)
def test_the_precision_that_nobody_names_is_one_that_the_executor_runs_and_a_change_is_told(
    model, cluster, executor, precision
):
    told = []
    assert make(model, cluster, 32, executor=executor, emit=told.append).training.precision == precision
    changed = precision != preset(cluster).best_precision
    assert [precision in note.text for note in told] == [True] * changed


def test_of_several_the_fastest_precision_is_chosen():
    runner = ExecutorPlugin(name="acme", summary="", capability=Capability(precisions=("fp32", "tf32")))
    assert best_precision(runner, preset("8xA100-40G")) == "tf32"
    assert best_precision(runner, preset("4xRTX3090")) == "fp32"  # equally fast, and exact
    assert best_precision(runner, preset("8xV100-32G")) == "fp32"
    only = replace(runner, capability=Capability(precisions=("fp8",)))
    assert best_precision(only, preset("8xH100-80G")) == "fp8"
    with pytest.raises(UsageError, match="acme trains in fp8"):
        best_precision(only, preset("8xA100-40G"))


def uneven() -> Cluster:
    four, eight = preset("4xA100-40G"), preset("8xA100-40G")
    return Cluster(
        name="uneven", nodes=(*four.nodes, Node(four.nodes[0].device, 8, four.nodes[0].link)), inter=eight.inter
    )


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        (Capability(families=("gpt",)), "family llama"),
        (Capability(schedules=("gpipe",)), "schedule 1f1b"),
        (Capability(precisions=("fp32",)), "train in bf16"),
        (Capability(optimizers=("sgd",)), "train with adamw"),
        (Capability(generations=("hopper",)), "A100-40G (ampere)"),
        (Capability(equal_nodes=True), "4 or 8 devices"),
    ],
)
def test_each_part_of_a_capability_refuses_by_itself(capability, words):
    runner = ExecutorPlugin(name="acme", summary="", capability=capability)
    with pytest.raises(UsageError) as refused:
        check_ability(runner, load(LLAMA), uneven(), Training(global_batch=8), "1f1b")
    assert words in refused.value.cause
    assert refused.value.fix
    check_ability(replace(runner, capability=Capability()), load(LLAMA), uneven(), Training(global_batch=8), "1f1b")


def test_replicas_are_considered_for_those_that_have_them():
    assert narrow(FREE, Capability()) == StrategySpace()
    assert narrow(FREE, Capability(replicas=True, modules=MODULES)) == FREE
    assert narrow(FREE, Capability(modules=("moe", "mlp"))) == StrategySpace(modules=("mlp", "moe"))
    with pytest.raises(UsageError):
        narrow(StrategySpace(replicate=(2,)), Capability())
    plan = planned("llama", "tp1-dp16-zero3-replicate2", cluster="2x8xA100-80G")
    assert any("has 2 replicas; fsdp has none" in reason for reason in _beyond(plan, registry.load("executor", "fsdp")))


def test_degrees_are_narrowed():
    space = StrategySpace(cp=(1, 2, 4), ep=(1, 2))
    assert narrow(space, Capability(cp=(1, 2), ep=(1,))) == StrategySpace(cp=(1, 2), ep=(1,))
    with pytest.raises(UsageError):
        narrow(StrategySpace(cp=(2,)), Capability(cp=(1,)))


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize("tied", ["false", "true"])
def test_what_torchtitan_pipelines_depends_on_ties_and_schedule(schedule, tied):
    plugin = registry.load("executor", "torchtitan")
    training = Training(global_batch=8)
    regimes = regimes_of(plugin, load(f"{LLAMA},tied={tied}"), preset("8xA100-40G"), training, (schedule,))
    allowed = {(pp, c) for pp in (1, 2, 4) for c in (1, 2, 4, 8) if any(r.allows(pp, c) for r in regimes)}
    piped = {(pp, c) for pp in (2, 4) for c in (1, 2, 4, 8) if schedule == "gpipe" or c >= pp}
    assert allowed == {(1, c) for c in (1, 2, 4, 8)} | (set() if tied == "true" else piped)


@pytest.mark.parametrize("executor", ["megatron", "torchtitan"])
def test_tensor_parallel_degrees_divide_the_sequence_where_it_is_split(executor):
    graph = load(LLAMA.replace("seq=64", "seq=36"))
    plugin = registry.load("executor", executor)
    regimes = regimes_of(plugin, graph, preset("8xA100-40G"), Training(global_batch=8), ("1f1b",))
    assert all("tp!=8" in regime.texts and "tp!=4" not in regime.texts for regime in regimes)
    odd = planned(LLAMA.replace("seq=64", "seq=33"), "tp2-dp4-sp", batch=8)
    assert any("33 does not divide by tp 2" in reason for reason in registry.resolve(plugin.express)(odd))


def test_a_search_that_moves_is_held_against_its_executor_again():
    asked = make(LLAMA, "8xA100-40G", 8, executor="torchtitan")
    assert moved(asked, preset("16xA100-40G"), asked.training).cluster.devices == 16
    with pytest.raises(UsageError, match="pascal"):
        moved(asked, preset("8xP100-16G"), asked.training)


def test_without_a_check_of_its_own_the_whole_capability_decides():
    plan = planned("llama", "tp1-dp4", cuts=(4,), micro_batches=2)
    for capability, words in (
        (Capability(precisions=("fp32",)), "bf16"),
        (Capability(generations=("hopper",)), "ampere"),
        (Capability(regimes=(("pp=1",), ("micro_batches>=4",))), "only with pp=1; or micro_batches>=4"),
    ):
        assert words in obstacles(plan, ExecutorPlugin(name="acme", summary="", capability=capability))[0]
    assert obstacles(plan, ExecutorPlugin(name="acme", summary="", capability=Capability())) == []


def test_the_nearest_plan_may_be_in_another_precision_and_says_so():
    plan = planned("gpt", "tp1-dp8", cluster="8xV100-32G", precision="fp16", batch=8)
    runner = ExecutorPlugin(name="acme", summary="", capability=Capability(precisions=("fp32",)))
    other = nearest(plan, runner)
    assert other is not None
    assert other.precision == "fp32"
    assert "in fp32" in refusal(plan, runner, obstacles(plan, runner), None, silent).fix
