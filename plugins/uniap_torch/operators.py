"""From records to operators: what was multiplied, over how many rows, with which parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from uniap_core.api import Length, Operator, Saved

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
        made.append(Operator(name=name, saved=kept[index], **fields))
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
    """Kind, rows and dimensions of an operator."""
    first = item.records[0]
    trio = runs.of(first)
    if item.kind == "attention":
        queries, keys = zip(*(r.shapes[:2] for r in trio), strict=True)
        width = (queries[0][-1] + first.shapes[2][-1]) // 2
        rows = runs.per_sample([r.times * prod(q) // q[-1] // q[-3] for r, q in zip(trio, queries, strict=True)])
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
        rows = runs.per_sample([r.elements // width for r in trio])
        entries = first.shapes[0][0]
        return {"kind": "embedding", "rows": rows, "inner": entries, "outer": width, "split": split}
    widest = max(item.records, key=lambda r: r.elements)
    if item.kind == "loss":
        widest = next((r for r in item.records if r.op == "_log_softmax"), widest)
    inner = widest.shape[-1] if widest.shape else 1
    rows = runs.per_sample([r.elements // (r.shape[-1] if r.shape else 1) for r in runs.of(widest)])
    moved = sum(r.moved for r in item.records) / runs.base.element_bytes
    passes = round(moved / max(1, widest.elements), 2)
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
        rows = runs.per_sample([r.elements // r.shape[channel] for r in trio])
        return {"kind": "gemm", "rows": rows, "inner": prod(weight[1:]), "outer": weight[0], "split": split}
    at = 1 if record.op in ("addmm", "baddbmm") else 0
    (left, right), inner, outer = record.shapes[at : at + 2], record.shapes[at][-1], record.shape[-1]
    if record.op == "_grouped_mm" and len(right) == 3:
        visits = runs.per_sample([r.times * r.shapes[0][0] for r in trio])
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
            "rows": along(runs, [r.times * r.shape[-2] for r in trio]),
            "keys": along(runs, keys),
            "inner": size,
            "heads": heads,
            "kv_heads": heads,
            "split": split,
        }
    rows = runs.per_sample([r.elements // r.shape[-1] for r in trio])
    return {"kind": "gemm", "rows": rows, "inner": inner, "outer": outer, "split": split}
