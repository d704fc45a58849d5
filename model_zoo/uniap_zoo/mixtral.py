"""Mixtral: Llama's attention with a mixture of experts in each block (Jiang et al. 2024)."""

from __future__ import annotations

from uniap_core.errors import BadValue
from uniap_core.graph import TOKENS, Layer, ModelGraph, Operator, Saved
from uniap_core.models import Kernels

from . import operators as op
from .checks import divides, positive
from .llama import embedding, head, self_attention


def mixtral(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    kv_heads: int = 0,
    experts: int = 8,
    top_k: int = 2,
    vocab: int = 32000,
    sequence: int = 4096,
    head_size: int = 0,
    tied: bool = False,
    kernels: Kernels = "eager",
    name: str = "mixtral",
) -> ModelGraph:
    """The graph of a Mixtral-type decoder, equal to ``transformers.MixtralForCausalLM``.

    Parameters
    ----------
    layers, hidden, heads, kv_heads, head_size, vocab, sequence, tied, kernels
        As for :func:`uniap_zoo.llama.llama`.
    ffn
        Width of the gated MLP of one expert.
    experts, top_k
        Experts of a block, and how many of them a token visits.

    Raises
    ------
    BadValue
        If a number is not positive, heads do not divide, or a token visits more experts than there are.
    """
    kv_heads = kv_heads or heads
    positive(name, layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, ffn=ffn, vocab=vocab)
    positive(name, sequence=sequence, experts=experts, top_k=top_k)
    if top_k > experts:
        raise BadValue(f"{name}: top_k {top_k} of {experts} experts", "let a token visit at most all experts")
    if not head_size:
        divides(name, heads=heads, hidden=hidden)
    divides(name, kv_heads=kv_heads, heads=heads)
    size = head_size or hidden // heads
    operators = (
        *self_attention(hidden, heads, kv_heads, size, kernels),
        *mixture(hidden, ffn, experts, top_k, kernels),
    )
    stack = [
        embedding(vocab, hidden),
        *(Layer(f"layers.{i}", "decoder", operators, f"model.layers.{i}") for i in range(layers)),
        head(vocab, hidden, tied, kernels),
    ]
    return ModelGraph(
        name=name,
        family="mixtral",
        sequence=sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, hidden),
        architecture={
            "family": "mixtral",
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_size": size,
            "ffn": ffn,
            "vocab": vocab,
            "positions": 0,
            "tied": tied,
            "activation": "swiglu",
            "norm": "rms",
            "experts": experts,
            "top_k": top_k,
            "kernels": kernels,
        },
    )


def mixture(hidden: int, ffn: int, experts: int, top_k: int, kernels: Kernels) -> tuple[Operator, ...]:
    """Norm, router, dispatch of rows to experts, their gated MLPs, weighted sum, residual."""
    eager = kernels == "eager"
    indices = Saved(4 * top_k, bytes=8, selective=True)
    scores = Saved(experts + 2 * top_k + 1, bytes=4, selective=True)
    visit = Saved(top_k * ffn, split=True)
    again = Saved(top_k * ffn, split=True, selective=True)
    swiglu = Operator(
        name="swiglu",
        kind="pointwise",
        rows=TOKENS,
        inner=top_k * ffn,
        split="experts",
        passes=5.0 if eager else 3.0,
        saved=(visit, visit, *((again,) if eager else ())),
    )
    combine = Operator(
        name="combine",
        kind="pointwise",
        rows=TOKENS,
        inner=top_k * hidden,
        passes=6.0 if eager else 2.5,
        saved=(Saved(top_k * hidden),) if eager else (),
    )
    return (
        op.rms_norm("norm_mlp", hidden, kernels),
        op.linear("router", hidden, experts),
        Operator(name="routing", kind="pointwise", rows=TOKENS, inner=experts, passes=20.0, saved=(scores, indices)),
        Operator(name="dispatch", kind="pointwise", rows=TOKENS, inner=top_k * hidden),
        grouped("gate_up", hidden, 2 * ffn, experts, top_k, (Saved(top_k * hidden, selective=True),), entry=True),
        swiglu,
        grouped("down", ffn, hidden, experts, top_k, (again,)),
        combine,
        op.residual("residual_mlp", hidden),
    )


def grouped(
    name: str, inner: int, outer: int, experts: int, top_k: int, saved: tuple[Saved, ...], *, entry: bool = False
) -> Operator:
    """One product per expert over the rows that visit it."""
    return Operator(
        name=name,
        kind="grouped_gemm",
        rows=TOKENS,
        inner=inner,
        outer=outer,
        experts=experts,
        top_k=top_k,
        split="experts",
        entry=entry,
        parameters=experts * inner * outer,
        saved=saved,
    )
