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


def assert_moved(graph, there):
    """Holds a graph that was moved to another length against a trace there, operator by operator."""
    moved = at_sequence(graph, there.sequence)
    for one, other in zip(moved.layers, there.layers, strict=True):
        for a, b in zip(one.operators, other.operators, strict=True):
            assert (a.name, a.kind, a.parameters) == (b.name, b.kind, b.parameters)
            assert a.flops(2, there.sequence) == pytest.approx(b.flops(2, there.sequence))
            for element in (2, 4):
                kept = (op.saved_bytes(2, there.sequence, element) for op in (a, b))
                assert next(kept) == pytest.approx(next(kept), rel=1e-3), a.name
            if a.kind in ("norm", "pointwise", "loss"):
                streamed = (op.rows.at(there.sequence) * op.inner * op.passes for op in (a, b))
                assert next(streamed) == pytest.approx(next(streamed), rel=2e-2), a.name
    assert {e.tensor: e.elements(2, there.sequence) for e in moved.edges} == {
        e.tensor: e.elements(2, there.sequence) for e in there.edges
    }


@pytest.mark.parametrize(
    ("name", "sequence", "others"),
    [
        ("window", 48, (20, 100)),
        ("window", 128, (20, 100, 300)),
        ("loop", 32, (20, 60)),
        ("scores", 128, (20, 300)),
        ("gpt", 64, (50, 200)),
        ("mixture", 64, (256,)),
    ],
)
def test_a_graph_at_another_length_is_what_a_trace_there_says(name, sequence, others):
    graph = traced(name, sequence)
    for other in others:
        assert_moved(graph, traced(name, other))


WRITTEN_OUT = {"head_dim": 8, "sliding_window": 16}
SOUND = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "vocab_size": 64,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "max_source_positions": 100,
    "max_target_positions": 512,
    "num_mel_bins": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("gemma2", WRITTEN_OUT),
        ("gpt_oss", WRITTEN_OUT | {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("t5", {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4, "pad_token_id": 0}),
        ("whisper", SOUND),
    ],
)
def test_a_model_of_transformers_holds_at_other_lengths(kind, more, tmp_path):
    """Scores that are kept grow as squares, tables of positions with no sample, frames of sound not at all."""
    path = write_config(tmp_path, kind, num_hidden_layers=1, max_position_embeddings=4096, **more)
    assert_moved(trace(f"hf:{path}", 256), trace(f"hf:{path}", 90))


def test_chunks_and_states_hold_from_where_the_model_runs_the_same(tmp_path):
    """Mamba-2 in whole chunks of 64 positions; one chunk alone runs other operators."""
    more = {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2, "chunk_size": 64}
    path = write_config(tmp_path, "mamba2", num_hidden_layers=1, **more)
    graph = trace(f"hf:{path}", 1024)
    assert_moved(graph, trace(f"hf:{path}", 300))
    assert_moved(graph, trace(f"hf:{path}", 2000))
    assert graph.sequences == (256, 10**10)
    with pytest.raises(BadValue, match="256 positions or more only"):
        at_sequence(graph, 60)


def test_what_runs_otherwise_elsewhere_is_refused_there():
    graph = traced("fickle", 128)
    assert graph.sequences == (64, 10**10)
    with pytest.raises(BadValue, match="64 positions or more only") as caught:
        at_sequence(graph, 16)
    assert "uniap trace" in caught.value.fix
    assert at_sequence(graph, 512).flops(1) > 3.9 * graph.flops(1)
    assert at_sequence(graph, graph.sequence) is graph
    short = traced("fickle", 32)
    assert short.sequences == (1, 32)
    with pytest.raises(BadValue, match="1 to 32 positions only"):
        at_sequence(short, 64)


def test_a_loop_over_positions_holds_as_far_as_it_was_run():
    """Nobody waits for thousands of rounds of it to see whether a chunk ends somewhere."""
    assert traced("loop", 32).sequences == (16, 64)
    assert traced("loop", 1024).holds_at(10**6)


def test_what_grows_in_no_known_way_holds_at_its_own_length_alone():
    """Work of s^3: a parabola through three lengths misses the fourth."""
    graph = traced("cubes", 128)
    assert graph.sequences == (128, 128)
    with pytest.raises(BadValue, match="128 positions only"):
        at_sequence(graph, 256)


def test_a_config_is_traced_again_at_the_length_that_is_asked_for(tmp_path):
    more = {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2}
    path = write_config(tmp_path, "mamba2", num_hidden_layers=1, **more)
    graph = trace(f"hf:{path}", 128)
    assert not graph.holds_at(512)
    artifact.write(tmp_path / "g.json", graph)
    again = models.load(str(tmp_path / "g.json"), 512)
    assert again.sequence == 512
    assert again.flops(1) > graph.flops(1)


def test_a_factory_in_a_file_is_not_run_to_answer_for_another_length(tmp_path):
    artifact.write(tmp_path / "g.json", traced("cubes", 128))
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
