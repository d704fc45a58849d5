"""What backward needs: kept tensors by operator, and which of them selective recomputation rebuilds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uniap_core.api import Saved

from .operators import shape

if TYPE_CHECKING:
    from .partition import Part
    from .records import Kept
    from .runs import Context, Group, Runs


def kept_tensors(
    part: Part, groups: list[Group], runs: Runs, context: Context, sharded: set[int]
) -> list[tuple[Saved, ...]]:
    """What each operator keeps, with the marks for tensor parallelism and selective recomputation."""
    rebuilt = selective(part, groups, runs, context)
    lists: list[tuple[Saved, ...]] = []
    for index, item in enumerate(groups):
        rows = shape(item, runs, "none")["rows"].at(runs.base.sequence) or 1
        entries = []
        for kept in context.kept_by[part.name].get(index, ()):
            elements = context.growth(kept)
            if elements:
                entries.append(entry(kept, elements / rows, runs, kept.storage in sharded, kept.storage in rebuilt))
        if item.kind == "dropout":
            entries += dropout_masks(item, runs, sharded, context)
        total = context.single_bytes.get((part.name, index))
        lists.append(corrected(entries, rows, total))
    return lists


def entry(kept: Kept, width: float, runs: Runs, split: bool, rebuilt: bool) -> Saved:
    """One kept tensor; types of the width of activations are written as such."""
    size = kept.dtype.itemsize
    plain = size == runs.base.element_bytes and kept.dtype.is_floating_point
    return Saved(max(1, round(width)), bytes=0 if plain else size, split=split, selective=rebuilt)


def dropout_masks(item: Group, runs: Runs, sharded: set[int], context: Context) -> list[Saved]:
    """A mask of a byte per element, and a second copy where dropout's input and output are both kept."""
    record = item.records[0]
    width, split = record.shape[-1], record.output in sharded
    masks = [Saved(width, bytes=1, split=split, selective=True)]
    kept = runs.base.kept.get(record.output)
    if kept and min(kept.packs) < record.index < max(kept.packs):
        masks.append(Saved(width, split=split, selective=True))
    return masks


def corrected(entries: list[Saved], rows: int, single: float | None) -> tuple[Saved, ...]:
    """Entries that also give the bytes kept in fp32 (per sample), merging floating ones where they do not.

    In fp32 a cast up makes no copy, so types seen in bf16 alone would count it twice.
    """
    kept = [e for e in entries if not e.selective or e.bytes not in (0, 4)]
    floats = [e for e in entries if e.selective and e.bytes in (0, 4)]
    target = (single or 0.0) / rows - sum(e.width * (e.bytes or 4) for e in kept)
    mixed, expected = (sum(e.width * (e.bytes or size) for e in floats) for size in (2, 4))
    if single is None or not floats or abs(expected - target) < 0.5:
        return tuple(entries)
    plain = round((target - mixed) / 2)
    wide = round((mixed - 2 * plain) / 4)
    if plain < 0 or wide < 0:
        return tuple(entries)
    split = max(floats, key=lambda e: e.width).split
    merged = [Saved(w, bytes=b, split=split, selective=True) for w, b in ((plain, 0), (wide, 4)) if w]
    return tuple(kept + merged)


def selective(part: Part, groups: list[Group], runs: Runs, context: Context) -> set[int]:
    """Kept storages that can be rebuilt without a product.

    Rebuilding starts from outputs of products and of attention and from the layer's input, which must then be kept
    themselves; for each of those that is not, a rebuilt tensor of its size (by choice the input of a product) is
    counted as kept in its stead.
    """
    inside = {record.index: item.kind for item in groups for record in item.records}
    hard = {i for i, kind in inside.items() if kind in ("gemm", "grouped_gemm", "attention", "loss")}
    mine = [k for kept in context.kept_by[part.name].values() for k in kept if context.growth(k)]
    needed: set[int] = set()

    def bases(storage: int, before: int, seen: set[int]) -> None:
        writer = context.written(storage, before)
        if writer is None or writer not in inside or writer in hard:
            if writer is not None and context.records[writer].real:
                needed.add(storage)
            return
        if writer in seen:
            return
        seen.add(writer)
        for source, _ in context.records[writer].fed:
            bases(source, writer, seen)

    rebuilt: set[int] = set()
    seen: set[int] = set()
    for kept in mine:
        writer = context.written(kept.storage, kept.record + 1)
        if writer is not None and inside.get(writer) == "attention" and kept.storage != context.records[writer].output:
            rebuilt.add(kept.storage)  # its statistics come back when the attention core runs again
        if kept.record in inside and writer is not None and writer in inside and writer not in hard:
            rebuilt.add(kept.storage)
            bases(kept.storage, kept.record + 1, seen)
    products = {i for i, kind in inside.items() if kind in ("gemm", "grouped_gemm")}
    plain = [k for k in mine if k.storage in rebuilt and k.dtype.itemsize == runs.base.element_bytes]
    stand_ins = sorted(plain, key=lambda k: k.record not in products)
    norms = {i for i, kind in inside.items() if kind == "norm"}
    # A norm that keeps the layer's input itself leaves it to a stand-in too: casts make copies of it.
    direct = {k.storage for k in mine if k.record in norms and k.storage not in rebuilt}
    missing = sorted(needed - {k.storage for k in mine}, key=lambda storage: context.history[storage])
    for storage in [*missing, *sorted(direct, key=lambda storage: context.history[storage])]:
        size = context.elements(storage)
        chosen = next((k for k in stand_ins if k.storage in rebuilt and context.growth(k) == size), None)
        if chosen is not None and size:
            rebuilt.discard(chosen.storage)
            rebuilt |= {storage} & direct
    return rebuilt
