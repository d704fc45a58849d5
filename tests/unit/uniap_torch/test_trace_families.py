"""The tracer and the zoo, each held against the other and against torch."""

import json

import pytest

import uniap_zoo
from uniap_zoo.catalogue import ENTRIES

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from uniap_torch import sources  # noqa: E402
from uniap_torch.trace import trace  # noqa: E402

from tests.unit.uniap_torch.traced_models import kept_bytes, layer_bytes  # noqa: E402

SMALL = {
    "bert": (
        "bert:layers=2,hidden=64,heads=4,vocab=500,seq=96",
        {
            "architectures": ["BertForPreTraining"],
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "vocab_size": 500,
        },
    ),
    "t5": (
        "t5:layers=2,decoder_layers=3,hidden=64,heads=4,head_size=24,ffn=160,vocab=500,seq=96",
        {
            "d_model": 64,
            "d_kv": 24,
            "d_ff": 160,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "vocab_size": 500,
        },
    ),
    "vit": (
        "vit:layers=2,hidden=64,heads=4,image=64,classes=10",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "image_size": 64,
            "num_labels": 10,
        },
    ),
    "swin": (
        "swin:depths=2/2/2,width=32,heads=2/4/8,image=112,classes=10",
        {"embed_dim": 32, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "image_size": 112, "num_labels": 10},
    ),
    "llama": (
        "llama:layers=2,hidden=64,heads=8,kv_heads=2,ffn=176,vocab=500,seq=96",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 176,
            "vocab_size": 500,
        },
    ),
    "gpt2": (
        "gpt:layers=2,hidden=64,heads=4,vocab=500,positions=128,seq=96",
        {
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": 500,
            "n_positions": 128,
            "activation_function": "gelu_pytorch_tanh",
        },
    ),
    "mixtral": (
        "mixtral:layers=2,hidden=64,heads=8,kv_heads=2,ffn=112,experts=4,top_k=2,vocab=500,seq=96",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "intermediate_size": 112,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "vocab_size": 500,
        },
    ),
}


@pytest.fixture(scope="module", params=SMALL)
def pair(request, tmp_path_factory):
    """A traced graph and the zoo's graph of the same architecture."""
    name, config = SMALL[request.param]
    path = tmp_path_factory.mktemp(request.param) / "config.json"
    path.write_text(json.dumps(config | {"model_type": request.param}))
    zoo = uniap_zoo.build(name)
    words = request.param not in ("vit", "swin")
    return trace(f"hf:{path}", zoo.sequence if words else None), zoo


def test_parameters_are_equal(pair):
    traced, zoo = pair
    assert traced.parameters == zoo.parameters
    for a, b in zip(traced.layers, zoo.layers, strict=True):
        assert a.parameters == b.parameters, a.name
        assert a.own_parameters == b.own_parameters, a.name


def test_flops_are_equal(pair):
    traced, zoo = pair
    for a, b in zip(traced.layers, zoo.layers, strict=True):
        assert a.flops(3, traced.sequence) == pytest.approx(b.flops(3, zoo.sequence), rel=0.01), a.name


@pytest.mark.parametrize("element_bytes", [2, 4])
def test_kept_bytes_are_equal(pair, element_bytes):
    traced, zoo = pair
    assert kept_bytes(traced, 3, element_bytes) == pytest.approx(kept_bytes(zoo, 3, element_bytes), rel=0.02)
    for a, b in zip(traced.layers, zoo.layers, strict=True):
        if "attention" in {op.kind for op in b.operators}:
            for selective in (False, True):
                kept = layer_bytes(a, traced.sequence, 3, element_bytes, selective)
                wanted = layer_bytes(b, zoo.sequence, 3, element_bytes, selective)
                assert kept == pytest.approx(wanted, rel=0.05), (a.name, selective)


def test_dropout_masks_are_equal(pair):
    def masks(graph):
        return sum(
            op.saved_bytes(1, graph.sequence, 2)
            for layer in graph.layers
            for op in layer.operators
            if op.name.startswith("dropout")
        )

    assert masks(pair[0]) == masks(pair[1])


def test_the_data_flow_is_the_same(pair):
    def flow(graph):
        place = {layer.name: i for i, layer in enumerate(graph.layers)}
        return sorted(
            (place[e.source], place[e.target], e.rows.at(graph.sequence) * e.width, e.rows.per_position)
            for e in graph.edges
        )

    traced, zoo = pair
    assert flow(traced) == flow(zoo)
    assert len({e.tensor for e in traced.edges}) == len({e.tensor for e in zoo.edges})


def test_layers_have_the_same_kinds_and_modules(pair):
    traced, zoo = pair
    assert [layer.kind for layer in traced.layers] == [layer.kind for layer in zoo.layers]
    assert traced.family == zoo.family
    for a, b in zip(traced.layers, zoo.layers, strict=True):
        if "layers." in b.name:
            assert a.module == b.module
            assert a.name == b.name


def test_blocks_of_one_shape_have_one_signature(pair):
    traced, zoo = pair
    assert len({x.signature() for x in traced.layers}) == len({x.signature() for x in zoo.layers})


def test_tensor_parallelism_splits_the_same_work(pair):
    """Per block: parameters by split, entries of regions, kept elements that are divided."""

    def split(layer, sequence):
        parts = {}
        for op in layer.operators:
            if op.kind in ("gemm", "grouped_gemm", "attention"):
                parts[op.split] = parts.get(op.split, 0) + op.flops(1, sequence)
        entries = sum(op.entry for op in layer.operators)
        divided = sum(op.rows.at(sequence) * s.width for op in layer.operators for s in op.saved if s.split)
        return {key: value for key, value in parts.items() if value}, entries, divided

    traced, zoo = pair
    for a, b in zip(traced.layers, zoo.layers, strict=True):
        if "layers." in b.name:
            assert split(a, traced.sequence) == split(b, zoo.sequence), a.name


def test_the_architecture_speaks_the_zoos_words(pair):
    traced, zoo = pair
    shared = set(traced.architecture) & set(zoo.architecture)
    assert {"family", "layers", "hidden"} <= shared
    assert {k: traced.architecture[k] for k in shared} == {k: zoo.architecture[k] for k in shared}


def test_lengths_follow_the_sequence(pair):
    """A graph traced at one length prices another: FLOPs at twice the positions are those of the zoo."""
    longer = 2 * pair[1].sequence
    flops = [sum(layer.flops(1, longer) for layer in graph.layers) for graph in pair]
    assert flops[0] == pytest.approx(flops[1], rel=0.01)


CONFIGS = {
    "bert-huge": lambda t: t.BertForPreTraining(
        t.BertConfig(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120)
    ),
    "t5-large": lambda t: t.T5ForConditionalGeneration(
        t.T5Config(d_model=1024, d_kv=64, d_ff=4096, num_layers=24, num_heads=16)
    ),
    "t5-base": lambda t: t.T5ForConditionalGeneration(
        t.T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    ),
    "t5-3b": lambda t: t.T5ForConditionalGeneration(
        t.T5Config(d_model=1024, d_kv=128, d_ff=16384, num_layers=24, num_heads=32)
    ),
    "t5-11b": lambda t: t.T5ForConditionalGeneration(
        t.T5Config(d_model=1024, d_kv=128, d_ff=65536, num_layers=24, num_heads=128)
    ),
    "vit-huge": lambda t: t.ViTForImageClassification(
        t.ViTConfig(
            hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120, num_labels=1000
        )
    ),
    "swin-huge": lambda t: t.SwinForImageClassification(
        t.SwinConfig(embed_dim=320, depths=[2, 2, 42, 2], num_heads=[8, 16, 32, 64], num_labels=1000)
    ),
    "mixtral-8x7b": lambda t: t.MixtralForCausalLM(t.MixtralConfig()),
}


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if not entry.config])
def test_named_models_have_the_parameters_of_the_hugging_face_model(name):
    zoo = uniap_zoo.build(name)
    a = zoo.architecture
    with torch.device("meta"), sources.advice_off():
        if zoo.family == "llama":
            config = transformers.LlamaConfig(
                hidden_size=a["hidden"],
                num_hidden_layers=a["layers"],
                num_attention_heads=a["heads"],
                num_key_value_heads=a["kv_heads"],
                intermediate_size=a["ffn"],
                vocab_size=a["vocab"],
            )
            model = transformers.LlamaForCausalLM(config)
        elif zoo.family == "gpt":
            config = transformers.GPT2Config(
                n_embd=a["hidden"], n_layer=a["layers"], n_head=a["heads"], n_positions=a["positions"]
            )
            model = transformers.GPT2LMHeadModel(config)
        elif name in CONFIGS:
            model = CONFIGS[name](transformers)
        else:
            config = transformers.BertConfig(
                hidden_size=a["hidden"],
                num_hidden_layers=a["layers"],
                num_attention_heads=a["heads"],
                intermediate_size=a["ffn"],
            )
            model = transformers.BertForPreTraining(config)
    assert sum(p.numel() for p in model.parameters()) == zoo.parameters
