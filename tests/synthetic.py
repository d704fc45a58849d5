"""Small proposals of real types, priced by a toy cost model: no plugin, no solver needed.

The toy model is physics in miniature: work over devices, a collective per tensor-parallel layer, states divided by
what shards them. Every figure depends on the strategy, so any edit shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from uniap_core.cluster import Cluster, preset
from uniap_core.costs import (
    MEMORY_PARTS,
    TIME_PARTS,
    Candidate,
    CostTables,
    LayerCosts,
    Training,
    check_candidate,
    pipeline_ranks,
)
from uniap_core.errors import BadValue
from uniap_core.graph import TOKENS, Flow, Layer, ModelGraph, Operator
from uniap_core.plan import Plan, seal
from uniap_core.posing import pose
from uniap_core.problem import Assignment
from uniap_core.proposal import CandidateProof, Proposal, propose
from uniap_core.strategy import Strategy, StrategySpace, divisors
from uniap_core.tables import EdgeTable
from uniap_core.verify import verify

MODEL = "toy/1"


def graph(blocks: int = 6, hidden: int = 64, *, skip: bool = False) -> ModelGraph:
    """Embedding, blocks, head; with ``skip`` the embedding's tensor also feeds the head."""
    operators = (
        Operator(name="up", kind="gemm", rows=TOKENS, inner=hidden, outer=4 * hidden, split="column", parameters=9),
        Operator(name="act", kind="pointwise", rows=TOKENS, inner=4 * hidden, split="column"),
        Operator(name="core", kind="attention", rows=TOKENS, keys=TOKENS, inner=8, heads=8, kv_heads=4, split="heads"),
        Operator(name="down", kind="gemm", rows=TOKENS, inner=4 * hidden, outer=hidden, split="row", parameters=9),
    )
    table = Operator(name="table", kind="embedding", rows=TOKENS, inner=1001, outer=hidden, split="vocab", parameters=7)
    layers = [
        Layer("embed", "embedding", (table,)),
        *(Layer(f"block{n}", "decoder", operators) for n in range(blocks)),
        Layer("head", "head", (table,)),
    ]
    names = [layer.name for layer in layers]
    edges = [Flow(u, v, f"{u}.out", TOKENS, hidden) for u, v in pairwise(names)]
    if skip:
        edges.append(Flow("embed", "head", "embed.out", TOKENS, hidden))
    return ModelGraph(name="toy", family="gpt", sequence=128, layers=tuple(layers), edges=tuple(edges))


def price(
    model: ModelGraph, cluster: Cluster, space: StrategySpace, candidate: Candidate, profile: object = None
) -> CostTables:
    """The toy cost model."""
    check_candidate(cluster, candidate)
    size = cluster.devices // candidate.pp
    fits = [s for s in space.strategies(size, cluster.node_size) if candidate.micro_batch % s.dp == 0]
    heads = [n for layer in model.layers for op in layer.operators for n in (op.heads, op.kv_heads)]
    fits = [s for s in fits if all(n % s.tp == 0 for n in heads)]
    if not fits:
        raise BadValue("no strategy divides", "change the batch")
    layers = tuple(_layer(u, layer, tuple(fits), candidate, cluster) for u, layer in enumerate(model.layers))
    index = {layer.name: u for u, layer in enumerate(model.layers)}
    slow = 1e9 / cluster.inter.bandwidth_Bps
    moved = np.array([[0.1 * (a.layout != b.layout) for b in fits] for a in fits]) * 1e-3
    cross = np.array([[(1 + abs(a.tp - b.tp)) / b.dp for b in fits] for a in fits]) * 1e-2 * slow
    edges = tuple(EdgeTable(index[e.source], index[e.target], e.tensor, moved, cross) for e in model.edges)
    memory = [float(min(node.device.memory_bytes for node in cluster.nodes))] * candidate.pp
    return CostTables(MODEL, candidate, pipeline_ranks(memory, [2.0**30] * candidate.pp, candidate), layers, edges)


def _layer(u: int, layer: Layer, fits: tuple[Strategy, ...], candidate: Candidate, cluster: Cluster) -> LayerCosts:
    work = (1.0 + 0.1 * u) * candidate.micro_batch * 1e-3
    near = 1e11 / cluster.nodes[0].link.bandwidth_Bps * 1e-4
    parts = np.array([_times(s, work, near, candidate.turns) for s in fits]).T
    compute, again, tensor, data, other = parts
    states = np.array([_states(s) for s in fits]).T * 2.0**28
    stash = np.array([candidate.micro_batch / s.dp * (0.2 if s.recompute == "full" else 1.0) for s in fits]) * 2.0**26

    def on_stages(row: np.ndarray) -> np.ndarray:
        return np.broadcast_to(row, (candidate.pp, len(fits)))

    return LayerCosts(
        layer.name,
        fits,
        on_stages(compute / 3 + tensor / 2),
        on_stages(2 * compute / 3 + tensor / 2 + again),
        on_stages((data + other) * candidate.turns),
        states.sum(axis=0),
        stash,
        dict(zip(TIME_PARTS, map(on_stages, parts), strict=True)),
        dict(zip(MEMORY_PARTS[:3], states, strict=True)),
    )


def _times(s: Strategy, work: float, near: float, turns: float) -> tuple[float, float, float, float, float]:
    compute = work / s.devices
    again = {"none": 0.0, "selective": 0.05, "full": 1 / 3}[s.recompute] * compute
    tensor = near * (s.tp - 1) * (0.9 if s.sequence_parallel else 1.0) * work * 10
    data = near * (s.dp - 1) * (1.5 if s.sharding == "zero3" else 1.0) / turns
    return compute, again, tensor, data, 1e-4 / turns / (s.dp if s.sharding != "none" else 1)


def _states(s: Strategy) -> tuple[float, float, float]:
    level = ("none", "zero1", "zero2", "zero3").index(s.sharding)
    return tuple(x / s.tp / (s.dp if level >= need else 1) for x, need in ((2, 3), (4, 2), (12, 1)))  # type: ignore[return-value]


@dataclass(frozen=True)
class Subject:
    """A proposal and the tables it came from."""

    proposal: Proposal
    tables: CostTables
    assignment: Assignment


def even(layers: int, depth: int) -> tuple[int, ...]:
    """Layers spread evenly over stages."""
    return tuple(u * depth // layers for u in range(layers))


def subject(
    pp: int = 4,
    micro_batches: int = 8,
    *,
    cluster: str = "2x4xA100-80G",
    schedule: str = "1f1b",
    skip: bool = True,
    batch: int = 64,
    stage: tuple[int, ...] | None = None,
    strategy: int | None = None,
) -> Subject:
    """A valid proposal: even stages, mixed strategies (or one, by number)."""
    model, machine, space = graph(skip=skip), preset(cluster), StrategySpace()
    tables = price(model, machine, space, Candidate.of(pp, micro_batches, Training(global_batch=batch), schedule))
    count = len(model.layers)
    choice = tuple((3 * u) % len(tables.layers[0].strategies) if strategy is None else strategy for u in range(count))
    return of(model, machine, space, tables, Assignment(stage or even(count, pp), choice))


def of(
    model: ModelGraph, machine: Cluster, space: StrategySpace, tables: CostTables, assignment: Assignment
) -> Subject:
    """What an assignment says, with a bound a little below it."""
    bound = pose(tables).evaluate(assignment).objective_s * 0.9
    proposal = propose(model, machine, space, tables, assignment, solver="toy", bound_s=bound)
    return Subject(proposal, tables, assignment)


def plan(s: Subject | None = None) -> Plan:
    """A sealed plan with a complete proof."""
    s = s or subject()
    p = s.proposal
    seconds = p.predicted.iteration_time_s
    records = [
        CandidateProof(
            schedule=p.schedule,
            pp=pp,
            micro_batches=c,
            outcome="solved" if (pp, c) == (p.pp, p.micro_batches) else "pruned",
            bound_s=p.bound_s if (pp, c) == (p.pp, p.micro_batches) else seconds,
            objective_s=seconds if (pp, c) == (p.pp, p.micro_batches) else None,
        )
        for pp in divisors(p.cluster.devices)
        if pp <= len(p.model.layers)
        for c in divisors(p.global_batch)
    ]
    return seal(p, tuple(records), verify(p, s.tables))
