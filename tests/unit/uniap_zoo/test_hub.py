"""Configurations read without torch: what is refused, what names mean, what a row of a table gets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import uniap_zoo
from tests.unit.uniap_zoo.small_configs import COUNTED, LIKE_TRACED, small
from uniap_core import models
from uniap_core.errors import UniapError, UnknownName
from uniap_core.estimate import estimate
from uniap_core.graph import at_sequence
from uniap_zoo import hub
from uniap_zoo.catalogue import ENTRIES

KINDS = sorted(LIKE_TRACED | COUNTED)


def read(fields, sequence=64):
    return hub.graph_of(fields, "small", "", sequence, [])


def test_every_type_that_is_read_has_a_small_configuration():
    foreign = {"kimi_k2", "grok-1", "step3p5"}  # transformers has no decoder of these
    assert set(hub.readers()) - foreign == set(KINDS)


ODD = [None, True, -1, 0, 1, 3, 10**12, 1.5, "x", [], ["full_attention"], [1], {}, {"rope_type": "odd"}]


@given(st.data())
def test_whatever_a_configuration_says_it_is_read_or_left_to_the_tracer(data):
    fields = small(data.draw(st.sampled_from(KINDS)))
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2)):
        fields[name] = data.draw(st.sampled_from(ODD))
    try:
        graph = read(fields)
    except UniapError:
        return
    assert graph is None or graph.parameters > 0


@pytest.mark.parametrize(
    "more",
    [
        {"architectures": ["LlamaForSequenceClassification"]},
        {"quantization_config": {"bits": 4}},
        {"_attn_implementation": "eager"},
        {"residual_dropout": 0.1},
        {"hidden_act": "relu"},
        {"model_type": "a_type_of_tomorrow"},
        {"num_hidden_layers": 10**9},
    ],
)
def test_what_a_reader_does_not_know_is_left_to_the_tracer(more):
    assert read(small("llama")) is not None
    assert read(small("llama") | more) is None


def test_a_configuration_is_read_without_torch(tmp_path):
    folder = tmp_path / "tiny-qwen"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(small("qwen3_moe") | {"architectures": ["Qwen3MoeForCausalLM"]}))
    code = f"""
import sys
from uniap_core import models
graph = models.load("hf:{folder}", 32)
print(graph.name, graph.sequence, graph.source == "hf:{folder}", "torch" in sys.modules, "transformers" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["tiny-qwen", "32", "True", "False", "False"]


def test_what_is_counted_otherwise_than_a_trace_is_said(tmp_path):
    path = tmp_path / "oss.json"
    path.write_text(json.dumps(small("gpt_oss")))
    told = []
    models.load(f"hf:{path}", emit=told.append)
    assert ["one kernel" in event.text for event in told] == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_at_another_sequence_a_graph_is_the_one_that_is_read_there(kind):
    assert at_sequence(read(small(kind), 48), 512).layers == read(small(kind), 512).layers


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gemma3-4b", "mistral-nemo-12b"])
def test_windows_count_the_keys_that_are_seen(name):
    graph = uniap_zoo.build(name, 32768)
    full = [op for layer in graph.layers for op in layer.operators if op.kind == "attention"]
    windows = {op.window for op in full}
    assert windows == {"gpt-oss-20b": {0, 128}, "gemma3-4b": {0, 1024}, "mistral-nemo-12b": {0}}[name]


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.hub])
def test_a_name_of_the_hub_is_the_short_name_in_any_case(name):
    for spelled in ENTRIES[name].hub:
        assert uniap_zoo.catalogue.meant(spelled) == name
        assert uniap_zoo.catalogue.meant(spelled.upper()) == name


def test_commands_take_any_spelling_and_suggest_close_ones():
    assert models.load("qwen/qwen3-0.6B").layers == models.load("qwen3-0.6b").layers
    assert models.load("Qwen/Qwen3-0.6B", 512).sequence == 512
    with pytest.raises(UnknownName) as caught:
        models.load("Qwen/Qwen3-30b-a3")
    assert "Qwen/Qwen3-30B-A3B" in caught.value.fix


def test_layers_that_predict_further_come_with_the_name():
    plain, more = uniap_zoo.build("deepseek-v3"), uniap_zoo.build("deepseek-v3:mtp=1")
    # 11.5 B of its own, beside embedding and head, which it shares (arXiv 2412.19437, README of the weights).
    assert more.parameters - plain.parameters == pytest.approx(11.5e9, rel=0.02)
    assert [layer.name for layer in more.layers[-2:]] == ["mtp.0", "head"]
    assert models.load(more.source.removeprefix("zoo:")).layers == more.layers
    for name, word in (
        ("qwen3-8b:mtp=1", "multi-token"),
        ("qwen3-8b:mtp=x", "whole number"),
        ("qwen3-8b:a=1", "seq, mtp"),
    ):
        with pytest.raises(UniapError) as caught:
            uniap_zoo.build(name)
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["qwen3-8b", "deepseek-v2-lite", "nemotron-h-8b", "deepseek-v3:mtp=1"])
def test_fused_kernels_keep_less_and_the_same_weights(name):
    eager = uniap_zoo.build(name)
    fused = models.with_kernels(eager, "fused")
    assert fused.parameters == eager.parameters
    assert fused.architecture["kernels"] == "fused"
    assert sum(x.saved_bytes(1, 512) for x in fused.layers) < sum(x.saved_bytes(1, 512) for x in eager.layers)
    assert models.with_kernels(fused, "eager") == eager


def test_a_row_that_names_a_model_and_says_nothing_of_it_gets_that_model():
    row = {"gpu": "H100-80GB", "num_gpus": "8", "gpus_per_node": "8", "tp": "1", "pp": "1", "dp": "8", "seq": "1024"}
    row |= {"system": "Megatron-Bridge", "global_batch": "8", "micro_batch": "1", "recompute": "full"}
    row |= {"sharding": "zero3", "precision": "bf16"}
    rows = [row | {"model": name} for name in ("Qwen/Qwen3-Next-80B-A3B-Instruct", "state-spaces/mamba2-2.7b")]
    rows.append(row | {"model": "Qwen/Qwen3-VL-30B-A3B-Instruct", "mtp": "1"})
    priced = estimate(rows)
    assert all(each["pred_iter_time_s"] for each in priced)
    assert "the language part alone" in priced[2]["pred_note"]
    assert "no layers of multi-token prediction" in priced[2]["pred_note"]
