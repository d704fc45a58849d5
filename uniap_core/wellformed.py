"""What a model's graph must satisfy to mean anything: names, edges without a cycle, numbers that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BadValue

if TYPE_CHECKING:
    from .graph import ModelGraph


def validate(graph: ModelGraph) -> None:
    """Check names, numbers, edges and acyclicity.

    Raises
    ------
    BadValue
        For repeated or unknown names, numbers that contradict each other, tensors with two producers, or a cycle
        (naming it).
    """
    _check_names(graph)
    _check_numbers(graph)
    _check_edges(graph)


def _check_names(graph: ModelGraph) -> None:
    names = [layer.name for layer in graph.layers]
    if not names:
        raise BadValue(f"model {graph.name} has no layer", "give at least one layer")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadValue(f"model {graph.name} has two layers named {twice!r}", "give each layer a name of its own")


def _check_numbers(graph: ModelGraph) -> None:
    """What is frozen is there, and the graph is known at its sequence, with the numbers that its growth gives there."""
    operators = [(f"{layer.name}/{op.name}", op) for layer in graph.layers for op in layer.operators]
    odd = [name for name, op in operators if not 0 <= op.frozen <= op.parameters]
    if odd:
        raise BadValue(
            f"model {graph.name} freezes other parameters than it has in {odd[0]}",
            "frozen lies between 0 and parameters",
        )
    if graph.sequence < 1:
        raise BadValue(f"model {graph.name} has sequence {graph.sequence}", "give at least 1 position")
    if not graph.holds_at(graph.sequence):
        raise BadValue(
            f"model {graph.name} is not known at its sequence of {graph.sequence}, only at {graph.sequences}",
            "trace it again at that sequence",
        )
    moved = [name for name, op in operators if op.grows and op.at(graph.sequence) != op]
    if moved:
        raise BadValue(
            f"the numbers of {moved[0]} in {graph.name} are not those of its growth at {graph.sequence} positions",
            "correct either, or trace the model again",
        )


def _check_edges(graph: ModelGraph) -> None:
    names = [layer.name for layer in graph.layers]
    producer: dict[str, str] = {}
    waiting = dict.fromkeys(names, 0)
    following: dict[str, list[str]] = {name: [] for name in names}
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            if end not in waiting:
                raise BadValue(f"an edge of {graph.name} names the unknown layer {end!r}", "name a layer of the graph")
        if producer.setdefault(edge.tensor, edge.source) != edge.source:
            raise BadValue(f"tensor {edge.tensor!r} has two producers", "a tensor has one producer")
        waiting[edge.target] += 1
        following[edge.source].append(edge.target)
    ready = [name for name in names if not waiting[name]]
    for name in ready:
        for target in following[name]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    if len(ready) < len(names):
        stuck = [name for name in names if waiting[name]]
        raise BadValue(
            f"the layers of {graph.name} form a cycle through {', '.join(stuck[:5])}", "data flow must be acyclic"
        )
