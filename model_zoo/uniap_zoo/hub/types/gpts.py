"""Decoders with plain MLPs of the years before Llama: OPT, BLOOM, Falcon, GPT-Neo, GPT-J, GPT-NeoX, MPT."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from uniap_core.graph import Operator

from ... import operators as op
from ..blocks import Style, norm, pointwise
from ..config import Config, Unread
from ..decoder import Decoder, Operators, shapes
from ..model import Model

FAMILY = "OPT, BLOOM, Falcon, GPT-Neo, GPT-J, GPT-NeoX, Pythia, MPT"

READS = ("opt", "bloom", "falcon", "gpt_neo", "gptj", "gpt_neox", "mpt")


@dataclass(frozen=True)
class Kind:
    """How a type's layers differ.

    Attributes
    ----------
    sizes
        Names of layers, hidden size, heads and MLP width in its configuration.
    biases
        Of queries, keys and values, of attention's output, of the MLP, of the head.
    shift
        Whether norms have a shift.
    shared_norm
        Attention and MLP read one norm (parallel layers with a single norm).
    positions
        Learned positions beyond those of the configuration, ``None`` for none.
    tied
        Whether the head shares the embedding, where the configuration does not say.
    embedding, layers, final_norm, head
        Paths of modules.
    """

    sizes: tuple[str, str, str, str]
    biases: tuple[bool, bool, bool, bool]
    embedding: str
    layers: str
    final_norm: str
    head: str = "lm_head"
    shift: bool = True
    shared_norm: bool = False
    positions: int | None = None
    tied: bool = True
    turned: bool = False


KINDS = {
    "opt": Kind(
        ("num_hidden_layers", "hidden_size", "num_attention_heads", "ffn_dim"),
        (True, True, True, False),
        "model.decoder.embed_tokens",
        "model.decoder.layers",
        "model.decoder.final_layer_norm",
        positions=2,
    ),
    "bloom": Kind(
        ("n_layer", "hidden_size", "n_head", ""),
        (True, True, True, False),
        "transformer.word_embeddings",
        "transformer.h",
        "transformer.ln_f",
    ),
    "falcon": Kind(
        ("num_hidden_layers", "hidden_size", "num_attention_heads", "ffn_hidden_size"),
        (False, False, False, False),
        "transformer.word_embeddings",
        "transformer.h",
        "transformer.ln_f",
        turned=True,
    ),
    "gpt_neo": Kind(
        ("num_layers", "hidden_size", "num_heads", "intermediate_size"),
        (False, True, True, False),
        "transformer.wte",
        "transformer.h",
        "transformer.ln_f",
        positions=0,
    ),
    "gptj": Kind(
        ("n_layer", "n_embd", "n_head", "n_inner"),
        (False, False, True, True),
        "transformer.wte",
        "transformer.h",
        "transformer.ln_f",
        shared_norm=True,
        tied=False,
        turned=True,
    ),
    "gpt_neox": Kind(
        ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
        (True, True, True, False),
        "gpt_neox.embed_in",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        tied=False,
        turned=True,
    ),
    "mpt": Kind(
        ("n_layers", "d_model", "n_heads", ""),
        (False, False, False, False),
        "transformer.wte",
        "transformer.blocks",
        "transformer.norm_f",
        shift=False,
    ),
}


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Layers of attention and a plain MLP with layer norms, one behind the other or side by side.

    Attention is one kernel; dropout counts only in training with it, and is left out as for decoders of today.
    """
    k = KINDS[kind]
    layers, hidden, heads = (c.integer(name) for name in k.sizes[:3])
    ffn = c.integer(k.sizes[3], default=4 * hidden) if k.sizes[3] else 4 * hidden
    narrow = c.integer("word_embed_proj_dim", default=hidden) if kind == "opt" else hidden
    behind = kind == "opt" and not c.flag("do_layer_norm_before", default=True)
    c.refuse(alibi=kind == "bloom", expansion_ratio=4)
    c.refuse(parallel_attn=True, bias=False, qk_ln=False, multi_query=c.fields.get("multi_query", True))
    style = base.of(hidden=hidden, norm="layer" if k.shift else "flat")
    two_norms, kv_heads = not k.shared_norm, heads
    if kind == "falcon":
        new = c.flag("new_decoder_architecture", default=False)
        kv_heads = c.integer("num_kv_heads", default=heads) if new else 1
        two_norms = new and c.integer("num_ln_in_parallel_attn", default=2) == 2
    windows = _windows(kind, c, layers)
    build = {w: _block(style, k, heads, kv_heads, ffn, two_norms=two_norms, window=w) for w in set(windows)}
    tied = c.flag("tie_word_embeddings", default=k.tied)
    sizes = Config({"num_hidden_layers": layers, "hidden_size": hidden, "vocab_size": c.integer("vocab_size")})
    facts = shapes(sizes, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=hidden // heads, ffn=ffn)
    limit = c.integer("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", default=2048)
    extra: Operators = ()
    if k.positions is not None:
        facts["positions"] = limit
        extra = (op.lookup("positions", limit + k.positions, hidden), op.residual("add_positions", hidden))
    if kind == "bloom":
        extra = (norm(style, "word_embeddings_layernorm"),)
    return Decoder(
        style,
        c.integer("vocab_size"),
        tied,
        tuple(build[window] for window in windows),
        facts,
        limit,
        embedding=k.embedding,
        layers=k.layers,
        final_norm="" if behind else k.final_norm,
        narrow=0 if narrow == hidden else narrow,
        head=k.head,
        embedded=extra,
        head_bias=k.biases[3],
        remark="attention as one kernel, no dropout",
    )


def _windows(kind: str, c: Config, layers: int) -> tuple[int, ...]:
    """The window of each layer's attention: GPT-Neo's local layers see 256 positions."""
    if kind != "gpt_neo":
        return (0,) * layers
    groups = c.fields.get("attention_types", [[["global", "local"], layers // 2]])
    if not isinstance(groups, list) or not all(isinstance(g, list) and len(g) == 2 for g in groups):
        raise Unread(f"attention_types is {groups!r}")
    words = [word for pattern, times in groups for word in pattern * times]
    if len(words) != layers or set(words) - {"global", "local"}:
        raise Unread(f"attention_types is {groups!r}")
    near = c.integer("window_size", default=256)
    return tuple(near if word == "local" else 0 for word in words)


def _block(style: Style, k: Kind, heads: int, kv_heads: int, ffn: int, *, two_norms: bool, window: int) -> Operators:
    hidden, size = style.hidden, style.hidden // heads
    qkv, out, mlp, _ = k.biases
    wide = (heads + 2 * kv_heads) * size
    turn: tuple[Operator, ...] = (op.rotary((heads + kv_heads) * size, style.kernels),) if k.turned else ()
    return (
        norm(style, "input_layernorm"),
        op.linear("attention.query_key_value", hidden, wide, split="column", entry=True, bias=qkv),
        *turn,
        structs.replace(op.attention("attention.core", heads, size, kv_heads=kv_heads, causal=True), window=window),
        op.linear("attention.dense", hidden, hidden, split="row", bias=out),
        pointwise("add", hidden),
        *((norm(style, "post_attention_layernorm"),) if two_norms else ()),
        op.linear("mlp.up", hidden, ffn, split="column", entry=True, bias=mlp, keep=two_norms),
        op.activation("mlp.act_fn", ffn),
        op.linear("mlp.down", ffn, hidden, split="row", bias=mlp, selective=True),
        pointwise("add_2", hidden),
    )


def _opt(layers: int, hidden: int, heads: int, figure: str, size: str, **more: object) -> Model:
    config = {"model_type": "opt", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    config |= {"ffn_dim": 4 * hidden, "vocab_size": 50272, "max_position_embeddings": 2048} | more
    return Model(f"opt-{size}", (f"facebook/opt-{size}",), config, figure, source="arXiv 2205.01068", sequence=2048)


def _bloom(name: str, layers: int, hidden: int, heads: int, figure: str) -> Model:
    config = {"model_type": "bloom", "n_layer": layers, "hidden_size": hidden, "n_head": heads, "vocab_size": 250880}
    hub = "bigscience/bloom" if name == "bloom-176b" else f"bigscience/{name}"
    return Model(name, (hub,), config, figure, source="arXiv 2211.05100", sequence=2048)


def _falcon(size: str, layers: int, hidden: int, heads: int, kv_heads: int, figure: str) -> Model:
    config = {"model_type": "falcon", "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    config |= {"vocab_size": 65024, "parallel_attn": True, "bias": False, "alibi": False}
    config |= {"num_kv_heads": kv_heads, "new_decoder_architecture": True} if kv_heads > 1 else {"multi_query": True}
    return Model(f"falcon-{size}", (f"tiiuae/falcon-{size}",), config, figure, source="arXiv 2311.16867", sequence=2048)


def _neo(size: str, layers: int, hidden: int, heads: int, figure: str) -> Model:
    config = {"model_type": "gpt_neo", "num_layers": layers, "hidden_size": hidden, "num_heads": heads}
    config |= {"vocab_size": 50257, "max_position_embeddings": 2048}
    config["attention_types"] = [[["global", "local"], layers // 2]]
    return Model(f"gpt-neo-{size}", (f"EleutherAI/gpt-neo-{size}",), config, figure, sequence=2048)


def _neox(name: str, hub: str, layers: int, hidden: int, heads: int, vocab: int, figure: str) -> Model:
    config = {
        "model_type": "gpt_neox",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
    }
    config |= {"intermediate_size": 4 * hidden, "vocab_size": vocab, "max_position_embeddings": 2048}
    return Model(name, (hub,), config, figure, sequence=2048)


def _mpt(size: str, layers: int, hidden: int, heads: int, figure: str) -> Model:
    config = {"model_type": "mpt", "n_layers": layers, "d_model": hidden, "n_heads": heads, "vocab_size": 50432}
    return Model(f"mpt-{size}", (f"mosaicml/mpt-{size}",), config | {"max_seq_len": 2048}, figure, sequence=2048)


MODELS = (
    _opt(24, 1024, 16, "331 M", "350m", word_embed_proj_dim=512, do_layer_norm_before=False),
    _opt(24, 2048, 32, "1.32 B", "1.3b"),
    _opt(32, 2560, 32, "2.65 B", "2.7b"),
    _opt(32, 4096, 32, "6.7 B", "6.7b"),
    _opt(40, 5120, 40, "12.9 B", "13b"),
    _opt(48, 7168, 56, "30.0 B", "30b"),
    _opt(64, 9216, 72, "65.7 B", "66b"),
    _opt(96, 12288, 96, "175 B", "175b"),
    _bloom("bloom-7b1", 30, 4096, 32, "7.07 B"),
    _bloom("bloom-176b", 70, 14336, 112, "176 B"),
    _falcon("7b", 32, 4544, 71, 1, "6.92 B"),
    _falcon("40b", 60, 8192, 128, 8, "41.3 B"),
    _falcon("180b", 80, 14848, 232, 8, "179 B"),
    _neo("1.3b", 24, 2048, 16, "1.32 B"),
    _neo("2.7b", 32, 2560, 20, "2.65 B"),
    Model(
        "gpt-j-6b",
        ("EleutherAI/gpt-j-6b",),
        {"model_type": "gptj", "n_layer": 28, "n_embd": 4096, "n_head": 16, "vocab_size": 50400, "n_positions": 2048},
        "6.05 B",
        sequence=2048,
    ),
    _neox("gpt-neox-20b", "EleutherAI/gpt-neox-20b", 44, 6144, 64, 50432, "20.6 B"),
    _neox("pythia-1.4b", "EleutherAI/pythia-1.4b", 24, 2048, 16, 50304, "1.41 B"),
    _mpt("7b", 32, 4096, 32, "6.65 B"),
    _mpt("30b", 48, 7168, 64, "30.0 B"),
)
