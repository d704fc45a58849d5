"""BERT: a post-norm encoder with the two heads of its pre-training (Devlin et al. 2019)."""

from __future__ import annotations

from uniap_core.graph import TOKENS, Layer, Length, ModelGraph, Operator, Saved

from . import operators as op
from .checks import divides, positions, positive

FIRST = Length(1, 0)
"""The one position that the pooler looks at."""


def bert(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int = 0,
    vocab: int = 30522,
    sequence: int = 512,
    positions_learned: int = 0,
    name: str = "bert",
) -> ModelGraph:
    """The graph of BERT, equal to ``transformers.BertForPreTraining`` of the same configuration.

    Parameters
    ----------
    layers, hidden, heads, vocab
        Blocks, width, attention heads, vocabulary.
    ffn
        Width of the MLP (0: four times ``hidden``).
    sequence, positions_learned
        Positions per sample, and entries of the position table (0: the larger of 512 and ``sequence``).

    Raises
    ------
    BadValue
        If a number is not positive, heads do not divide, or the sequence is longer than the position table.
    """
    ffn = ffn or 4 * hidden
    positions_learned = positions_learned or max(512, sequence)
    positive(name, layers=layers, hidden=hidden, heads=heads, ffn=ffn, vocab=vocab, sequence=sequence)
    divides(name, heads=heads, hidden=hidden)
    positions(name, sequence, positions_learned)
    operators = block(hidden, heads, ffn)
    stack = [
        embedding(vocab, hidden, positions_learned),
        *(Layer(f"layers.{i}", "encoder", operators, f"bert.encoder.layer.{i}") for i in range(layers)),
        head(vocab, hidden),
    ]
    return ModelGraph(
        name=name,
        family="bert",
        sequence=sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, hidden),
        architecture={
            "family": "bert",
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": heads,
            "head_size": hidden // heads,
            "ffn": ffn,
            "vocab": vocab,
            "positions": positions_learned,
            "tied": True,
            "activation": "gelu",
            "norm": "layer",
        },
    )


def embedding(vocab: int, hidden: int, positions_learned: int) -> Layer:
    """Token, segment and position embeddings, norm, dropout."""
    operators = (
        op.lookup("tokens", vocab, hidden, split="vocab"),
        op.lookup("segments", 2, hidden),
        op.residual("add_segments", hidden),
        op.lookup("positions", positions_learned, hidden),
        op.residual("add_positions", hidden),
        op.layer_norm("norm", hidden),
        op.dropout("embedding", hidden),
    )
    return Layer("embedding", "embedding", operators, "bert.embeddings")


def block(hidden: int, heads: int, ffn: int) -> tuple[Operator, ...]:
    """A post-norm block: attention, add and norm, MLP, add and norm."""
    return (
        op.linear("qkv", hidden, 3 * hidden, split="column", entry=True, bias=True),
        op.attention("attention", heads, hidden // heads),
        op.linear("out", hidden, hidden, split="row", bias=True),
        op.dropout("attention", hidden),
        op.residual("residual_attention", hidden),
        op.layer_norm("norm_attention", hidden),
        op.linear("up", hidden, ffn, split="column", entry=True, bias=True),
        op.activation("gelu", ffn),
        op.linear("down", ffn, hidden, split="row", bias=True, selective=True),
        op.dropout("mlp", hidden),
        op.residual("residual_mlp", hidden),
        op.layer_norm("norm_mlp", hidden, selective=False),  # rebuilding its input takes the product before it
    )


def head(vocab: int, hidden: int) -> Layer:
    """Pooler and next-sentence classifier on the first position; transform, output projection and loss on all."""
    bias = Operator(
        name="lm_bias", kind="pointwise", rows=TOKENS, inner=vocab, split="vocab", parameters=vocab, passes=0.0
    )
    operators = (
        op.linear("pooler", hidden, hidden, rows=FIRST, bias=True),
        Operator(name="tanh", kind="pointwise", rows=FIRST, inner=hidden, saved=()),
        op.linear("next_sentence", hidden, 2, rows=FIRST, bias=True),
        op.linear("transform", hidden, hidden, bias=True),
        Operator(name="gelu", kind="pointwise", rows=TOKENS, inner=hidden, saved=(Saved(hidden),)),
        op.layer_norm("norm", hidden),
        op.linear("lm_head", hidden, vocab, split="vocab", entry=True, tied="embedding/tokens"),
        bias,
        op.cross_entropy(vocab, upcast=False),
    )
    return Layer("head", "head", operators, "cls")
