"""Attention that a model's code writes out as products and a softmax, and the fused kernel in its place."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .graph import ModelGraph, Operator, Saved


def written_out(graph: ModelGraph) -> tuple[str, ...]:
    """Names of the layers whose attention is two products with the scores between them."""
    return tuple(layer.name for layer in graph.layers if next(_pairs(layer.operators), None))


def fused(graph: ModelGraph) -> ModelGraph:
    """The graph with a fused kernel in place of every attention that is written out.

    The kernel keeps queries, keys, values and a statistic per head, and never the scores; windows and masks save it no
    work here. Parameters between the products (sinks) stay.
    """
    layers = tuple(
        msgspec.structs.replace(layer, operators=_fused(layer.operators))
        if next(_pairs(layer.operators), None)
        else layer
        for layer in graph.layers
    )
    return msgspec.structs.replace(graph, layers=layers)


def _pairs(operators: tuple[Operator, ...]) -> Iterator[tuple[int, int]]:
    """First and last operator of every attention that is written out: two halves of one shape, streams between."""
    i = 0
    while i < len(operators):
        j = i + 1
        while operators[i].kind == "attention" and j < len(operators) and operators[j].kind == "pointwise":
            j += 1
        if j < len(operators) and j > i + 1 and _halves(operators[i], operators[j]):
            yield i, j
            i = j
        i += 1


def _halves(a: Operator, b: Operator) -> bool:
    """Whether two operators are the two products of one attention."""
    same = (a.kind, a.rows, a.keys, a.heads, a.inner) == (b.kind, b.rows, b.keys, b.heads, b.inner)
    return same and b.kind == "attention"


def _fused(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    made: list[Operator] = []
    done = 0
    for i, j in _pairs(operators):
        a, b = operators[i], operators[j]
        size = 2 * a.inner
        # The scores are as wide as there are keys and grow with them, the operands as all heads together.
        kept = (s for s in (*a.saved, *b.saved) if s.width <= a.heads * size and not s.growth and not s.bytes)
        joined = operators[i : j + 1]
        made += operators[done:i]
        made.append(
            msgspec.structs.replace(
                a,
                inner=size,
                saved=(*kept, Saved(a.heads, bytes=4, split=True, selective=True)),
                parameters=sum(op.parameters for op in joined),
                frozen=sum(op.frozen for op in joined),
            )
        )
        done = j + 1
    return (*made, *operators[done:])
