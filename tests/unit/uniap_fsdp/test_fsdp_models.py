"""Traced models, mixed precision, and the library face."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsdp_parity as parity
import pytest
from fsdp_plans import proposal
from fsdp_ranks import Ranks

from uniap_core.api import Inexpressible, Job
from uniap_zoo import build

pytestmark = pytest.mark.torch

World = Callable[[int], Ranks]
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": SIZES | {"num_key_value_heads": 2, "vocab_size": 64, "architectures": ["LlamaForCausalLM"]},
    "bert": SIZES | {"vocab_size": 64, "max_position_embeddings": 32, "architectures": ["BertForPreTraining"]},
    "vit": SIZES | {"image_size": 16, "patch_size": 4, "architectures": ["ViTForImageClassification"]},
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 64,
        "n_positions": 32,
        "architectures": ["GPT2LMHeadModel"],
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 1,
        "num_heads": 4,
        "vocab_size": 64,
        "architectures": ["T5ForConditionalGeneration"],
    },
}
MIXED = "tp1-dp2-zero3 tp2-dp1-sp tp2-dp1-full-sp tp2-dp1-sp"
PLANS = {
    "llama": (MIXED, (2,)),
    "bert": (MIXED, (2,)),
    "vit": (MIXED, (2,)),
    "gpt2": ("tp1-dp2-zero3 tp1-dp2 tp1-dp2-full tp1-dp2-zero1", (1,)),
    "t5": ("tp1-dp1", (1, 3, 4)),
}


def traced(kind: str, folder: Path) -> Any:
    pytest.importorskip("transformers")
    from uniap_torch.trace import trace

    path = folder / f"{kind}.json"
    path.write_text(json.dumps({"model_type": kind, **CONFIGS[kind]}))
    return trace(f"hf:{path}", None if kind == "vit" else 16)


@pytest.mark.parametrize("kind", PLANS)
def test_a_traced_model_trains_as_one_process_does(kind: str, world: World, tmp_path: Path) -> None:
    graph = traced(kind, tmp_path)
    job = Job(steps=3, learning_rate=1e-4)
    reference = world(1).run(parity.alone, graph, 8, job, "sgd")[0]
    names, cuts = PLANS[kind]
    chosen: Any = names.split() if " " in names else names
    plan = proposal(graph, 4, chosen, cuts=cuts, optimizer="sgd", micro_batches=4 if len(cuts) > 2 else 2)
    parity.compare(reference, world(4).run(parity.under_plan, plan, job))


@pytest.mark.parametrize("strategy", ["tp2-dp2", "tp2-dp2-zero3-sp"])
@pytest.mark.parametrize("kind", ["qwen3", "olmo2"])
def test_norms_of_queries_and_keys_get_whole_gradients(kind: str, strategy: str, world: World, tmp_path: Path) -> None:
    """With steps so large that a rank's own heads alone would leave another weight; olmo2's norms span all heads."""
    pytest.importorskip("transformers")
    from hf_models import write_config
    from uniap_torch.trace import trace

    graph = trace(f"hf:{write_config(tmp_path, kind, initializer_range=0.3)}", 16)
    job = Job(steps=1, learning_rate=1.0, clip_norm=None)
    reference = world(1).run(parity.alone, graph, 8, job, "sgd")[0]
    parity.compare(reference, world(4).run(parity.under_plan, proposal(graph, 4, strategy, optimizer="sgd"), job))


@pytest.mark.parametrize(("kind", "words"), [("gpt2", "a Conv1D"), ("t5", "bias per head")])
def test_a_split_that_would_be_wrong_is_refused(kind: str, words: str, tmp_path: Path) -> None:
    from uniap_fsdp.dry import layout

    with pytest.raises(Inexpressible, match=words):
        layout(proposal(traced(kind, tmp_path), 2, "tp2-dp1-sp"))


def test_a_search_is_told_which_layers_cannot_be_split(tmp_path: Path) -> None:
    from uniap_core.errors import UsageError
    from uniap_core.search import make, sweep

    graph = traced("gpt2", tmp_path)
    plan = sweep(make(graph, "4xA100-40G", 8, executor="fsdp")).plan
    assert plan.regime[:2] == ("layers.0:tp=1", "layers.1:tp=1")
    with pytest.raises(UsageError, match="considers tp 1; fsdp runs nothing else here"):
        sweep(make(graph, "4xA100-40G", 8, executor="fsdp", pins=["layers.1:tp=2"]))


GRAPH = build("llama:layers=4,hidden=32,heads=4,ffn=64,vocab=64,seq=16,tied=true")


@pytest.mark.parametrize(
    ("strategies", "cuts", "options"),
    [
        ("tp1-dp2 tp2-dp1-sp tp1-dp2-zero3-full tp2-dp1-selective tp1-dp2-zero2 tp1-dp2-zero1", (2,), {}),
        ("tp2-dp2-sp", (), {}),
        ("tp1-dp1", (1, 3, 4), {}),
        ("tp1-dp2 tp2-dp1-sp tp1-dp2-zero1 tp2-dp1 tp1-dp2 tp1-dp2-zero1", (1, 3, 4), {"schedule": "zbv", "vpp": 2}),
    ],
)
def test_mixed_precision_follows_single_precision(
    strategies: str, cuts: tuple[int, ...], options: dict[str, Any], world: World
) -> None:
    losses, _, _ = world(1).run(parity.alone, GRAPH, 8)[0]
    chosen: Any = strategies.split() if " " in strategies else strategies
    results = world(4).run(parity.under_plan, proposal(GRAPH, 4, chosen, cuts=cuts, precision="bf16", **options))
    for got, parameters, _ in results:
        assert got == pytest.approx(losses, rel=2e-3)
        assert {str(value.dtype) for _, value in parameters.values()} == {"float32"}


def own_loop(steps: int) -> list[float]:
    """A training loop of one's own around ``parallelize``."""
    import torch
    import torch.distributed as dist
    import uniap_fsdp
    from uniap_fsdp.data import Stream
    from uniap_fsdp.source import fill_all, load

    source = load(GRAPH)
    model = fill_all(source.model, 0)
    parallel = uniap_fsdp.parallelize(model, proposal(GRAPH, 4, "tp2-dp1-sp", cuts=(3,), optimizer="sgd"))
    module, schedule = parallel
    assert schedule is parallel.schedule
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, foreach=False)
    stream = Stream(source.task, 8, 0, (64,))
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        share = parallel.step(*stream.step(step))
        optimizer.step()
        loss = share.detach() / parallel.replicas_of_loss
        dist.all_reduce(loss)
        losses.append(float(loss))
    return losses


def test_the_library_face_trains_in_ones_own_loop(world: World) -> None:
    job = Job(steps=3, clip_norm=None)
    losses, _, _ = world(1).run(parity.alone, GRAPH, 8, job, "sgd")[0]
    for got in world(4).run(own_loop, 3):
        assert got == pytest.approx(losses, rel=1e-5)
