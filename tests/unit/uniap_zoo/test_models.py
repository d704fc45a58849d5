"""Every named model: parameters, structure, FLOPs."""

import json
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import uniap_zoo
from uniap_core import artifact
from uniap_core.graph import ModelGraph
from uniap_zoo.bert import bert
from uniap_zoo.gpt import gpt
from uniap_zoo.llama import llama
from uniap_zoo.mixtral import mixtral
from uniap_zoo.swin import swin
from uniap_zoo.t5 import t5

# What the Hugging Face model of the same configuration has; tests/unit/uniap_torch counts it again.
PARAMETERS = {
    "bert-huge": 672_721_724,
    "bert-large": 336_226_108,
    "bert-base": 110_106_428,
    "t5-large": 737_668_096,
    "t5-base": 222_903_552,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "vit-huge": 632_199_400,
    "swin-huge": 1_016_178_840,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3-405b": 405_853_388_800,
    "mixtral-8x7b": 46_702_792_704,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-1.3b": 1_315_723_264,
    "gpt3-2.7b": 2_651_553_280,
    "gpt3-6.7b": 6_658_404_352,
    "gpt3-13b": 12_853_386_240,
    "gpt3-175b": 174_604_259_328,
}
COUNTED = json.loads((Path(__file__).parents[2] / "data" / "zoo_parameters.json").read_text())
PARAMETERS |= {name: row["parameters"] for name, row in COUNTED.items()}  # bench/zoo_parameters.py counts them


@pytest.mark.parametrize("name", uniap_zoo.names())
def test_parameters_are_exact_and_agree_with_the_published_figure(name):
    graph = uniap_zoo.build(name)
    assert graph.parameters == PARAMETERS[name]
    assert graph.parameters == pytest.approx(_figure(uniap_zoo.catalogue.ENTRIES[name].published), rel=0.025)


ACTIVE = {name: entry.active for name, entry in uniap_zoo.catalogue.ENTRIES.items() if entry.active}

ROUNDED = ("granite4-h-tiny", "glm-4.7-flash")  # "1 B" is 1.2 B without the embedding, "A3B" 3.3 B


@pytest.mark.parametrize("name", [name for name in ACTIVE if name not in ROUNDED])
def test_active_parameters_agree_with_the_published_figure(name):
    """Figures leave out embedding and head, or one of them, and are round."""
    graph = uniap_zoo.build(name)
    vocabulary = 2 * graph.layers[0].own_parameters
    published = _figure(ACTIVE[name])
    assert published * 0.93 - vocabulary <= graph.active_parameters <= published * 1.07 + vocabulary


def _figure(text: str) -> float:
    figure, unit = text.split()
    return float(figure) * {"M": 1e6, "B": 1e9, "T": 1e12}[unit]


@pytest.mark.parametrize("name", uniap_zoo.names())
def test_the_graph_is_connected_and_acyclic_with_one_loss(name):
    graph = uniap_zoo.build(name)
    dag = graph.network
    assert nx.is_directed_acyclic_graph(dag)
    assert nx.is_weakly_connected(dag)
    assert [n for n in dag if dag.out_degree(n) == 0] == ["head"]
    assert graph.layers[-1].operators[-1].kind == "loss"
    assert all(layer.module for layer in graph.layers)
    assert graph.source == f"zoo:{name}"
    assert graph.architecture["family"] == graph.family


@pytest.mark.parametrize("name", uniap_zoo.names())
def test_layers_are_listed_in_an_order_of_execution(name):
    graph = uniap_zoo.build(name)
    place = {layer.name: i for i, layer in enumerate(graph.layers)}
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)


@pytest.mark.parametrize("name", uniap_zoo.names())
def test_tied_weights_name_an_operator_of_the_same_size(name):
    graph = uniap_zoo.build(name)
    operators = {f"{layer.name}/{op.name}": op for layer in graph.layers for op in layer.operators}
    assert len(operators) == sum(len(layer.operators) for layer in graph.layers)
    for op in operators.values():
        if op.tied:
            assert operators[op.tied].parameters == op.parameters
            assert not operators[op.tied].tied


@pytest.mark.parametrize("name", ["llama-7b", "t5-large", "swin-huge", "mixtral-8x7b"])
def test_a_graph_survives_its_file(name, tmp_path):
    graph = uniap_zoo.build(name)
    artifact.write(tmp_path / "graph.json", graph)
    again = artifact.read(tmp_path / "graph.json", ModelGraph)
    assert again == graph
    assert again.hash == graph.hash


def test_llama_7b_has_34_layers_of_three_kinds():
    graph = uniap_zoo.build("llama-7b")
    assert [len(graph.layers), graph.layers[0].name, graph.layers[1].name, graph.layers[-1].name] == [
        34,
        "embedding",
        "layers.0",
        "head",
    ]
    assert len({layer.signature() for layer in graph.layers}) == 3


def test_t5_feeds_every_decoder_block_with_one_tensor():
    graph = uniap_zoo.build("t5-large")
    crossing = [edge for edge in graph.edges if edge.tensor == "encoder.norm.out"]
    assert [edge.target for edge in crossing] == [f"decoder.layers.{i}" for i in range(24)]
    assert graph.network.in_degree("decoder.layers.7") == 2


def test_swin_merges_halve_the_side_and_double_the_width():
    graph = uniap_zoo.build("swin-huge")
    into = {edge.target: edge for edge in graph.edges}
    merges = [layer.name for layer in graph.layers if layer.kind == "merge"]
    assert merges == ["stages.0.merge", "stages.1.merge", "stages.2.merge"]
    shapes = [(into[m].rows.fixed, into[m].width) for m in (*merges, "head")]
    assert shapes == [(3136, 320), (784, 640), (196, 1280), (49, 2560)]


def test_forward_flops_of_the_papers_models():
    # counted by torch's FlopCounterMode on the Hugging Face models (meta device, one sample)
    for name, sequence, teraflops in [
        ("t5-large", 512, 0.833),
        ("vit-huge", None, 0.255),
        ("swin-huge", None, 0.377),
    ]:
        assert uniap_zoo.build(name, sequence).flops(1) / 1e12 == pytest.approx(teraflops, abs=6e-4)


sizes = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 4),
        "heads": st.sampled_from([1, 2, 4, 8]),
        "ffn": st.integers(1, 300),
        "vocab": st.integers(1, 999),
        "sequence": st.integers(1, 300),
    }
)


@given(sizes=sizes, size=st.integers(1, 40), batch=st.integers(1, 7))
def test_llama_follows_its_formulas(sizes, size, batch):
    layers, ffn, vocab, sequence = (sizes[k] for k in ("layers", "ffn", "vocab", "sequence"))
    hidden = size * sizes["heads"]
    graph = llama(hidden=hidden, kv_heads=1, **sizes)
    attention = 2 * hidden**2 + 2 * hidden * size
    block = attention + 3 * hidden * ffn
    assert graph.parameters == layers * (block + 2 * hidden) + 2 * vocab * hidden + hidden
    products = layers * block + vocab * hidden
    scores = layers * 2 * sequence * hidden
    assert graph.flops(batch) == pytest.approx(2.0 * batch * sequence * (products + scores))


@given(sizes=sizes, size=st.integers(1, 40))
def test_gpt_and_bert_blocks_have_the_same_products(sizes, size):
    hidden = size * sizes["heads"]
    g, b = gpt(hidden=hidden, **sizes), bert(hidden=hidden, **sizes)
    block = 4 * hidden**2 + 2 * hidden * sizes["ffn"] + 9 * hidden + sizes["ffn"]
    for graph in (g, b):
        assert graph.layers[1].parameters == block
        assert graph.layers[1].flops(1, 10) == 20 * (4 * hidden**2 + 2 * hidden * sizes["ffn"]) + 400 * hidden
    assert g.parameters == sizes["layers"] * block + (sizes["vocab"] + sizes["sequence"] + 2) * hidden


@given(sizes=sizes, kv=st.sampled_from([1, 2, 4, 8]), size=st.integers(1, 20), top_k=st.integers(1, 4))
def test_fused_kernels_keep_less_and_compute_the_same(sizes, kv, size, top_k):
    kv = min(kv, sizes["heads"])
    for build, more in ((llama, {}), (mixtral, {"experts": 4, "top_k": top_k})):
        eager, fused = (
            build(hidden=size * sizes["heads"], kv_heads=kv, kernels=k, **sizes, **more) for k in ("eager", "fused")
        )
        assert fused.parameters == eager.parameters
        assert fused.flops(3) == eager.flops(3)
        for a, b in zip(eager.layers[1:], fused.layers[1:], strict=True):
            assert b.saved_bytes(1, 64) < a.saved_bytes(1, 64)


def test_dropout_and_the_addition_behind_it_may_be_one_kernel():
    eager, fused = (gpt(layers=1, hidden=64, heads=4, kernels=k).layers[1] for k in ("eager", "fused"))
    moved = [sum(o.passes for o in x.operators if o.name in ("dropout_mlp", "residual_mlp")) for x in (eager, fused)]
    assert moved[1] < moved[0]
    assert eager.saved_bytes(1, 64) == fused.saved_bytes(1, 64)


@given(sizes=sizes, batch=st.integers(1, 9))
def test_counts_grow_in_proportion_to_the_batch(sizes, batch):
    for graph in (gpt(hidden=16, **sizes), t5(hidden=16, **sizes), mixtral(hidden=16, experts=3, **sizes)):
        for layer in graph.layers:
            assert layer.flops(batch, 32) == pytest.approx(batch * layer.flops(1, 32))
            assert layer.saved_bytes(batch, 32) == pytest.approx(batch * layer.saved_bytes(1, 32))


def test_a_mixture_holds_all_experts_and_computes_some():
    graph = mixtral(layers=1, hidden=64, heads=4, ffn=128, experts=8, top_k=2, vocab=100, sequence=32)
    experts = [op for op in graph.layers[1].operators if op.kind == "grouped_gemm"]
    assert sum(op.parameters for op in experts) == 8 * 3 * 64 * 128
    assert sum(op.flops(1, 32) for op in experts) == 2 * 2 * 32 * 3 * 64 * 128


def test_only_shifted_windows_keep_a_bias_per_window():
    graph = swin(depths=(2, 2), width=32, heads=(2, 4), image=56, classes=10)
    kept = {layer.name: layer.saved_bytes(1, 1) for layer in graph.layers}
    assert kept["stages.0.layers.1"] - kept["stages.0.layers.0"] == 14 * 14 * 2 * 49 * 2
    assert kept["stages.1.layers.0"] == kept["stages.1.layers.1"], "one window is the whole image"


def test_kept_bytes_of_a_llama_block_as_measured():
    # torch 2.13, transformers 5.23, two samples of 128 positions; saved_tensors_hooks, parameters excluded
    graph = llama(layers=2, hidden=256, heads=8, ffn=768, vocab=1000, sequence=128)
    assert graph.layers[1].saved_bytes(2, 128, 2) == 3_155_968
    assert graph.layers[1].saved_bytes(2, 128, 4) == 5_777_408
