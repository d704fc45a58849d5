"""Values other than a model's own for every entry of an architecture."""

from __future__ import annotations

from uniap_core.architecture import ENTRIES, Value

OTHERS: dict[str, tuple[Value, ...]] = {
    "family": ("gpt", "qwen3"),
    "layers": (7,),
    "decoder_layers": (2,),
    "hidden": (384,),
    "heads": (16,),
    "kv_heads": (2, 8),
    "head_size": (64,),
    "ffn": (640,),
    "vocab": (2000, 32000),
    "positions": (4096,),
    "tied": (True,),
    "activation": ("geglu", "gelu", "relu", "silu", "gated relu", "quick_gelu"),
    "norm": ("layer",),
    "norm_eps": (1e-5, 1e-3),
    "qkv_bias": (True,),
    "out_bias": (True,),
    "mlp_bias": (True,),
    "head_bias": (True,),
    "qk_norm": ("head", "width"),
    "rotary": ("none", "linear", "llama3", "yarn", "dynamic", "longrope", "by layer"),
    "rotary_base": (500000.0, 1e6, 12345.5),
    "rotary_share": (0.5,),
    "rotary_factor": (4.0, 2.5),
    "rotary_low": (2.0,),
    "rotary_high": (8.0,),
    "rotary_positions": (4096,),
    "rotary_fast": (32.0,),
    "rotary_slow": (2.0,),
    "rotary_attention": (1.2,),
    "rotary_mscale": (0.7,),
    "rotary_mscale_all": (0.7,),
    "sliding_window": (16, 64),
    "sliding_layers": (3,),
    "attention_softcap": (50.0,),
    "logit_softcap": (30.0,),
    "attention_scale": (0.1,),
    "embedding_scale": (12.0,),
    "residual_scale": (0.2,),
    "logit_divisor": (8.0,),
    "attention_dropout": (0.1, 0.2),
    "hidden_dropout": (0.1, 0.2),
    "embedding_dropout": (0.1,),
    "attention_by_layer": (True,),
    "next_sentence": (True,),
    "experts": (4,),
    "top_k": (2,),
    "router_loss": (0.01,),
    "buckets": (32,),
    "image": (224,),
    "patch": (16,),
    "channels": (3,),
    "classes": (1000,),
    "window": (7,),
    "depths": ("2/2",),
    "stage_heads": ("2/4",),
    "ffn_ratio": (4,),
}
"""Legal values by entry, of a llama."""

CASES = [(name, value) for name, values in OTHERS.items() for value in values]

LLAMA3: dict[str, Value] = {
    "rotary": "llama3",
    "rotary_base": 500000.0,
    "rotary_factor": 8.0,
    "rotary_low": 1.0,
    "rotary_high": 4.0,
    "rotary_positions": 8192,
}
LINEAR: dict[str, Value] = {"rotary": "linear", "rotary_factor": 2.0}

MIXES: dict[str, dict[str, Value]] = {
    "llama": {},
    "llama3": LLAMA3,
    "linear": LINEAR,
    "biases": {"qkv_bias": True, "out_bias": True, "mlp_bias": True},
}
"""Llamas to change an entry of."""


def computing() -> set[str]:
    """Entries that change what a model computes."""
    return {name for name, entry in ENTRIES.items() if entry.computes}
