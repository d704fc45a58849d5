"""Groups of ranks: what a plan means, and whether an executor's dry run builds exactly that.

Ranks of a stage are laid out with tensor parallel innermost, then context, then data parallel
(:mod:`uniap_core.axes`, which is held to this account of it); experts are laid out over the same ranks on a grid of
their own, with the ranks that share an expert innermost, then those that have different ones, then those that have the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from msgspec import UNSET

from ..proposal import Proposal
from ..strategy import Strategy
from .verdict import Check, conclude

Groups = tuple[tuple[int, ...], ...]

AS_PLANNED = "the executor's groups do not follow the plan; report it with the plan file"


def groups(ranks: Sequence[int], strategy: Strategy) -> dict[str, Groups]:
    """Groups of both grids of a layer under a strategy on the ranks of its stage: ``tp`` to ``dp``, ``etp`` to ``edp``.

    With replicas ``shard`` and ``replicate`` too, of dense parameters: neighbours share, replicas lie beside. The
    degrees multiply to the ranks of the stage (check ``degrees``).
    """
    block = np.array(ranks).reshape(strategy.dp, strategy.cp, strategy.tp)
    experts = np.array(ranks).reshape(-1, strategy.ep, strategy.tp if strategy.etp is UNSET else strategy.etp)
    found = {
        "tp": _rows(block, 2),
        "cp": _rows(block, 1),
        "dp": _rows(block, 0),
        "etp": _rows(experts, 2),
        "ep": _rows(experts, 1),
        "edp": _rows(experts, 0),
    }
    if strategy.replicate > 1:
        copies = np.array(ranks).reshape(strategy.replicate, -1, strategy.tp)
        found |= {"shard": _rows(copies, 1), "replicate": _rows(copies, 0)}
    return found


def _rows(block: np.ndarray, axis: int) -> Groups:
    rows = np.moveaxis(block, axis, -1).reshape(-1, block.shape[axis])
    return tuple(tuple(row) for row in rows.tolist())


def pipelines(stages: Sequence[Sequence[int]]) -> Groups:
    """Ranks that pass activations on: the r-th rank of every stage, once where stages have the same ranks."""
    return tuple(zip(*dict.fromkeys(map(tuple, stages)), strict=True))


def checks(
    proposal: Proposal,
    *,
    world: int,
    stages: Sequence[Sequence[int]],
    built: Mapping[str, Mapping[str, Groups]],
) -> list[Check]:
    """Hold an executor's dry run against the plan.

    Parameters
    ----------
    world, stages
        Number of ranks and ranks of each stage as the executor sees them.
    built
        By layer and kind of group (:func:`groups`): what it built. It may leave out kinds of one rank, and those that
        cut or copy experts where there are none to be spread.
    """
    return [_world(proposal, world, stages), _groups(proposal, built), _nodes(proposal, built)]


def _world(proposal: Proposal, world: int, stages: Sequence[Sequence[int]]) -> Check:
    faults = []
    if world != proposal.cluster.devices:
        faults.append(f"{world} ranks are laid out, and the plan has {proposal.cluster.devices}")
    if [tuple(stage) for stage in stages] != [stage.ranks for stage in proposal.stages]:
        faults.append("the stages have other ranks than in the plan")
    # Stages that are chunks of one pipeline rank have the same ranks.
    seen = sorted(chain.from_iterable(dict.fromkeys(map(tuple, stages))))
    if seen != list(range(world)):
        faults.append("the stages do not partition the ranks")
    return conclude("layout-ranks", faults, f"{len(stages)} stages partition {world} ranks as planned", AS_PLANNED)


def _groups(proposal: Proposal, built: Mapping[str, Mapping[str, Groups]]) -> Check:
    faults, count, known = [], 0, {}
    for layer in proposal.layers:
        s = layer.strategy
        key = layer.stage, s.tp, s.cp, s.dp, s.ep, s.etp, s.replicate
        if key not in known:
            known[key] = groups(proposal.stages[layer.stage].ranks, s)
        found = built.get(layer.name, {})
        for kind, expected in known[key].items():
            missing = kind not in found
            degree = len(expected[0])
            if missing and degree > 1 and (kind not in ("etp", "edp") or s.ep > 1 or s.etp is not UNSET):
                faults.append(f"{layer.name} has no {kind} groups, and its {kind} is {degree}")
            elif not missing and set(found[kind]) != set(expected):
                odd = sorted(set(found[kind]) - set(expected))
                named = f"has the group {list(odd[0][:8])}" if odd else "lacks a group"
                faults.append(f"{layer.name}: {kind} {named}, which the plan does not mean")
            count += len(expected)
    return conclude("layout-groups", faults, f"{count} groups of {len(proposal.layers)} layers as planned", AS_PLANNED)


def _nodes(proposal: Proposal, built: Mapping[str, Mapping[str, Groups]]) -> Check:
    node_of = proposal.cluster.node_of
    wide = {
        group: name
        for name, kinds in built.items()
        for group in set(kinds.get("tp", ()))
        if len({node_of[rank] for rank in group if 0 <= rank < len(node_of)}) > 1
    }
    faults = [f"the tp group {list(group[:8])} of {name} spans nodes" for group, name in wide.items()]
    if proposal.space.tp is not None and faults:
        return conclude("layout-nodes", [], f"the space allows tp across nodes: {faults[0]}", "")
    evidence = "every tensor parallel group built lies inside a node"
    return conclude("layout-nodes", faults, evidence, "use tp that divides the devices of every node")
