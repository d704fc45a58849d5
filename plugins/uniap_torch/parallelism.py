"""What tensor parallelism can split in a layer, from the model's own plan or from who feeds whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .partition import Part
    from .runs import Context, Group


@dataclass
class Splits:
    """How tensor parallelism divides a layer: split by group, groups that close a region, divided storages."""

    kinds: dict[int, str] = field(default_factory=dict)
    exits: set[int] = field(default_factory=set)
    sharded: set[int] = field(default_factory=set)


def tensor_parallel(part: Part, groups: list[Group], context: Context) -> Splits:
    """Find pairs of products that tensor parallelism can split: the second takes only what the first ones made.

    A product is split by rows if its input comes from products of this layer through attention, norms of heads and
    pointwise work alone; those are split by columns. The model's own plan, where it names a module, decides instead.
    """
    pure: dict[int, frozenset[int]] = {}
    weights: set[int] = set()  # what is made of parameters alone, as the 1 + weight of a norm
    kinds: dict[int, str] = {}
    for index, item in enumerate(groups):
        for record in item.records:
            main = record.inputs[: record.leading]
            if not set(record.inputs) - weights and item.kind not in ("gemm", "grouped_gemm", "embedding"):
                weights.update(record.outputs)
                continue
            fed = [pure.get(s) for s, p in record.fed if context.records[p].real and s in main and s not in weights]
            sources = frozenset().union(*(f for f in fed if f is not None))
            clean = bool(fed) and all(fed) and (item.kind != "norm" or of_heads(item, sources, groups))
            if item.kind in ("gemm", "grouped_gemm") and record.parameters:
                planned = context.planned(record)
                structural = part.block and clean and not any(kinds.get(s) == "row" for s in sources)
                if planned == "row" or (not planned and structural):
                    kinds[index] = "row"
                    kinds.update((s, "column") for s in sources if kinds.get(s) != "row")
                    pure.pop(record.output, None)
                    continue
                if planned == "column":
                    kinds[index] = "column"
                pure[record.output] = frozenset({index})
            elif item.kind != "dropout":
                if clean:
                    pure[record.output] = sources
                else:
                    pure.pop(record.output, None)
    columns = {i for i, kind in kinds.items() if kind == "column"}
    splits = Splits(kinds)
    splits.sharded = {s for s, sources in pure.items() if sources and sources <= columns}
    splits.sharded |= {s for g in groups for r in g.records if r.output in splits.sharded for s in r.outputs}
    for index, item in enumerate(groups):
        first = item.records[0]
        core = item.kind == "attention" or (item.kind == "gemm" and not first.parameters)
        if core and first.output in splits.sharded:
            kinds[index] = "heads"
            if item.kind == "attention" and len(first.shapes) > 3 and first.shapes[3][-3] == first.shapes[0][-3]:
                splits.sharded |= set(first.inputs[first.leading :])  # a bias for each head
        elif item.kind == "norm" and first.output in splits.sharded:
            kinds[index] = "heads"
        elif item.kind in ("pointwise", "dropout") and first.output in splits.sharded:
            kinds[index] = "column"
        elif item.kind == "grouped_gemm":
            splits.exits |= {index} if kinds.get(index) == "row" else set()
            kinds[index] = "experts"
        elif context.vocabulary(part, item):
            kinds[index] = "vocab"
            if item.kind == "gemm":
                splits.sharded.add(first.output)
        elif item.kind == "loss" and any(r.shape[-1:] == (context.words,) for r in item.records):
            kinds[index] = "vocab"
            splits.sharded |= {r.output for r in item.records}
    return splits


def of_heads(norm: Group, sources: frozenset[int], groups: list[Group]) -> bool:
    """Whether a norm works on each head of a product alone: on all that it made, in rows narrower than its own."""
    widest = max((record.shape for record in norm.records), key=prod)
    products = [groups[source].records[0].shape for source in sources]
    return all(widest[-1] < made[-1] and prod(widest) == prod(made) for made in products)
