"""What the tracer says of decoders beside their sizes."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("transformers")

from uniap_torch.trace import trace  # noqa: E402

from tests.hf_config import write_config  # noqa: E402
from uniap_core.architecture import ENTRIES  # noqa: E402

PLAIN = {
    "qkv_bias": False,
    "out_bias": False,
    "mlp_bias": False,
    "qk_norm": "",
    "norm": "rms",
    "norm_eps": 1e-6,
    "rotary": "default",
    "rotary_base": 10000.0,
    "activation": "swiglu",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", {}, {}),
    "llama with biases": (
        "llama",
        {"attention_bias": True, "mlp_bias": True},
        {"qkv_bias": True, "out_bias": True, "mlp_bias": True},
    ),
    "llama for long texts": (
        "llama",
        {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-5},
        {
            "norm_eps": 1e-5,
            "rotary": "llama3",
            "rotary_base": 5e5,
            "rotary_factor": 8.0,
            "rotary_low": 1.0,
            "rotary_high": 4.0,
            "rotary_positions": 64,
        },
    ),
    "mistral": ("mistral", {"head_dim": 16}, {"sliding_window": 4096, "head_size": 16}),
    "mistral without a window": ("mistral", {"sliding_window": None}, {}),
    "qwen2": ("qwen2", {"rope_theta": 1e6}, {"qkv_bias": True, "rotary_base": 1e6}),
    "qwen3": ("qwen3", {"head_dim": 16}, {"qk_norm": "head", "head_size": 16}),
    "qwen3 with a window": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        {"qk_norm": "head", "head_size": 128, "sliding_window": 8, "sliding_layers": 1},
    ),
    "qwen3 with a window for no layer": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
        {"qk_norm": "head", "head_size": 128},
    ),
    "olmo2": ("olmo2", {}, {"qk_norm": "width", "norm_eps": 1e-5}),
    "dropout": ("llama", {"attention_dropout": 0.1}, {"attention_dropout": 0.1}),
    "gelu": ("llama", {"hidden_act": "gelu"}, {"activation": "geglu"}),
    "gelu by tanh": ("llama", {"hidden_act": "gelu_pytorch_tanh"}, {"activation": "geglu"}),
    "relu": ("llama", {"hidden_act": "relu"}, {"activation": "gated relu"}),
    "yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 16.0}},
        {"rotary": "yarn", "rotary_factor": 4.0, "rotary_fast": 16.0, "rotary_positions": 2048},
    ),
    "mixtral": (
        "mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_theta": 5e5, "experts_implementation": "batched_mm"},
        {"norm_eps": 1e-5, "rotary_base": 5e5, "router_loss": 0.001, "experts": 4, "top_k": 2},
    ),
}


def traced(folder: Any, kind: str, fields: dict[str, Any]) -> Any:
    return trace(f"hf:{write_config(folder, kind, **fields)}", 16)


@pytest.mark.parametrize("name", CASES)
def test_a_decoder_says_how_its_blocks_compute(name: str, tmp_path: Any) -> None:
    kind, fields, special = CASES[name]
    expected = PLAIN | {"head_size": 8} | special
    found = traced(tmp_path, kind, fields).architecture
    sizes = {"family", "layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "tied"}
    assert {key: value for key, value in found.items() if key not in sizes} == expected


def test_other_models_say_nothing_of_it(tmp_path: Any) -> None:
    found = traced(tmp_path, "opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}).architecture
    assert not set(PLAIN) & set(found)


def test_norms_of_heads_do_not_end_what_tensor_parallelism_splits(tmp_path: Any) -> None:
    """Attention behind them is split as it is without them; norms over all heads do end it."""
    splits = {}
    for kind in ("qwen2", "qwen3", "olmo2"):
        layer = next(x for x in traced(tmp_path, kind, {}).layers if x.kind == "decoder")
        splits[kind] = {op.name.rpartition(".")[2]: op.split for op in layer.operators}
        kept = [s.split for op in layer.operators if op.name.endswith(("q_norm", "k_norm")) for s in op.saved]
        assert all(kept) == (kind != "olmo2")
    assert splits["qwen3"] == splits["qwen2"] | {"q_norm": "heads", "k_norm": "heads"}
    # Transformers splits these products and gathers or cuts between them, which no region of a plan does.
    assert {splits["olmo2"][name] for name in ("q_proj", "q_norm", "v_proj", "attention", "o_proj")} == {"none"}


@pytest.mark.parametrize(
    ("kind", "fields", "special"),
    [
        ("gpt2", {}, {"activation": "gelu", "norm_eps": 1e-5, "hidden_dropout": 0.1}),
        ("gpt2", {"activation_function": "relu"}, {"activation": "relu"}),
        ("gpt2", {"layer_norm_epsilon": 1e-3, "embd_pdrop": 0.2}, {"norm_eps": 1e-3, "embedding_dropout": 0.2}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, {"attention_by_layer": True}),
        ("bert", {"architectures": ["BertForPreTraining"]}, {"next_sentence": True, "norm_eps": 1e-12}),
        ("bert", {"architectures": ["BertForMaskedLM"], "hidden_act": "relu"}, {"next_sentence": False}),
    ],
    ids=str,
)
def test_settings_of_gpt2_and_bert(kind: str, fields: dict[str, Any], special: dict[str, Any], tmp_path: Any) -> None:
    found = traced(tmp_path, kind, fields).architecture
    assert {key: found.get(key) for key in special} == special
    assert found["norm"] == "layer"


def test_every_fact_is_an_entry_of_the_one_table(tmp_path: Any) -> None:
    for kind in ("llama", "qwen3", "mistral", "gemma2", "gpt2", "bert"):
        assert set(traced(tmp_path, kind, {}).architecture) <= set(ENTRIES)
