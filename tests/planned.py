"""Sealed plans of given decisions, priced by the analytic cost model: no solver needed."""

from __future__ import annotations

from collections.abc import Callable

from uniap_cost_analytic.pricing import price

from uniap_core.cluster import preset
from uniap_core.costs import Candidate, Training
from uniap_core.graph import ModelGraph
from uniap_core.models import load
from uniap_core.plan import Plan, seal
from uniap_core.problem import Assignment
from uniap_core.proposal import CandidateProof, Proposal, propose
from uniap_core.strategy import RECOMPUTES, StrategySpace, divisors, parse
from uniap_core.verify import verify

SMALL = {
    "llama": "llama:layers=6,hidden=256,heads=8,kv_heads=4,ffn=512,vocab=1000,seq=128",
    "gpt": "gpt:layers=6,hidden=256,heads=8,vocab=1001,seq=128",
    "bert": "bert:layers=6,hidden=256,heads=8,vocab=1000,seq=128",
    "mixtral": "mixtral:layers=6,hidden=256,heads=8,kv_heads=4,ffn=512,experts=4,vocab=1000,seq=128",
}
"""A small model of each family."""


def planned(
    model: str | ModelGraph,
    strategy: str | Callable[[str], str],
    *,
    cuts: tuple[int, ...] = (),
    micro_batches: int = 1,
    batch: int = 16,
    cluster: str = "8xA100-80G",
    schedule: str = "1f1b",
    precision: str = "bf16",
    space: StrategySpace | None = None,
    **training: bool | str,
) -> Plan:
    """A plan of these decisions.

    Parameters
    ----------
    model
        A name of :data:`SMALL`, anything ``uniap plan`` takes as MODEL, or a graph.
    strategy
        The strategy of all layers, or of each by name.
    cuts
        Positions in the list of layers where a new stage begins.
    space
        What it is planned within (default: the degrees of its strategies).
    """
    graph = load(SMALL.get(model, model)) if isinstance(model, str) else model
    machine = preset(cluster)
    trained = Training(global_batch=batch, precision=precision, **training)  # type: ignore[arg-type]
    candidate = Candidate.of(len(cuts) + 1, micro_batches, trained, schedule)
    chosen = [parse(strategy if isinstance(strategy, str) else strategy(layer.name)) for layer in graph.layers]
    space = space or StrategySpace(
        cp=tuple({s.cp for s in chosen}),
        ep=tuple({s.ep for s in chosen}),
        replicate=(1, *{s.replicate for s in chosen} - {1}),
        recomputes=tuple(dict.fromkeys((*RECOMPUTES, *(s.recompute for s in chosen)))),
        sequence_parallel=None if any(s.sequence_parallel for s in chosen) else False,
    )
    tables = price(graph, machine, space, candidate)
    assignment = Assignment(
        tuple(sum(position >= cut for cut in cuts) for position in range(len(chosen))),
        tuple(layer.strategies.index(s) for layer, s in zip(tables.layers, chosen, strict=True)),
    )
    proposal = propose(graph, machine, space, tables, assignment, solver="hand", bound_s=None)
    return seal(proposal, _open(proposal), verify(proposal, tables))


def _open(proposal: Proposal) -> tuple[CandidateProof, ...]:
    """Records that say what is known of a plan made by hand: its own time, and nothing of other candidates."""
    depths = [pp for pp in divisors(proposal.cluster.devices) if pp <= len(proposal.model.layers)]
    mine = proposal.pp, proposal.micro_batches
    seconds = proposal.predicted.iteration_time_s
    return tuple(
        CandidateProof(
            schedule=proposal.schedule,
            pp=pp,
            micro_batches=c,
            outcome="limit",
            objective_s=seconds if (pp, c) == mine else None,
        )
        for pp in depths
        for c in divisors(proposal.global_batch)
    )
