"""The two halves of a pre-norm transformer block with biases, as in GPT, ViT and Swin."""

from __future__ import annotations

from uniap_core.graph import TOKENS, Length, Operator
from uniap_core.models import Kernels

from . import operators as op


def self_attention(
    hidden: int,
    heads: int,
    *,
    rows: Length = TOKENS,
    keys: Length | None = None,
    causal: bool = False,
    dropout: bool = False,
    kernels: Kernels = "eager",
    parameters: int = 0,
    bias_width: int = 0,
) -> tuple[Operator, ...]:
    """Norm, projections, attention, output projection, dropout (``kernels`` say whether with the residual), residual.

    ``keys`` (default: ``rows``) is what a query attends to; ``parameters`` and ``bias_width`` describe a relative
    position bias (see :func:`uniap_zoo.operators.attention`).
    """
    core = op.attention(
        "attention",
        heads,
        hidden // heads,
        rows=rows,
        keys=keys or rows,
        causal=causal,
        parameters=parameters,
        bias_width=bias_width,
    )
    return (
        op.layer_norm("norm_attention", hidden, rows),
        op.linear("qkv", hidden, 3 * hidden, rows=rows, split="column", entry=True, bias=True),
        core,
        op.linear("out", hidden, hidden, rows=rows, split="row", bias=True),
        *((op.dropout("attention", hidden, rows=rows, fused=kernels == "fused"),) if dropout else ()),
        op.residual("residual_attention", hidden, rows),
    )


def mlp(
    hidden: int, ffn: int, *, rows: Length = TOKENS, dropout: bool = False, kernels: Kernels = "eager"
) -> tuple[Operator, ...]:
    """Norm, up projection, GELU, down projection, dropout, residual."""
    return (
        op.layer_norm("norm_mlp", hidden, rows),
        op.linear("up", hidden, ffn, rows=rows, split="column", entry=True, bias=True),
        op.activation("gelu", ffn, rows),
        op.linear("down", ffn, hidden, rows=rows, split="row", bias=True, selective=True),
        *((op.dropout("mlp", hidden, rows=rows, fused=kernels == "fused"),) if dropout else ()),
        op.residual("residual_mlp", hidden, rows),
    )
