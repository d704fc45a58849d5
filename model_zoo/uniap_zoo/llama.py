"""Llama: RMS norm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023; Llama team 2024)."""

from __future__ import annotations

from uniap_core.graph import TOKENS, Layer, ModelGraph, Operator
from uniap_core.models import Kernels

from . import operators as op
from .checks import divides, positive


def llama(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    kv_heads: int = 0,
    vocab: int = 32000,
    sequence: int = 2048,
    head_size: int = 0,
    tied: bool = False,
    rotary_base: int = 10000,
    norm_eps: float = 1e-6,
    kernels: Kernels = "eager",
    name: str = "llama",
) -> ModelGraph:
    """The graph of a Llama-type decoder, equal to ``transformers.LlamaForCausalLM`` of the same configuration.

    Parameters
    ----------
    layers, hidden, heads, ffn, vocab
        Blocks, width of the residual stream, attention heads, width of the gated MLP, vocabulary.
    kv_heads, head_size
        Heads of keys and values (0: as many as ``heads``) and width of a head (0: hidden / heads).
    sequence
        Positions per sample.
    tied
        Whether the output projection shares the embedding table.
    rotary_base, norm_eps
        Base of rotary positions and epsilon of the norms; they change no cost, and are recorded for exporters.
    kernels
        ``eager`` or ``fused`` (see :mod:`uniap_zoo.operators`).

    Raises
    ------
    BadValue
        If a number is not positive or heads do not divide.
    """
    kv_heads = kv_heads or heads
    positive(
        name, layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, ffn=ffn, vocab=vocab, sequence=sequence
    )
    if not head_size:
        divides(name, heads=heads, hidden=hidden)
    divides(name, kv_heads=kv_heads, heads=heads)
    size = head_size or hidden // heads
    blocks = [
        Layer(
            f"layers.{i}",
            "decoder",
            (*self_attention(hidden, heads, kv_heads, size, kernels), *gated_mlp(hidden, ffn, kernels)),
            f"model.layers.{i}",
        )
        for i in range(layers)
    ]
    stack = [embedding(vocab, hidden), *blocks, head(vocab, hidden, tied, kernels)]
    return ModelGraph(
        name=name,
        family="llama",
        sequence=sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, hidden),
        architecture={
            "family": "llama",
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
            "kernels": kernels,
            # As the family has them (uniap_core.architecture), they are not repeated: graphs keep their hash.
            **({"rotary_base": rotary_base} if rotary_base != 10000 else {}),
            **({"norm_eps": norm_eps} if norm_eps != 1e-6 else {}),
        },
    )


def embedding(vocab: int, hidden: int) -> Layer:
    """The token embedding."""
    return Layer("embedding", "embedding", (op.lookup("tokens", vocab, hidden, split="vocab"),), "model.embed_tokens")


def self_attention(hidden: int, heads: int, kv_heads: int, size: int, kernels: Kernels) -> tuple[Operator, ...]:
    """Norm, projections, rotary positions, causal attention, output projection, residual."""
    return (
        op.rms_norm("norm_attention", hidden, kernels),
        op.linear("qkv", hidden, (heads + 2 * kv_heads) * size, split="column", entry=True),
        op.rotary((heads + kv_heads) * size, kernels),
        op.attention("attention", heads, size, kv_heads=kv_heads, causal=True),
        op.linear("out", heads * size, hidden, split="row"),
        op.residual("residual_attention", hidden),
    )


def gated_mlp(hidden: int, ffn: int, kernels: Kernels) -> tuple[Operator, ...]:
    """Norm, gate and up projections, SwiGLU, down projection, residual."""
    return (
        op.rms_norm("norm_mlp", hidden, kernels),
        op.linear("gate_up", hidden, 2 * ffn, split="column", entry=True),
        op.swiglu(ffn, kernels),
        op.linear("down", ffn, hidden, split="row", selective=True),
        op.residual("residual_mlp", hidden),
    )


def head(vocab: int, hidden: int, tied: bool, kernels: Kernels) -> Layer:
    """Final norm, output projection and loss."""
    weight = "embedding/tokens" if tied else ""
    operators = (
        op.rms_norm("norm", hidden, kernels),
        op.linear("lm_head", hidden, vocab, split="vocab", entry=True, tied=weight),
        op.cross_entropy(vocab),
    )
    return Layer("head", "head", operators, "lm_head")
