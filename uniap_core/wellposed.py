"""What tables must satisfy to mean anything: names, shapes, signs, edges, no cycle, a pipeline that holds chunks."""

from __future__ import annotations

import heapq
import math

import numpy as np

from .errors import BadValue
from .tables import Array, EdgeTable, Kinds, LayerTable, Rank, Weights


def check_pipeline(micro_batches: int, objective: Weights, ranks: tuple[Rank, ...], chunks: tuple[int, ...]) -> None:
    """Refuse a pipeline that means nothing.

    Raises
    ------
    BadValue
        Naming what is wrong and where.
    """
    if micro_batches < 1:
        raise BadValue(f"micro_batches is {micro_batches}", "give at least 1")
    for name in ("sum", "cross", "peak"):
        weight = getattr(objective, name)
        if not (math.isfinite(weight) and weight >= 0):
            raise BadValue(f"objective.{name} is {weight}", "give a finite weight, 0 or more")
    if not ranks:
        raise BadValue("a problem needs at least one stage and one layer", "add what is missing")
    for j, rank in enumerate(chunks):
        if not 0 <= rank < len(ranks):
            raise BadValue(f"chunks[{j}].rank is {rank}", f"ranks are 0 to {len(ranks) - 1}")
    for i, held in enumerate(ranks):
        for name in ("memory_bytes", "reserved_bytes"):
            value = getattr(held, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadValue(f"stages[{i}].{name} is {value}", "give a finite number of bytes, 0 or more")
        _moments(i, held, chunks.count(i))


def _moments(i: int, rank: Rank, chunks: int) -> None:
    if not chunks:
        raise BadValue(f"rank {i} holds no chunk", "give every rank at least one chunk")
    if not rank.in_flight:
        raise BadValue(f"stages[{i}].in_flight has no moment", "give at least one")
    for moment in rank.in_flight:
        if len(moment) != chunks:
            raise BadValue(
                f"stages[{i}].in_flight has a moment of {len(moment)} counts and the rank holds {chunks} chunks",
                "give one count per chunk of the rank",
            )
        for count in moment:
            if not (math.isfinite(count) and count >= 0):
                raise BadValue(f"stages[{i}].in_flight is {count:g}", "give 0 or more micro-batches")


def check_tables(layers: tuple[LayerTable, ...], edges: tuple[EdgeTable, ...], ranks: int) -> None:
    """Refuse tables that mean nothing.

    Raises
    ------
    BadValue
        Naming what is wrong and where.
    """
    if not layers:
        raise BadValue("a problem needs at least one stage and one layer", "add what is missing")
    check_names(layers)
    for layer in layers:
        _layer(layer, ranks)
    _edges(layers, edges)
    topological_order(len(layers), edges, [layer.name for layer in layers])


def check_kinds(kinds: Kinds, layers: tuple[LayerTable, ...], edges: tuple[EdgeTable, ...]) -> None:
    """Refuse kinds that join what is not alike.

    Raises
    ------
    BadValue
        Naming the two layers.
    """
    if len(kinds.layers) != len(layers) or len(kinds.edges) != len(edges):
        raise BadValue("kinds are stated for other layers or edges than there are", "state one per layer and edge")
    first: dict[int, LayerTable] = {}
    for kind, layer in zip(kinds.layers, layers, strict=True):
        like = first.setdefault(kind, layer)
        if like is not layer and not (
            like.strategies == layer.strategies
            and _same(like.time_s, layer.time_s)
            and _same(like.state_bytes, layer.state_bytes)
            and _same(like.stash_bytes, layer.stash_bytes)
        ):
            raise BadValue(f"layers {like.name} and {layer.name} are of one kind and differ", "give them two kinds")
    flows: dict[int, EdgeTable] = {}
    for kind, edge in zip(kinds.edges, edges, strict=True):
        alike = flows.setdefault(kind, edge)
        if not (_same(alike.reshard_s, edge.reshard_s) and _same(alike.cross_s, edge.cross_s)):
            raise BadValue(
                f"edges of {edge.tensor} and {alike.tensor} are of one kind and differ", "give them two kinds"
            )


def _same(one: Array, other: Array) -> bool:
    return one is other or bool(np.array_equal(one, other))


def check_names(layers: tuple[LayerTable, ...]) -> None:
    """Refuse two layers of one name."""
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise BadValue(f"two layers are named {layer.name!r}", "give each layer a name of its own")
        seen.add(layer.name)


def _layer(layer: LayerTable, ranks: int) -> None:
    count = len(layer.strategies)
    if not count:
        raise BadValue(f"layer {layer.name} has no strategy", "give every layer at least one strategy")
    if len(set(layer.strategies)) != count:
        raise BadValue(f"layer {layer.name} lists a strategy twice", "name each strategy once")
    shapes = {"time_s": (ranks, count), "state_bytes": (count,), "stash_bytes": (count,)}
    for name, shape in shapes.items():
        values = getattr(layer, name)
        _table(values, shape, f"layer {layer.name}: {name}", infinite=name == "time_s")


def _edges(layers: tuple[LayerTable, ...], edges: tuple[EdgeTable, ...]) -> None:
    producer: dict[str, int] = {}
    pairs: set[tuple[int, int, str]] = set()
    for edge in edges:
        count = len(layers)
        if not (0 <= edge.source < count and 0 <= edge.target < count) or edge.source == edge.target:
            raise BadValue(
                f"edge {edge.source} -> {edge.target} does not join two different layers",
                "name layers of this problem",
            )
        source, target = layers[edge.source], layers[edge.target]
        title = f"edge {source.name} -> {target.name}"
        if producer.setdefault(edge.tensor, edge.source) != edge.source:
            raise BadValue(f"{title}: tensor {edge.tensor!r} already has another producer", "a tensor has one producer")
        if (edge.source, edge.target, edge.tensor) in pairs:
            raise BadValue(f"{title} carries tensor {edge.tensor!r} twice", "list each edge once per tensor")
        pairs.add((edge.source, edge.target, edge.tensor))
        shape = (len(source.strategies), len(target.strategies))
        _table(edge.reshard_s, shape, f"{title}: reshard_s")
        _table(edge.cross_s, shape, f"{title}: cross_s")


def _table(values: Array, shape: tuple[int, ...], title: str, *, infinite: bool = False) -> None:
    if values.shape != shape:
        raise BadValue(f"{title} has shape {values.shape}, not {shape}", "one entry per strategy (and rank)")
    if np.isnan(values).any():
        raise BadValue(f"{title} has an entry that is not a number", "give a number; null only in time_s")
    if (values < 0).any():
        raise BadValue(f"{title} has the negative entry {values.min():g}", "times and bytes are 0 or more")
    if not infinite and np.isinf(values).any():
        raise BadValue(f"{title} has an infinite entry", "give finite numbers; null is for time_s alone")


def topological_order(count: int, edges: tuple[EdgeTable, ...], names: list[str] | None = None) -> tuple[int, ...]:
    """A topological order that follows the given order where it can.

    Raises
    ------
    BadValue
        If there is a cycle, naming layers on it.
    """
    waiting = [0] * count
    following: list[list[int]] = [[] for _ in range(count)]
    for edge in edges:
        waiting[edge.target] += 1
        following[edge.source].append(edge.target)
    ready = [u for u in range(count) if not waiting[u]]
    order = []
    while ready:
        u = heapq.heappop(ready)
        order.append(u)
        for v in following[u]:
            waiting[v] -= 1
            if not waiting[v]:
                heapq.heappush(ready, v)
    if len(order) < count:
        stuck = [names[u] if names else str(u) for u in range(count) if waiting[u]]
        raise BadValue(
            f"the layers form a cycle through {', '.join(stuck[:5])}", "data flow between layers must be acyclic"
        )
    return tuple(order)
