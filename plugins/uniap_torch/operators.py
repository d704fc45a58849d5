"""From records to operators: what was multiplied, what tensor parallelism splits, what is kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from uniap_core.api import Length, Operator, Saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .partition import Part
    from .recording import Kept, Record, Recording

PRODUCTS = frozenset({"mm", "addmm", "convolution", "_grouped_mm", "bmm", "baddbmm"})
NORMS = frozenset({"native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm"})


@dataclass(frozen=True)
class Runs:
    """Recordings of one model that differ in one thing each.

    ``base`` has two samples; ``batch`` three; ``sequence`` half the positions (or ``None``); ``single`` runs in fp32
    where the others run in bf16.
    """

    base: Recording
    batch: Recording
    sequence: Recording | None
    single: Recording

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


@dataclass
class Group:
    """Records that become one operator."""

    kind: str
    path: str
    records: list[Record] = field(default_factory=list)


def group(part: Part, modules: dict[str, Any]) -> list[Group]:
    """Cut a layer's records into operators: products, attention and lookups alone, norms by module, the rest by run."""
    groups: list[Group] = []
    closed = True
    for record in part.records:
        kind, path = classify(record, modules), record.path
        alone = kind not in ("norm", "pointwise")
        last = groups[-1] if groups else None
        joins = last is not None and not closed and not alone and (last.kind, last.path) == (kind, path)
        if not joins:
            last = Group(kind, path)
            groups.append(last)
        assert last is not None
        last.records.append(record)
        closed = alone or record.op in NORMS
        if record.op.startswith("nll_loss"):
            last.kind, closed = "loss", True
    return groups


def classify(record: Record, modules: dict[str, Any]) -> str:
    """The kind of operator that a record is, or belongs to."""
    if record.op in ("attention", "dropout", "embedding"):
        return record.op
    if record.op == "_grouped_mm":
        return "grouped_gemm"
    if record.op in PRODUCTS:
        return "gemm"
    if record.op in NORMS or "Norm" in type(modules.get(record.path)).__name__:
        return "norm"
    return "pointwise"


def operators(part: Part, groups: list[Group], runs: Runs, context: Context) -> tuple[Operator, ...]:
    """The operators of a layer.

    Saved tensors are those of the bf16 run, corrected where fp32 keeps other bytes than their types say.
    """
    splits = tensor_parallel(part, groups, context)
    kept = kept_tensors(part, groups, runs, context, splits.sharded)
    made: list[Operator] = []
    names: dict[str, int] = defaultdict(int)
    entered: set[int] = set()
    for index, item in enumerate(groups):
        fields = shape(item, runs, splits.kinds.get(index, "none"))
        if fields["kind"] in ("gemm", "grouped_gemm") and fields["split"] in ("column", "vocab", "experts"):
            source = item.records[0].inputs[-1 if item.records[0].op == "addmm" else 0]
            first = item.records[0].inputs and source not in entered
            fields["entry"] = bool(first) and index not in splits.exits
            entered.add(source)
        own, tied, label = context.claim(part, item)
        name = unique(label, names)
        made.append(Operator(name=name, saved=kept[index], parameters=tied[1] or own, tied=tied[0], **fields))
        if tied[1] and own:
            extra = unique(f"{label}.bias", names)
            made.append(Operator(name=extra, kind="pointwise", rows=fields["rows"], parameters=own, passes=0.0))
        context.name(part, item, name)
    return tuple(made)


def unique(label: str, names: dict[str, int]) -> str:
    """The label, numbered from its second use on."""
    names[label] += 1
    return label if names[label] == 1 else f"{label}_{names[label]}"


def shape(item: Group, runs: Runs, split: str) -> dict[str, Any]:
    """Kind, rows and dimensions of an operator."""
    first = item.records[0]
    trio = runs.of(first)
    if item.kind == "attention":
        queries, keys = zip(*(r.shapes[:2] for r in trio), strict=True)
        width = (queries[0][-1] + first.shapes[2][-1]) // 2
        rows = runs.per_sample([prod(q) // q[-1] // q[-3] for q in queries])
        return {
            "kind": "attention",
            "rows": rows,
            "keys": along(runs, [k[-2] for k in keys]),
            "inner": width,
            "heads": queries[0][-3],
            "kv_heads": keys[0][-3],
            "causal": first.causal,
            "split": split,
        }
    if item.kind in ("gemm", "grouped_gemm"):
        return product(first, runs, split)
    if item.kind == "embedding":
        width = first.shape[-1]
        rows = runs.per_sample([prod(r.shape) // width for r in trio])
        entries = first.shapes[0][0]
        return {"kind": "embedding", "rows": rows, "inner": entries, "outer": width, "split": split}
    widest = max(item.records, key=lambda r: prod(r.shape))
    if item.kind == "loss":
        widest = next((r for r in item.records if r.op == "_log_softmax"), widest)
    inner = widest.shape[-1] if widest.shape else 1
    rows = runs.per_sample([prod(r.shape) // (r.shape[-1] if r.shape else 1) for r in runs.of(widest)])
    moved = sum(r.moved for r in item.records) / runs.base.element_bytes
    passes = round(moved / max(1, prod(widest.shape)), 2)
    kind = "pointwise" if item.kind == "dropout" else item.kind
    return {"kind": kind, "rows": rows, "inner": inner, "passes": passes, "split": split}


def along(runs: Runs, values: Sequence[int]) -> Length:
    """A length that the batch does not change, as a function of the sequence."""
    if runs.sequence is None or values[2] == values[0]:
        return Length(values[0], 0)
    step = (values[0] - values[2]) / (runs.base.sequence - runs.sequence.sequence)
    fixed = values[0] - step * runs.base.sequence
    return Length(int(fixed), int(step)) if step == int(step) and fixed >= 0 else Length(values[0], 0)


def product(record: Record, runs: Runs, split: str) -> dict[str, Any]:
    """Rows, inner and outer dimension of a matrix product, convolution, or product per expert."""
    trio = runs.of(record)
    if record.op == "convolution":
        weight = record.shapes[1]
        channel = 1 if len(record.shape) == len(weight) else 0
        rows = runs.per_sample([prod(r.shape) // r.shape[channel] for r in trio])
        return {"kind": "gemm", "rows": rows, "inner": prod(weight[1:]), "outer": weight[0], "split": split}
    at = 1 if record.op in ("addmm", "baddbmm") else 0
    (left, right), inner, outer = record.shapes[at : at + 2], record.shapes[at][-1], record.shape[-1]
    if record.op == "_grouped_mm" and len(right) == 3:
        visits = runs.per_sample([r.shapes[0][0] for r in trio])
        return {
            "kind": "grouped_gemm",
            "rows": visits,
            "inner": inner,
            "outer": outer,
            "experts": right[0],
            "top_k": 1,
            "split": split,
        }
    half = runs.of(record)[2]
    grown = (half.shapes[at][-1], half.shape[-1]) != (inner, outer)
    if record.op in ("bmm", "baddbmm") and grown and not record.parameters:
        # One of the two products of an attention written out: half of a fused attention's work.
        keys = [r.shape[-1] if r.shape[-1] != half.shape[-1] or inner == half.shapes[at][-1] else 0 for r in trio]
        width = inner
        if outer == half.shape[-1]:
            keys, width = [r.shapes[at][-1] for r in trio], outer
        heads = left[0] // runs.base.batch
        size = width // 2 if width % 2 == 0 else width
        heads = heads if width % 2 == 0 else max(1, heads // 2)
        return {
            "kind": "attention",
            "rows": along(runs, [r.shape[-2] for r in trio]),
            "keys": along(runs, keys),
            "inner": size,
            "heads": heads,
            "kv_heads": heads,
            "split": split,
        }
    rows = runs.per_sample([prod(r.shape) // r.shape[-1] for r in trio])
    return {"kind": "gemm", "rows": rows, "inner": inner, "outer": outer, "split": split}


@dataclass
class Splits:
    """How tensor parallelism divides a layer: split by group, groups that close a region, divided storages."""

    kinds: dict[int, str] = field(default_factory=dict)
    exits: set[int] = field(default_factory=set)
    sharded: set[int] = field(default_factory=set)


def tensor_parallel(part: Part, groups: list[Group], context: Context) -> Splits:
    """Find pairs of products that tensor parallelism can split: the second takes only what the first ones made.

    A product is split by rows if its input comes from products of this layer through attention and pointwise work
    alone; those are split by columns. The model's own plan, where it names a module, decides instead.
    """
    pure: dict[int, frozenset[int]] = {}
    kinds: dict[int, str] = {}
    for index, item in enumerate(groups):
        for record in item.records:
            main = record.inputs[: record.leading]
            fed = [pure.get(s) for s, p in zip_inputs(record) if context.records[p].real and s in main]
            sources = frozenset().union(*(f for f in fed if f is not None))
            clean = bool(fed) and all(fed) and item.kind != "norm"
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


def zip_inputs(record: Record) -> list[tuple[int, int]]:
    """Activations read by a record with the record that wrote each (those that some record wrote)."""
    return list(zip(record.written, record.producers, strict=True))


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
        for source, _ in zip_inputs(context.records[writer]):
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
        return prod(more.shape) - prod(base.shape)

    def written(self, storage: int, before: int) -> int | None:
        """The record that wrote a storage last before another ran."""
        return next((i for i in reversed(self.history.get(storage, ())) if i < before), None)

    def planned(self, record: Record) -> str:
        """What the model's own tensor-parallel plan says of a product: row, column or nothing."""
        style = styled(self.plan, record.path)
        if "colwise" in style and "gather" not in style:
            return "column"
        return "row" if "rowwise" in style else ""

    def vocabulary(self, part: Part, item: Group) -> bool:
        """Whether an operator is as wide as the largest embedding table: that table, or the projection to words."""
        first = item.records[0]
        if item.kind == "embedding":
            return first.shapes[0][0] == self.words
        return item.kind == "gemm" and not part.block and bool(self.words) and first.shape[-1] == self.words

    def claim(self, part: Part, item: Group) -> tuple[int, tuple[str, int], str]:
        """Parameters that an operator is first to read; the owner and size of one read before; and a name."""
        own, tied, label = 0, ("", 0), item.path
        if part.block:
            label = item.path[len(part.module) :].strip(".")
        for storage in dict.fromkeys(s for r in item.records for s in r.parameters):
            size = self.runs.base.parameters[storage][1]
            owner = self.owners.setdefault(storage, (part.name, item))
            if owner[1] is item:
                own += size
            else:
                tied = (self.names.get((owner[0], id(owner[1])), ""), size)
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
