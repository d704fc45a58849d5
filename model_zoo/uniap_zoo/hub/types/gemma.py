"""Gemma 1 to 3: GeGLU, scaled embeddings; from 2 on norms before and behind, and windows in most layers."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config, Unread
from ..decoder import Decoder, prenorm, repeated, sandwich, shapes
from ..facts import activation, rotary, settings
from ..model import Model, trunk

FAMILY = "Gemma"

READS = ("gemma", "gemma2", "gemma3_text")


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Sandwich-norm layers of grouped attention over a window or all keys, and a gated MLP."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads"), c.integer("head_dim", default=256)
    bias = c.flag("attention_bias", default=False)
    if c.fields.get("use_bidirectional_attention"):
        raise Unread("attention that looks ahead")
    a = Attention(heads, kv_heads, size, bias, bias, "head" if kind == "gemma3_text" else "")
    every = 2 if kind == "gemma2" else c.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    default = tuple("sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers))
    kinds = c.kinds("layer_types", layers, default) if kind != "gemma" else ("full_attention",) * layers
    window = c.integer("sliding_window", default=4096) if kind != "gemma" else 0
    around = prenorm if kind == "gemma" else sandwich
    style = base.of(hidden=hidden, norm="rms_wide")
    ffn = c.integer("intermediate_size")
    mlp = gated_mlp(style, ffn)
    build = {}
    for word in dict.fromkeys(kinds):
        sees = window if word == "sliding_attention" else 0
        build[word] = around(style, attention(style, a.seeing(sees)), mlp)
    tied = c.flag("tie_word_embeddings", default=True)
    scales = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0} if kind == "gemma2" else None
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn) | settings(
        c,
        eps=1e-6,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=a.qk_norm,
        activation=activation(c, default="gelu_pytorch_tanh"),
        turned={"rotary": "by layer"} if kind == "gemma3_text" else rotary(c),
        window=window,
        windowed=kinds.count("sliding_attention"),
        scales=scales,
    )
    if kind != "gemma":
        facts["attention_scale"] = c.number("query_pre_attn_scalar", default=256) ** -0.5
    limit = c.integer("max_position_embeddings", default=131072 if kind == "gemma3_text" else 8192)
    capped = bool(facts.get("logit_softcap"))
    blocks = repeated(kinds, build)
    remark = "attention with capped scores as one kernel" if facts.get("attention_softcap") else ""
    return Decoder(
        style, c.integer("vocab_size"), tied, blocks, facts, limit, scaled=True, capped=capped, remark=remark
    )


_THREE = {"model_type": "gemma3_text", "head_dim": 256, "sliding_window": 1024}

MODELS = (
    Model(
        "gemma-2b",
        ("google/gemma-2b",),
        trunk(18, 2048, 8, 1, 16384, 256000, model_type="gemma", head_dim=256),
        "2.51 B",
    ),
    Model(
        "gemma-7b",
        ("google/gemma-7b",),
        trunk(28, 3072, 16, 16, 24576, 256000, model_type="gemma", head_dim=256),
        "8.54 B",
    ),
    Model(
        "gemma2-2b",
        ("google/gemma-2-2b",),
        trunk(26, 2304, 8, 4, 9216, 256000, model_type="gemma2", head_dim=256),
        "2.61 B",
    ),
    Model(
        "gemma2-9b",
        ("google/gemma-2-9b",),
        trunk(42, 3584, 16, 8, 14336, 256000, model_type="gemma2", head_dim=256),
        "9.24 B",
    ),
    Model(
        "gemma2-27b",
        ("google/gemma-2-27b",),
        trunk(46, 4608, 32, 16, 36864, 256000, model_type="gemma2", head_dim=128),
        "27.2 B",
    ),
    Model(
        "gemma3-270m",
        ("google/gemma-3-270m",),
        trunk(18, 640, 4, 1, 2048, 262144) | _THREE | {"sliding_window": 512},
        "268 M",
    ),
    Model(
        "gemma3-1b",
        ("google/gemma-3-1b-pt",),
        trunk(26, 1152, 4, 1, 6912, 262144) | _THREE | {"sliding_window": 512},
        "1.0 B",
    ),
    Model("gemma3-4b", ("google/gemma-3-4b-pt",), trunk(34, 2560, 8, 4, 10240, 262208) | _THREE, "3.88 B"),
    Model("gemma3-12b", ("google/gemma-3-12b-pt",), trunk(48, 3840, 16, 8, 15360, 262208) | _THREE, "11.8 B"),
    Model(
        "gemma3-27b",
        ("google/gemma-3-27b-pt",),
        trunk(62, 5376, 32, 16, 21504, 262208) | _THREE | {"head_dim": 128},
        "27.0 B",
    ),
)
