"""What a problem must satisfy to mean anything: names, shapes, signs, edges, no cycle."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

import numpy as np

from .errors import BadValue

if TYPE_CHECKING:
    from .problem import Array, EdgeTable, LayerTable, Problem


def check(problem: Problem) -> None:
    """Refuse a problem that means nothing.

    Raises
    ------
    BadValue
        Naming what is wrong and where.
    """
    if problem.micro_batches < 1:
        raise BadValue(f"micro_batches is {problem.micro_batches}", "give at least 1")
    if not problem.stages or not problem.layers:
        raise BadValue("a problem needs at least one stage and one layer", "add what is missing")
    for i, stage in enumerate(problem.stages):
        for name in ("memory_bytes", "reserved_bytes"):
            value = getattr(stage, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadValue(f"stages[{i}].{name} is {value}", "give a finite number of bytes, 0 or more")
        if stage.in_flight < 0:
            raise BadValue(f"stages[{i}].in_flight is {stage.in_flight}", "give 0 or more micro-batches")
    check_names(problem.layers)
    for layer in problem.layers:
        _layer(layer, problem.depth)
    _edges(problem)
    topological_order(len(problem.layers), problem.edges, [layer.name for layer in problem.layers])


def check_names(layers: tuple[LayerTable, ...]) -> None:
    """Refuse two layers of one name."""
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise BadValue(f"two layers are named {layer.name!r}", "give each layer a name of its own")
        seen.add(layer.name)


def _layer(layer: LayerTable, depth: int) -> None:
    count = len(layer.strategies)
    if not count:
        raise BadValue(f"layer {layer.name} has no strategy", "give every layer at least one strategy")
    if len(set(layer.strategies)) != count:
        raise BadValue(f"layer {layer.name} lists a strategy twice", "name each strategy once")
    shapes = {"time_s": (depth, count), "state_bytes": (count,), "stash_bytes": (count,)}
    for name, shape in shapes.items():
        values = getattr(layer, name)
        _table(values, shape, f"layer {layer.name}: {name}", infinite=name == "time_s")


def _edges(problem: Problem) -> None:
    producer: dict[str, int] = {}
    pairs: set[tuple[int, int, str]] = set()
    for edge in problem.edges:
        count = len(problem.layers)
        if not (0 <= edge.source < count and 0 <= edge.target < count) or edge.source == edge.target:
            raise BadValue(
                f"edge {edge.source} -> {edge.target} does not join two different layers",
                "name layers of this problem",
            )
        source, target = problem.layers[edge.source], problem.layers[edge.target]
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
        raise BadValue(f"{title} has shape {values.shape}, not {shape}", "one entry per strategy (and stage)")
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
