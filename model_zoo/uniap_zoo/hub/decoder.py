"""From blocks to a graph: embedding, layers, head, and what the architecture records of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from uniap_core.graph import TOKENS, Layer, ModelGraph, Operator, Saved

from .. import operators as op
from .blocks import Style, norm, pointwise
from .config import Config, Unread

Fact = int | float | str | bool

Operators = tuple[Operator, ...]


@dataclass(frozen=True)
class Decoder:
    """A causal decoder as its configuration describes it.

    Attributes
    ----------
    blocks
        The operators of each layer; equal layers share one tuple.
    facts
        Its architecture (:data:`uniap_core.architecture.ENTRIES`).
    longest
        Positions that it is made for.
    scaled
        Whether embeddings are multiplied by a factor.
    capped
        Whether logits are.
    embedding, layers, final_norm, head
        Paths of modules.
    predicts
        Operators of one layer that predicts a token further (multi-token prediction), empty if the model has none.
    embedded
        What the embedding does beside the look-up of tokens.
    head_bias
        Whether the head has a bias.
    narrow
        Width of embedding and head, with projections to the width of the layers and back, if it is not that.
    remark
        What is counted otherwise than the torch code of the model runs it.
    """

    style: Style
    vocab: int
    tied: bool
    blocks: tuple[Operators, ...]
    facts: dict[str, Fact]
    longest: int
    scaled: bool = False
    capped: bool = False
    embedding: str = "model.embed_tokens"
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    predicts: Operators = ()
    remark: str = ""
    embedded: Operators = ()
    head_bias: bool = False
    narrow: int = 0


def prenorm(style: Style, mixer: Operators, mlp: Operators) -> Operators:
    """Llama's layer: a norm before the mixer and one before the MLP."""
    return (
        norm(style, "input_layernorm"),
        *mixer,
        op.residual("add", style.hidden),
        norm(style, "post_attention_layernorm"),
        *mlp,
        op.residual("add_2", style.hidden),
    )


def postnorm(style: Style, mixer: Operators, mlp: Operators) -> Operators:
    """OLMo 2's layer: norms of what the mixer and the MLP add."""
    return (
        *mixer,
        norm(style, "post_attention_layernorm"),
        op.residual("add", style.hidden),
        *mlp,
        norm(style, "post_feedforward_layernorm"),
        op.residual("add_2", style.hidden),
    )


def sandwich(style: Style, mixer: Operators, mlp: Operators) -> Operators:
    """Gemma 2's layer: norms before and behind both."""
    return (
        norm(style, "input_layernorm"),
        *mixer,
        norm(style, "post_attention_layernorm"),
        op.residual("add", style.hidden),
        norm(style, "pre_feedforward_layernorm"),
        *mlp,
        norm(style, "post_feedforward_layernorm"),
        op.residual("add_2", style.hidden),
    )


def alone(style: Style, mixer: Operators) -> Operators:
    """A layer of one norm and one mixer or MLP (Nemotron-H, Mamba)."""
    return (norm(style, "norm"), *mixer, op.residual("add", style.hidden))


def graph(decoder: Decoder, name: str, sequence: int, source: str, *, mtp: int = 0) -> ModelGraph:
    """The graph of a decoder, with ``mtp`` layers of multi-token prediction behind its last.

    Raises
    ------
    Unread
        If it has none to predict with.
    """
    style = decoder.style
    stack = [_embedding(decoder)]
    stack += [
        Layer(f"layers.{i}", "decoder", operators, f"{decoder.layers}.{i}")
        for i, operators in enumerate(decoder.blocks)
    ]
    if mtp and not decoder.predicts:
        raise Unread("it has no layers of multi-token prediction")
    for k in range(mtp):
        stack.append(Layer(f"mtp.{k}", "decoder", _predicting(decoder), f"{decoder.layers}.{len(decoder.blocks) + k}"))
    stack.append(_head(decoder, mtp))
    return ModelGraph(
        name=name,
        family=str(decoder.facts["family"]),
        sequence=sequence,
        layers=tuple(stack),
        edges=op.chain(stack, TOKENS, style.hidden),
        architecture=dict(decoder.facts),
        source=source,
    )


def _embedding(decoder: Decoder) -> Layer:
    hidden = decoder.style.hidden
    table = op.lookup(decoder.embedding, decoder.vocab, decoder.narrow or hidden, split="vocab")
    widen = (op.linear("project_in", decoder.narrow, hidden),) if decoder.narrow else ()
    scale = (pointwise(f"{decoder.embedding}.mul", hidden, 2.0),) if decoder.scaled else ()
    return Layer("embedding", "embedding", (table, *widen, *scale, *decoder.embedded), decoder.embedding)


def _predicting(decoder: Decoder) -> Operators:
    """Norms of the hidden state and of the next token's embedding, their projection, a layer, a norm.

    The product over the tokens two ahead is in the head, which it shares (arXiv 2412.19437, section 2.2).
    """
    style = decoder.style
    hidden = style.hidden
    return (
        norm(style, "enorm"),
        norm(style, "hnorm"),
        op.linear("eh_proj", 2 * hidden, hidden),
        *decoder.predicts,
        norm(style, "shared_head.norm"),
    )


def _head(decoder: Decoder, mtp: int) -> Layer:
    """Final norm, output projection and loss; a prediction further ahead takes the same product and loss again."""
    style, weight = decoder.style, f"embedding/{decoder.embedding}" if decoder.tied else ""
    before: Operators = (norm(style, decoder.final_norm),) if decoder.final_norm else ()
    if decoder.narrow:
        before += (op.linear("project_out", style.hidden, decoder.narrow),)
    width = decoder.narrow or style.hidden
    product = op.linear(
        decoder.head, width, decoder.vocab, split="vocab", entry=True, bias=decoder.head_bias, tied=weight
    )
    cap = (
        (pointwise("softcap", decoder.vocab, 6.0, split="vocab", saved=(Saved(decoder.vocab, split=True),)),)
        if decoder.capped
        else ()
    )
    operators = [*before, product, *cap, op.cross_entropy(decoder.vocab)]
    for k in range(mtp):
        again = op.linear(
            f"mtp.{k}.{decoder.head}", width, decoder.vocab, split="vocab", tied=weight or f"head/{decoder.head}"
        )
        operators += [again, structs.replace(op.cross_entropy(decoder.vocab), name=f"mtp.{k}.loss")]
    return Layer("head", "head", tuple(operators), ",".join(filter(None, (decoder.final_norm, decoder.head))))


def repeated(kinds: Sequence[Any], build: Mapping[Any, Operators]) -> tuple[Operators, ...]:
    """The layers of a pattern, equal ones sharing their operators.

    Raises
    ------
    Unread
        For a kind of layer that is not known.
    """
    for kind in kinds:
        if kind not in build:
            raise Unread(f"layers of the kind {kind!r}")
    return tuple(build[kind] for kind in kinds)


def shapes(c: Config, kind: str, *, tied: bool, heads: int, kv_heads: int, size: int, ffn: int) -> dict[str, Fact]:
    """The sizes of an architecture."""
    return {
        "family": kind,
        "layers": c.integer("num_hidden_layers"),
        "hidden": c.integer("hidden_size"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": size,
        **({"ffn": ffn} if ffn else {}),
        "vocab": c.integer("vocab_size"),
        "tied": tied,
    }
