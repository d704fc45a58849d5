"""Llama 4: experts beside a shared one in some or all layers, windows by chunk, layers without positions."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, Operators, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..model import Model, trunk

FAMILY = "Llama 4"

READS = ("llama4_text",)


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention, and experts or a gated MLP.

    Attention within chunks of positions is counted as a window of a chunk, of which a query sees up to twice as much.
    """
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads"), c.integer("head_dim", default=128)
    bias = c.flag("attention_bias", default=False)
    style = base.of(hidden=hidden, mlp="feed_forward")
    interval = c.integer("no_rope_layer_interval", default=4)
    turned = c.indices("no_rope_layers") or tuple(int((i + 1) % interval != 0) for i in range(layers))
    step = c.integer("interleave_moe_layer_step", default=1)
    mixed = c.indices("moe_layers") if c.has("moe_layers") else tuple(range(step - 1, layers, step))
    ffn = c.integer("intermediate_size")
    e = Experts(
        c.integer("num_local_experts"),
        c.integer("num_experts_per_tok", default=1),
        ffn,
        ffn,
        shared_name="shared_expert",
        gate_name="router",
    )
    normed = c.flag("use_qk_norm", default=True)
    chunk = c.integer("attention_chunk_size", default=8192)
    mlps = {True: experts(style, e), False: gated_mlp(style, c.integer("intermediate_size_mlp"))}
    pattern = tuple((bool(turned[i]), i in mixed) for i in range(layers))
    build: dict[object, Operators] = {}
    for turns, sparse in dict.fromkeys(pattern):
        a = Attention(
            heads,
            kv_heads,
            size,
            bias,
            bias,
            "head" if normed and turns else "",
            plain_norm=True,
            rotary=turns,
            window=chunk if turns else 0,
        )
        build[turns, sparse] = prenorm(style, attention(style, a), mlps[sparse])
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    facts |= {"experts": e.count, "top_k": e.top_k}
    limit = c.integer("max_position_embeddings", default=131072)
    return Decoder(style, c.integer("vocab_size"), tied, repeated(pattern, build), facts, limit)


def _sizes(experts: int, step: int) -> dict[str, object]:
    more = {"intermediate_size_mlp": 16384, "num_local_experts": experts, "num_experts_per_tok": 1}
    return trunk(48, 5120, 40, 8, 8192, 202048, model_type="llama4_text", interleave_moe_layer_step=step, **more)


MODELS = (
    Model(
        "llama4-scout",
        ("meta-llama/Llama-4-Scout-17B-16E", "llama4-17b16e"),
        _sizes(16, 1),
        "108 B",
        "17 B",
        sequence=8192,
    ),
    Model(
        "llama4-maverick",
        ("meta-llama/Llama-4-Maverick-17B-128E", "llama4-17b128e"),
        _sizes(128, 2),
        "400 B",
        "17 B",
        sequence=8192,
    ),
)
