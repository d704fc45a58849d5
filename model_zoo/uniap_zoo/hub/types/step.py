"""Step-3.5 and the language part of Step-3.7 Flash: windows with more heads, gated heads, experts (StepFun 2026)."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..facts import activation
from ..model import Model, trunk

FAMILY = "Step"

READS = ("step3p5",)


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention, its heads gated, over a window or all keys; experts beside a shared one."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", "num_attention_groups", default=8)
    size, near = c.integer("head_dim", default=128), c.integer("num_sliding_attention_heads", default=heads)
    activation(c)
    c.refuse(attention_bias=False, mlp_bias=False, swiglu_limits=None)
    window = c.integer("sliding_window", default=0)
    kinds = c.kinds("layer_types", layers, ("full_attention",) * layers)
    first = ("dense",) * min(3, layers)
    mlps = c.kinds("mlp_layer_types", layers, first + ("sparse",) * (layers - len(first)))
    style, ffn = base.of(hidden=hidden, norm="rms_wide"), c.integer("intermediate_size")
    e = Experts(
        c.integer("n_routed_experts", "moe_num_experts"),
        c.integer("num_experts_per_tok", "moe_top_k"),
        c.integer("moe_intermediate_size"),
        c.integer("share_expert_dim", "share_expert_dims"),
        wide_scores=True,
    )
    made = {"dense": gated_mlp(style, ffn), "sparse": experts(style, e)}
    build = {}
    for word, mlp in dict.fromkeys(zip(kinds, mlps, strict=True)):
        slides = word == "sliding_attention"
        a = Attention(near if slides else heads, kv_heads, size, qk_norm="head", gated="heads")
        build[word, mlp] = prenorm(style, attention(style, a.seeing(window if slides else 0)), made[mlp])
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    facts |= {"experts": e.count, "top_k": e.top_k}
    limit = c.integer("max_position_embeddings", default=128000)
    blocks = repeated(tuple(zip(kinds, mlps, strict=True)), build)
    return Decoder(style, c.integer("vocab_size"), tied, blocks, facts, limit)


_KINDS = ["sliding_attention" if i % 4 else "full_attention" for i in range(45)]

MODELS = (
    Model(
        "step3.5-flash",
        ("stepfun-ai/Step-3.5-Flash", "stepfun-ai/Step-3.7-Flash"),
        trunk(
            45,
            4096,
            64,
            8,
            11264,
            128896,
            model_type="step3p5",
            head_dim=128,
            num_sliding_attention_heads=96,
            sliding_window=512,
            layer_types=_KINDS,
            n_routed_experts=288,
            num_experts_per_tok=8,
            moe_intermediate_size=1280,
            share_expert_dim=1280,
        ),
        "196 B",
        "11 B",
    ),
)
