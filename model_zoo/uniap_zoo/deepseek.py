"""DeepSeek-V2 and V3 from the columns of a table: latent attention, and experts behind a few dense layers.

What no column says comes from the published configurations (arXiv 2405.04434, section 3.1.2, and 2412.19437,
section 4.2; config.json of deepseek-ai/DeepSeek-V2 and DeepSeek-V3).
"""

from __future__ import annotations

from typing import NamedTuple

from uniap_core.graph import TOKENS, Layer, ModelGraph, Operator
from uniap_core.models import Hyperparameters

from . import operators as op
from .llama import embedding, gated_mlp, head
from .mixtral import mixture


class Published(NamedTuple):
    """Widths of latent attention and of the experts."""

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


VERSIONS = {
    "v2": Published(1536, 512, 128, 64, 128, 160, 6, 2, 1536, 1, 102400),
    "v3": Published(1536, 512, 128, 64, 128, 256, 8, 1, 2048, 3, 129280),
}


def version_of(model: str) -> str | None:
    """Which published configuration a name means."""
    name = model.lower().replace("-", "").replace("_", "")
    if "lite" in name or "coder" in name:
        return None
    return next((v for v in ("v2", "v3") if v in name), "v3" if "r1" in name else None)


def deepseek(model: str, version: str, sizes: Hyperparameters, dense: int | None = None) -> ModelGraph:
    """The graph of a DeepSeek model, its number of dense layers no more than a quarter of all."""
    known = VERSIONS[version]
    hidden = sizes.hidden
    if dense is None:
        dense = min(known.dense, max(1, sizes.layers // 4))
    attention = _latent_attention(known, hidden, sizes.heads)
    shared = (
        op.linear("shared_up", hidden, 2 * known.shared * known.expert_ffn, split="column", entry=True, keep=False),
        op.swiglu(known.shared * known.expert_ffn, "fused"),
        op.linear("shared_down", known.shared * known.expert_ffn, hidden, split="row", selective=True),
    )
    routed = mixture(hidden, known.expert_ffn, known.experts, known.top_k, "fused")
    plain = (*attention, *gated_mlp(hidden, sizes.ffn, "fused"))
    mixed = (*attention, *routed[:-1], *shared, routed[-1])
    blocks = [
        Layer(f"layers.{i}", "decoder", plain if i < dense else mixed, f"model.layers.{i}") for i in range(sizes.layers)
    ]
    stack = [embedding(sizes.vocab, hidden), *blocks, head(sizes.vocab, hidden, False, "fused")]
    return ModelGraph(
        name=model,
        family="deepseek",
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
