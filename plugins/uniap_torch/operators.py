"""From records to operators: what was multiplied, over how many rows, with which parameters."""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from uniap_core.api import Growth, Length, Operator, Saved

from .curves import added
from .runs import Group

if TYPE_CHECKING:
    from .parallelism import Splits
    from .partition import Part
    from .records import Record
    from .runs import Context, Runs

PRODUCTS = frozenset({"mm", "addmm", "convolution", "_grouped_mm", "bmm", "baddbmm"})
NORMS = frozenset({"native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm"})

ADAPTER = "lora_"
"""How PEFT's modules of an adapter's weights are called (``lora_A``, ``lora_embedding_B``, ...)."""


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


def operators(
    part: Part, groups: list[Group], context: Context, splits: Splits, kept: list[tuple[Saved, ...]]
) -> tuple[Operator, ...]:
    """The operators of a layer.

    Saved tensors are those of the bf16 run, corrected where fp32 keeps other bytes than their types say.
    """
    made: list[Operator] = []
    names: dict[str, int] = defaultdict(int)
    entered: set[int] = set()
    for index, item in enumerate(groups):
        fields = shape(item, context.runs, splits.kinds.get(index, "none"))
        if fields["kind"] in ("gemm", "grouped_gemm") and fields["split"] in ("column", "vocab", "experts"):
            source = item.records[0].inputs[-1 if item.records[0].op == "addmm" else 0]
            first = item.records[0].inputs and source not in entered
            fields["entry"] = bool(first) and index not in splits.exits
            entered.add(source)
        own, tied, label = context.claim(part, item)
        name = unique(label, names)
        held = tied if tied.size else own
        fields |= {"parameters": held.size, "frozen": held.frozen, "tied": held.owner}
        fields["adapter"] = held.size > held.frozen and any(word.startswith(ADAPTER) for word in item.path.split("."))
        made.append(Operator(name=name, saved=kept[index], **fields).at(context.runs.base.sequence))
        if tied.size and own.size:
            bias: dict[str, Any] = {"parameters": own.size, "frozen": own.frozen, "passes": 0.0}
            made.append(Operator(name=unique(f"{label}.bias", names), kind="pointwise", rows=fields["rows"], **bias))
        context.name(part, item, name)
    return tuple(made)


def unique(label: str, names: dict[str, int]) -> str:
    """The label, numbered from its second use on."""
    names[label] += 1
    return label if names[label] == 1 else f"{label}_{names[label]}"


def shape(item: Group, runs: Runs, split: str) -> dict[str, Any]:
    """Kind, rows and dimensions of an operator, and how those grow that do not go by rows."""
    growth: list[Growth] = []
    first = item.records[0]
    if item.kind == "attention":
        fields = _attention(first, runs, growth)
    elif item.kind in ("gemm", "grouped_gemm"):
        fields = product(first, runs, growth)
    elif item.kind == "embedding":
        width = first.shape[-1]
        rows = runs.per_sample(first, lambda r: r.elements // width, growth, "rows")
        fields = {"kind": "embedding", "rows": rows, "inner": first.shapes[0][0], "outer": width}
    else:
        fields = _streamed(item, runs, growth)
    return fields | {"split": split, "growth": tuple(growth)}


def _attention(record: Record, runs: Runs, growth: list[Growth]) -> dict[str, Any]:
    query, key = record.shapes[:2]

    def rows(r: Record) -> int:
        return r.times * prod(r.shapes[0]) // r.shapes[0][-1] // r.shapes[0][-3]

    return {
        "kind": "attention",
        "rows": runs.per_sample(record, rows, growth, "rows"),
        "keys": runs.along([r.shapes[1][-2] for r in runs.of(record)], growth, "keys"),
        "inner": (query[-1] + record.shapes[2][-1]) // 2,
        "heads": query[-3],
        "kv_heads": key[-3],
        "causal": record.causal,
    }


def _streamed(item: Group, runs: Runs, growth: list[Growth]) -> dict[str, Any]:
    """What reads and writes its operands and little else: rows and width of its widest, and the traffic of all."""
    widest = max(item.records, key=lambda r: (runs.share(r, lambda each: each.elements) > 0, r.elements))
    if item.kind == "loss":
        widest = next((r for r in item.records if r.op == "_log_softmax"), widest)
    inner = runs.size([r.shape[-1] if r.shape else 1 for r in runs.of(widest)], growth, "inner")
    rows = runs.per_sample(widest, lambda r: r.elements // (r.shape[-1] if r.shape else 1), growth, "rows")
    moved = [[r.moved / runs.base.element_bytes for r in runs.of(record)] for record in item.records]
    passes = [
        round(sum(parts) / max(1, most.elements), 2)
        for parts, most in zip(zip(*moved, strict=True), runs.of(widest), strict=True)
    ]
    if max(passes) > (1 + STEADY) * min(passes) and rows != Length():
        curves = [runs.curve([m / runs.base.batch for m in parts]) for parts in moved]
        if all(curves):
            growth += [replace(c, field="passes", total=True) for c in added([c for c in curves if c])]
    kind = "pointwise" if item.kind == "dropout" else item.kind
    return {"kind": kind, "rows": rows, "inner": inner, "passes": passes[0]}


STEADY = 5e-3
"""Relative change of traffic per element that is none."""


def product(record: Record, runs: Runs, growth: list[Growth]) -> dict[str, Any]:
    """Rows, inner and outer dimension of a matrix product, convolution, or product per expert."""
    same = runs.of(record)
    if record.op == "convolution":
        weight = record.shapes[1]
        channel = 1 if len(record.shape) == len(weight) else 0
        rows = runs.per_sample(record, lambda r: r.elements // r.shape[channel], growth, "rows")
        return {"kind": "gemm", "rows": rows, "inner": prod(weight[1:]), "outer": weight[0]}
    at = 1 if record.op in ("addmm", "baddbmm") else 0
    right = record.shapes[at + 1]
    if record.op == "_grouped_mm" and len(right) == 3:
        visits = runs.per_sample(record, lambda r: r.times * r.shapes[0][0], growth, "rows")
        sizes = {"inner": record.shapes[at][-1], "outer": record.shape[-1], "experts": right[0], "top_k": 1}
        return {"kind": "grouped_gemm", "rows": visits} | sizes
    inner, outer = [r.shapes[at][-1] for r in same], [r.shape[-1] for r in same]
    grown = len(set(inner)) > 1 or len(set(outer)) > 1
    if record.op in ("bmm", "baddbmm") and grown and not record.parameters:
        # One of the two products of an attention written out: half of a fused attention's work.
        keys, width = (outer, inner[0]) if len(set(outer)) > 1 else (inner, outer[0])
        heads = record.shapes[at][0] // runs.base.batch
        heads, size = (heads, width // 2) if width % 2 == 0 else (max(1, heads // 2), width)
        return {
            "kind": "attention",
            "rows": runs.along([r.times * r.shape[-2] for r in same], growth, "rows"),
            "keys": runs.along(keys, growth, "keys"),
            "inner": size,
            "heads": heads,
            "kv_heads": heads,
        }
    rows = runs.per_sample(record, lambda r: r.elements // r.shape[-1], growth, "rows")
    sizes = {"inner": runs.size(inner, growth, "inner"), "outer": runs.size(outer, growth, "outer")}
    return {"kind": "gemm", "rows": rows} | sizes
