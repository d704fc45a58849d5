"""What a plan decides, as Megatron-LM is told it."""

import re
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest
from fsdp_plans import proposal
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_megatron.arguments import layout, words
from uniap_megatron.expressible import express, fit
from uniap_megatron.ranks import layout as rank_layout
from uniap_megatron.shape import padded_vocabulary

from tests.planned import SMALL, planned
from uniap_core.cluster import preset
from uniap_core.costs import Training
from uniap_core.errors import Inexpressible
from uniap_core.models import load
from uniap_core.pins import Pins
from uniap_core.precisions import PRECISIONS
from uniap_core.strategy import StrategySpace
from uniap_zoo import build


def spoken(plan):
    """Arguments by flag."""
    return dict(word.removeprefix("--").partition("=")[::2] for word in words(plan))


def unrolled(text):
    """The stages of a layout, letter by letter."""
    text = re.sub(r"\(([^)]+)\)\*(\d+)", lambda m: m[1] * int(m[2]), text.replace(",", ""))
    return re.sub(r"(.)\*(\d+)", lambda m: m[1] * int(m[2]), text).split("|")


def test_a_plan_in_megatron_words():
    plan = planned("llama", "tp2-dp2-zero1-full-sp", cuts=(3,), micro_batches=4)
    said = spoken(plan)
    assert said["tensor-model-parallel-size"] == "2"
    assert said["pipeline-model-parallel-size"] == "2"
    assert said["pipeline-model-parallel-layout"] == "Et*2|t*4L"
    assert said["micro-batch-size"] == "2"
    assert said["global-batch-size"] == "16"
    assert said["seq-length"] == "128"
    assert {"sequence-parallel", "use-distributed-optimizer", "bf16", "swiglu", "disable-bias-linear"} <= set(said)
    assert (said["recompute-granularity"], said["recompute-method"], said["recompute-num-layers"]) == (
        "full",
        "uniform",
        "1",
    )
    assert (said["num-query-groups"], said["kv-channels"], said["ffn-hidden-size"]) == ("4", "32", "512")
    assert said["normalization"] == "RMSNorm"
    assert "untie-embeddings-and-output-weights" in said


def test_overlapped_tensor_parallelism_is_switched_on():
    plan = planned("llama", "tp2-dp4-sp", tensor_overlap="all")
    assert "tp-comm-overlap" in spoken(plan)
    assert "tp-comm-overlap" not in spoken(planned("llama", "tp2-dp4", tensor_overlap="all"))


def test_what_is_off_is_not_said():
    said = spoken(planned("gpt", "tp1-dp8", precision="fp32"))
    absent = {
        "pipeline-model-parallel-layout",
        "sequence-parallel",
        "use-distributed-optimizer",
        "recompute-granularity",
        "bf16",
        "fp16",
        "context-parallel-size",
        "untie-embeddings-and-output-weights",
        "group-query-attention",
        "no-rope-fusion",
    }
    assert not absent & set(said)
    assert said["max-position-embeddings"] == "128"


@pytest.mark.parametrize(("precision", "switch"), [("bf16", "bf16"), ("fp16", "fp16")])
def test_precision(precision, switch):
    assert switch in spoken(planned("gpt", "tp1-dp8", precision=precision))


@pytest.mark.parametrize("precision", [name for name, known in PRECISIONS.items() if known.narrow])
def test_narrow_precisions_are_recipes_that_megatron_core_has(precision):
    said = spoken(planned("gpt", "tp1-dp8", cluster="8xB200", precision=precision))
    assert "bf16" in said
    found = {name: value for name, value in said.items() if name.startswith("fp")}
    assert found.pop("fp8-format", None) in ("hybrid", "e4m3") or found.pop("fp4-format") == "e2m1"
    for recipe in found.values():
        assert precision.endswith(recipe)
        if (
            spec := find_spec("megatron")
        ) and spec.submodule_search_locations:  # read: importing it takes half a minute
            enums = Path(next(iter(spec.submodule_search_locations))) / "core" / "enums.py"
            assert f'{recipe} = "{recipe}"' in enums.read_text()


def test_experts():
    said = spoken(planned("mixtral", "tp2-dp4-ep2-zero1-sp", micro_batches=2))
    assert (said["num-experts"], said["moe-router-topk"], said["expert-model-parallel-size"]) == ("4", "2", "2")
    assert "moe-grouped-gemm" in said


def test_experts_that_are_cut_otherwise_than_all_else():
    def folded(name):
        return "tp2-dp4-ep4-etp1-zero1-sp" if name.startswith("layers") else "tp2-dp4-zero1-sp"

    space = StrategySpace(tp=(2,), cp=(1,), sequence_parallel=True)
    said = spoken(planned("mixtral", folded, space=space))
    assert (said["tensor-model-parallel-size"], said["expert-model-parallel-size"]) == ("2", "4")
    assert said["expert-tensor-parallel-size"] == "1"
    assert "expert-tensor-parallel-size" not in spoken(planned("mixtral", "tp2-dp4-ep2-sp"))


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("llama", {"precision": "fp32"}, "unfused attention has no context parallelism"),
        ("llama", {"cluster": "8xV100-32G", "precision": "fp16"}, "unfused attention has no context parallelism"),
    ],
)
def test_context_parallelism_that_megatron_lacks(model, changes, reason):
    plan = planned(model, "tp1-dp2-cp4-zero1", **changes)
    assert any(reason in cause for cause in express(plan))
    pins = [pin for regime in fit(plan.model, plan.cluster, plan.training, "1f1b") for pin in regime]
    assert "cp=1" in pins
    assert "cp=1" not in str(fit(load(SMALL["llama"]), preset("8xA100-80G"), Training(global_batch=8), "1f1b"))


def test_replicas_are_instances_of_the_distributed_optimizer():
    plan = planned("llama", "tp1-dp16-zero1-replicate2", cluster="2x8xA100-80G")
    assert express(plan) == []
    assert spoken(plan)["num-distributed-optimizer-instances"] == "2"
    assert "num-distributed-optimizer-instances" not in spoken(planned("llama", "tp1-dp8-zero1"))


def test_context_parallelism():
    assert spoken(planned("llama", "tp1-dp2-cp4-zero1"))["context-parallel-size"] == "4"


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_vocabulary_is_padded_as_megatron_pads_it(tp):
    plan = planned("gpt", f"tp{tp}-dp{8 // tp}" + "-sp" * (tp > 1))
    assert padded_vocabulary(plan) == 1024
    assert padded_vocabulary(plan) % (128 * tp) == 0


@given(st.data())
@settings(max_examples=25)
def test_layout_says_every_layer_in_order(data):
    count = data.draw(st.sampled_from([1, 3, 7]))
    cuts = tuple(sorted(data.draw(st.sets(st.integers(1, 7), min_size=count, max_size=count))))
    plan = planned("llama", f"tp1-dp{8 // (len(cuts) + 1)}", cuts=cuts, micro_batches=4)
    stages = unrolled(layout(plan))
    assert "".join(stages) == "E" + "t" * 6 + "L"
    assert [len(stage) for stage in stages] == [len(stage.layers) for stage in plan.stages]


PUBLISHED = "Et*2|(t*2|)*34,t*3|(t*2|)*3,tL"
"""Llama 3 70B on 64 H100 at tp 4, pp 8, vpp 5 (Megatron-Bridge, llama3_70b_pretrain_64gpu_h100_fp8cs_config)."""


def chunked(model, strategy, sizes, devices, **options):
    """A proposal whose interleaved chunks have so many layers."""
    cuts = tuple(accumulate(sizes))[:-1]
    return proposal(build(model), devices, strategy, cuts=cuts, schedule="interleaved", precision="bf16", **options)


def test_the_published_layout_of_llama3_70b_is_a_plan_that_exports_to_it():
    sizes = (3, *[2] * 34, 3, *[2] * 3, 2)
    plan = chunked("llama3-70b", "tp4-dp2-zero1-sp", sizes, 64, vpp=5, batch=256, micro_batches=128)
    assert express(plan) == []
    said = spoken(plan)
    assert said["pipeline-model-parallel-layout"] == layout(plan) == PUBLISHED
    assert [len(stage) for stage in unrolled(PUBLISHED)] == list(sizes)
    assert said["microbatch-group-size-per-virtual-pipeline-stage"] == said["pipeline-model-parallel-size"] == "8"
    assert (said["tensor-model-parallel-size"], said["micro-batch-size"], said["global-batch-size"]) == (
        "4",
        "1",
        "256",
    )
    assert "no-overlap-p2p-communication" not in said
    regimes = [Pins.of(regime) for regime in fit(plan.model, plan.cluster, plan.training, "interleaved")]
    assert any(regime.allows(plan.pp, plan.micro_batches) for regime in regimes)


def test_embedding_and_loss_may_count_as_layers_in_chunks():
    """Llama 3.1 405B on 1024 H100 at tp 8, pp 8, vpp 8: 126 layers and both ends in 64 equal chunks."""
    plan = chunked("llama3-405b", "tp8-dp16-zero1-sp", [2] * 64, 1024, vpp=8, batch=1536, micro_batches=96)
    assert express(plan) == []
    assert layout(plan) == "Et|(t*2|)*62,tL"


def test_embedding_and_loss_may_stand_alone_in_chunks():
    plan = chunked(SMALL["llama"], "tp1-dp4", (1, 2, 4, 1), 8, vpp=2, micro_batches=2)
    assert express(plan) == []
    assert layout(plan) == "E|t*2|t*4|L"


@pytest.mark.parametrize("micro_batches", [1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 30])
@pytest.mark.parametrize("pp", [2, 4])
def test_interleaved_pipelines_take_groups_that_megatron_accepts(pp, micro_batches):
    """Of P to c micro-batches, and of P or more in the last one too (its schedules.py), as in the order priced."""
    sizes = (1,) * (2 * pp - 1) + (9 - 2 * pp,)
    plan = chunked(
        SMALL["llama"], f"tp{8 // pp}-dp1-sp", sizes, 8, vpp=2, batch=840, micro_batches=micro_batches
    )  # fmt: skip
    able = micro_batches >= pp
    assert (express(plan) == []) == able
    regimes = fit(plan.model, plan.cluster, plan.training, "interleaved")
    assert any(Pins.of(regime).allows(pp, micro_batches) for regime in regimes) == able
    if able:
        group = int(spoken(plan)["microbatch-group-size-per-virtual-pipeline-stage"])
        assert pp <= group <= micro_batches
        assert micro_batches % group == 0 or micro_batches % group >= pp


def test_other_placements_of_chunks_are_refused():
    vee = proposal(build(SMALL["llama"]), 8, "tp1-dp4", cuts=(2, 4, 6), schedule="zbv", vpp=2, precision="bf16")
    assert any("runs pipelines by 1f1b or interleaved" in reason for reason in express(vee))
    pipeline = msgspec.structs.replace(vee.candidate.pipeline, schedule="interleaved")
    odd = msgspec.structs.replace(vee, candidate=msgspec.structs.replace(vee.candidate, pipeline=pipeline))
    assert any("lays chunks round the ranks" in reason for reason in express(odd))


def test_recomputing_the_first_layers_of_every_chunk_is_the_block_method():
    chosen = ["tp1-dp4"] * 8
    for first in (1, 3, 5, 6):
        chosen[first] = "tp1-dp4-full"
    plan = chunked(SMALL["llama"], chosen, (3, 2, 1, 2), 8, vpp=2, micro_batches=2)
    assert express(plan) == []
    assert (spoken(plan)["recompute-method"], spoken(plan)["recompute-num-layers"]) == ("block", "1")


def test_what_selective_recomputation_keeps_counts_for_all_chunks_of_a_rank():
    plan = chunked(SMALL["llama"], "tp1-dp4-selective", (2, 2, 2, 2), 8, vpp=2, micro_batches=8)
    assert express(plan) == []
    half = [msgspec.structs.replace(stage, memory_bytes=stage.memory_limit_bytes / 2) for stage in plan.stages]
    reasons = express(msgspec.structs.replace(plan, stages=tuple(half)))
    assert ["on pipeline rank 0" in reasons[0], "on pipeline rank 1" in reasons[1]] == [True, True]


def test_layout_refuses_what_cannot_be_run():
    assert rank_layout(planned("llama", "tp2-dp4-sp")).world == 8
    with pytest.raises(Inexpressible, match="zero3"):
        rank_layout(planned("llama", "tp2-dp4-zero3-sp"))


# --- what it cannot run -----------------------------------------------------------------------------------------


def mixed(first, rest):
    return lambda name: first if name in ("embedding", "layers.0", "layers.1") else rest


@pytest.mark.parametrize(
    ("strategy", "words_of_reason"),
    [
        (mixed("tp2-dp4-sp", "tp4-dp2-sp"), "one tensor-parallel degree"),
        (mixed("tp1-dp8", "tp1-dp8-zero1"), "one sharding"),
        ("tp1-dp8-zero2", "zero2"),
        ("tp1-dp8-zero3", "zero3"),
        (mixed("tp1-dp8-selective", "tp1-dp8-full"), "mixes"),
        (lambda name: "tp1-dp8-full" if name == "layers.3" else "tp1-dp8", "mixes"),
    ],
)
def test_reasons(strategy, words_of_reason):
    reasons = express(planned("llama", strategy))
    assert any(words_of_reason in reason for reason in reasons), reasons


def test_recomputing_the_first_layers_of_every_stage_is_the_block_method():
    def strategy(name):
        return "tp1-dp4-full" if name in ("layers.0", "layers.3") else "tp1-dp4"

    plan = planned("llama", strategy, cuts=(4,), micro_batches=4)
    assert express(plan) == []
    said = spoken(plan)
    assert (said["recompute-method"], said["recompute-num-layers"]) == ("block", "1")


def test_recomputing_unequally_many_layers_is_refused():
    def strategy(name):
        return "tp1-dp4-full" if name in ("layers.0", "layers.3", "layers.4") else "tp1-dp4"

    assert express(planned("llama", strategy, cuts=(4,), micro_batches=4))


def test_selective_recomputation_must_fit_as_megatron_does_it():
    assert express(planned("gpt", "tp1-dp8-selective")) == []
    tight = planned("llama-7b", "tp1-dp8-zero1-selective", micro_batches=2, batch=48)
    reasons = express(tight)
    assert len(reasons) == 1
    assert "GiB more on stage 0" in reasons[0]


def test_gpipe_is_refused_in_a_pipeline_only():
    assert any("gpipe" in r for r in express(planned("gpt", "tp1-dp4", cuts=(4,), micro_batches=2, schedule="gpipe")))
    assert express(planned("gpt", "tp1-dp8", schedule="gpipe")) == []


@pytest.mark.parametrize("priced", [{"tensor_overlap": "all"}, {"scatter_gather": True}], ids=str)
def test_communication_priced_as_hidden_or_in_parts_is_refused_where_it_is_neither(priced):
    def reasons(strategy, cuts=(4,)):
        return express(planned("llama", strategy, cuts=cuts, micro_batches=4, **priced))

    assert len(reasons("tp2-dp2")) == 1
    assert reasons("tp2-dp2-sp") == []
    assert reasons("tp1-dp4") == []
    assert bool(reasons("tp2-dp4", cuts=())) == ("tensor_overlap" in priced)


def test_other_models_are_refused():
    assert "family" in express(planned("vit-huge", "tp1-dp8"))[0]


def test_experts_under_tensor_parallelism_need_sequence_parallelism():
    assert any("experts" in reason for reason in express(planned("mixtral", "tp2-dp4")))
    assert express(planned("mixtral", "tp2-dp4-sp")) == []


def test_experts_need_a_model_with_experts():
    assert any("no experts" in reason for reason in express(planned("llama", "tp1-dp8-ep2")))


def test_attention_without_a_fused_kernel_must_fit():
    """A plan priced with flash attention for V100, which has none: the probabilities that stay must fit too."""
    tight = planned("bert-large", "tp1-dp8-zero1", batch=320, cluster="8xV100-32G", precision="fp16")
    assert any("not fused" in reason for reason in express(tight)), express(tight)
    assert express(planned("bert", "tp1-dp8", cluster="8xV100-32G", precision="fp16")) == []


def test_experts_are_evened_out():
    said = spoken(planned("mixtral", "tp2-dp4-zero1-sp", micro_batches=2))
    assert said["moe-router-load-balancing-type"] == "aux_loss"
    assert float(said["moe-aux-loss-coeff"]) > 0


@pytest.mark.parametrize("model", ["llama", "gpt", "bert", "mixtral"])
def test_biases_activation_positions_and_norms_of_every_family(model):
    said = spoken(planned(model, "tp2-dp4-sp"))
    llama = model in ("llama", "mixtral")
    assert ("swiglu" in said) == ("disable-bias-linear" in said) == llama
    assert said["normalization"] == ("RMSNorm" if llama else "LayerNorm")
    assert said["position-embedding-type"] == ("rope" if llama else "learned_absolute")
    assert float(said["norm-epsilon"]) > 0
