"""Structure on the layer DAG: order, contiguity by reachability, stages in use, acyclic quotient.

Contiguity is decided on paths of the graph itself: a stage is contiguous if no path leaves it and comes back. No
inequality of a formulation is used, so a formulation that admits too much is found out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import networkx as nx

from .verdict import Check, conclude

if TYPE_CHECKING:
    Dag = nx.DiGraph[str]

MOVE = "move the layers named so that data flows from a stage to the same or a later one"


def flow(layers: list[str], edges: list[tuple[str, str]]) -> Dag:
    """The DAG of layer names and data flow."""
    dag: Dag = nx.DiGraph()
    dag.add_nodes_from(layers)
    dag.add_edges_from(edges)
    return dag


def checks(dag: Dag, stage: Mapping[str, int], depth: int) -> list[Check]:
    """All structural checks of a complete placement.

    Parameters
    ----------
    dag
        Layers by name and data flow.
    stage
        The stage of every layer, in ``range(depth)``.
    """
    return [used(stage, depth), order(dag, stage), contiguity(dag, stage, depth), quotient(dag, stage)]


def used(stage: Mapping[str, int], depth: int) -> Check:
    """No stage is empty."""
    count = [0] * depth
    for i in stage.values():
        count[i] += 1
    faults = [f"stage {i} has no layer" for i, layers in enumerate(count) if not layers]
    evidence = f"{depth} stages hold {min(count)} to {max(count)} layers"
    return conclude("stages-used", faults, evidence, "use fewer stages")


def order(dag: Dag, stage: Mapping[str, int]) -> Check:
    """Data flows forward: no edge leads to an earlier stage."""
    faults = [
        f"{u} on stage {stage[u]} feeds {v} on the earlier stage {stage[v]}"
        for u, v in dag.edges
        if stage[u] > stage[v]
    ]
    return conclude("order", faults, f"no edge of {dag.number_of_edges()} leads to an earlier stage", MOVE)


def contiguity(dag: Dag, stage: Mapping[str, int], depth: int) -> Check:
    """No path leaves a stage and comes back, by reachability."""
    names = list(nx.topological_sort(dag))
    bit = {name: 1 << index for index, name in enumerate(names)}
    below: dict[str, int] = {}  # sets of layers as the bits of an integer: closed in one pass
    above = dict.fromkeys(names, 0)
    for name in reversed(names):
        below[name] = 0
        for v in dag.successors(name):
            below[name] |= bit[v] | below[v]
    for name in names:
        for v in dag.successors(name):
            above[v] |= bit[name] | above[name]
    member, leaving, returning = [0] * depth, [0] * depth, [0] * depth
    for name, i in stage.items():
        member[i] |= bit[name]
        leaving[i] |= below[name]
        returning[i] |= above[name]
    faults = []
    for i in range(depth):
        between = leaving[i] & returning[i] & ~member[i]
        if between:
            outside = names[(between & -between).bit_length() - 1]
            faults.append(f"stage {i} is left and entered again through {outside} on stage {stage[outside]}")
    return conclude("contiguity", faults, "no path leaves a stage and comes back", MOVE)


def quotient(dag: Dag, stage: Mapping[str, int]) -> Check:
    """The graph of stages has no cycle: they can run one after the other."""
    stages: nx.DiGraph[int] = nx.DiGraph()
    stages.add_edges_from({(stage[u], stage[v]) for u, v in dag.edges if stage[u] != stage[v]})
    faults = []
    if not nx.is_directed_acyclic_graph(stages):
        around = " -> ".join(str(u) for u, _ in nx.find_cycle(stages))
        faults.append(f"stages wait for each other in a circle: {around} -> ...")
    evidence = f"{stages.number_of_edges()} flows between stages, no cycle"
    return conclude("quotient", faults, evidence, "such a pipeline would hang; " + MOVE)
