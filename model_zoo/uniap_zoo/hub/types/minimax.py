"""MiniMax-Text-01 and M1: lightning attention in seven layers of eight (arXiv 2501.08313)."""

from __future__ import annotations

from ..blocks import Attention, Style, attention
from ..config import Config
from ..decoder import Decoder, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..model import Model, trunk
from ..scans import lightning_attention

FAMILY = "MiniMax"

READS = ("minimax",)


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of lightning or softmax attention, and experts."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads", default=8), c.integer("head_dim", default=hidden // heads)
    c.refuse(sliding_window=None)
    style = base.of(hidden=hidden)
    default = tuple("full_attention" if (i + 1) % 2 else "linear_attention" for i in range(layers))
    kinds = c.kinds("layer_types", layers, default)
    ffn = c.integer("intermediate_size")
    e = Experts(c.integer("num_local_experts"), c.integer("num_experts_per_tok"), ffn)
    mlp = experts(style, e)
    build = {
        "linear_attention": prenorm(
            style, lightning_attention(style, heads, size, chunk=c.integer("block_size", default=256)), mlp
        ),
        "full_attention": prenorm(style, attention(style, Attention(heads, kv_heads, size)), mlp),
    }
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    facts |= {"experts": e.count, "top_k": e.top_k}
    limit = c.integer("max_position_embeddings", default=131072)
    remark = "lightning attention as one kernel"
    return Decoder(style, c.integer("vocab_size"), tied, repeated(kinds, build), facts, limit, remark=remark)


_KINDS = ["linear_attention" if (i + 1) % 8 else "full_attention" for i in range(80)]

MODELS = (
    Model(
        "minimax-text-01",
        ("MiniMaxAI/MiniMax-Text-01-hf", "MiniMaxAI/MiniMax-Text-01", "MiniMaxAI/MiniMax-M1-80k"),
        trunk(
            80,
            6144,
            64,
            8,
            9216,
            200064,
            model_type="minimax",
            head_dim=128,
            num_local_experts=32,
            num_experts_per_tok=2,
            layer_types=_KINDS,
        ),
        "456 B",
        "45.9 B",
        "arXiv 2501.08313",
        8192,
    ),
)
