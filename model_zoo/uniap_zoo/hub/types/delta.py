"""Gated delta nets with attention in every fourth layer: Qwen3-Next, Qwen3.5, Qwen3.6."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..facts import rotary, settings
from ..model import Model, trunk
from ..scans import gated_delta_net

FAMILY = "Qwen3-Next, Qwen3.5 (gated delta net)"

READS = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of a gated delta net or gated attention, with experts and a gated shared one, or a gated MLP."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads"), c.integer("head_dim", default=256)
    bias = c.flag("attention_bias", default=False)
    c.refuse(attn_output_gate=True)
    style = base.of(hidden=hidden, norm="rms_wide")
    every = c.integer("full_attention_interval", default=4)
    default = tuple("linear_attention" if (i + 1) % every else "full_attention" for i in range(layers))
    kinds = c.kinds("layer_types", layers, default)
    mixers = {
        "linear_attention": gated_delta_net(
            style,
            c.integer("linear_num_key_heads", default=16),
            c.integer("linear_num_value_heads", default=32),
            c.integer("linear_key_head_dim", default=128),
            c.integer("linear_value_head_dim", default=128),
            conv=c.integer("linear_conv_kernel_dim", default=4),
            split_projections=kind != "qwen3_next",
        ),
        "full_attention": attention(style, Attention(heads, kv_heads, size, bias, bias, "head", gated="elements")),
    }
    tied = c.flag("tie_word_embeddings", default=False)
    mixed = kind != "qwen3_5_text"
    ffn = 0 if kind == "qwen3_5_moe_text" else c.integer("intermediate_size")
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    if mixed:
        c.refuse(decoder_sparse_step=1, mlp_only_layers=[])
        e = Experts(
            c.integer("num_experts"),
            c.integer("num_experts_per_tok"),
            c.integer("moe_intermediate_size"),
            c.integer("shared_expert_intermediate_size"),
            shared_gate=True,
            shared_name="shared_expert",
        )
        mlp = experts(style, e)
        facts |= {"experts": e.count, "top_k": e.top_k}
    else:
        mlp = gated_mlp(style, ffn)
        turned = rotary(c, share=0.25)
        facts |= settings(c, eps=1e-6, qkv_bias=bias, out_bias=bias, qk_norm="head", turned=turned)
    build = {word: prenorm(style, mixer, mlp) for word, mixer in mixers.items()}
    # A prediction further has a layer with attention.
    predicts = build["full_attention"] if c.integer("mtp_num_hidden_layers", default=0) else ()
    limit = c.integer("max_position_embeddings", default=32768)
    remark = "gated delta nets as the kernels of flash-linear-attention run them"
    blocks = repeated(kinds, build)
    return Decoder(style, c.integer("vocab_size"), tied, blocks, facts, limit, predicts=predicts, remark=remark)


_NEXT = {"model_type": "qwen3_next", "head_dim": 256, "max_position_embeddings": 262144, "mtp_num_hidden_layers": 1}
_DENSE = {"model_type": "qwen3_5_text", "head_dim": 256, "max_position_embeddings": 262144, "mtp_num_hidden_layers": 1}
_MOE = _DENSE | {"model_type": "qwen3_5_moe_text"}


def _experts(count: int, top_k: int, width: int) -> dict[str, int]:
    sizes = {"num_experts": count, "num_experts_per_tok": top_k, "moe_intermediate_size": width}
    return sizes | {"shared_expert_intermediate_size": width}


def _dense(name: str, sizes: tuple[int, ...], value_heads: int, figure: str, *hub: str, tied: bool = False) -> Model:
    more = {"linear_num_value_heads": value_heads, "tie_word_embeddings": tied}
    return Model(name, hub, trunk(*sizes) | _DENSE | more, figure)


MODELS = (
    Model(
        "qwen3-next-80b-a3b",
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen3-Next-80B-A3B-Thinking", "Qwen/Qwen3-Coder-Next"),
        trunk(48, 2048, 16, 2, 5120, 151936) | _NEXT | _experts(512, 10, 512),
        "79.7 B",
        "3.9 B",
    ),
    _dense("qwen3.5-0.8b", (24, 1024, 8, 2, 3584, 248320), 16, "0.75 B", "Qwen/Qwen3.5-0.8B", tied=True),
    _dense("qwen3.5-2b", (24, 2048, 8, 2, 6144, 248320), 16, "1.88 B", "Qwen/Qwen3.5-2B", tied=True),
    _dense("qwen3.5-4b", (32, 2560, 16, 4, 9216, 248320), 32, "4.2 B", "Qwen/Qwen3.5-4B", tied=True),
    _dense("qwen3.5-9b", (32, 4096, 16, 4, 12288, 248320), 32, "9.0 B", "Qwen/Qwen3.5-9B"),
    _dense("qwen3.5-27b", (64, 5120, 24, 4, 17408, 248320), 48, "26.9 B", "Qwen/Qwen3.5-27B", "Qwen/Qwen3.6-27B"),
    Model(
        "qwen3.5-35b-a3b",
        ("Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.6-35B-A3B"),
        trunk(40, 2048, 16, 2, 0, 248320) | _MOE | _experts(256, 8, 512),
        "34.7 B",
        "3 B",
    ),
    Model(
        "qwen3.5-122b-a10b",
        ("Qwen/Qwen3.5-122B-A10B",),
        trunk(48, 3072, 32, 2, 0, 248320) | _MOE | _experts(256, 8, 1024) | {"linear_num_value_heads": 64},
        "122 B",
        "10 B",
    ),
    Model(
        "qwen3.5-397b-a17b",
        ("Qwen/Qwen3.5-397B-A17B",),
        trunk(60, 4096, 32, 2, 0, 248320) | _MOE | _experts(512, 10, 1024) | {"linear_num_value_heads": 64},
        "397 B",
        "17 B",
    ),
)
