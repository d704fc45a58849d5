"""What this executor can run of a model, said before a plan is searched for, and why it could not run a plan."""

from __future__ import annotations

from importlib.util import find_spec

from uniap_core.api import Cluster, Inexpressible, ModelGraph, Plan, Training, divisors

from .check import frozen, refusals
from .models.names import FAMILIES, family_of, is_traced
from .schedules import regimes

SPLIT = ("attention", "heads")
"""Attention that tensor parallelism divides by heads."""


def express(plan: Plan) -> list[str]:
    """Every reason why a plan cannot be run; empty if it can.

    What its text shows, and, where torch is installed, what building every stage of it on the CPU shows.
    """
    reasons = [cause for cause, _ in refusals(plan)]
    if reasons or find_spec("torch") is None:
        return reasons
    from .dry import layout

    try:
        layout(plan)
    except Inexpressible as error:
        return [error.cause]
    return []


def fit(graph: ModelGraph, cluster: Cluster, training: Training, schedule: str) -> tuple[tuple[str, ...], ...]:
    """The pins under which a model can be run.

    No tensor parallelism in layers that are not known how to split, nor of degrees that do not divide key heads, which
    are not repeated here; and what torch asks for the schedule (:mod:`.schedules`).

    Raises
    ------
    Inexpressible
        If there is no torch model for the graph, or no number of micro-batches for the schedule.
    """
    for cause, fix in frozen(graph, training.precision):
        raise Inexpressible(f"the fsdp executor does not run {cause}", fix)
    keys = {op.kv_heads or op.heads for x in graph.layers for op in x.operators if (op.kind, op.split) == SPLIT}
    whole = tuple(f"tp!={tp}" for tp in divisors(cluster.node_size) if any(count % tp for count in keys))
    counts = divisors(training.global_batch)
    if is_traced(graph):
        pins = tuple(f"{layer}:tp=1" for layer in _unsplittable(graph)) + whole
        pins += ("pp=1",) if graph.without_backward else ()
    elif not family_of(graph):
        raise Inexpressible(
            f"the fsdp executor has no torch model of the family {graph.family!r}",
            f"trace one (uniap trace hf:config.json), or use {', '.join(FAMILIES)}",
        )
    else:
        pins = whole
    found = tuple((*pins, *asked) for asked in regimes(schedule, divisors(cluster.devices), counts))
    if not found:
        cause = f"torch has no number of micro-batches for {schedule} at a batch of {training.global_batch}"
        raise Inexpressible(cause, "choose a larger batch or another --schedule")
    return found


def _unsplittable(graph: ModelGraph) -> list[str]:
    """Layers of a traced model in which some module refuses tensor parallelism, in order."""
    from .source import load
    from .split import splitting

    source, layers = load(graph), {layer.name: layer for layer in graph.layers}
    refused = set()
    for path, name in source.sites.items():
        try:
            splitting(source.model.get_submodule(path), path, layers[name]).styles(True)
        except Inexpressible:
            refused.add(name)
    return [name for name in layers if name in refused]
