"""Why a problem does not fit: the layer or stage at fault, by how much, and what would make it fit.

On a chain the smallest memory that stages can do with is computed exactly (each layer under its smallest strategy,
cuts by dynamic programming); on other graphs the topological order stands in for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .cluster import MOST_DEVICES
from .costs import CostTables
from .problem import MEMORY_TOLERANCE, Problem
from .tables import Array, Rank

WORST = 1e300
"""The ratio of an infinite need."""

BLOCK = 64
"""Ends of segments that are looked at together: 10 000 layers take megabytes, not gigabytes."""


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
        True if it proves the candidate infeasible: a layer fits nowhere, all layers together are too large for all
        stages, or the order of layers is the only one.
    """

    pp: int
    micro_batches: int
    stage: int
    layer: str
    needed_bytes: float
    available_bytes: float
    certain: bool
    vpp: int = 1

    @property
    def factor(self) -> float:
        """How many times the available memory is needed."""
        return self.needed_bytes / self.available_bytes if self.available_bytes else math.inf

    def sentence(self) -> str:
        """The shortage in words."""
        who = f"layer {self.layer} alone" if self.layer else f"stage {self.stage} of {self.pp}"
        who = who if self.layer or self.vpp == 1 else "an even share of all layers"
        who = who if self.certain else f"in the order of the layers {who}"
        lack = self.needed_bytes - self.available_bytes
        return (
            f"{who} needs at least {_gib(self.needed_bytes)} per device and there are "
            f"{_gib(self.available_bytes)}: {_gib(lack)} short (best case: pp={self.pp}, "
            + (f"vpp={self.vpp}, " if self.vpp > 1 else "")
            + f"{self.micro_batches} micro-batches)"
        )


def shortage(problem: Problem) -> Shortage | None:
    """The memory that a problem lacks, or ``None`` if some placement fits by this bound.

    Parameters
    ----------
    problem
        Any problem; the bound ignores time, so ``None`` does not promise that a plan exists. More stages than layers
        are no shortage of memory.
    """
    order = problem.order
    if problem.depth > len(order):
        return None
    if not problem.plain_placement:
        return _of_chunks(problem)
    smallest = _smallest(problem)[:, list(order)]
    factor, i, first, end = _bottleneck(problem, smallest)
    if factor <= 1 + MEMORY_TOLERANCE:
        return None
    stage = problem.ranks[i]
    budgets = np.array([s.memory_bytes * (1 + MEMORY_TOLERANCE) - s.reserved_bytes for s in problem.ranks])
    fits_nowhere = np.all(smallest > budgets[:, None], axis=0)
    return Shortage(
        problem.depth,
        problem.micro_batches,
        i,
        problem.layers[order[first]].name if end - first == 1 else "",
        stage.reserved_bytes + float(smallest[i, first:end].sum()),
        stage.memory_bytes,
        certain=bool(fits_nowhere.any())
        or bool(smallest.min(axis=0).sum() > budgets.clip(min=0.0).sum())
        or _only_one_order(problem),
    )


def _of_chunks(problem: Problem) -> Shortage | None:
    """What no cut can help: a layer that fits no rank alone, or layers that are too large for all ranks together.

    A rank needs at its fullest moment no less than on average over its moments, so over all ranks no less than every
    layer's states with its stash as often as the chunk holds it that holds the fewest.
    """
    smallest = _smallest(problem)
    budgets = np.array([rank.memory_bytes * (1 + MEMORY_TOLERANCE) - rank.reserved_bytes for rank in problem.ranks])
    over = (smallest - budgets[:, None]).min(axis=0)
    if (over > 0).any():
        u = int(over.argmax())
        i = int((smallest[:, u] - budgets).argmin())
        return _short(problem, i, problem.layers[u].name, float(smallest[i, u]))
    held = min(rank.least_in_flight for rank in problem.ranks)
    least = {}
    for kind, table in zip(problem.kinds.layers, problem.layers, strict=True):
        if kind not in least:
            possible = np.isfinite(table.time_s).any(axis=0)
            least[kind] = np.where(possible, table.state_bytes + held * table.stash_bytes, np.inf).min()
    total = float(sum(least[kind] for kind in problem.kinds.layers))
    if total <= float(budgets.clip(min=0.0).sum()):
        return None
    roomiest = int(budgets.argmax())
    return _short(problem, roomiest, "", total / len(problem.ranks))


def _short(problem: Problem, i: int, layer: str, needed_bytes: float) -> Shortage:
    rank = problem.ranks[i]
    return Shortage(
        len(problem.ranks),
        problem.micro_batches,
        i,
        layer,
        rank.reserved_bytes + needed_bytes,
        rank.memory_bytes,
        certain=True,
        vpp=problem.depth // len(problem.ranks),
    )


def _only_one_order(problem: Problem) -> bool:
    """True if every two neighbours of the order are joined: then no other topological order exists."""
    joined = {(edge.source, edge.target) for edge in problem.edges}
    return all(pair in joined for pair in pairwise(problem.order))


def _smallest(problem: Problem) -> Array:
    """Bytes of each layer alone under its smallest possible strategy on each rank, shape (P, layers)."""
    flights = np.array([min(stage.peak_in_flight) for stage in problem.ranks], dtype=float)[:, None]
    columns: dict[int, Array] = {}
    for kind, table in zip(problem.kinds.layers, problem.layers, strict=True):
        if kind not in columns:
            need = table.state_bytes[None, :] + flights * table.stash_bytes[None, :]
            columns[kind] = np.where(np.isfinite(table.time_s), need, np.inf).min(axis=1)
    return np.stack([columns[kind] for kind in problem.kinds.layers], axis=1)


def _bottleneck(problem: Problem, smallest: Array) -> tuple[float, int, int, int]:
    """Contiguous cuts of the order with the least possible largest need / memory.

    Returns that ratio, the stage that has it, and the positions of its first layer and past its last.
    """
    count = smallest.shape[1]
    reach = np.full(count + 1, np.inf)
    reach[0] = 0.0
    start = np.zeros((problem.depth, count + 1), dtype=int)
    loads = [_Loads(stage, row) for stage, row in zip(problem.ranks, smallest, strict=True)]
    for i, load in enumerate(loads):
        least = np.full(count + 1, np.inf)
        for low in range(1, count + 1, BLOCK):
            ends = np.arange(low, min(low + BLOCK, count + 1))
            firsts = np.arange(ends[-1])
            worst = np.maximum(reach[firsts, None], load(firsts[:, None], ends[None, :]))
            start[i, ends] = np.argmin(worst, axis=0)
            least[ends] = np.min(worst, axis=0)
        reach = least
    found = (-1.0, 0, 0, count)
    end = count
    for i in reversed(range(problem.depth)):
        first = int(start[i][end])
        load_here = float(loads[i](np.array(first), np.array(end)))
        if load_here > found[0]:
            found = (load_here, i, first, end)
        end = first
    return found


class _Loads:
    """Need / memory of one stage for the layers from some position to another; infinite if there are none."""

    def __init__(self, stage: Rank, need: Array) -> None:
        possible = np.isfinite(need)
        self.reserved, self.memory = stage.reserved_bytes, max(stage.memory_bytes, 1.0)
        self.prefix = np.concatenate([[0.0], np.cumsum(np.where(possible, need, 0.0))])
        self.impossible = np.concatenate([[0], np.cumsum(~possible)])

    def __call__(self, first: Array, end: Array) -> Array:
        sums = self.prefix[end] - self.prefix[first]
        if self.impossible[-1]:
            sums = np.where(self.impossible[end] > self.impossible[first], np.inf, sums)
        # Finite even for a device without memory and for an impossible layer: only an empty stage is infinitely bad.
        return np.where(end <= first, np.inf, np.minimum((self.reserved + sums) / self.memory, WORST))


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
    training = tables.candidate.training
    if not training.optimizer.endswith("-8bit") and training.optimizer != "sgd":
        found.append(f"smaller states (--optimizer {training.optimizer}-8bit, --states bf16)")
    if short.factor <= MOST_DEVICES:
        found.append(f"about {math.ceil(short.factor)} times the devices (more stages or wider sharding)")
    if tables.candidate.micro_batch > max(s.dp for s in strategies):
        found.append("a smaller micro-batch (more micro-batches)")
    elif short.layer == "" and tables.candidate.training.global_batch > 1:
        found.append("a smaller global batch or a shorter sequence")
    return tuple(found)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if math.isfinite(size) else "unlimited memory"
