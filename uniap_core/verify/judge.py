"""``verify``: all checks on a proposal, and the verdict that they add up to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .. import artifact
from ..costs import OPTIMIZERS, CostTables
from ..errors import UniapError
from ..menus import extents
from ..posing import digest, pose
from ..proposal import CandidateProof, Proposal
from ..proposal_file import subject
from ..strategy import Extent
from . import devices, numbers, structure
from .architecture import architecture
from .numbers import Placement
from .proof import sweep_proof
from .replay import held
from .timing import timing
from .verdict import VERIFIER, Check, Verdict, conclude


def verify(
    proposal: Proposal,
    tables: CostTables,
    proof: Sequence[CandidateProof] | None = None,
    *,
    tolerance: float | None = None,
) -> Verdict:
    """Judge a proposal against the tables of its candidate.

    Parameters
    ----------
    proposal
        What is judged.
    tables
        The tables of its candidate, restricted by its pins, as the cost model gives them now.
    proof
        The records of the sweep that it came from; ``None`` if it came from none.
    tolerance
        Relative difference between the closed form and the simulation beyond which the plan fails; ``None`` allows
        what the theory of the schedule explains (docs/verifier.md).

    Returns
    -------
    Verdict
        With every check that could be made: one that needs a placement is left out while the placement is broken.
    """
    checks = [current(proposal, tables), candidate(proposal, tables)]
    placed = layers(proposal, tables), stage_lists(proposal), strategies(proposal, tables)
    checks += placed
    checks.append(architecture(proposal.model))
    if proof is not None:
        checks.append(sweep_proof(proposal, proof))
    if all(check.passed for check in (checks[1], *placed)):
        stage = {layer.name: layer.stage for layer in proposal.layers}
        checks += structure.checks(proposal.model.network, stage, len(proposal.chunks))
        checks += devices.checks(proposal)
        own = numbers.recompute(tables, _placement(proposal, tables))
        checks += numbers.checks(proposal, tables, own)
        if all(map(math.isfinite, own.stage_s)):
            checks.append(timing(own, tolerance))
    return Verdict(subject=subject(proposal), verifier=VERIFIER, checks=tuple(checks))


def standing(proposal: Proposal, proof: Sequence[CandidateProof]) -> list[Check]:
    """What can be checked of a plan without tables: for executors that have no cost model at hand."""
    faults = [
        f"the {name} in the plan is not the one that was planned with"
        for name, value in (("graph", proposal.model), ("cluster", proposal.cluster))
        if getattr(proposal.hashes, name) != artifact.digest(value)
    ]
    evidence = "graph and cluster are those that the plan was made from"
    known = [layer.name for layer in proposal.model.layers]
    missing = placed_once(known, [(layer.name, layer.stage) for layer in proposal.layers], len(proposal.chunks))
    checks = [
        conclude("current", faults, evidence, "plan again"),
        conclude("layers", missing, f"{len(known)} layers, each placed once", "place every layer of the model once"),
        stage_lists(proposal),
        architecture(proposal.model),
        sweep_proof(proposal, proof),
    ]
    if checks[1].passed and checks[2].passed:
        stage = {layer.name: layer.stage for layer in proposal.layers}
        checks += [*structure.checks(proposal.model.network, stage, len(proposal.chunks)), *devices.checks(proposal)]
    return checks


# --- is it about these tables, and complete? --------------------------------------------------------------------


def current(proposal: Proposal, tables: CostTables) -> Check:
    """The hashes of graph, cluster, tables and problem are those of what is at hand now."""
    now = {
        "graph": artifact.digest(proposal.model),
        "cluster": artifact.digest(proposal.cluster),
        "tables": digest(tables),
        "problem": pose(tables).hash,
    }
    faults = [
        f"the {name} is not the one that was planned with ({getattr(proposal.hashes, name)[:15]}... is now "
        f"{digest[:15]}...)"
        for name, digest in now.items()
        if getattr(proposal.hashes, name) != digest
    ]
    if proposal.cost_model != tables.model:
        faults.insert(0, f"it was priced by {proposal.cost_model}, and the tables are by {tables.model}")
    evidence = "graph, cluster, tables and problem are those that the plan was made from"
    return conclude("current", faults, evidence, "plan again with what you have now")


def candidate(proposal: Proposal, tables: CostTables) -> Check:
    """Stages, micro-batches and training say the same everywhere."""
    priced = tables.candidate
    pairs = {
        "number of stages": (proposal.pp, priced.pp),
        "number of chunks per rank": (proposal.vpp, priced.vpp),
        "length of the list of stages": (len(proposal.stages), len(priced.pipeline.chunks)),
        "number of micro-batches": (proposal.micro_batches, priced.micro_batches),
        "schedule": (proposal.schedule, priced.schedule),
        "training": (proposal.training, priced.training),
        "placement of chunks": (proposal.chunks, priced.pipeline.chunks),
        "number of priced stages": (len(tables.ranks), priced.pp),
    }
    faults = [f"the {name} is {said}, and {own} was priced" for name, (said, own) in pairs.items() if said != own]
    if not faults:
        try:
            faults = list(_in_flight(tables))
        except UniapError as error:
            faults.append(error.cause)
    if proposal.training.optimizer not in OPTIMIZERS:
        faults.append(f"the optimizer {proposal.training.optimizer!r} is none of {', '.join(OPTIMIZERS)}")
    evidence = f"{priced.name}, batch {proposal.global_batch}, {proposal.schedule}, {proposal.precision}"
    return conclude("candidate", faults, evidence, "plan again")


def _in_flight(tables: CostTables) -> Iterator[str]:
    """What is wrong with the counts that ranks were priced with, against the replayed schedule.

    Of plain schedules they are the same. Of others the priced moments must be no less: in all chunks together, and in
    each (what a plan needs at every event is held against its memory by the check ``memory-schedule``).
    """
    priced = tables.candidate
    for i, rows in enumerate(held(priced.schedule, priced.pipeline.chunks, priced.micro_batches)):
        moments = tables.ranks[i].in_flight
        if priced.schedule in numbers.PLAIN:
            if moments != ((rows.max(),),):
                told = " or ".join(f"{count:g}" for (count,) in moments)
                yield f"stage {i} was priced with {told} micro-batches in flight, and the schedule holds {rows.max()}"
            continue
        pairs = [(max(map(sum, moments)), rows.sum(axis=1).max(), "all its chunks together")]
        peaks = zip(tables.ranks[i].peak_in_flight, rows.max(axis=0), strict=True)
        pairs += [(said, most, f"its chunk {n}") for n, (said, most) in enumerate(peaks)]
        for said, most, what in pairs:
            if said < most:
                yield f"rank {i} was priced with {said:g} micro-batches of {what}, and the schedule holds {most:g}"


def layers(proposal: Proposal, tables: CostTables) -> Check:
    """Every layer of the graph is placed once, on a stage that exists, and priced; edges are those of the graph."""
    known = [layer.name for layer in proposal.model.layers]
    faults = placed_once(known, [(layer.name, layer.stage) for layer in proposal.layers], len(proposal.chunks))
    priced = [layer.name for layer in tables.layers]
    if sorted(priced) != sorted(known):
        faults.append("the tables price other layers than the graph has")
    else:
        flows = {(e.source, e.target, e.tensor) for e in proposal.model.edges}
        tabled = {(priced[e.source], priced[e.target], e.tensor) for e in tables.edges}
        if flows != tabled:
            faults.append(f"the tables price other edges than the graph has ({sorted(flows ^ tabled)[0]})")
    alike = dict(zip(priced, tables.kinds.layers, strict=True))
    faults += [
        f"{layer.name} is said to be of kind {layer.kind}, and costs like kind {alike.get(layer.name)}"
        for layer in proposal.layers
        if layer.kind is not None and layer.kind != alike.get(layer.name)
    ]
    return conclude("layers", faults, f"{len(known)} layers, each placed once", "place every layer of the model once")


def placed_once(known: Sequence[str], placed: Sequence[tuple[str, int]], depth: int) -> list[str]:
    """What is wrong with a list of (layer, stage): unknown, missing and repeated layers, stages out of range."""
    count = dict.fromkeys(known, 0)
    faults = []
    for name, stage in placed:
        if name not in count:
            faults.append(f"the model has no layer {name!r}")
            continue
        count[name] += 1
        if not 0 <= stage < depth:
            faults.append(f"{name} is on stage {stage}, and stages are 0 to {depth - 1}")
    faults += [f"{name} is not placed" for name, times in count.items() if not times]
    faults += [f"{name} is placed {times} times" for name, times in count.items() if times > 1]
    return faults


def stage_lists(proposal: Proposal) -> Check:
    """The list of layers and the lists of the stages agree."""
    expected: dict[int, list[str]] = {i: [] for i in range(len(proposal.stages))}
    faults = []
    for layer in proposal.layers:
        if layer.stage in expected:
            expected[layer.stage].append(layer.name)
        else:
            faults.append(f"{layer.name} is on stage {layer.stage}, which is not in the list of stages")
    if len(proposal.stages) != len(proposal.chunks):
        faults.append(f"{len(proposal.stages)} stages are listed, and {proposal.shape} has {len(proposal.chunks)}")
    for i, stage in enumerate(proposal.stages):
        if list(stage.layers) != expected[i]:
            odd = sorted(set(stage.layers) ^ set(expected[i])) or ["another order"]
            faults.append(f"stage {i} lists other layers than those placed on it ({odd[0]})")
    return conclude("stage-lists", faults, "stages list exactly the layers placed on them", "list each layer once")


def strategies(proposal: Proposal, tables: CostTables) -> Check:
    """Each layer uses a strategy of its tables, possible on its stage, and of the space."""
    priced = {layer.name: layer for layer in tables.layers}
    space, faults = proposal.space, []
    size = proposal.cluster.devices // max(1, proposal.pp)
    found = dict(zip((layer.name for layer in proposal.model.layers), extents(proposal.model, space), strict=True))
    node = proposal.cluster.node_size
    allowed = {e: set(space.strategies(size, node, e)) if size else set() for e in dict.fromkeys(found.values())}
    used = set()
    for layer in proposal.layers:
        strategy = layer.strategy
        used.add(strategy)
        costs = priced.get(layer.name)
        if strategy not in allowed.get(found.get(layer.name, Extent()), ()):
            faults.append(f"{layer.name}: {strategy.name} is not in the space of the plan")
        elif costs is None or strategy not in costs.strategies:
            faults.append(f"{layer.name}: {strategy.name} is not in its tables (indivisible, or pinned away)")
        elif 0 <= layer.stage < len(proposal.chunks) and proposal.chunks[layer.stage] < len(tables.ranks):
            k, i = costs.strategies.index(strategy), proposal.chunks[layer.stage]
            if not math.isfinite(costs.forward_s[i, k] + costs.backward_s[i, k] + costs.iteration_s[i, k]):
                faults.append(f"{layer.name}: {strategy.name} is not possible on stage {i}")
    if space.max_strategies is not None and len(used) > space.max_strategies:
        faults.append(f"{len(used)} strategies are used, and the space allows {space.max_strategies}")
    evidence = f"{len(used)} strategies, each in the tables and in the space"
    return conclude("strategies", faults, evidence, "choose among the strategies of the layer, or widen the space")


def _placement(proposal: Proposal, tables: CostTables) -> Placement:
    by_name = {layer.name: layer for layer in proposal.layers}
    rows = [(by_name[costs.name], costs) for costs in tables.layers]
    return Placement(
        [layer.stage for layer, _ in rows],
        [costs.strategies.index(layer.strategy) for layer, costs in rows],
        len(proposal.chunks),
        proposal.chunks,
    )
