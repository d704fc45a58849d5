"""Whether a graph is the model that its architecture describes: what is launched is then what was priced.

Executors and exports build a model from ``architecture``; prices come from the operators. Nothing but this check ties
the two. For families whose blocks are made of attention and a feed-forward part, every block's operators must have the
heads, the widths, the experts and the causal flag that the entries say, and just the parameters that weights, biases
and norms of these sizes have. What no operator shows (a rotary base, an epsilon) only a model built again can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..architecture import block_parameters, complete, mistyped
from ..graph import Layer, ModelGraph, Operator
from .verdict import Check, conclude

CAUSAL = {"llama": True, "gpt": True, "mixtral": True, "bert": False}
"""Families that are rebuilt here, and whether their attention looks back only."""

BIASED = ("gpt", "bert")
"""Those whose products have biases unless an entry says otherwise."""

NEEDED = ("layers", "hidden", "heads", "kv_heads", "head_size", "ffn", "vocab")


def architecture(graph: ModelGraph) -> Check:
    """The operators of a graph are those of its architecture."""
    if graph.family not in CAUSAL or not graph.architecture:
        evidence = f"nothing is built from the entries of the family {graph.family}"
        return conclude("architecture", [], evidence, "")
    faults = list(_faults(graph))
    evidence = f"{len(graph.layers)} layers have the heads, widths, parameters and flags that the entries say"
    return conclude("architecture", faults, evidence, "plan the model that is to be run")


def _faults(graph: ModelGraph) -> Iterator[str]:
    entries = graph.architecture
    for name in NEEDED:
        if type(entries.get(name)) is not int or not entries[name] > 0:  # type: ignore[operator]
            yield f"the entry {name} is {entries.get(name)!r}"
            return
    if wrong := list(mistyped(entries)):
        yield from (f"the entry {entry}" for entry in wrong)
        return
    if entries.get("family", graph.family) != graph.family:
        yield f"the entries are of the family {entries['family']}, and the graph of {graph.family}"
    blocks = [layer for layer in graph.layers if layer.kind in ("encoder", "decoder")]
    if len(blocks) != entries["layers"]:
        yield f"the entries say {entries['layers']} layers, and the graph has {len(blocks)} blocks"
    for block in blocks:
        yield from (f"{block.name}: {wrong}" for wrong in _block(graph, block))
    yield from _ends(graph)


def _block(graph: ModelGraph, block: Layer) -> Iterator[str]:
    a: dict[str, Any] = graph.architecture
    for op in (op for op in block.operators if op.kind == "attention"):
        said = {"heads": a["heads"], "kv_heads": a["kv_heads"], "head_size": a["head_size"]}
        have = {"heads": op.heads, "kv_heads": op.kv_heads or op.heads, "head_size": op.inner}
        yield from (
            f"{name} is {have[name]}, and the entry says {said[name]}" for name in said if said[name] != have[name]
        )
        if op.causal != CAUSAL[graph.family]:
            yield f"its attention is {'' if op.causal else 'not '}causal"
    routed = [op for op in block.operators if op.kind == "grouped_gemm"]
    if {op.experts for op in routed} != ({a["experts"]} if a.get("experts") else set()):
        most = max((op.experts for op in routed), default=0)
        yield f"it has {most} experts, and the entry says {a.get('experts', 0)}"
    # A traced one lists every token once for each of its experts.
    if any(op.top_k not in (1, a.get("top_k")) for op in routed):
        yield f"{routed[0].top_k} experts take a token, and the entry says {a.get('top_k')}"
    expected = parameters(graph)
    counted = sum(op.parameters for op in block.operators if not op.adapter)
    if counted != expected:
        yield f"it has {counted:,} parameters, and a block of the entries has {expected:,}"


def parameters(graph: ModelGraph) -> int:
    """Parameters of one block of a graph's architecture."""
    return block_parameters(complete({"family": graph.family, **graph.architecture}))


def _ends(graph: ModelGraph) -> Iterator[str]:
    """Tables of words and positions, and the head."""
    a = graph.architecture
    first, last = graph.layers[0], graph.layers[-1]
    tables = [(op.inner, op.outer) for op in first.operators if op.kind == "embedding"]
    if (a["vocab"], a["hidden"]) not in tables:
        yield f"its tables are {tables}, and the entries say {a['vocab']} words of {a['hidden']}"
    rows = sorted(op.inner for op in first.operators if op.kind == "embedding" and op.inner != a["vocab"])
    if graph.family in BIASED and a.get("positions") and a["positions"] not in (*rows, a["vocab"]):
        yield f"its other tables have {rows} rows, and the entry says {a['positions']} positions"
    heads = [op for op in last.operators if _is_head(op, graph)]
    if len(heads) != 1:
        yield f"it has {len(heads)} heads of {a['vocab']} words"
    elif bool(heads[0].tied) != bool(a.get("tied")):
        yield f"its head is {'' if heads[0].tied else 'not '}tied, and the entry says {a.get('tied')}"


def _is_head(op: Operator, graph: ModelGraph) -> bool:
    a = graph.architecture
    return op.kind == "gemm" and (op.inner, op.outer) == (a["hidden"], a["vocab"])
