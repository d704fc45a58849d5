"""What backward needs: kept tensors by operator, and which of them selective recomputation rebuilds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from uniap_core.api import Growth, Saved, per_row, value_at

from .curves import CLOSE
from .operators import shape

if TYPE_CHECKING:
    from .partition import Part
    from .records import Record
    from .runs import Context, Group, Runs


def kept_tensors(
    part: Part, groups: list[Group], runs: Runs, context: Context, sharded: set[int]
) -> list[tuple[Saved, ...]]:
    """What each operator keeps, with the marks for tensor parallelism and selective recomputation."""
    rebuilt = selective(part, groups, runs, context)
    lists: list[tuple[Saved, ...]] = []
    for index, item in enumerate(groups):
        rows = counted(item, runs)
        entries: list[list[_Entry]] = [[] for _ in rows]
        for kept in context.kept_by[part.name].get(index, ()):
            if context.growth(kept):
                size, plain = kept.dtype.itemsize, kept.dtype.is_floating_point
                code = 0 if plain and size == runs.base.element_bytes else size
                marks = kept.storage in sharded, kept.storage in rebuilt
                for there, elements, count in zip(entries, context.growing(kept), rows, strict=True):
                    there.append(_Entry(elements / count, code, *marks))
        if item.kind == "dropout":
            for there, record in zip(entries, runs.of(item.records[0]), strict=True):
                there += dropout_masks(record.shape[-1], item.records[0], runs, sharded)
        single = context.single_bytes.get((part.name, index), [None] * len(rows))
        right = [corrected(*each) for each in zip(entries, rows, single, strict=True)]
        lists.append(grown(right, rows, runs))
    return lists


class _Entry(NamedTuple):
    """A kept tensor at one length, as :class:`Saved` has it before its width is rounded."""

    width: float
    bytes: int = 0
    split: bool = False
    selective: bool = False


def counted(item: Group, runs: Runs) -> list[float]:
    """Rows of an operator, one at least, in the base run and in those alike."""
    fields = shape(item, runs, "none")
    found = [(value_at(fields["growth"], "rows", s, 1), fields["rows"].at(s)) for s in runs.lengths]
    return [max(1.0, float(plain if grown is None else round(grown))) for grown, plain in found]


def grown(lists: list[list[_Entry]], rows: list[float], runs: Runs) -> tuple[Saved, ...]:
    """The entries of the base run, with the growth of their widths where that is known."""
    alike = all([e[1:] for e in there] == [e[1:] for e in lists[0]] for there in lists)
    saved = []
    for place, entry in enumerate(lists[0]):
        growth: tuple[Growth, ...] = ()
        if alike:
            growth = _growth([there[place].width for there in lists], rows, runs)
        saved.append(
            Saved(per_row(entry.width), entry.bytes, entry.split, entry.selective, growth).at(
                runs.base.sequence, rows[0]
            )
        )
    return tuple(saved)


def _growth(widths: list[float], rows: list[float], runs: Runs) -> tuple[Growth, ...]:
    """How a width grows: not at all, as a tensor of its own size, or by itself."""
    if max(widths) - min(widths) <= CLOSE * max(widths):
        return ()
    total = runs.curve([width * count for width, count in zip(widths, rows, strict=True)])
    if total is not None:
        return (replace(total, total=True),)
    own = runs.curve(widths)
    return () if own is None else (own,)


def dropout_masks(width: int, record: Record, runs: Runs, sharded: set[int]) -> list[_Entry]:
    """A mask of a byte per element, and a second copy where dropout's input and output are both kept."""
    split = record.output in sharded
    masks = [_Entry(width, bytes=1, split=split, selective=True)]
    kept = runs.base.kept.get(record.output)
    if kept and min(kept.packs) < record.index < max(kept.packs):
        masks.append(_Entry(width, split=split, selective=True))
    return masks


def corrected(entries: list[_Entry], rows: float, single: float | None) -> list[_Entry]:
    """Entries that also give the bytes kept in fp32 (per sample), merging floating ones where they do not.

    In fp32 a cast up makes no copy, so types seen in bf16 alone would count it twice.
    """
    kept = [e for e in entries if not e.selective or e.bytes not in (0, 4)]
    floats = [e for e in entries if e.selective and e.bytes in (0, 4)]
    target = (single or 0.0) / rows - sum(e.width * (e.bytes or 4) for e in kept)
    mixed, expected = (sum(e.width * (e.bytes or size) for e in floats) for size in (2, 4))
    if single is None or not floats or abs(expected - target) < 0.5:
        return entries
    plain = (target - mixed) / 2
    wide = (mixed - 2 * plain) / 4
    if min(plain, wide) < -CLOSE * target:
        return entries
    split = max(floats, key=lambda e: e.width).split
    merged = [_Entry(w, bytes=b, split=split, selective=True) for w, b in ((plain, 0), (wide, 4)) if w > CLOSE * target]
    return kept + merged


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
