"""DeepSeek-V2 and V3 from the columns of a table: latent attention, and experts behind a few dense layers.

What no column says comes from the published configurations (arXiv 2405.04434, section 3.1.2, and 2412.19437,
section 4.2; config.json of deepseek-ai/DeepSeek-V2 and DeepSeek-V3).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from uniap_core.errors import BadValue
from uniap_core.graph import TOKENS, Layer, ModelGraph, Operator
from uniap_core.models import Hyperparameters, Kernels

from . import operators as op
from .llama import embedding, gated_mlp, head
from .mixtral import mixture


class Published(NamedTuple):
    """Hidden size, widths of latent attention and of the experts."""

    query_rank: int
    kv_rank: int
    plain: int
    rotary: int
    value: int
    experts: int
    top_k: int
    shared: int
    expert_ffn: int
    dense: int
    vocab: int
    hidden: int


VERSIONS = {
    "v2": Published(1536, 512, 128, 64, 128, 160, 6, 2, 1536, 1, 102400, 5120),
    "v3": Published(1536, 512, 128, 64, 128, 256, 8, 1, 2048, 3, 129280, 7168),
}


def version_of(model: str) -> str | None:
    """Which published configuration a name means: not what was distilled into other models, nor smaller siblings."""
    name = re.sub("[-_ ]", "", model.lower())
    if "deepseek" not in name or any(word in name for word in ("lite", "coder", "distill")):
        return None
    return next((v for v in ("v2", "v3") if v in name), "v3" if "r1" in name else None)


def deepseek(model: str, version: str, sizes: Hyperparameters, dense: int | None = None) -> ModelGraph:
    """The graph of a DeepSeek model; experts that ``sizes`` leave open are the published ones.

    The published number of dense layers is no more than a quarter of all.
    """
    known = VERSIONS[version]
    if dense is None:
        dense = sizes.dense_layers
    if dense is None:
        dense = min(known.dense, max(1, sizes.layers // 4))
    shared = known.shared if sizes.shared_experts is None else sizes.shared_experts
    filled = sizes._replace(
        experts=sizes.experts or known.experts,
        top_k=sizes.top_k or known.top_k,
        moe_ffn=sizes.moe_ffn or known.expert_ffn,
        shared_experts=shared,
        dense_layers=dense,
    )
    attention = _latent_attention(known, sizes.hidden, sizes.heads)
    return mixed(model, "deepseek", filled, attention, "fused")


def mixed(
    model: str, family: str, sizes: Hyperparameters, attention: tuple[Operator, ...], kernels: Kernels
) -> ModelGraph:
    """A decoder of dense layers, then layers of experts, of which tokens visit some and all visit the shared ones.

    Raises
    ------
    BadValue
        If a token visits more experts than there are, or more layers are dense than there are.
    """
    hidden, dense, width = sizes.hidden, sizes.dense_layers or 0, (sizes.shared_experts or 0) * sizes.moe_ffn
    if sizes.top_k > sizes.experts:
        raise BadValue(f"{model}: top_k {sizes.top_k} of {sizes.experts} experts", "let a token visit at most all")
    if dense > sizes.layers:
        raise BadValue(f"{model}: {dense} dense layers of {sizes.layers}", "give at most all")
    shared = (
        op.linear("shared_up", hidden, 2 * width, split="column", entry=True, keep=False),
        op.swiglu(width, kernels),
        op.linear("shared_down", width, hidden, split="row", selective=True),
    )
    routed = mixture(hidden, sizes.moe_ffn, sizes.experts, sizes.top_k, kernels)
    plain = (*attention, *gated_mlp(hidden, sizes.ffn, kernels))
    expert = (*attention, *routed[:-1], *(shared if width else ()), routed[-1])
    blocks = [
        Layer(f"layers.{i}", "decoder", plain if i < dense else expert, f"model.layers.{i}")
        for i in range(sizes.layers)
    ]
    stack = [embedding(sizes.vocab, hidden), *blocks, head(sizes.vocab, hidden, False, kernels)]
    return ModelGraph(
        name=model,
        family=family,
        sequence=sizes.sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, hidden),
    )


def _latent_attention(known: Published, hidden: int, heads: int) -> tuple[Operator, ...]:
    """Norm, low-rank queries, keys and values, attention (keys wider than values: their mean counts), output."""
    key = known.plain + known.rotary
    return (
        op.rms_norm("norm_attention", hidden, "fused"),
        op.linear("query_down", hidden, known.query_rank),
        op.rms_norm("norm_query", known.query_rank, "fused"),
        op.linear("query_up", known.query_rank, heads * key, split="column", entry=True),
        op.linear("kv_down", hidden, known.kv_rank + known.rotary, keep=False),
        op.rms_norm("norm_kv", known.kv_rank, "fused"),
        op.linear("kv_up", known.kv_rank, heads * (known.plain + known.value), split="column"),
        op.rotary(2 * heads * known.rotary, "fused"),
        op.attention("attention", heads, (key + known.value) // 2, causal=True),
        op.linear("out", heads * known.value, hidden, split="row"),
        op.residual("residual_attention", hidden),
    )
