"""What models and frameworks are known for by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.uniap_zoo.known_sizes import KNOWN
from uniap_core import cluster as clusters
from uniap_core.estimate import parse, predict, pricer
from uniap_core.estimate.published import filled
from uniap_core.models import Hyperparameters
from uniap_core.system import Stack

ROW = {"gpu": "A100-80GB", "num_gpus": "16", "gpus_per_node": "8", "tp": "4", "pp": "2", "dp": "2", "seq": "2048"}
ROW |= {"model": "GPT", "layers": "8", "hidden": "2048", "heads": "16", "global_batch": "32", "micro_batch": "2"}


@given(st.sampled_from(sorted(KNOWN)), st.integers(1, 64))
def test_a_row_with_its_own_sizes_keeps_them(name: str, layers: int) -> None:
    notes: list[str] = []
    own = Hyperparameters(layers=layers, hidden=1000, heads=8)
    assert filled(name, own, notes) == own
    same = filled(name, Hyperparameters(layers=layers, hidden=KNOWN[name].hidden), notes)
    assert (same.layers, same.head_size, same.experts) == (layers, KNOWN[name].head_size, KNOWN[name].experts)


def test_the_width_of_an_expert_is_the_published_one() -> None:
    shape = filled("Qwen3-30B-A3B", Hyperparameters(layers=48, hidden=2048, ffn=6144), [])
    assert (shape.ffn, shape.experts, shape.top_k) == (768, 128, 8)


def test_unknown_mixtures_are_not_priced_as_dense_models() -> None:
    from uniap_core.errors import BadValue

    for model in ("Ling-16B-A2.4B", "Somebody-MoE", "llama4-17b-16e"):
        with pytest.raises(BadValue, match="mixtral model cannot be built"):
            parse(ROW | {"model": model, "hidden": "1536"}, [])


@pytest.mark.parametrize(
    ("system", "gpu", "version"),
    [
        ("NeMo Framework 24.07 (Megatron-Core)", "H100-80G", 3),
        ("NeMo Framework 24.07 (Megatron-Core)", "A100-80G", 2),
        ("MosaicML llm-foundry/Composer PyTorch FSDP", "H100-80G", 1),
        ("torchtitan FSDP + torch.compile", "H100-80G", 2),
        ("", "H100-80G", 2),
    ],
)
def test_which_fused_attention_a_framework_has(system: str, gpu: str, version: int) -> None:
    assert Stack(system).flash_version(clusters.load(f"8x{gpu}")) == version


@pytest.mark.parametrize(
    ("system", "shardings"),
    [("NeMo Framework 24.07", ("zero1",)), ("PyTorch FSDP", ("zero3",)), ("DeepSpeed ZeRO-2", ("zero2",))],
)
def test_a_framework_may_say_what_is_sharded(system: str, shardings: tuple[str, ...]) -> None:
    row = ROW | {"system": system, "pp": "1", "dp": "4"}
    assert parse(row, []).space.shardings == shardings
    assert parse(row | {"sharding": "none"}, []).space.shardings == ("none",)


def test_which_collectives_of_tensor_parallelism_a_framework_hides() -> None:
    assert [Stack("NeMo 24.07").tensor_overlap(era) for era in (1, 3)] == ["all", "all"]
    assert [Stack("Megatron-LM").tensor_overlap(era) for era in (0, 1, 2)] == ["none", "backward", "backward"]
    assert Stack("torchtitan async TP").tensor_overlap(2) == Stack("").tensor_overlap(2) == "none"


def test_kernels_are_those_of_eager_pytorch_unless_something_fuses_them() -> None:
    named = {"": "eager", "torchtitan FSDP": "eager", "torchtitan + torch.compile": "fused", "Megatron-LM": "fused"}
    for system, kernels in named.items():
        assert Stack(system).kernels == kernels


def test_megatron_recomputed_everything_before_it_had_another_way() -> None:
    old = ROW | {"precision": "fp16", "sharding": "none"}
    assert parse(old | {"system": "Megatron-LM v2.0 (2020-09)"}, []).space.recomputes == ("full",)
    assert len(parse(old | {"system": "OneFlow"}, []).space.recomputes) > 1
    assert len(parse(old | {"system": "Megatron-LM", "gpu": "H100"}, []).space.recomputes) > 1


def test_buckets_of_deepspeed_are_counted() -> None:
    row = ROW | {"precision": "fp16", "sharding": "zero1", "recompute": "full"}
    plain, buckets = (
        predict(parse(row | {"system": system}, []), pricer("analytic")).memory_bytes
        for system in ("Megatron-LM", "Megatron-DeepSpeed")
    )
    assert buckets - plain == pytest.approx(2e9)
