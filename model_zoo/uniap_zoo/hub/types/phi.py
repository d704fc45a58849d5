"""Phi-3 and Phi-4: Llama's layer with packed projections."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, prenorm, shapes
from ..facts import activation
from ..model import Model, trunk

FAMILY = "Phi"

READS = ("phi3",)


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention and a gated MLP, each with one product into it."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", default=heads)
    size = c.integer("head_dim", default=hidden // heads)
    activation(c)
    window = c.integer("sliding_window") if c.has("sliding_window") else 0
    style, ffn = base.of(hidden=hidden), c.integer("intermediate_size")
    a = Attention(heads, kv_heads, size, window=window, packed=True)
    block = prenorm(style, attention(style, a), gated_mlp(style, ffn, packed=True))
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    limit = c.integer("max_position_embeddings", default=4096)
    return Decoder(style, c.integer("vocab_size"), tied, (block,) * layers, facts, limit)


MODELS = (
    Model(
        "phi3-mini",
        ("microsoft/Phi-3-mini-4k-instruct",),
        trunk(32, 3072, 32, 32, 8192, 32064, model_type="phi3"),
        "3.82 B",
    ),
    Model(
        "phi3-medium",
        ("microsoft/Phi-3-medium-4k-instruct",),
        trunk(40, 5120, 40, 10, 17920, 32064, model_type="phi3"),
        "14.0 B",
    ),
    Model(
        "phi4-mini",
        ("microsoft/Phi-4-mini-instruct",),
        trunk(32, 3072, 24, 8, 8192, 200064, model_type="phi3", tie_word_embeddings=True),
        "3.84 B",
    ),
    Model(
        "phi4",
        ("microsoft/phi-4",),
        trunk(40, 5120, 40, 10, 17920, 100352, model_type="phi3", max_position_embeddings=16384),
        "14.7 B",
    ),
)
