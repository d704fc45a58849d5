"""What of each layer of a model the axes of strategies can cut: the menu of a layer holds only what makes sense for it.

Layers without experts lie on the dense grid alone, and what has no positions has no context to be parallel in.
"""

from __future__ import annotations

from math import gcd

from .graph import Layer, ModelGraph, Operator
from .modules import menu
from .strategy import Extent, StrategySpace

CUT = frozenset({"gemm", "grouped_gemm", "attention", "norm", "pointwise", "embedding", "loss"})
"""Kinds of operators that work on any part of a sequence, or, as attention does, pass on what other parts need."""


ALONG = ("scan", "conv1d")
"""Beginnings of the last word of names of operators that run along a sequence: what they hand from one position to the
next is not priced between ranks, so context parallelism does not cut their layers."""


def extents(graph: ModelGraph, space: StrategySpace) -> tuple[Extent, ...]:
    """The extent of each layer.

    Where a plan may have so many different strategies only, all layers choose from one menu: what a strategy says of
    experts means nothing to layers that have none.
    """
    known: dict[int, Extent] = {}
    for layer in graph.layers:
        if id(layer.operators) not in known:
            known[id(layer.operators)] = extent_of(layer, graph.sequence)
    found = tuple(known[id(layer.operators)] for layer in graph.layers)
    if space.max_strategies is None:
        return found
    sets = tuple(dict.fromkeys(name for e in found for name in e.sets))
    return (Extent(gcd(*(e.experts for e in found)), min(e.positions for e in found), sets),) * len(found)


def extent_of(layer: Layer, sequence: int) -> Extent:
    """The extent of a layer for a sequence of so many positions."""
    cut = all(op.kind in CUT and op.rows.per_position and not runs_along(op) for op in layer.operators)
    return Extent(gcd(*(op.experts for op in layer.operators)), sequence if cut else 0, menu(layer.operators))


def runs_along(op: Operator) -> bool:
    """Whether an operator runs along the sequence: a scan of a state-space layer, a causal convolution."""
    return op.name.rpartition(".")[2].startswith(ALONG)


def without_experts(found: tuple[Extent, ...]) -> frozenset[int]:
    """The layers (indices) that what is said of experts does not mean: those without any, beside some that have."""
    lacking = frozenset(u for u, extent in enumerate(found) if not extent.experts)
    return lacking if len(lacking) < len(found) else frozenset()
