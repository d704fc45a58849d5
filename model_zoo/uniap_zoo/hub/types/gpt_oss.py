"""gpt-oss: windows in every other layer, sinks, experts with biases (OpenAI 2025, arXiv 2508.10925)."""

from __future__ import annotations

from ..blocks import Attention, Style, attention
from ..config import Config
from ..decoder import Decoder, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..model import Model, trunk

FAMILY = "gpt-oss"

READS = ("gpt_oss",)


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention with sinks over a window or all keys, and experts.

    Attention is one kernel, as training frameworks run it; transformers' own code writes its scores out.
    """
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads"), c.integer("head_dim", default=64)
    bias = c.flag("attention_bias", default=True)
    default = tuple("full_attention" if i % 2 else "sliding_attention" for i in range(layers))
    kinds = c.kinds("layer_types", layers, default)
    window, ffn = c.integer("sliding_window", default=128), c.integer("intermediate_size")
    style = base.of(hidden=hidden, norm="rms_wide")
    e = Experts(
        c.integer("num_local_experts"),
        c.integer("num_experts_per_tok", "experts_per_token"),
        ffn,
        bias=True,
        router_bias=True,
        gate_name="router",
    )
    mlp = experts(style, e)
    a = Attention(heads, kv_heads, size, bias, bias, sinks=True)
    build = {}
    for word in dict.fromkeys(kinds):
        sees = window if word == "sliding_attention" else 0
        build[word] = prenorm(style, attention(style, a.seeing(sees)), mlp)
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    facts |= {"experts": e.count, "top_k": e.top_k}
    limit = c.integer("max_position_embeddings", default=131072)
    return Decoder(style, c.integer("vocab_size"), tied, repeated(kinds, build), facts, limit, remark=REMARK)


REMARK = "attention with sinks as one kernel"


def _sizes(layers: int, experts: int) -> dict[str, object]:
    more = {"head_dim": 64, "num_local_experts": experts, "num_experts_per_tok": 4, "sliding_window": 128}
    return trunk(layers, 2880, 64, 8, 2880, 201088, model_type="gpt_oss", **more)


MODELS = (
    Model("gpt-oss-20b", ("openai/gpt-oss-20b",), _sizes(24, 32), "20.9 B", "3.6 B", "arXiv 2508.10925"),
    Model("gpt-oss-120b", ("openai/gpt-oss-120b",), _sizes(36, 128), "116.8 B", "5.1 B", "arXiv 2508.10925"),
)
