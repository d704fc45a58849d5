"""The operators of decoders as transformers has them, named by the modules of a layer.

What autograd keeps of each is that of eager PyTorch or of one kernel each (see :mod:`uniap_zoo.operators`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from msgspec import structs

from uniap_core.graph import TOKENS, Length, Operator, Saved
from uniap_core.models import Kernels

from .. import operators as op

NormKind = Literal["rms", "rms_wide", "layer", "flat"]
"""RMS norm; the same with its weight multiplied in fp32 (Gemma, OLMo 2, Nemotron-H); layer norm with a shift or not."""


@dataclass(frozen=True)
class Style:
    """What all layers of a model have in common.

    Attributes
    ----------
    kernels
        Eager or fused.
    norm
        Kind of the norms.
    attention, mlp
        Names of the modules of a layer.
    """

    hidden: int
    kernels: Kernels = "eager"
    norm: NormKind = "rms"
    attention: str = "self_attn"
    mlp: str = "mlp"

    def of(self, **more: object) -> Style:
        """The style with what a configuration says."""
        return replace(self, **more)  # type: ignore[arg-type]


def norm(style: Style, name: str, width: int = 0, *, rows: Length = TOKENS, heads: bool = False) -> Operator:
    """A norm of ``width`` elements (0: the residual stream's), or of each head."""
    width = width or style.hidden
    statistic = Saved(1, bytes=4, split=heads, selective=True)
    kept = Saved(width, split=heads, selective=True)
    upcast = Saved(width, bytes=4, split=heads, selective=True)
    passes = 2.0
    parameters = width
    if style.norm in ("layer", "flat"):
        saved: tuple[Saved, ...] = (kept, statistic, statistic)
        parameters = 2 * width if style.norm == "layer" else width
    elif style.kernels == "fused":
        saved = (kept, statistic)
    else:
        wide = style.norm == "rms_wide"
        saved, passes = (upcast, statistic, upcast if wide else kept), 20.0 if wide else 18.0
    return Operator(
        name=name,
        kind="norm",
        rows=rows,
        inner=width,
        parameters=parameters,
        passes=passes,
        saved=saved,
        split="heads" if heads else "none",
    )


def norms_of_heads(style: Style, query: int, key: int, size: int, kind: str) -> tuple[Operator, ...]:
    """Norms of queries and keys: of each ``head``, over the whole ``width``, or none."""
    where = style.attention
    if kind == "width":
        return norm(style, f"{where}.q_norm", query * size), norm(style, f"{where}.k_norm", key * size)
    if kind == "head":
        pairs = (("q_norm", query), ("k_norm", key))
        return tuple(norm(style, f"{where}.{name}", size, rows=Length(0, n), heads=True) for name, n in pairs)
    return ()


def pointwise(name: str, width: int, passes: float = 3.0, **more: object) -> Operator:
    """Work bound by memory over all rows."""
    return Operator(name=name, kind="pointwise", rows=TOKENS, inner=width, passes=passes, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Attention:
    """Self-attention with grouped keys (Ainslie et al. 2023).

    Attributes
    ----------
    size
        Width of a head.
    qk_norm
        Norms of queries and keys: of each ``head``, over the ``width``, or empty.
    plain_norm
        Those norms have no weight (Llama 4).
    rotary
        Whether positions turn queries and keys.
    window
        Positions that a query sees at most, 0 for all.
    sinks
        A learned logit per head beside the keys (gpt-oss).
    gated
        A gate for each of the ``elements`` of its output (Qwen3-Next), for each of its ``heads`` (Step-3.5), or none.
    packed
        One product for queries, keys and values (Phi-3).
    """

    heads: int
    kv_heads: int
    size: int
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: str = ""
    plain_norm: bool = False
    rotary: bool = True
    window: int = 0
    sinks: bool = False
    gated: str = ""
    packed: bool = False

    def seeing(self, window: int) -> Attention:
        """The same attention over a window."""
        return replace(self, window=window)


def attention(style: Style, a: Attention) -> tuple[Operator, ...]:
    """Projections, norms of queries and keys, rotary positions, attention core, output projection."""
    where, hidden = style.attention, style.hidden
    query, key = a.heads * a.size, a.kv_heads * a.size
    wide = 2 * query if a.gated == "elements" else query
    # Norms over the whole width need all heads: tensor parallelism would have to gather them.
    qb = a.qkv_bias

    def product(name: str, outer: int, first: bool) -> Operator:
        return op.linear(f"{where}.{name}", hidden, outer, split="column", entry=first, bias=qb, keep=first)

    if a.packed:
        into: tuple[Operator, ...] = (product("qkv_proj", query + 2 * key, True),)
    else:
        into = (product("q_proj", wide, True), product("k_proj", key, False), product("v_proj", key, False))
    norms = norms_of_heads(style, a.heads, a.kv_heads, a.size, a.qk_norm)
    if a.plain_norm:
        norms = tuple(_without_weight(each) for each in norms)
    core = op.attention(f"{where}.attention", a.heads, a.size, kv_heads=a.kv_heads, causal=True)
    core = structs.replace(core, window=a.window)
    if a.packed and style.kernels == "eager":
        # Values are a view of the packed product, which stays with them.
        core = structs.replace(core, saved=(*core.saved, Saved(query + key, split=True)))
    turn = op.rotary(query + key, style.kernels)
    gate: tuple[Operator, ...] = ()
    if a.gated == "elements":
        kept = (Saved(query, split=True), Saved(query, split=True))
        gate = (pointwise(f"{where}.gate", query, 4.0, split="column", saved=kept),)
    elif a.gated == "heads":
        kept = (Saved(a.heads, split=True), Saved(query, split=True))
        gate = (
            op.linear(f"{where}.g_proj", hidden, a.heads, split="column", keep=False),
            pointwise(f"{where}.gate", query, 3.0, split="column", saved=kept),
        )
    sinks = (pointwise(f"{where}.sinks", a.heads, 1.0, split="heads", parameters=a.heads),) if a.sinks else ()
    return (
        *into,
        *norms,
        *((_named(turn, f"{where}.rotary"),) if a.rotary else ()),
        *sinks,
        core,
        *gate,
        op.linear(f"{where}.o_proj", query, hidden, split="row", bias=a.out_bias),
    )


def _named(operator: Operator, name: str) -> Operator:
    return structs.replace(operator, name=name)


def _without_weight(operator: Operator) -> Operator:
    return structs.replace(operator, parameters=0)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Attributes
    ----------
    query_rank, kv_rank
        Ranks that queries (0: none), and keys with values, are pressed through.
    plain, rotary, value
        Widths of a head: of queries and keys without positions, with positions, and of values.
    indexer
        Heads and width of the lightning indexer that picks keys (DeepSeek-V3.2, GLM-5), and how many it picks.
    """

    heads: int
    query_rank: int
    kv_rank: int
    plain: int
    rotary: int
    value: int
    bias: bool = False
    indexer: tuple[int, int, int] | None = None


def latent_attention(style: Style, a: Latent) -> tuple[Operator, ...]:
    """Down and up projections with norms between, attention (keys wider than values: their mean counts), output."""
    where, hidden, heads = style.attention, style.hidden, a.heads
    key = a.plain + a.rotary
    if a.query_rank:
        queries: tuple[Operator, ...] = (
            op.linear(f"{where}.q_a_proj", hidden, a.query_rank, bias=a.bias),
            norm(style, f"{where}.q_a_layernorm", a.query_rank),
            op.linear(f"{where}.q_b_proj", a.query_rank, heads * key, split="column", entry=True),
        )
    else:
        queries = (op.linear(f"{where}.q_proj", hidden, heads * key, split="column", entry=True),)
    most = 0
    index: tuple[Operator, ...] = ()
    if a.indexer is not None:
        count, size, most = a.indexer
        index = _indexer(style, a, count, size) if count else ()
    # Eager code keeps the product that keys and values are cut from, one kernel the values alone.
    values = heads * (a.value if style.kernels == "fused" else a.plain + a.value)
    core = Operator(
        name=f"{where}.attention",
        kind="attention",
        rows=TOKENS,
        inner=(key + a.value) // 2,
        keys=TOKENS,
        window=most,
        heads=heads,
        kv_heads=heads,
        causal=True,
        split="heads",
        saved=(
            Saved(2 * heads * key + values, split=True),
            Saved(heads, bytes=4, split=True, selective=True),
        ),
    )
    return (
        *queries,
        op.linear(f"{where}.kv_a_proj_with_mqa", hidden, a.kv_rank + a.rotary, bias=a.bias, keep=False),
        norm(style, f"{where}.kv_a_layernorm", a.kv_rank),
        op.linear(
            f"{where}.kv_b_proj", a.kv_rank, heads * (a.plain + a.value), split="column", entry=True, selective=True
        ),
        *index,
        _named(op.rotary((heads + 1) * a.rotary, style.kernels), f"{where}.rotary"),
        core,
        op.linear(f"{where}.o_proj", heads * a.value, hidden, split="row", bias=a.bias),
    )


def _indexer(style: Style, a: Latent, heads: int, size: int) -> tuple[Operator, ...]:
    """Scores of all keys by small heads in fp8, and the best of them (no gradient of the loss goes through it)."""
    where = f"{style.attention}.indexer"
    products = (
        op.linear(f"{where}.wq_b", a.query_rank, heads * size, keep=False),
        op.linear(f"{where}.wk", style.hidden, size, keep=False),
        op.linear(f"{where}.weights_proj", style.hidden, heads, keep=False),
    )
    shift = pointwise(f"{where}.k_norm", size, 2.0, parameters=2 * size)
    # Scores are one product of queries and keys: half of an attention of the same heads.
    scores = Operator(
        name=f"{where}.scores", kind="attention", rows=TOKENS, inner=size // 2, keys=TOKENS, heads=heads, kv_heads=1
    )
    return (*products, shift, scores)


def gated_mlp(
    style: Style, ffn: int, where: str = "", *, bias: bool = False, packed: bool = False
) -> tuple[Operator, ...]:
    """Gate and up projections, activation, down projection."""
    where = where or style.mlp

    def product(name: str, outer: int, first: bool) -> Operator:
        return op.linear(f"{where}.{name}", style.hidden, outer, split="column", entry=first, bias=bias, keep=first)

    into = (
        (product("gate_up_proj", 2 * ffn, True),)
        if packed
        else (product("gate_proj", ffn, True), product("up_proj", ffn, False))
    )
    return (
        *into,
        _named(op.swiglu(ffn, style.kernels), f"{where}.act_fn"),
        op.linear(f"{where}.down_proj", ffn, style.hidden, split="row", bias=bias, selective=True),
    )


def plain_mlp(
    style: Style, ffn: int, where: str = "", *, bias: bool = False, squared: bool = False
) -> tuple[Operator, ...]:
    """Up projection, activation (``squared`` ReLU keeps two), down projection."""
    where = where or style.mlp
    act = op.activation(f"{where}.act_fn", ffn)
    if squared and style.kernels == "eager":
        act = structs.replace(act, passes=4.0, saved=(Saved(ffn, split=True),))
    return (
        op.linear(f"{where}.up_proj", style.hidden, ffn, split="column", entry=True, bias=bias),
        act,
        op.linear(f"{where}.down_proj", ffn, style.hidden, split="row", bias=bias, selective=True),
    )
