"""Why a problem does not fit: the layer or stage at fault, by how much, and what would make it fit.

On a chain the smallest memory that stages can do with is computed exactly (each layer under its smallest strategy,
cuts by dynamic programming); on other graphs the topological order stands in for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .costs import CostTables
from .problem import MEMORY_TOLERANCE, Array, Problem


@dataclass(frozen=True)
class Shortage:
    """Where memory runs short in the roomiest placement of a candidate.

    Attributes
    ----------
    stage, layer
        The stage at fault, and the layer if one alone is too large for it.
    needed_bytes, available_bytes
        What the stage needs at the least, reserve included, and what a device has.
    certain
        True if it proves the candidate infeasible: a layer fits nowhere, or the order of layers is the only one.
    """

    pp: int
    micro_batches: int
    stage: int
    layer: str
    needed_bytes: float
    available_bytes: float
    certain: bool

    @property
    def factor(self) -> float:
        """How many times the available memory is needed."""
        return self.needed_bytes / self.available_bytes

    def sentence(self) -> str:
        """The shortage in words."""
        who = f"layer {self.layer} alone" if self.layer else f"stage {self.stage} of {self.pp}"
        lack = self.needed_bytes - self.available_bytes
        return (
            f"{who} needs at least {_gib(self.needed_bytes)} per device and there are "
            f"{_gib(self.available_bytes)}: {_gib(lack)} short (best case: pp={self.pp}, "
            f"{self.micro_batches} micro-batches)"
        )


def shortage(problem: Problem) -> Shortage | None:
    """The memory that a problem lacks, or ``None`` if some placement fits by this bound.

    Parameters
    ----------
    problem
        Any problem; the bound ignores time, so ``None`` does not promise that a plan exists.
    """
    order = problem.order
    smallest = np.array([_smallest(problem, i) for i in range(problem.depth)])[:, list(order)]
    for u, name in ((u, problem.layers[u].name) for u in order):
        column = smallest[:, order.index(u)]
        ratios = [
            (stage.reserved_bytes + need) / stage.memory_bytes if stage.memory_bytes else math.inf
            for stage, need in zip(problem.stages, column, strict=True)
        ]
        i = int(np.argmin(ratios))
        if ratios[i] > 1 + MEMORY_TOLERANCE:
            stage = problem.stages[i]
            return Shortage(
                problem.depth,
                problem.micro_batches,
                i,
                name,
                stage.reserved_bytes + float(column[i]),
                stage.memory_bytes,
                certain=True,
            )
    factor, i, need = _bottleneck(problem, smallest)
    if factor <= 1 + MEMORY_TOLERANCE:
        return None
    return Shortage(
        problem.depth,
        problem.micro_batches,
        i,
        "",
        need,
        problem.stages[i].memory_bytes,
        certain=_only_one_order(problem),
    )


def _only_one_order(problem: Problem) -> bool:
    """True if every two neighbours of the order are joined: then no other topological order exists."""
    joined = {(edge.source, edge.target) for edge in problem.edges}
    return all(pair in joined for pair in pairwise(problem.order))


def _smallest(problem: Problem, stage: int) -> list[float]:
    flight = problem.stages[stage].in_flight
    return [
        float(np.min(np.where(np.isfinite(t.time_s[stage]), t.state_bytes + flight * t.stash_bytes, np.inf)))
        for t in problem.layers
    ]


def _bottleneck(problem: Problem, smallest: Array) -> tuple[float, int, float]:
    """Least possible largest (need / memory) over contiguous cuts of the order; its stage and its need."""
    count, depth = smallest.shape[1], problem.depth
    prefix = np.concatenate([np.zeros((depth, 1)), np.cumsum(smallest, axis=1)], axis=1)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    start = np.zeros((depth, count + 1), dtype=int)
    for i, stage in enumerate(problem.stages):
        load = (stage.reserved_bytes + prefix[i][None, :] - prefix[i][:, None]) / max(stage.memory_bytes, 1e-300)
        load[np.tril_indices(count + 1)] = np.inf
        worst = np.maximum(best[:, None], load)
        start[i] = np.argmin(worst, axis=0)
        best = np.min(worst, axis=0)
    end, worst_stage, worst_ratio, need = count, depth - 1, -1.0, 0.0
    for i in reversed(range(depth)):
        first = int(start[i][end])
        stage = problem.stages[i]
        bytes_needed = stage.reserved_bytes + float(prefix[i][end] - prefix[i][first])
        ratio = bytes_needed / max(stage.memory_bytes, 1e-300)
        if ratio > worst_ratio:
            worst_stage, worst_ratio, need = i, ratio, bytes_needed
        end = first
    return float(best[count]), worst_stage, need


def remedies(tables: CostTables, short: Shortage) -> tuple[str, ...]:
    """What would make a candidate fit, most likely first; each is a change of the request.

    Parameters
    ----------
    tables
        The tables of the candidate that came closest.
    short
        Its shortage.
    """
    found = [f"devices with at least {_gib(short.needed_bytes)} of memory"]
    strategies = {s for layer in tables.layers for s in layer.strategies}
    if not any(s.recompute == "full" for s in strategies):
        found.insert(0, "allow full recomputation (no pin recompute!=full)")
    if not any(s.sharding == "zero3" for s in strategies) and any(s.dp > 1 for s in strategies):
        found.insert(0, "allow zero3 sharding")
    more = math.ceil(short.factor)
    found.append(f"about {more} times the devices (more stages or wider sharding)")
    if tables.candidate.micro_batch > max(s.dp for s in strategies):
        found.append("a smaller micro-batch (more micro-batches)")
    elif short.layer == "" and tables.candidate.training.global_batch > 1:
        found.append("a smaller global batch or a shorter sequence")
    return tuple(found)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if math.isfinite(size) else "unlimited memory"
