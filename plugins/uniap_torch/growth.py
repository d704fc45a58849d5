"""Whether a graph that was made at one length says what the model does at others: held against runs at three more.

A graph knows numbers that grow with the sequence as a line or a parabola, up to a window or in whole chunks
(:mod:`uniap_torch.curves`). What grows otherwise (a loop whose rounds differ, blocks that choose by length) it cannot
say; then it holds for its own sequence alone, and must say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from msgspec.structs import replace

from uniap_core.api import LONGEST, Layer

from .operators import PRODUCTS

if TYPE_CHECKING:
    from .partition import Part
    from .records import Kept, Record, Recording
    from .runs import Context, Group, Runs

STREAMING = ("norm", "pointwise", "loss")
"""Kinds of operators that are bound by memory."""

EXACT = 2e-3
"""Relative difference of FLOPs and of kept bytes that rounding of widths explains."""

ROUGH = 2e-2
"""Relative difference of memory traffic that rounding of passes explains."""

SMALL = 1e-4
"""Share of the whole model below which a layer's figure decides nothing."""


LONG = 1024
"""No window or chunk of a model's code is wider; a graph that was seen nowhere from here on holds as far as it was."""

SHORT = 17
"""A short sequence, of no whole chunks: it shows windows and what is rounded up to chunks."""

ENOUGH = 3
"""Runs at other sequences that ran the same, at least: a parabola and a length that holds it to account."""


def lengths(sequence: int) -> list[int]:
    """At which shorter sequences a model runs: a short one, a quarter, a half."""
    found = {sequence // 2, sequence // 4, SHORT} if sequence > 3 else set()
    return sorted(n for n in found if 1 < n < sequence)


def longer(sequence: int, shorter: list[Recording]) -> list[int]:
    """At which longer ones: none beyond a long one, and not far where a loop over positions would take its time."""
    if not 3 < sequence < LONG:
        return []
    loops = any(record.times > 1 for run in shorter for record in run.records)
    return [2 * sequence if loops else 2 * LONG]


def alike(base: Recording, others: list[Recording]) -> list[Recording]:
    """The runs that ran the operators of another, and kept as many tensors."""
    names = [r.op for r in base.records]
    return [run for run in others if names == [r.op for r in run.records] and len(run.kept) == len(base.kept)]


def bounds(runs: Runs) -> tuple[int, int] | None:
    """The least and the largest sequence between which a model ran the same; ``None`` if that is everywhere."""
    own = runs.base.sequence
    same = [own, *(run.sequence for run in runs.alike)]
    odd = [*runs.failed, *(run.sequence for run in runs.others if run not in runs.alike)]
    below, above = [n for n in odd if n < own], [n for n in odd if n > own]
    least = min(n for n in same if n > max(below)) if below else 1
    most = max(n for n in same if n < min(above)) if above else max(same)
    most = most if above or most < LONG else LONGEST
    return None if not runs.others or (least, most) == (1, LONGEST) else (least, most)


def misfit(made: list[Layer], parts: list[Part], groups: dict[str, list[Group]], context: Context) -> str:
    """Why a graph does not hold at other lengths than its own; empty if it does, or has no length.

    Parameters
    ----------
    made
        The layers, in the order of ``parts``.
    """
    runs = context.runs
    if (runs.others or runs.failed) and len(runs.alike) < min(ENOUGH, len(runs.others) + len(runs.failed)):
        return f"it runs other operators at other lengths than {runs.base.sequence} (a loop over positions?)"
    growing = {kept.storage for kept in runs.base.kept.values() if context.growth(kept)}
    for other in runs.alike:
        twin = dict(zip(runs.base.kept, other.kept.values(), strict=True))
        flops, kept, traffic = [], [], []
        moved = [replace(layer, operators=tuple(op.at(other.sequence) for op in layer.operators)) for layer in made]
        for layer, there, part in zip(made, moved, parts, strict=True):
            mine = [k for held in context.kept_by[part.name].values() for k in held if k.storage in growing]
            streams = [r for item in groups[part.name] if _streams(item, runs) for r in item.records]
            flops.append((layer.name, _ratio(layer, there, part.records, runs.base, other)))
            kept.append((layer.name, _kept_ratio(layer, there, mine, twin, runs.base, other)))
            traffic.append((layer.name, _traffic_ratio(layer, there, streams, runs.base, other)))
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
                        f"{runs.base.sequence}, and the graph says {said:.4g}"
                    )
    return ""


def _streams(item: Group, runs: Runs) -> bool:
    """Whether a group is bound by memory, and more samples are more of it (masks and tables are made once)."""
    if item.kind not in STREAMING:
        return False
    return any(runs.share(record, lambda r: r.elements) for record in item.records)


Ratio = tuple[float, float, float]
"""What the graph says of another length relative to its own, what was seen, and the weight of it."""


def _ratio(layer: Layer, moved: Layer, records: Iterable[Record], base: Recording, other: Recording) -> Ratio:
    own = [r for r in records if r.op in PRODUCTS or r.op == "attention"]
    seen, there = sum(map(_work, own)), sum(_work(other.records[r.index]) for r in own)
    said, then = layer.flops(base.batch, base.sequence), moved.flops(other.batch, other.sequence)
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


def _kept_ratio(
    layer: Layer, moved: Layer, mine: list[Kept], twin: dict[int, Kept], base: Recording, other: Recording
) -> Ratio:
    seen, there = sum(k.nbytes for k in mine), sum(twin[k.storage].nbytes for k in mine)
    said, then = _kept(layer, base), _kept(moved, other)
    return (then / said, there / seen, said) if said and seen else (0.0, 0.0, 0.0)


def _kept(layer: Layer, run: Recording) -> float:
    """Bytes that a layer keeps; masks of dropout, which was not run, aside."""
    own = (op for op in layer.operators if not op.name.startswith("dropout"))
    return sum(op.saved_bytes(run.batch, run.sequence, run.element_bytes) for op in own)


def _traffic_ratio(layer: Layer, moved: Layer, streams: list[Record], base: Recording, other: Recording) -> Ratio:
    """Of what is bound by memory."""
    seen, there = sum(r.moved for r in streams), sum(other.records[r.index].moved for r in streams)
    said, then = (_traffic(one, run.sequence) for one, run in ((layer, base), (moved, other)))
    return (then / said, there / seen, said) if said and seen else (0.0, 0.0, 0.0)


def _traffic(layer: Layer, sequence: int) -> float:
    """Elements that a layer's operators read and write; dropout, which was not run, aside."""
    bound = [op for op in layer.operators if op.kind in STREAMING and not op.name.startswith("dropout")]
    return float(sum(op.rows.at(sequence) * op.inner * op.passes for op in bound))
