"""Packed batches: documents up to a stated number of tokens on each device in every micro-batch."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

import uniap
from uniap_core import models, plan
from uniap_core.cli import register
from uniap_core.errors import BadValue, UsageError
from uniap_core.packing import packed
from uniap_core.report.page import page
from uniap_core.search import make
from uniap_core.verify.devices import batch

TINY = "llama:layers=2,hidden=1024,heads=8,ffn=4096,vocab=1000,seq=512"


def test_a_pack_has_the_rows_of_its_tokens_and_the_attention_of_its_documents():
    graph = models.load(TINY)
    pack = packed(graph, 4096)
    assert pack.sequence == 4096
    assert pack.parameters == graph.parameters
    for one, many in zip(graph.layers, pack.layers, strict=True):
        assert many.saved_bytes(1, 4096) == 8 * one.saved_bytes(1, 512)
        assert many.flops(1, 4096) == 8 * one.flops(1, 512)
    assert packed(graph, 512).flops(1) == graph.flops(1)


def test_every_device_has_one_pack_in_every_micro_batch():
    found = uniap.plan(TINY, "4xH100-80G", 64, tokens_per_device=4096).plan
    assert (found.global_batch, found.sequence, found.training.documents) == (8, 4096, 512)
    assert {layer.strategy.dp * found.micro_batches for layer in found.layers} == {8}
    assert {layer.strategy.cp for layer in found.layers} == {1}
    assert found.predicted.tokens_per_s == pytest.approx(8 * 4096 / found.predicted.iteration_time_s)
    pins = [f"dp={found.layers[0].strategy.dp}", f"c={found.micro_batches}"]
    whole = uniap.plan(TINY, "4xH100-80G", 8, seq=4096, pins=pins).plan
    assert whole.predicted.iteration_time_s > found.predicted.iteration_time_s  # attention over all of the pack


def test_a_plan_of_packs_is_kept_and_told(tmp_path):
    found = uniap.plan(TINY, "2xH100-80G", 16, tokens_per_device=2048, pins=["dp=2"]).plan
    plan.write(tmp_path / "plan.json", found)
    assert plan.read(tmp_path / "plan.json") == found
    assert "--batch 16 --seq 512 --tokens-per-device 2048" in page(found)
    layers = tuple(
        msgspec.structs.replace(x, strategy=msgspec.structs.replace(x.strategy, dp=1, tp=2)) for x in found.layers
    )
    edited = msgspec.structs.replace(found.proposal, layers=layers)
    assert batch(found.proposal).passed
    assert "takes one each" in batch(edited).evidence


@pytest.mark.parametrize(
    ("documents", "tokens", "words"),
    [(64, 500, "hold no document"), (3, 1024, "multiple of 2"), (1, 1024, "do not fill")],
)
def test_packs_that_documents_do_not_fill_are_refused(documents, tokens, words):
    with pytest.raises((BadValue, UsageError), match=words) as refused:
        make(TINY, "2xH100-80G", documents, tokens_per_device=tokens)
    assert refused.value.fix


def test_images_are_not_packed_and_executors_refuse_packs():
    with pytest.raises(BadValue, match="no sequence"):
        packed(models.load("vit-huge"), 4096)
    for executor in ("fsdp", "megatron", "torchtitan"):
        with pytest.raises(UsageError, match="not packs of documents"):
            make(TINY, "8xH100-80G", 64, tokens_per_device=2048, executor=executor)
    done = CliRunner().invoke(register(), ["plan", TINY, "-c", "1xH100-80G", "-b", "8", "--tokens-per-device", "2048"])
    assert done.exit_code == 0, done.output
