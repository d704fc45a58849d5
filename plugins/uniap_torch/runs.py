"""Recordings of one model side by side, and what all its layers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from uniap_core.api import Growth, GrowthField, Length

from .curves import fit, whole

if TYPE_CHECKING:
    from .partition import Part
    from .records import Kept, Record, Recording


@dataclass(frozen=True)
class Runs:
    """Recordings of one model that differ in one thing each.

    ``base`` has two samples; ``batch`` three; ``single`` runs in fp32 where the others run in bf16. ``others`` are all
    runs at other lengths, whatever they ran, ``alike`` those of them that ran the same operators; ``failed`` are
    lengths at which it does not run.
    """

    base: Recording
    batch: Recording
    single: Recording
    others: tuple[Recording, ...] = ()
    alike: tuple[Recording, ...] = ()
    failed: tuple[int, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Sequences of the base run and of those that ran the same."""
        return (self.base.sequence, *(run.sequence for run in self.alike))

    def of(self, record: Record) -> tuple[Record, ...]:
        """The same record in the base run and in those alike."""
        return (record, *(run.records[record.index] for run in self.alike))

    def share(self, record: Record, count: Callable[[Record], int]) -> float:
        """What one more sample adds to a count, relative to all of it in the base run; none if the batch adds none."""
        first, more = count(record), count(self.batch.records[record.index])
        return max(0, more - first) / first if first else 0.0

    def per_sample(
        self, record: Record, count: Callable[[Record], int], growth: list[Growth], field: GrowthField
    ) -> Length:
        """Rows that one sample adds; ``growth`` gets how they grow, if not by so many per position."""
        share = self.share(record, count)
        return self.along([share * count(r) for r in self.of(record)], growth, field) if share else Length()

    def along(self, values: Sequence[float], growth: list[Growth], field: GrowthField) -> Length:
        """A length from what it is in the base run and in those alike."""
        curve = self.curve(values)
        now = round(values[0])
        if curve is None:
            return Length(now, 0)
        plain = whole(curve)
        if plain is not None:
            return Length(*plain)
        growth.append(replace(curve, field=field))
        return Length.through(now, self.base.sequence)

    def size(self, values: Sequence[int], growth: list[Growth], field: GrowthField) -> int:
        """A size from what it is in the base run and in those alike; ``growth`` gets how it grows, if it does."""
        curve = self.curve(values) if len(set(values)) > 1 else None
        if curve is not None:
            growth.append(replace(curve, field=field))
        return values[0]

    def curve(self, values: Sequence[float]) -> Growth | None:
        """What gives the values in the base run and in those alike."""
        return fit(list(zip(self.lengths, values, strict=True)))


class Claim(NamedTuple):
    """Elements that an operator reads, how many of them are frozen, and which operator owns them (itself if empty)."""

    size: int = 0
    frozen: int = 0
    owner: str = ""


@dataclass
class Group:
    """Records that become one operator."""

    kind: str
    path: str
    records: list[Record] = field(default_factory=list)


@dataclass
class Context:
    """What operators of all layers share: records, kept tensors by layer and group, who owns which parameter."""

    runs: Runs
    modules: dict[str, Any]
    plan: dict[str, str]
    records: list[Record]
    kept_by: dict[str, dict[int, list[Kept]]] = field(default_factory=dict)
    single_bytes: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    owners: dict[int, tuple[str, Group]] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history: dict[int, list[int]] = defaultdict(list)
        for record in self.records:
            if record.op != "dropout":
                for storage in record.outputs:
                    self.history[storage].append(record.index)
        more = list(self.runs.batch.kept.values())
        self.growths = {k.storage: m for k, m in zip(self.runs.base.kept.values(), more, strict=False)}
        twins = zip(*(run.kept.values() for run in (self.runs.base, *self.runs.alike)), strict=True)
        self.nbytes = {same[0].storage: [k.nbytes for k in same] for same in twins}
        tables = [r.shapes[0][0] for r in self.records if r.op == "embedding"]
        self.words = max(tables, default=0)

    def growth(self, kept: Kept) -> int:
        """Elements that one more sample adds to a kept tensor."""
        more = self.growths.get(kept.storage)
        return max(0, more.nbytes - kept.nbytes) // kept.dtype.itemsize if more else 0

    def growing(self, kept: Kept) -> list[float]:
        """The same in the base run and in those alike."""
        return [self.growth(kept) * nbytes / kept.nbytes for nbytes in self.nbytes[kept.storage]]

    def elements_kept(self, kept: Kept) -> list[float]:
        """Elements of a kept tensor in the base run and in those alike."""
        return [nbytes / kept.dtype.itemsize for nbytes in self.nbytes[kept.storage]]

    def elements(self, storage: int) -> int:
        """Elements that one more sample adds to a written or kept tensor."""
        if storage in self.runs.base.kept:
            return self.growth(self.runs.base.kept[storage])
        record = self.records[self.history[storage][-1]]
        return self.runs.batch.records[record.index].elements - record.elements

    def written(self, storage: int, before: int) -> int | None:
        """The record that wrote a storage last before another ran."""
        return next((i for i in reversed(self.history.get(storage, ())) if i < before), None)

    def planned(self, record: Record) -> str:
        """What the model's own tensor-parallel plan says of a product: row, column or nothing."""
        style = styled(self.plan, record.path)
        if "gather" in style or "split_input" in style:
            return ""  # whole at both ends: no region of tensor parallelism begins or ends there
        return "column" if "colwise" in style else "row" if "rowwise" in style else ""

    def vocabulary(self, part: Part, item: Group) -> bool:
        """Whether an operator is as wide as the largest embedding table: that table, or the projection to words."""
        first = item.records[0]
        if item.kind == "embedding":
            return first.shapes[0][0] == self.words
        return item.kind == "gemm" and not part.block and bool(self.words) and first.shape[-1] == self.words

    def claim(self, part: Part, item: Group) -> tuple[Claim, Claim, str]:
        """Parameters that an operator is first to read; one that was read before, with its owner; and a name."""
        own, tied, label = Claim(), Claim(), item.path
        if part.block:
            label = item.path[len(part.module) :].strip(".")
        for storage in dict.fromkeys(s for r in item.records for s in r.parameters):
            size = self.runs.base.parameters[storage][1]
            frozen = size if storage in self.runs.base.frozen else 0
            owner = self.owners.setdefault(storage, (part.name, item))
            if owner[1] is item:
                own = Claim(own.size + size, own.frozen + frozen)
            else:
                tied = Claim(size, frozen, self.names.get((owner[0], id(owner[1])), ""))
        kind = {"pointwise": item.records[0].op.strip("_"), "grouped_gemm": "experts"}.get(item.kind, item.kind)
        parametric = item.kind in ("gemm", "embedding", "norm") and label
        label = label if parametric else f"{label}.{kind}".strip(".")
        if item.kind == "dropout":
            label = f"dropout_{label.removesuffix('dropout').strip('.')}".strip("_")
        return own, tied, label or kind

    def name(self, part: Part, item: Group, name: str) -> None:
        """Remember what an operator was called, for weights tied to its own."""
        self.names[part.name, id(item)] = f"{part.name}/{name}"


def styled(plan: dict[str, str], path: str) -> str:
    """The style of the first pattern that fits a module path, component by component."""
    parts = path.split(".")
    for pattern, style in plan.items():
        wanted = pattern.split(".")
        if len(wanted) == len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=True)):
            return style
    return ""
