"""Mamba-2 (Dao and Gu 2024), and Granite 4, which has attention in some layers."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config
from ..decoder import Decoder, Fact, Operators, alone, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..model import Model, trunk
from ..scans import mamba2

FAMILY = "Mamba-2, Granite 4"

READS = ("mamba2", "granitemoehybrid")

REMARK = "Mamba-2 as the kernels of mamba-ssm run it"


def read(kind: str, c: Config, base: Style) -> Decoder:
    """A decoder of Mamba-2 alone or of Granite 4's layers."""
    return _mamba(c, base) if kind == "mamba2" else _granite(c, base)


def _mamba(c: Config, base: Style) -> Decoder:
    hidden, layers = c.integer("hidden_size"), c.integer("num_hidden_layers")
    heads, size = c.integer("num_heads", default=128), c.integer("head_dim", default=64)
    style = base.of(hidden=hidden)
    block = alone(
        style,
        mamba2(
            style,
            heads,
            size,
            c.integer("state_size", default=128),
            c.integer("n_groups", default=8),
            conv=c.integer("conv_kernel", default=4),
            chunk=c.integer("chunk_size", default=256),
            conv_bias=c.flag("use_conv_bias", default=True),
            bias=c.flag("use_bias", default=False),
        ),
    )
    tied = c.flag("tie_word_embeddings", default=False)
    facts: dict[str, Fact] = {"family": "mamba2", "layers": layers, "hidden": hidden, "head_size": size}
    facts |= {"vocab": c.integer("vocab_size"), "tied": tied}
    return Decoder(
        style,
        c.integer("vocab_size"),
        tied,
        (block,) * layers,
        facts,
        1 << 20,
        embedding="backbone.embeddings",
        layers="backbone.layers",
        final_norm="backbone.norm_f",
        remark=REMARK,
    )


def _granite(c: Config, base: Style) -> Decoder:
    """Pre-norm layers of Mamba-2 or attention, with experts and a shared MLP, or that MLP alone."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads, size = c.integer("num_key_value_heads", default=heads), hidden // heads
    kinds = c.kinds("layer_types" if c.has("layer_types") else "layers_block_type", layers, ())
    style = base.of(hidden=hidden)
    bias = c.flag("attention_bias", default=False)
    turns = c.fields.get("position_embedding_type") == "rope"
    state_heads = c.integer("mamba_n_heads", default=128)
    wide = c.integer("mamba_expand", default=2) * hidden
    c.refuse(mamba_d_head=wide // state_heads if c.fields.get("mamba_d_head") != "auto" else "auto")
    mixers = {
        "linear_attention": mamba2(
            style,
            state_heads,
            wide // state_heads,
            c.integer("mamba_d_state", default=256),
            c.integer("mamba_n_groups", default=1),
            conv=c.integer("mamba_d_conv", default=4),
            chunk=c.integer("mamba_chunk_size", default=256),
            conv_bias=c.flag("mamba_conv_bias", default=True),
            bias=c.flag("mamba_proj_bias", default=False),
            where="mamba",
        ),
        "full_attention": attention(style, Attention(heads, kv_heads, size, bias, bias, rotary=turns)),
    }
    count = c.integer("num_local_experts", default=8)
    ffn = c.integer("intermediate_size")
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, "granitemoehybrid", tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    mlp = _mlp(style, count, ffn, c)
    facts |= {"experts": count, "top_k": c.integer("num_experts_per_tok", default=2)} if count else {}
    build: dict[object, Operators] = {word: prenorm(style, mixer, mlp) for word, mixer in mixers.items()}
    limit = c.integer("max_position_embeddings", default=2048)
    blocks = repeated(kinds, build)
    return Decoder(style, c.integer("vocab_size"), tied, blocks, facts, limit, scaled=True, remark=REMARK)


def _mlp(style: Style, count: int, ffn: int, c: Config) -> Operators:
    shared = gated_mlp(style, c.integer("shared_intermediate_size", default=1024), "shared_mlp", packed=True)
    if not count:
        return shared
    from dataclasses import replace

    top_k = c.integer("num_experts_per_tok", default=2)
    e = Experts(count, top_k, ffn, gate_name="router.layer")
    return (*experts(replace(style, mlp="block_sparse_moe"), e), *shared)


_GRANITE = {
    "model_type": "granitemoehybrid",
    "vocab_size": 100352,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_d_head": 64,
    "tie_word_embeddings": True,
}


def _layers(layers: int, attention_at: tuple[int, ...]) -> list[str]:
    return ["attention" if i in attention_at else "mamba" for i in range(layers)]


def _mamba2(name: str, hub: str, layers: int, hidden: int, figure: str) -> Model:
    sizes = {"model_type": "mamba2", "hidden_size": hidden, "num_hidden_layers": layers, "num_heads": hidden // 32}
    sizes |= {"state_size": 128, "n_groups": 1, "vocab_size": 50288, "tie_word_embeddings": True}
    return Model(name, (hub,), sizes, figure, source="arXiv 2405.21060", sequence=2048)


MODELS = (
    _mamba2("mamba2-130m", "state-spaces/mamba2-130m", 24, 768, "129 M"),
    _mamba2("mamba2-370m", "state-spaces/mamba2-370m", 48, 1024, "370 M"),
    _mamba2("mamba2-780m", "state-spaces/mamba2-780m", 48, 1536, "780 M"),
    _mamba2("mamba2-1.3b", "state-spaces/mamba2-1.3b", 48, 2048, "1.34 B"),
    _mamba2("mamba2-2.7b", "state-spaces/mamba2-2.7b", 64, 2560, "2.7 B"),
    Model(
        "granite4-h-tiny",
        ("ibm-granite/granite-4.0-h-tiny", "ibm-granite/granite-4.0-tiny-preview"),
        trunk(
            40,
            1536,
            12,
            4,
            512,
            0,
            layer_types=_layers(40, (5, 15, 25, 35)),
            num_local_experts=64,
            num_experts_per_tok=6,
            shared_intermediate_size=1024,
            mamba_n_heads=48,
        )
        | _GRANITE,
        "7 B",
        "1 B",
    ),
    Model(
        "granite4-h-small",
        ("ibm-granite/granite-4.0-h-small",),
        trunk(
            40,
            4096,
            32,
            8,
            768,
            0,
            layer_types=_layers(40, (5, 15, 25, 35)),
            num_local_experts=72,
            num_experts_per_tok=10,
            shared_intermediate_size=1536,
            mamba_n_heads=128,
        )
        | _GRANITE,
        "32 B",
        "9 B",
    ),
    Model(
        "granite4-h-micro",
        ("ibm-granite/granite-4.0-h-micro",),
        trunk(
            40,
            2048,
            32,
            8,
            8192,
            0,
            layer_types=_layers(40, (5, 15, 25, 35)),
            num_local_experts=0,
            num_experts_per_tok=0,
            shared_intermediate_size=8192,
            mamba_n_heads=64,
        )
        | _GRANITE,
        "3.19 B",
    ),
)
