"""What a stated plan costs: time and memory by the problem that the search would pose, and what of it a run reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..costs import CostTables, LayerCosts, Price
from ..errors import BadValue
from ..posing import pose
from ..problem import Assignment
from ..strategy import RECOMPUTES, SHARDINGS, Recompute, Sharding, Strategy
from ..tables import Rank
from .plan import Plan

if TYPE_CHECKING:
    from ..graph import ModelGraph

BESIDE = ("context", "nccl")
"""Parts of the reserve that lie outside the allocator's memory."""

OUTSIDE = (*BESIDE, "fragmentation", "margin")
"""Parts of the reserve that the allocator does not see."""

BY_WORKSPACE = ("workspace", "fragmentation")
"""Parts of the reserve that grow with what layers need while they run."""

BUCKETED = ("zero1", "zero2")
"""Shardings under which gradients are reduced by buckets."""

LENIENCE = 1.3
"""A run that is known to have fitted may have kept less per parameter than the recipe assumed here (bf16 gradients,
no master copy): fields that its row leaves open are raised only if the estimate is over by more than this."""


_RISING: tuple[tuple[Sharding, Recompute], ...] = (
    ("none", "none"),
    ("zero1", "none"),
    ("zero2", "none"),
    ("none", "selective"),
    ("zero1", "selective"),
    ("zero2", "selective"),
    ("none", "full"),
    ("zero1", "full"),
    ("zero2", "full"),
    ("zero3", "none"),
    ("zero3", "selective"),
    ("zero3", "full"),
)
"""Pairs of sharding and recomputation by what they cost."""


@dataclass(frozen=True)
class Prediction:
    """What a plan costs.

    Attributes
    ----------
    iteration_s
        Seconds per iteration.
    memory_bytes
        Peak of the fullest device as its allocator sees it; ``context_bytes`` come on top.
    fits, likely
        Whether the upper bound fits, and whether the run may have (:data:`LENIENCE`).
    strategies
        Of each layer.
    """

    iteration_s: float
    memory_bytes: float
    context_bytes: float
    fits: bool
    likely: bool
    strategies: tuple[Strategy, ...]


def predict(plan: Plan, price: Price, notes: list[str] | None = None) -> Prediction:
    """Price a plan with stages of equal numbers of layers.

    Sharding and recomputation that a row leaves open are the cheapest whose estimate fits (:data:`_RISING`); what was
    chosen is added to ``notes``.

    Raises
    ------
    BadValue
        If the plan does not fit model or cluster.
    """
    sets = [name for name in plan.space.recomputes if name not in RECOMPUTES]
    pairs = (*_RISING, *((sharding, name) for name in sets for sharding in SHARDINGS))
    options = [
        (sharding, recompute)
        for sharding, recompute in pairs
        if sharding in plan.space.shardings and recompute in plan.space.recomputes
    ]
    for sharding, recompute in options:
        space = msgspec.structs.replace(plan.space, shardings=(sharding,), recomputes=(recompute,))
        tables = price(plan.graph, plan.cluster, space, plan.candidate)
        found = uniform(plan.graph, tables, 0)
        if found.likely:
            break
    if len(options) > 1 and notes is not None:
        notes += [f"sharding {sharding}", f"recompute {recompute}"]
    return found


def uniform(graph: ModelGraph, tables: CostTables, k: int) -> Prediction:
    """Time and memory if all layers use their strategy ``k``: time by :meth:`Problem.evaluate`, as the search does."""
    problem = pose(tables)
    chunk = even_split(graph, problem.depth)
    total = problem.evaluate(Assignment(chunk, (k,) * len(chunk))).objective_s
    if not math.isfinite(total):
        raise BadValue("the strategy is not possible on these devices", "choose another precision or plan")
    stage = tuple(problem.chunks[j] for j in chunk)
    memory = _memory(tables, chunk, k)
    reserves = _reserves(tables, stage, k)
    seen = [m + sum(v[i] for name, v in reserves.items() if name not in OUTSIDE) for i, m in enumerate(memory)]
    bound = [m + sum(v[i] for v in reserves.values()) for i, m in enumerate(memory)]
    fits = all(m <= rank.memory_bytes for m, rank in zip(bound, tables.ranks, strict=True))
    context = max(
        (sum(sizes) for sizes in zip(*(reserves[n] for n in BESIDE if n in reserves), strict=True)), default=0.0
    )
    likely = all(m + context <= rank.memory_bytes * LENIENCE for m, rank in zip(seen, tables.ranks, strict=True))
    return Prediction(total, max(seen), context, fits, likely, tuple(layer.strategies[k] for layer in tables.layers))


def _memory(tables: CostTables, chunk: tuple[int, ...], k: int) -> list[float]:
    """Bytes of state and activations of each rank at its fullest moment, without its reserve."""
    problem = pose(tables)
    state, stash = [0.0] * problem.depth, [0.0] * problem.depth
    for layer, j in zip(tables.layers, chunk, strict=True):
        state[j] += _state(layer, k)
        stash[j] += float(layer.stash_bytes[k])
    bare = [Rank(r.memory_bytes, 0.0, r.in_flight) for r in problem.ranks]
    return [
        rank.need_bytes([(state[j], stash[j]) for j in held]) for rank, held in zip(bare, problem.held, strict=True)
    ]


def _state(layer: LayerCosts, k: int) -> float:
    """State without what the planner charges because it cannot know: here all layers are alike.

    That is the workspace beyond the reserved one, whose need is known here, and copies of tied weights on one stage.
    """
    charged = [layer.state_parts_bytes[name] for name in ("workspace", "tied") if name in layer.state_parts_bytes]
    return float(layer.state_bytes[k]) - sum(float(part[k]) for part in charged)


def _reserves(tables: CostTables, stage: tuple[int, ...], k: int) -> dict[str, list[float]]:
    """Parts of each stage's reserve, with the workspace that this plan's layers need in place of the planner's."""
    found = {name: list(values) for name, values in tables.reserved_parts_bytes.items()}
    if not found:
        return {"reserve": [s.reserved_bytes for s in tables.ranks]}
    strategy = tables.layers[0].strategies[k]
    if "buckets" in found and (strategy.sharding not in BUCKETED or strategy.dp == 1):
        found["buckets"] = [0.0] * len(tables.ranks)
    if "workspace" not in found or any(layer.workspace_bytes is None for layer in tables.layers):
        return found
    need = [0.0] * len(tables.ranks)
    for layer, i in zip(tables.layers, stage, strict=True):
        need[i] = max(need[i], float(layer.workspace_bytes[k]))  # type: ignore[index]
    for name in (name for name in BY_WORKSPACE if name in found):
        reserved = tables.reserved_parts_bytes["workspace"]
        found[name] = [v * n / w if w else 0.0 for v, n, w in zip(found[name], need, reserved, strict=True)]
    return found


def even_split(graph: ModelGraph, depth: int) -> tuple[int, ...]:
    """Chunk of each layer: blocks in equal numbers, what comes before them first, what comes after last.

    Where there are more chunks than blocks, what comes before and after counts like a block (Megatron-LM
    ``--account-for-embedding-in-pipeline-split`` and ``--account-for-loss-in-pipeline-split``).

    Raises
    ------
    BadValue
        If there are fewer layers than chunks.
    """
    ends = ("embedding", "head", "patch")
    blocks = [u for u, layer in enumerate(graph.layers) if layer.kind not in ends]
    if len(blocks) < depth:
        blocks = list(range(len(graph.layers)))
    if len(blocks) < depth:
        raise BadValue(f"{len(blocks)} layers do not fill {depth} stages", "use fewer stages or chunks")
    place = {u: position * depth // len(blocks) for position, u in enumerate(blocks)}
    at_end = {u: depth - 1 if layer.kind == "head" else 0 for u, layer in enumerate(graph.layers)}
    return tuple(place.get(u, at_end[u]) for u in at_end)
