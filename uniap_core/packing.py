"""Packed batches: several documents one after the other in every sample, up to a stated number of tokens."""

from __future__ import annotations

import msgspec

from .errors import BadValue
from .graph import ModelGraph, at_sequence
from .operators import Length, Operator


def packed(graph: ModelGraph, tokens: int) -> ModelGraph:
    """A model each of whose samples packs documents of the sequence of the graph to so many tokens.

    Rows are those of a full pack: memory is that of the fullest. Attention stays inside each document (kernels for
    variable lengths, ``cu_seqlens``); all are taken to be of one length, and of unequal ones it would do more work.

    Raises
    ------
    BadValue
        If a pack holds no document, or something of the model but attention grows with the square of the sequence.
    """
    document = graph.sequence
    if tokens < document:
        raise BadValue(
            f"{tokens} tokens per device hold no document of {document} positions",
            f"give at least {document}, or shorter documents (--seq)",
        )
    if not graph.counts_positions:
        raise BadValue(
            f"model {graph.name} has no sequence: nothing of it can be packed", "leave tokens per device out"
        )
    written = [
        f"{layer.name}/{op.name}"
        for layer in graph.layers
        for op in layer.operators
        if op.kind != "attention" and any(g.square for g in (*op.growth, *(g for s in op.saved for g in s.growth)))
    ]
    if written:
        raise BadValue(
            f"{written[0]} of {graph.name} grows with the square of the sequence: it knows nothing of documents",
            "price a fused kernel (--attention fused)",
        )
    longer = at_sequence(graph, tokens)
    layers = tuple(
        msgspec.structs.replace(
            layer,
            operators=tuple(_inside(op, before, document) for op, before in zip(layer.operators, own, strict=True)),
        )
        for layer, own in zip(longer.layers, (layer.operators for layer in graph.layers), strict=True)
    )
    return msgspec.structs.replace(longer, layers=layers)


def _inside(op: Operator, before: Operator, document: int) -> Operator:
    """An operator of a pack; an attention's queries see the keys of their own document."""
    if op.kind != "attention":
        return op
    growth = tuple(g for g in op.growth if g.field != "keys")
    return msgspec.structs.replace(op, keys=Length(before.keys.at(document), 0), growth=growth)
