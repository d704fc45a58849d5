"""Tracing any module: layers, data flow, counts, and what is refused."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from uniap_torch import trace as tracing  # noqa: E402

from tests.unit.uniap_torch import traced_models  # noqa: E402
from uniap_core.api import BadFile, BadValue, UnknownName  # noqa: E402


def trace(source, *more, **options):
    """Trace; models of this folder may go by their last name."""
    source = source.replace("traced_models:", f"{traced_models.__name__}:")
    return tracing.trace(source, *more, **options)


def names(graph):
    return [layer.name for layer in graph.layers]


def test_importing_the_plugin_does_not_import_torch():
    code = "import sys, uniap_torch, uniap_torch.sources; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", ["encoder", "gpt", "mixture", "mlp", "convolutions", "skips", "idle"])
def test_parameters_and_flops_are_torchs_own(name):
    graph = trace(f"traced_models:{name}")
    module, inputs = getattr(traced_models, name)()
    assert graph.parameters == sum(p.numel() for p in module.parameters())
    args = inputs if isinstance(inputs, dict) else {"input": inputs}
    batch = next(iter(args.values())).shape[0]
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        shapes = [torch.zeros(v.shape, dtype=v.dtype) for v in args.values()]
        if graph.sequence != 128 or name in ("gpt", "mixture"):
            shapes = [s.new_zeros(batch, graph.sequence, *s.shape[2:]) for s in shapes]
        module.to("meta").train()(*shapes)
    assert graph.flops(batch) == counter.get_total_flops()


def test_blocks_are_found_by_chain_and_ties_counted_once():
    graph = trace("traced_models:gpt", 32)
    assert names(graph) == ["embedding", "layers.0", "layers.1", "layers.2", "head"]
    assert graph.sequence == 32
    head = graph.layers[-1]
    assert head.own_parameters == 128
    assert [op.tied for op in head.operators if op.tied] == ["embedding/words"]
    assert len({layer.signature() for layer in graph.layers[1:4]}) == 1


def test_experts_of_a_mixture_are_not_layers():
    assert names(trace("traced_models:mixture")) == ["layers.0", "layers.1", "layers.2"]


def test_the_pattern_chooses_layers():
    graph = trace("traced_models:gpt", layers="blocks.*.up,blocks.*.down")
    assert [n for n in names(graph) if n.endswith(("up", "down"))] == [
        f"stages.{i}.{part}" for i in range(3) for part in ("up", "down")
    ]
    with pytest.raises(UnknownName, match="no module that ran matches"):
        trace("traced_models:gpt", layers="model.layers.*")


def test_skip_connections_are_edges():
    graph = trace("traced_models:skips")
    pairs = {(e.source, e.target) for e in graph.edges}
    assert {("down.1", "up.1"), ("down.0", "up.2"), ("down.0", "down.1")} <= pairs
    assert {e.tensor for e in graph.edges if e.source == "down.0"} == {"down.0.out"}


def test_kept_bytes_are_what_autograd_keeps():
    """A real run in fp32 on the CPU, two samples and three: the difference is a sample's."""
    graph = trace("traced_models:gpt", 48)

    def kept(batch):
        module, inputs = traced_models.gpt(batch, 48)
        module.eval()
        weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = module(**inputs)
        del out
        return sum(size for size, _ in seen.values())

    measured = kept(3) - kept(2)
    assert traced_models.kept_bytes(graph, 1, 4) == pytest.approx(measured, rel=0.005)


def test_attention_written_out_is_seen_as_attention():
    graph = trace("traced_models:gpt", 64)
    cores = [op for op in graph.layers[1].operators if op.kind == "attention"]
    assert sum(op.flops(1, 64) for op in cores) == 4 * 64 * 64 * 64
    assert {op.split for op in cores} == {"heads"}
    assert sum(op.flops(1, 128) for op in cores) == 4 * 4 * 64 * 64 * 64


def test_torchs_own_attention_is_caught_inside_its_functions():
    operators = trace("traced_models:encoder").layers[1].operators
    assert [op.split for op in operators if op.kind == "gemm"] == ["column", "row", "column", "row"]
    assert sum(op.kind == "attention" for op in operators) == 1


@pytest.mark.parametrize(
    "source, error, words",
    [
        ("traced_models:choosy", BadValue, "inner"),
        ("traced_models:nothing", BadValue, "returned int"),
        ("traced_models:absent", UnknownName, "absent"),
        ("no_such_module_at_all:f", UnknownName, "does not import"),
        ("llama-7b", BadValue, "names no torch model"),
        ("hf:/nowhere", BadFile, "cannot be read"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_a_remedy(source, error, words):
    with pytest.raises(error) as caught:
        trace(source)
    assert words in str(caught.value)
    assert caught.value.fix


def test_a_factory_without_a_sequence_takes_none():
    with pytest.raises(BadValue, match="does not take a sequence"):
        trace("traced_models:mlp", 64)


@pytest.mark.parametrize(
    "text, error, words",
    [
        ("{", BadFile, "not JSON"),
        ("[1]", BadFile, "no model_type"),
        ('{"model_type": "quantum"}', UnknownName, "quantum"),
        ('{"model_type": "llama", "hidden_size": 60, "num_attention_heads": 7}', BadFile, "multiple"),
    ],
)
def test_bad_configs_are_refused_with_a_remedy(tmp_path, text, error, words):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(error) as caught:
        trace(f"hf:{tmp_path}")
    assert words in str(caught.value)
    assert caught.value.fix


def test_other_hugging_face_models_trace_too(tmp_path):
    pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    more = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
    cases = {
        "qwen3": small | more,
        "mistral": small | more,
        "opt": small | {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 64}
        | {f"{s}_{k}": v for s in ("encoder", "decoder") for k, v in (("ffn_dim", 48), ("attention_heads", 4))},
        "convnext": {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 2, 1], "image_size": 64},
    }
    for kind, config in cases.items():
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
        graph = trace(f"hf:{tmp_path}", None if kind == "convnext" else 32)
        assert graph.family == "traced"
        assert graph.flops(1) > 0
        assert len(graph.layers) > 3, kind
