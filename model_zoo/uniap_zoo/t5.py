"""T5: encoder and decoder with cross-attention and relative positions (Raffel et al. 2020, version 1.0)."""

from __future__ import annotations

from msgspec import structs

from uniap_core.graph import TOKENS, Flow, Layer, ModelGraph, Operator, Saved

from . import operators as op
from .checks import positive

BUCKETS = 32
"""Buckets of relative positions; the table lives in the first block of each stack."""

SHARED = "encoder.embedding/tokens"


def t5(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    decoder_layers: int = 0,
    head_size: int = 64,
    vocab: int = 32128,
    sequence: int = 512,
    name: str = "t5",
) -> ModelGraph:
    """The graph of T5, equal to ``transformers.T5ForConditionalGeneration`` (ReLU, one embedding for all).

    Encoder and decoder both have ``sequence`` positions. The output of the encoder's final norm is one tensor that
    every decoder block reads, kept by the norm that makes it. Position biases do not grow with the batch and are
    rebuilt from their table on each stage, so they are neither edges nor counted as kept (heads x sequence^2
    elements per block).

    Parameters
    ----------
    layers, decoder_layers
        Blocks of the encoder and of the decoder (0: as many).
    hidden, heads, head_size, ffn, vocab
        Width, attention heads and their width, width of the MLP, vocabulary.
    sequence
        Positions per sample on either side.

    Raises
    ------
    BadValue
        If a number is not positive.
    """
    decoder_layers = decoder_layers or layers
    positive(name, layers=layers, decoder_layers=decoder_layers, hidden=hidden, heads=heads, ffn=ffn, vocab=vocab)
    positive(name, head_size=head_size, sequence=sequence)
    encoder = [embedding("encoder", vocab, hidden)]
    encoder += [encoder_block(i, hidden, heads, head_size, ffn) for i in range(layers)]
    encoder.append(encoder_norm(hidden))
    decoder = [embedding("decoder", vocab, hidden)]
    decoder += [decoder_block(i, hidden, heads, head_size, ffn) for i in range(decoder_layers)]
    decoder.append(head(vocab, hidden))
    memory = encoder[-1].name
    crossing = [Flow(memory, block.name, f"{memory}.out", TOKENS, hidden) for block in decoder[1:-1]]
    return ModelGraph(
        name=name,
        family="t5",
        sequence=sequence,
        layers=(*encoder, *decoder),
        edges=(*op.chain(encoder, TOKENS, hidden), *op.chain(decoder, TOKENS, hidden), *crossing),
        architecture={
            "family": "t5",
            "layers": layers,
            "decoder_layers": decoder_layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": heads,
            "head_size": head_size,
            "ffn": ffn,
            "vocab": vocab,
            "positions": 0,
            "buckets": BUCKETS,
            "tied": True,
            "activation": "relu",
            "norm": "rms",
        },
    )


def norm(name: str, hidden: int) -> Operator:
    """T5's RMS norm: mixed precision keeps the input twice (fp32 and not) and the normalized tensor."""
    kept = Saved(hidden, bytes=4, selective=True)  # 4 + 2 + 2 bytes in 16 bits, 4 + 4 in fp32
    saved = (kept, op.STATISTIC, kept)
    return Operator(name=name, kind="norm", rows=TOKENS, inner=hidden, parameters=hidden, passes=16.0, saved=saved)


def embedding(stack: str, vocab: int, hidden: int) -> Layer:
    """Token embedding of one stack; the decoder's is the encoder's."""
    tied = "" if stack == "encoder" else SHARED
    operators = (op.lookup("tokens", vocab, hidden, split="vocab", tied=tied), op.dropout("embedding", hidden))
    return Layer(f"{stack}.embedding", "embedding", operators, f"{stack}.embed_tokens")


def encoder_block(index: int, hidden: int, heads: int, size: int, ffn: int) -> Layer:
    """Self-attention and MLP."""
    operators = (*self_attention(hidden, heads, size, causal=False, first=index == 0), *mlp(hidden, ffn))
    return Layer(f"encoder.layers.{index}", "encoder", operators, f"encoder.block.{index}")


def decoder_block(index: int, hidden: int, heads: int, size: int, ffn: int) -> Layer:
    """Causal self-attention, cross-attention and MLP."""
    attention = self_attention(hidden, heads, size, causal=True, first=index == 0)
    operators = (*attention, *cross_attention(hidden, heads, size), *mlp(hidden, ffn))
    return Layer(f"decoder.layers.{index}", "decoder", operators, f"decoder.block.{index}")


def self_attention(hidden: int, heads: int, size: int, *, causal: bool, first: bool) -> tuple[Operator, ...]:
    """Norm, projections, attention (the first block owns the bias table), output projection, dropout, residual."""
    return (
        norm("norm_attention", hidden),
        op.linear("qkv", hidden, 3 * heads * size, split="column", entry=True),
        op.attention("attention", heads, size, causal=causal, parameters=BUCKETS * heads if first else 0),
        op.linear("out", heads * size, hidden, split="row"),
        op.dropout("attention", hidden),
        op.residual("residual_attention", hidden),
    )


def cross_attention(hidden: int, heads: int, size: int) -> tuple[Operator, ...]:
    """Attention of decoder positions to the encoder's output, which is kept where it is made."""
    return (
        norm("norm_cross", hidden),
        op.linear("cross_q", hidden, heads * size, split="column", entry=True),
        op.linear("cross_kv", hidden, 2 * heads * size, split="column", entry=True, keep=False),
        op.attention("cross_attention", heads, size),
        op.linear("cross_out", heads * size, hidden, split="row"),
        op.dropout("cross", hidden),
        op.residual("residual_cross", hidden),
    )


def mlp(hidden: int, ffn: int) -> tuple[Operator, ...]:
    """Norm, up projection, ReLU, down projection; ReLU's output serves both it and the projection."""
    relu = Operator(name="relu", kind="pointwise", rows=TOKENS, inner=ffn, split="column")
    return (
        norm("norm_mlp", hidden),
        op.linear("up", hidden, ffn, split="column", entry=True),
        relu,
        op.dropout("relu", ffn, split=True, output=True),
        op.linear("down", ffn, hidden, split="row"),
        op.dropout("mlp", hidden),
        op.residual("residual_mlp", hidden),
    )


def encoder_norm(hidden: int) -> Layer:
    """The encoder's final norm, which keeps its output for all decoder blocks."""
    made = norm("norm", hidden)
    made = structs.replace(made, saved=(*made.saved, Saved(hidden)))
    return Layer("encoder.norm", "norm", (made, op.dropout("encoder", hidden)), "encoder.final_layer_norm")


def head(vocab: int, hidden: int) -> Layer:
    """Final norm, output projection (tied) and loss."""
    operators = (
        norm("norm", hidden),
        op.dropout("decoder", hidden),
        op.linear("lm_head", hidden, vocab, split="vocab", entry=True, tied=SHARED),
        op.cross_entropy(vocab, upcast=False),
    )
    return Layer("head", "head", operators, "lm_head")
