"""GPT-2 and GPT-3: layer norm, learned positions, GELU (Radford et al. 2019; Brown et al. 2020)."""

from __future__ import annotations

from uniap_core.graph import TOKENS, Layer, ModelGraph
from uniap_core.models import Kernels

from . import operators as op
from .blocks import mlp, self_attention
from .checks import divides, positions, positive


def gpt(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int = 0,
    vocab: int = 50257,
    sequence: int = 1024,
    positions_learned: int = 0,
    tied: bool = True,
    kernels: Kernels = "eager",
    name: str = "gpt",
) -> ModelGraph:
    """The graph of a GPT-2-type decoder.

    Equal to ``transformers.GPT2LMHeadModel`` of the same configuration with ``activation_function=
    "gelu_pytorch_tanh"``: the same function as its default in one kernel, as in Megatron-LM.

    Parameters
    ----------
    layers, hidden, heads, vocab
        Blocks, width of the residual stream, attention heads, vocabulary.
    ffn
        Width of the MLP (0: four times ``hidden``).
    sequence, positions_learned
        Positions per sample, and entries of the position table (0: as many).
    tied
        Whether the output projection shares the embedding table.
    kernels
        ``eager`` or ``fused``: whether dropout and the addition behind it are one.

    Raises
    ------
    BadValue
        If a number is not positive, heads do not divide, or the sequence is longer than the position table.
    """
    ffn = ffn or 4 * hidden
    positions_learned = positions_learned or sequence
    positive(name, layers=layers, hidden=hidden, heads=heads, ffn=ffn, vocab=vocab, sequence=sequence)
    divides(name, heads=heads, hidden=hidden)
    positions(name, sequence, positions_learned)
    embedding = Layer(
        "embedding",
        "embedding",
        (
            op.lookup("tokens", vocab, hidden, split="vocab"),
            op.lookup("positions", positions_learned, hidden),
            op.residual("add_positions", hidden),
            op.dropout("embedding", hidden),
        ),
        "transformer.wte",
    )
    attention = self_attention(hidden, heads, causal=True, dropout=True, kernels=kernels)
    operators = (*attention, *mlp(hidden, ffn, dropout=True, kernels=kernels))
    blocks = [Layer(f"layers.{i}", "decoder", operators, f"transformer.h.{i}") for i in range(layers)]
    head = Layer(
        "head",
        "head",
        (
            op.layer_norm("norm", hidden),
            op.linear("lm_head", hidden, vocab, split="vocab", entry=True, tied="embedding/tokens" if tied else ""),
            op.cross_entropy(vocab),
        ),
        "lm_head",
    )
    stack = [embedding, *blocks, head]
    return ModelGraph(
        name=name,
        family="gpt",
        sequence=sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, hidden),
        architecture={
            "family": "gpt",
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": heads,
            "head_size": hidden // heads,
            "ffn": ffn,
            "vocab": vocab,
            "positions": positions_learned,
            "tied": tied,
            "activation": "gelu",
            "norm": "layer",
            "kernels": kernels,
        },
    )
