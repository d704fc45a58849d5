"""Recordings of one model side by side, and what all its layers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from uniap_core.api import Length

if TYPE_CHECKING:
    from .partition import Part
    from .records import Kept, Record, Recording


@dataclass(frozen=True)
class Runs:
    """Recordings of one model that differ in one thing each.

    ``base`` has two samples; ``batch`` three; ``sequence`` half the positions (or ``None``); ``single`` runs in fp32
    where the others run in bf16. ``others`` are all runs at other lengths, whatever they ran.
    """

    base: Recording
    batch: Recording
    sequence: Recording | None
    single: Recording
    others: tuple[Recording, ...] = ()

    def per_sample(self, values: Sequence[int]) -> Length:
        """What one sample adds, from a value of each run (base, batch, sequence); nothing if the batch adds none."""
        first, more, half = values
        slope = more - first
        if slope <= 0:
            return Length()
        if self.sequence is None:
            return Length(slope, 0)
        shorter = half * slope / first
        step = (slope - shorter) / (self.base.sequence - self.sequence.sequence)
        fixed = slope - step * self.base.sequence
        if step < 0 or fixed < 0 or step != int(step) or fixed != int(fixed):
            return Length(slope, 0)
        return Length(int(fixed), int(step))

    def of(self, record: Record) -> tuple[Record, Record, Record]:
        """The same record in the base, batch and sequence runs."""
        third = self.sequence.records[record.index] if self.sequence else record
        return record, self.batch.records[record.index], third


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
    single_bytes: dict[tuple[str, int], float] = field(default_factory=dict)
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
        tables = [r.shapes[0][0] for r in self.records if r.op == "embedding"]
        self.words = max(tables, default=0)

    def growth(self, kept: Kept) -> int:
        """Elements that one more sample adds to a kept tensor."""
        more = self.growths.get(kept.storage)
        return max(0, more.nbytes - kept.nbytes) // kept.dtype.itemsize if more else 0

    def elements(self, storage: int) -> int:
        """Elements that one more sample adds to a written or kept tensor."""
        if storage in self.runs.base.kept:
            return self.growth(self.runs.base.kept[storage])
        record = self.records[self.history[storage][-1]]
        base, more, _ = self.runs.of(record)
        return more.elements - base.elements

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
