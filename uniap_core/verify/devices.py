"""Structure on the devices: ranks, degrees, divisibility, and groups that stay inside a node."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from ..graph import Layer
from ..proposal import Proposal
from ..strategy import Strategy
from .verdict import Check, conclude


def checks(proposal: Proposal) -> list[Check]:
    """All checks of a proposal on its devices; its layers are known and placed in range."""
    return [
        ranks(proposal),
        degrees(proposal),
        batch(proposal),
        divisibility(proposal),
        recomputation(proposal),
        nodes(proposal),
    ]


def ranks(proposal: Proposal) -> Check:
    """The ranks of all stages partition the cluster, in the equal, consecutive blocks that were priced."""
    total, depth = proposal.cluster.devices, proposal.pp
    owner: dict[int, int] = {}
    faults = []
    held: dict[int, tuple[int, ...]] = {}
    for i, stage in zip(proposal.chunks, proposal.stages, strict=True):
        if held.setdefault(i, stage.ranks) != stage.ranks:
            faults.append(f"two chunks of pipeline rank {i} name different ranks")
    for i, ranks_of in held.items():
        for rank in ranks_of:
            if not 0 <= rank < total:
                faults.append(f"stage {i} names rank {rank}, and ranks are 0 to {total - 1}")
            elif rank in owner:
                faults.append(f"rank {rank} is on stages {owner[rank]} and {i}")
            else:
                owner[rank] = i
    idle = [rank for rank in range(total) if rank not in owner]
    if idle:
        faults.append(f"{len(idle)} ranks are on no stage (rank {idle[0]} first)")
    if not faults:
        size = total // depth
        faults = [
            f"stage {i} has {len(ranks_of)} ranks from {ranks_of[:1]}, not {i * size} to {(i + 1) * size - 1}"
            for i, ranks_of in held.items()
            if ranks_of != tuple(range(i * size, (i + 1) * size))
        ]
    evidence = f"{depth} stages of {total // depth} consecutive ranks partition {total} devices"
    return conclude("ranks", faults, evidence, "give every stage an equal, consecutive block of ranks; plan again")


def degrees(proposal: Proposal) -> Check:
    """``tp * dp * cp`` is the size of the stage, and ``etp * ep`` divides it, for every layer.

    Experts are cut as all else is or not at all, and then their ranks hold different rows: sequence parallelism.
    """
    faults = []
    for layer in proposal.layers:
        size = len(proposal.stages[layer.stage].ranks)
        s = layer.strategy
        if s.tp * s.dp * s.cp != size:
            faults.append(
                f"{layer.name}: tp {s.tp} x dp {s.dp} x cp {s.cp} is not the {size} ranks of stage {layer.stage}"
            )
            continue
        etp = s.tp if s.etp is UNSET else s.etp
        if size % (etp * s.ep):
            faults.append(
                f"{layer.name}: etp {etp} x ep {s.ep} does not divide the {size} ranks of stage {layer.stage}"
            )
            continue
        if etp not in (1, s.tp):
            faults.append(f"{layer.name}: etp {etp} is neither 1 nor tp {s.tp}")
        if etp != s.tp and not s.sequence_parallel:
            faults.append(f"{layer.name}: etp {etp} under tp {s.tp} needs sequence parallelism")
        faults += [f"{layer.name}: {fault}" for fault in _uncopied(s, size // (etp * s.ep))]
    return conclude(
        "degrees", faults, f"the degrees of {len(proposal.layers)} layers multiply to their stages", "choose divisors"
    )


def _uncopied(s: Strategy, experts: int) -> Iterator[str]:
    """What is wrong with the replicas of a strategy whose degrees are right (Megatron-Core, parallel_state.py)."""
    if s.replicate == 1:
        return
    if s.sharding == "none":
        yield f"{s.replicate} replicas of shard groups, and nothing is sharded"
    elif s.dp * s.cp % s.replicate or s.dp * s.cp == s.replicate:
        yield f"{s.replicate} replicas do not part dp x cp = {s.dp * s.cp} ranks into shard groups"
    elif experts % s.replicate:
        yield f"{s.replicate} replicas do not divide the {experts} ranks that hold the same experts"


def batch(proposal: Proposal) -> Check:
    """``global batch = micro-batch * c``, and dp divides the micro-batch of every layer."""
    c, total = proposal.micro_batches, proposal.global_batch
    if c < 1 or total < 1 or total % c:
        faults = [f"{c} micro-batches do not divide the batch of {total}"]
        return conclude("batch", faults, "", "choose a number of micro-batches that divides the batch")
    micro_batch = total // c
    faults = [
        f"{layer.name}: the micro-batch of {micro_batch} does not divide over dp {layer.strategy.dp}"
        for layer in proposal.layers
        if micro_batch % layer.strategy.dp
    ]
    if proposal.training.documents:
        faults += [
            f"{layer.name}: {micro_batch} packs of a micro-batch on dp {layer.strategy.dp}, which takes one each"
            for layer in proposal.layers
            if micro_batch != layer.strategy.dp
        ]
    evidence = f"batch {total} = {c} micro-batches of {micro_batch}, divided evenly by every layer's dp"
    return conclude("batch", faults, evidence, "use fewer micro-batches or less data parallelism")


def divisibility(proposal: Proposal) -> Check:
    """Heads, widths and experts divide by their degrees, or fewer key heads divide tp and are repeated.

    Vocabularies are padded; the sequence divides by 2 cp.
    """
    faults, padded = [], 0
    graph_layers = {layer.name: layer for layer in proposal.model.layers}
    seen: dict[tuple[object, ...], list[str]] = {}
    for plan in proposal.layers:
        layer, s = graph_layers[plan.name], plan.strategy
        key = layer.operators, s.tp, s.cp, s.ep, s.etp
        if key not in seen:
            seen[key] = list(_indivisible(layer, s, proposal.model.sequence))
        faults += [f"{plan.name}: {fault}" for fault in seen[key]]
        padded += any(op.split == "vocab" and op.inner % s.tp for op in layer.operators)
    evidence = f"heads, widths and experts of {len(proposal.layers)} layers divide by their degrees"
    if padded:
        evidence += f"; the vocabulary of {padded} is padded up"
    return conclude("divisibility", faults, evidence, "choose degrees that divide the model's shapes")


def _indivisible(layer: Layer, s: Strategy, sequence: int) -> Iterator[str]:
    for op in layer.operators:
        if op.divided % s.tp:
            yield f"width {op.divided} of {op.name} does not divide by tp {s.tp}"
        if misfit := op.misfit(s.tp):
            yield misfit
        if op.experts % s.ep:
            yield f"{op.experts} experts of {op.name} do not divide by ep {s.ep}"
        etp, width = s.tp if s.etp is UNSET else s.etp, op.outer if op.entry else op.inner
        if op.kind == "grouped_gemm" and width % etp:
            yield f"width {width} of each expert of {op.name} does not divide by etp {etp}"
        if s.cp > 1 and op.name.rpartition(".")[2].startswith(("scan", "conv1d")):
            yield f"{op.name} runs along the sequence, and cp is {s.cp}"
    # Ring attention cuts the sequence into 2 cp pieces, so that a causal mask gives every rank equal work.
    if s.cp > 1 and sequence % (2 * s.cp):
        yield f"the sequence of {sequence} does not divide by twice cp {s.cp}"


def recomputation(proposal: Proposal) -> Check:
    """Sets of modules are ones that there are, and every module is one that some layer under them has."""
    known = ("core_attn", "norm", "activation", "mla_up", "shared_experts", "mlp", "moe")
    kinds = {layer.name: {op.kind for op in layer.operators} for layer in proposal.model.layers}
    needs = {"core_attn": "attention", "norm": "norm", "mla_up": "attention", "mlp": "gemm", "activation": "pointwise"}
    needs |= dict.fromkeys(("shared_experts", "moe"), "grouped_gemm")
    faults: list[str] = []
    used: dict[str, list[str]] = {}
    for layer in proposal.layers:
        used.setdefault(layer.strategy.recompute, []).append(layer.name)
    sets = {name: layers for name, layers in used.items() if name not in ("none", "selective", "full")}
    for name, layers in sets.items():
        words = name.split("+")
        rest = words[1:] if words[0] == "selective" else words
        order = [known.index(word) for word in rest if word in known]
        if len(order) < len(rest) or order != sorted(set(order)) or (len(rest) < len(words) and min(order) < 3):
            faults.append(f"{layers[0]}: {name!r} is no set of modules")
            continue
        here = set().union(*(kinds[layer] for layer in layers))
        faults += [f"{layers[0]}: no layer under {name} has {word}" for word in rest if needs[word] not in here]
    evidence = f"{len(sets)} sets of modules are recomputed, each of modules that its layers have"
    return conclude("recomputation", faults, evidence, "plan again; sets are modules of uniap_core.modules joined by +")


def nodes(proposal: Proposal) -> Check:
    """Tensor parallel groups (neighbouring ranks) stay inside a node unless the space names their degrees itself."""
    node_of = proposal.cluster.node_of
    promised = proposal.space.tp is None
    crossing: dict[tuple[int, int], str] = {}
    for layer in proposal.layers:
        tp = layer.strategy.tp
        key = layer.stage, tp
        if tp == 1 or key in crossing:
            continue
        block = proposal.stages[layer.stage].ranks
        groups = [block[start : start + tp] for start in range(0, len(block), tp)]
        wide = [g for g in groups if len({node_of[rank] for rank in g if 0 <= rank < len(node_of)}) > 1]
        crossing[key] = f"tp {tp} of {layer.name} spans nodes (ranks {wide[0][0]} to {wide[0][-1]})" if wide else ""
    spanning = [fault for fault in crossing.values() if fault]
    if not promised and spanning:
        return conclude("nodes", [], f"the space allows tp across nodes: {spanning[0]}", "")
    widest = max((layer.strategy.tp for layer in proposal.layers), default=1)
    evidence = f"tensor parallel groups of up to {widest} ranks stay inside a node"
    return conclude("nodes", spanning, evidence, "choose tp that divides the devices of every node")
