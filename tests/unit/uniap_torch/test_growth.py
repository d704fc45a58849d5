"""A traced graph says what the model does at other lengths, or that it does not know."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from uniap_torch.trace import trace  # noqa: E402

from tests.hf_config import write_config  # noqa: E402
from tests.unit.uniap_torch import traced_models  # noqa: E402
from uniap_core import artifact, models  # noqa: E402
from uniap_core.errors import BadValue, UnknownName  # noqa: E402
from uniap_core.graph import ModelGraph, at_sequence  # noqa: E402


def traced(name, sequence=None):
    return trace(f"{traced_models.__name__}:{name}", sequence)


@pytest.mark.parametrize(("name", "sequence"), [("window", 48), ("loop", 16), ("scores", 128), ("gpt", 64)])
def test_what_does_not_grow_by_rows_holds_at_its_own_length_alone(name, sequence):
    graph = traced(name, sequence)
    assert graph.sequences == (graph.sequence, graph.sequence)
    with pytest.raises(BadValue, match="positions only"):
        at_sequence(graph, 2 * graph.sequence)
    assert at_sequence(graph, graph.sequence) is graph


def test_what_grows_by_rows_is_what_a_trace_there_says():
    short, long = traced("mixture", 64), traced("mixture", 256)
    assert short.holds_at(256)
    moved = at_sequence(short, 256)
    assert moved.flops(4) == pytest.approx(long.flops(4))
    for one, other in zip(moved.layers, long.layers, strict=True):
        assert one.saved_bytes(4, 256) == pytest.approx(other.saved_bytes(4, 256), rel=1e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mixtral"])
def test_decoders_hold_at_any_length(kind, tmp_path):
    path = write_config(tmp_path, kind, max_position_embeddings=4096)
    one, two = trace(f"hf:{path}", 128), trace(f"hf:{path}", 512)
    assert at_sequence(one, 512).flops(2) == pytest.approx(two.flops(2), rel=1e-3)
    moved = at_sequence(one, 512)
    assert sum(t.saved_bytes(2, 512) for t in moved.layers) == pytest.approx(
        sum(t.saved_bytes(2, 512) for t in two.layers), rel=5e-3
    )


def test_a_config_is_traced_again_at_the_length_that_is_asked_for(tmp_path):
    path = write_config(tmp_path, "gemma2", max_position_embeddings=4096, head_dim=8)
    graph = trace(f"hf:{path}", 128)
    assert not graph.holds_at(256)
    artifact.write(tmp_path / "g.json", graph)
    again = models.load(str(tmp_path / "g.json"), 256)
    assert again.sequence == 256
    assert again.flops(1) > graph.flops(1)


def test_a_factory_in_a_file_is_not_run_to_answer_for_another_length(tmp_path):
    artifact.write(tmp_path / "g.json", traced("scores"))
    with pytest.raises(BadValue, match="128 positions only") as caught:
        models.load(str(tmp_path / "g.json"), 256)
    assert "uniap trace" in caught.value.fix


def test_an_image_model_has_no_sequence_to_change():
    graph = traced("convolutions")
    assert not graph.counts_positions
    with pytest.raises(BadValue, match="no sequence"):
        at_sequence(graph, 64)


def test_an_old_graph_file_holds_at_any_length():
    graph = traced("mixture", 64)
    written = json.loads(artifact.pretty(graph))
    assert "sequences" not in written
    assert artifact.decode(json.dumps(written), ModelGraph) == graph


def test_what_did_not_run_is_named_and_refused():
    with pytest.raises(BadValue, match="27 of 99 parameters did not run: unused"):
        traced("mostly_idle")


def test_a_little_that_did_not_run_is_named_where_it_lies():
    graph = traced("idle")
    assert [op.name for layer in graph.layers for op in layer.operators if op.name.startswith("idle")] == [
        "idle unused"
    ]


def test_tensor_parallelism_is_found_behind_norms_of_one_plus_weight():
    graph = traced("offset_norms")
    block = graph.layers[1]
    assert [op.split for op in block.operators if op.kind == "gemm"] == ["column"] * 3 + ["row"]


@pytest.mark.parametrize(
    ("fields", "cause", "fix"),
    [
        ({"model_type": "mystery", "auto_map": {"AutoConfig": "x.Y"}}, "auto_map", "factory"),
        ({"model_type": "mystery", "architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM", "llama"),
        ({"model_type": "mystery"}, "no model type", "upgrade"),
    ],
)
def test_a_type_that_is_not_known_says_why(fields, cause, fix, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UnknownName, match=cause) as caught:
        trace(f"hf:{tmp_path}")
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            "clip",
            {
                "architectures": ["CLIPModel"],
                "text_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
                | {"num_attention_heads": 4, "max_position_embeddings": 32},
                "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "patch_size": 8}
                | {"num_attention_heads": 4, "image_size": 32},
            },
        ),
        (
            "whisper",
            {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "vocab_size": 64}
            | {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "pad_token_id": 0}
            | {"max_source_positions": 100, "max_target_positions": 32, "num_mel_bins": 8, "bos_token_id": 1}
            | {"eos_token_id": 2, "decoder_start_token_id": 1},
        ),
        (
            "videomae",
            {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
            | {"image_size": 32, "patch_size": 8, "num_frames": 4, "tubelet_size": 2},
        ),
        (
            "wav2vec2",
            {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
            | {"num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 16, "vocab_size": 16},
        ),
    ],
)
def test_pictures_sounds_and_two_towers_get_inputs_of_their_own(kind, more, tmp_path):
    import transformers

    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind} | more))
    graph = trace(f"hf:{tmp_path}")
    config = transformers.AutoConfig.for_model(kind, **more)
    with torch.device("meta"):
        built = transformers.AutoModel.from_config(config)
    assert graph.parameters >= sum(p.numel() for p in built.parameters())


def test_an_input_whose_shape_is_not_known_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "patchtst", "num_input_channels": 2}))
    with pytest.raises(BadValue, match="past_values") as caught:
        trace(f"hf:{tmp_path}")
    assert "factory" in caught.value.fix
