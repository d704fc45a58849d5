"""Nemotron: squared ReLU without a gate; Nemotron-H and Nemotron 3 with Mamba-2 and, lately, latent experts."""

from __future__ import annotations

from typing import Any

from uniap_core.graph import Operator

from ..blocks import Attention, Style, attention, plain_mlp
from ..config import Config, Unread
from ..decoder import Decoder, Operators, alone, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..model import Model, trunk
from ..scans import mamba2

FAMILY = "Nemotron, Nemotron-H and Nemotron 3"

READS = ("nemotron", "nemotron_h")

LETTERS = {"M": "linear_attention", "E": "moe", "-": "mlp", "*": "full_attention"}
"""What the letters of a pattern mean."""


def read(kind: str, c: Config, base: Style) -> Decoder:
    """A decoder of either generation."""
    return _dense(c, base) if kind == "nemotron" else _hybrid(c, base)


def _dense(c: Config, base: Style) -> Decoder:
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", default=heads)
    size, ffn = c.integer("head_dim", default=hidden // heads), c.integer("intermediate_size")
    c.refuse(hidden_act="relu2", mlp_bias=False, attention_bias=False)
    style = base.of(hidden=hidden, norm="layer")
    block = prenorm(style, attention(style, Attention(heads, kv_heads, size)), plain_mlp(style, ffn, squared=True))
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(c, "nemotron", tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    limit = c.integer("max_position_embeddings", default=4096)
    return Decoder(style, c.integer("vocab_size"), tied, (block,) * layers, facts, limit)


def _hybrid(c: Config, base: Style) -> Decoder:
    """Layers of one norm and one mixer, MLP or mixture of experts each."""
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads")
    kv_heads, size = c.integer("num_key_value_heads", default=8), c.integer("head_dim", default=128)
    kinds = _kinds(c)
    style = base.of(hidden=hidden, norm="rms_wide", attention="mixer", mlp="mixer")
    c.refuse(mlp_hidden_act="relu2", attention_bias=False, mlp_bias=False, sliding_window=None)
    build: dict[object, Operators] = {}
    facts = shapes(
        _with_layers(c, len(kinds)), "nemotron_h", tied=False, heads=heads, kv_heads=kv_heads, size=size, ffn=0
    )
    facts["tied"] = tied = c.flag("tie_word_embeddings", default=False)
    for word in dict.fromkeys(kinds):
        if word == "linear_attention":
            mixer = _mamba(style, c)
        elif word == "full_attention":
            # Positions are not turned: the state-space layers tell them.
            mixer = attention(style, Attention(heads, kv_heads, size, rotary=False))
        elif word == "mlp":
            mixer = plain_mlp(style, c.integer("intermediate_size"), squared=True)
            facts["ffn"] = c.integer("intermediate_size")
        elif word == "moe":
            e = _experts(c)
            mixer = experts(style, e)
            facts |= {"experts": e.count, "top_k": e.top_k}
        else:
            raise Unread(f"layers of the kind {word!r}")
        build[word] = alone(style, mixer)
    limit = c.integer("max_position_embeddings", default=4096)
    predicts: Operators = ()
    if c.integer("num_nextn_predict_layers", default=0) and "moe" in build:
        second = alone(style, experts(style, _experts(c)))
        predicts = (*build["full_attention"], *(_second(op) for op in second))
    return Decoder(
        style,
        c.integer("vocab_size"),
        tied,
        repeated(kinds, build),
        facts,
        limit,
        embedding="model.embeddings",
        final_norm="model.norm_f",
        predicts=predicts,
        remark="Mamba-2 as the kernels of mamba-ssm run it",
    )


def _second(operator: Operator) -> Operator:
    from msgspec import structs

    return structs.replace(operator, name=f"second.{operator.name}")


def _with_layers(c: Config, layers: int) -> Config:
    return Config(c.fields | {"num_hidden_layers": layers})


def _kinds(c: Config) -> tuple[str, ...]:
    if c.has("hybrid_override_pattern") and not c.has("layers_block_type"):
        pattern = c.word("hybrid_override_pattern")
        if set(pattern) - set(LETTERS):
            raise Unread(f"the pattern {pattern!r}")
        return tuple(LETTERS[letter] for letter in pattern)
    name = "layers_block_type" if c.has("layers_block_type") else "layer_types"
    listed = c.fields.get(name)
    if not isinstance(listed, list) or not listed:
        raise Unread(f"{name} is not given")
    return c.kinds(name, len(listed), ())


def _mamba(style: Style, c: Config) -> Operators:
    return mamba2(
        style,
        c.integer("mamba_num_heads"),
        c.integer("mamba_head_dim"),
        c.integer("ssm_state_size", default=128),
        c.integer("n_groups", "mamba_n_groups", default=8),
        conv=c.integer("conv_kernel", "mamba_d_conv", default=4),
        chunk=c.integer("chunk_size", "mamba_chunk_size", default=128),
        conv_bias=c.flag("use_conv_bias", "mamba_conv_bias", default=True),
        bias=c.flag("use_bias", default=False),
    )


def _experts(c: Config) -> Experts:
    c.refuse(n_shared_experts=1)
    return Experts(
        c.integer("n_routed_experts", "num_local_experts"),
        c.integer("num_experts_per_tok"),
        c.integer("moe_intermediate_size"),
        c.integer("moe_shared_expert_intermediate_size"),
        gated=False,
        latent=c.integer("moe_latent_size", default=0),
        wide_scores=True,
    )


_M8 = {"model_type": "nemotron_h", "head_dim": 128, "ssm_state_size": 128, "n_groups": 8, "mamba_head_dim": 64}
_N3 = _M8 | {"n_shared_experts": 1}
SUPER = "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
ULTRA = "MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
NANO = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
NANO_V2_12B = "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-"
NANO_V2_9B = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
H_56B = "M-M-M-M" + "*-M-M-M-M-M" * 10 + "-"
H_8B = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"


def _hybrid_model(
    name: str, hub: tuple[str, ...], pattern: str, sizes: tuple[int, ...], more: dict[str, Any], *said: str
) -> Model:
    config = trunk(len(pattern), *sizes) | more | {"hybrid_override_pattern": pattern}
    return Model(name, hub, config, *said, sequence=8192)  # type: ignore[arg-type, misc]


MODELS = (
    Model(
        "nemotron-mini-4b",
        ("nvidia/Nemotron-Mini-4B-Instruct", "nvidia/Minitron-4B-Base"),
        trunk(32, 3072, 24, 8, 9216, 256000, model_type="nemotron", head_dim=128),
        "4.19 B",
    ),
    Model(
        "nemotron-15b",
        ("nvidia/Nemotron-4-15B",),
        trunk(32, 6144, 48, 8, 24576, 256000, model_type="nemotron"),
        "15.6 B",
        source="arXiv 2402.16819",
    ),
    Model(
        "nemotron-340b",
        ("nvidia/Nemotron-4-340B-Base",),
        trunk(96, 18432, 96, 8, 73728, 256000, model_type="nemotron"),
        "341 B",
        source="arXiv 2406.11704",
    ),
    _hybrid_model(
        "nemotron-h-8b",
        ("nvidia/Nemotron-H-8B-Base-8K",),
        H_8B,
        (4096, 32, 8, 21504, 131072),
        _M8 | {"mamba_num_heads": 128},
        "8.1 B",
    ),
    _hybrid_model(
        "nemotron-h-56b",
        ("nvidia/Nemotron-H-56B-Base-8K",),
        H_56B,
        (8192, 64, 8, 32768, 131072),
        _M8 | {"mamba_num_heads": 256, "ssm_state_size": 256},
        "56 B",
    ),
    _hybrid_model(
        "nemotron-nano-9b-v2",
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2",),
        NANO_V2_9B,
        (4480, 40, 8, 15680, 131072),
        _M8 | {"mamba_num_heads": 128, "mamba_head_dim": 80},
        "8.89 B",
    ),
    _hybrid_model(
        "nemotron-nano-12b-v2",
        ("nvidia/NVIDIA-Nemotron-Nano-12B-v2", "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL"),
        NANO_V2_12B,
        (5120, 40, 8, 20480, 131072),
        _M8 | {"mamba_num_heads": 128, "mamba_head_dim": 80},
        "12.3 B",
    ),
    _hybrid_model(
        "nemotron3-nano-30b-a3b",
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B", "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning"),
        NANO,
        (2688, 32, 2, 1856, 131072),
        _N3
        | {
            "mamba_num_heads": 64,
            "n_routed_experts": 128,
            "num_experts_per_tok": 6,
            "moe_intermediate_size": 1856,
            "moe_shared_expert_intermediate_size": 3712,
        },
        "31.6 B",
        "3.6 B",
    ),
    _hybrid_model(
        "nemotron3-super-120b-a12b",
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B",),
        SUPER,
        (4096, 32, 2, 2688, 131072),
        _N3
        | {
            "mamba_num_heads": 128,
            "n_routed_experts": 512,
            "num_experts_per_tok": 22,
            "moe_intermediate_size": 2688,
            "moe_shared_expert_intermediate_size": 5376,
            "moe_latent_size": 1024,
            "num_nextn_predict_layers": 1,
        },
        "120 B",
        "12 B",
    ),
    _hybrid_model(
        "nemotron3-ultra-550b-a55b",
        ("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B",),
        ULTRA,
        (8192, 64, 2, 5120, 131072),
        _N3
        | {
            "mamba_num_heads": 256,
            "n_routed_experts": 512,
            "num_experts_per_tok": 22,
            "moe_intermediate_size": 5120,
            "moe_shared_expert_intermediate_size": 10240,
            "moe_latent_size": 2048,
            "num_nextn_predict_layers": 1,
        },
        "550 B",
        "55 B",
    ),
)
