"""Whether a graph that was made at one length says what the model does at others: held against runs at two more.

A graph knows rows and keys that grow by so much per position. What grows otherwise (an attention written out keeps
scores, a window, a loop over positions, chunks that do not divide) it cannot say; then it holds for its own sequence
alone, and must say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from uniap_core.api import Layer

from .operators import PRODUCTS

if TYPE_CHECKING:
    from .partition import Part
    from .records import Kept, Record, Recording
    from .runs import Context, Runs

EXACT = 2e-3
"""Relative difference of FLOPs and of kept bytes that rounding of widths explains."""

ROUGH = 2e-2
"""Relative difference of memory traffic that rounding of passes explains."""

SMALL = 1e-4
"""Share of the whole model below which a layer's figure decides nothing."""


def misfit(made: list[Layer], parts: list[Part], runs: Runs, context: Context) -> str:
    """Why a graph does not hold at other lengths than its own; empty if it does, or has no length.

    Parameters
    ----------
    made
        The layers, in the order of ``parts``.
    """
    if not runs.others:
        return ""
    names = [r.op for r in runs.base.records]
    for other in runs.others:
        if names != [r.op for r in other.records] or len(other.kept) != len(runs.base.kept):
            return f"it runs other operators at {other.sequence} positions (a loop over them?)"
    growing = {kept.storage for kept in runs.base.kept.values() if context.growth(kept)}
    for other in runs.others:
        twin = dict(zip(runs.base.kept, other.kept.values(), strict=True))
        flops, kept, traffic = [], [], []
        for layer, part in zip(made, parts, strict=True):
            mine = [k for held in context.kept_by[part.name].values() for k in held if k.storage in growing]
            flops.append((layer.name, _ratio(layer, part.records, runs.base, other)))
            kept.append((layer.name, _kept_ratio(layer, mine, twin, runs.base, other)))
            traffic.append((layer.name, _traffic_ratio(layer, part.records, runs.base, other)))
        for what, found, tolerance in (
            ("FLOPs", flops, EXACT),
            ("kept bytes", kept, EXACT),
            ("traffic", traffic, ROUGH),
        ):
            total = sum(weight for _, (_, _, weight) in found)
            for name, (said, seen, weight) in found:
                if weight > SMALL * total and abs(said - seen) > tolerance * max(said, seen):
                    return (
                        f"{what} of {name} at {other.sequence} positions are {seen:.4g} of those at "
                        f"{runs.base.sequence}, and linear rows say {said:.4g}"
                    )
    return ""


Ratio = tuple[float, float, float]
"""What the graph says of another length relative to its own, what was seen, and the weight of it."""


def _ratio(layer: Layer, records: Iterable[Record], base: Recording, other: Recording) -> Ratio:
    own = [r for r in records if r.op in PRODUCTS or r.op == "attention"]
    seen, there = sum(map(_work, own)), sum(_work(other.records[r.index]) for r in own)
    said, then = layer.flops(base.batch, base.sequence), layer.flops(other.batch, other.sequence)
    return (then / said, there / seen, said) if said and seen else (0.0, 0.0, 0.0)


def _work(record: Record) -> float:
    """Multiply-adds of a product or an attention (its two products), in all its runs."""
    return record.times * _work_once(record)


def _work_once(record: Record) -> float:
    if record.op == "attention":
        query, key, value = record.shapes[:3]
        return float(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    if record.op == "convolution":
        return float(prod(record.shape) * prod(record.shapes[1][1:]))
    at = 1 if record.op in ("addmm", "baddbmm") else 0
    return float(prod(record.shape) * record.shapes[at][-1])


def _kept_ratio(layer: Layer, mine: list[Kept], twin: dict[int, Kept], base: Recording, other: Recording) -> Ratio:
    seen, there = sum(k.nbytes for k in mine), sum(twin[k.storage].nbytes for k in mine)
    said, then = layer.saved_bytes(base.batch, base.sequence), layer.saved_bytes(other.batch, other.sequence)
    return (then / said, there / seen, said) if said and seen else (0.0, 0.0, 0.0)


def _traffic_ratio(layer: Layer, records: Iterable[Record], base: Recording, other: Recording) -> Ratio:
    """Of what is bound by memory."""
    own = [r for r in records if r.op not in PRODUCTS and r.op not in ("attention", "dropout", "embedding")]
    seen, there = sum(r.moved for r in own), sum(other.records[r.index].moved for r in own)
    bound = [op for op in layer.operators if op.kind in ("norm", "pointwise", "loss")]
    said, then = (sum(op.rows.at(s) * op.inner * op.passes for op in bound) for s in (base.sequence, other.sequence))
    return (then / said, there / seen, float(said)) if said and seen else (0.0, 0.0, 0.0)
