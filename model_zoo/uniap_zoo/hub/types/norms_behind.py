"""Norms behind what a layer adds: OLMo 2, OLMo 3, EXAONE 4."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, postnorm, repeated, shapes
from ..facts import activation, rotary, settings
from ..model import Model, trunk

FAMILY = "OLMo 2 and 3, EXAONE 4"

READS = ("olmo2", "olmo3", "exaone4")


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Layers of grouped attention with norms of queries and keys, a gated MLP, and norms of what both add."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", default=heads)
    size = c.integer("head_dim", default=hidden // heads)
    bias = kind != "exaone4" and c.flag("attention_bias", default=False)
    qk_norm = "head" if kind == "exaone4" else "width"
    a = Attention(heads, kv_heads, size, bias, bias, qk_norm)
    window, kinds = _windows(kind, c, layers)
    style = base.of(hidden=hidden, norm="rms" if kind == "exaone4" else "rms_wide")
    ffn = c.integer("intermediate_size")
    mlp = gated_mlp(style, ffn)
    build = {}
    for word in dict.fromkeys(kinds):
        sees = window if word == "sliding_attention" else 0
        build[word] = postnorm(style, attention(style, a.seeing(sees)), mlp)
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn) | settings(
        c,
        eps=1e-5,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=qk_norm,
        activation=activation(c),
        turned={"rotary": "by layer"} if kind == "olmo3" else rotary(c),
        window=window,
        windowed=kinds.count("sliding_attention"),
    )
    limit = c.integer("max_position_embeddings", default=2048)
    return Decoder(style, c.integer("vocab_size"), tied, repeated(kinds, build), facts, limit)


def _windows(kind: str, c: Config, layers: int) -> tuple[int, tuple[str, ...]]:
    if kind == "olmo2" or ("sliding_window" in c.given and not c.has("sliding_window")):
        return 0, ("full_attention",) * layers
    pattern = c.fields.get("sliding_window_pattern", 4)
    every = len(pattern) if isinstance(pattern, str) else pattern
    default = tuple("sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers))
    return c.integer("sliding_window", default=4096), c.kinds("layer_types", layers, default)


_OLMO = {"vocab_size": 100352, "rope_theta": 500000.0}

MODELS = (
    Model(
        "olmo2-1b", ("allenai/OLMo-2-0425-1B",), trunk(16, 2048, 16, 16, 8192, 0, model_type="olmo2") | _OLMO, "1.48 B"
    ),
    Model(
        "olmo2-7b", ("allenai/OLMo-2-1124-7B",), trunk(32, 4096, 32, 32, 11008, 0, model_type="olmo2") | _OLMO, "7.3 B"
    ),
    Model(
        "olmo2-13b",
        ("allenai/OLMo-2-1124-13B",),
        trunk(40, 5120, 40, 40, 13824, 0, model_type="olmo2") | _OLMO,
        "13.7 B",
    ),
    Model(
        "olmo2-32b",
        ("allenai/OLMo-2-0325-32B",),
        trunk(64, 5120, 40, 8, 27648, 0, model_type="olmo2") | _OLMO,
        "32.2 B",
    ),
    Model(
        "olmo3-7b",
        ("allenai/Olmo-3-1025-7B", "allenai/Olmo-3-7B-Instruct-SFT"),
        trunk(32, 4096, 32, 32, 11008, 100278, model_type="olmo3", sliding_window=4096),
        "7.3 B",
        sequence=8192,
    ),
    Model(
        "olmo3-32b",
        ("allenai/Olmo-3-1125-32B",),
        trunk(64, 5120, 40, 8, 27648, 100278, model_type="olmo3", sliding_window=4096),
        "32.2 B",
        sequence=8192,
    ),
    Model(
        "exaone4-1.2b",
        ("LGAI-EXAONE/EXAONE-4.0-1.2B",),
        trunk(
            30,
            2048,
            32,
            8,
            4096,
            102400,
            model_type="exaone4",
            sliding_window=None,
            layer_types=["full_attention"] * 30,
            tie_word_embeddings=True,
            head_dim=64,
        ),
        "1.28 B",
    ),
    Model(
        "exaone4-32b",
        ("LGAI-EXAONE/EXAONE-4.0-32B",),
        trunk(
            64,
            5120,
            40,
            8,
            27392,
            102400,
            model_type="exaone4",
            sliding_window=4096,
            layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 16,
            head_dim=128,
        ),
        "32.0 B",
    ),
)
