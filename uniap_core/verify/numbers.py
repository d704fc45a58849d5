"""Time and memory of a placement, computed anew from the cost tables.

The arithmetic is the verifier's own: it starts from the forward, backward and once-per-iteration tables, not from the
problem that the solver saw, and adds with ``math.fsum``. Nothing here calls :meth:`Problem.evaluate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import msgspec
import numpy as np

from ..costs import CostTables, LayerCosts
from ..errors import UniapError
from ..problem import MEMORY_TOLERANCE
from ..proposal import Proposal
from ..tables import EdgeTable, Weights
from .replay import held as alive
from .verdict import Check, conclude

RELATIVE = 1e-9
"""Claims may differ this much from what is computed here: sums of floats in another order."""

PLAN_AGAIN = "plan again; numbers of a plan are never edited by hand"

T = TypeVar("T")


@dataclass(frozen=True)
class Placement:
    """Chunk (``stage``) and strategy index of each layer, in the order of the tables.

    ``chunks`` is the pipeline rank of each chunk; empty for plain pipelines, where chunk i is on rank i.
    """

    stage: Sequence[int]
    strategy: Sequence[int]
    depth: int
    chunks: Sequence[int] = ()

    def rank(self, j: int) -> int:
        """The pipeline rank of a chunk."""
        return self.chunks[j] if self.chunks else j

    def boundaries(self, e: EdgeTable) -> list[int]:
        """The boundaries between ranks that an edge crosses; none if it stays on one rank."""
        passed = range(self.stage[e.source], self.stage[e.target])
        return [j for j in passed if self.rank(j) != self.rank(j + 1)]

    def gather(self, items: Iterable[T], value: Callable[[T, int, int], float]) -> list[list[float]]:
        """``value(item, rank, strategy)`` of each layer's item, by chunk."""
        found: list[list[float]] = [[] for _ in range(self.depth)]
        for item, j, k in zip(items, self.stage, self.strategy, strict=True):
            found[j].append(value(item, self.rank(j), k))
        return found

    def total(self, items: Iterable[T], value: Callable[[T, int, int], float]) -> list[float]:
        """The same, summed."""
        return [math.fsum(values) for values in self.gather(items, value)]

    def resharding(self, edges: Iterable[EdgeTable]) -> list[float]:
        """Seconds per micro-batch that layouts cost inside ranks, by the chunk that receives."""
        found: list[list[float]] = [[] for _ in range(self.depth)]
        for e in edges:
            if self.stage[e.source] <= self.stage[e.target] and not self.boundaries(e):
                found[self.stage[e.target]].append(float(e.reshard_s[self.strategy[e.source], self.strategy[e.target]]))
        return [math.fsum(values) for values in found]

    def crossing(self, edges: Iterable[EdgeTable]) -> list[float]:
        """Seconds per micro-batch over each boundary: each tensor once, at the dearest of its edges."""
        dearest: list[dict[str, float]] = [{} for _ in range(self.depth - 1)]
        for e in edges:
            seconds = float(e.cross_s[self.strategy[e.source], self.strategy[e.target]])
            for j in self.boundaries(e):
                dearest[j][e.tensor] = max(seconds, dearest[j].get(e.tensor, 0.0))
        return [math.fsum(tensors.values()) for tensors in dearest]


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """What the tables say of a placement; lists have one entry per stage (``cross_s`` per boundary).

    ``state_parts`` holds states by part, if the cost model splits its figures. A stage is a chunk: ``chunks`` is the
    rank of each, and ``weights`` what the objective multiplies; both are empty for plain pipelines, where chunk i is on
    rank i, and whose form is known here.
    """

    micro_batches: int
    schedule: str
    forward_s: list[float]
    backward_s: list[float]
    iteration_s: list[float]
    reshard_s: list[float]
    cross_s: list[float]
    time_parts: list[dict[str, float]]
    state_bytes: list[float]
    stash_bytes: list[float]
    state_parts: list[dict[str, float]]
    reserved_bytes: list[float]
    chunks: Sequence[int] = ()
    weights: Weights | None = None

    @property
    def depth(self) -> int:
        """Number of stages: P, or the number of chunks."""
        return len(self.forward_s)

    @property
    def turns(self) -> float:
        """What work once per iteration is divided by: equal ranks pay their time so often in the closed form."""
        if self.weights is None:
            return self.micro_batches + self.depth - 1
        return self.weights.sum * len(self.held) + self.weights.peak

    @property
    def stage_s(self) -> list[float]:
        """``p_i``, seconds per micro-batch."""
        share = 1 / self.turns
        rows = zip(self.forward_s, self.backward_s, self.iteration_s, self.reshard_s, strict=True)
        return [math.fsum((forward, backward, once * share, reshard)) for forward, backward, once, reshard in rows]

    @property
    def objective_s(self) -> float:
        """Time per iteration."""
        return math.fsum(self.parts_s)

    @cached_property
    def placed(self) -> tuple[int, ...]:
        """Pipeline rank of each stage."""
        return tuple(self.chunks) or tuple(range(self.depth))

    @cached_property
    def held(self) -> dict[int, list[int]]:
        """The stages of each rank, in the order of the flow."""
        found: dict[int, list[int]] = {}
        for j in range(self.depth):
            found.setdefault(self.placed[j], []).append(j)
        return dict(sorted(found.items()))

    @property
    def parts_s(self) -> tuple[float, float, float]:
        """The time per iteration in stages, in transfers and in the steady state."""
        return self.parts(self.stage_s, self.cross_s)

    def parts(self, stage_s: Sequence[float], cross_s: Sequence[float]) -> tuple[float, float, float]:
        """The same of other times of stages and boundaries."""
        if self.weights is None:
            peak = (self.micro_batches - 1) * max(*stage_s, *cross_s, 0.0) if self.micro_batches > 1 else 0.0
            return math.fsum(stage_s), math.fsum(cross_s), peak
        ranks = [math.fsum(stage_s[j] for j in held) for held in self.held.values()]
        links: dict[tuple[int, int], list[float]] = {}
        for j, seconds in enumerate(cross_s):
            links.setdefault((self.placed[j], self.placed[j + 1]), []).append(seconds)
        slowest = max(*ranks, *map(math.fsum, links.values()), 0.0)
        w = self.weights
        return w.sum * math.fsum(stage_s), w.cross * math.fsum(cross_s), w.peak * slowest if w.peak else 0.0

    def memory_bytes(self, stage: int, held: float) -> float:
        """Bytes per device of a stage that holds so many micro-batches."""
        return math.fsum((self.reserved_bytes[stage], self.state_bytes[stage], held * self.stash_bytes[stage]))

    def rank_bytes(self, rank: int, counts: Sequence[float]) -> float:
        """Bytes per device of a rank that holds so many micro-batches of each of its stages."""
        return math.fsum(self.memory_bytes(j, count) for j, count in zip(self.held[rank], counts, strict=True))


PLAIN = ("gpipe", "1f1b")
"""Schedules whose closed form is ``sum p + sum o + (c - 1) max(p, o)``; of others the problem says what it weighs."""


def recompute(tables: CostTables, placement: Placement) -> Recomputed:
    """Sum up the tables over a placement."""
    layers, pipeline = tables.layers, tables.candidate.pipeline
    reserved = [float(rank.reserved_bytes) for rank in tables.ranks]
    plain = pipeline.schedule in PLAIN

    def seconds(table: str) -> list[float]:
        return placement.total(layers, lambda layer, i, k: float(getattr(layer, table)[i, k]))

    return Recomputed(
        micro_batches=tables.candidate.micro_batches,
        schedule=tables.candidate.schedule,
        forward_s=seconds("forward_s"),
        backward_s=seconds("backward_s"),
        iteration_s=seconds("iteration_s"),
        reshard_s=placement.resharding(tables.edges),
        cross_s=placement.crossing(tables.edges),
        time_parts=_parts(layers, placement, "time_parts_s"),
        state_bytes=placement.total(layers, lambda layer, _, k: float(layer.state_bytes[k])),
        stash_bytes=placement.total(layers, lambda layer, _, k: float(layer.stash_bytes[k])),
        state_parts=_parts(layers, placement, "state_parts_bytes"),
        reserved_bytes=[reserved[i] if i not in pipeline.chunks[:j] else 0.0 for j, i in enumerate(pipeline.chunks)],
        chunks=() if plain else pipeline.chunks,
        weights=None if plain else pipeline.weights(tables.candidate.micro_batches),
    )


def _parts(layers: Sequence[LayerCosts], placement: Placement, table: str) -> list[dict[str, float]]:
    found: list[dict[str, list[float]]] = [{} for _ in range(placement.depth)]
    for layer, j, k in zip(layers, placement.stage, placement.strategy, strict=True):
        i = placement.rank(j)
        for part, values in getattr(layer, table).items():
            found[j].setdefault(part, []).append(float(values[i, k] if values.ndim == 2 else values[k]))
    return [{part: math.fsum(values) for part, values in parts.items()} for parts in found]


# --- claims against it ------------------------------------------------------------------------------------------


def checks(proposal: Proposal, tables: CostTables, own: Recomputed) -> list[Check]:
    """Hold every number that a proposal claims against the recomputed one."""
    return [
        _time(proposal, own),
        _transfers(proposal, own),
        objective(proposal, own),
        bound(proposal.bound_s, own.objective_s),
        _memory(proposal, tables, own),
        _limits(proposal, tables),
        schedule_memory(
            [stage.in_flight for stage in proposal.stages], [float(s.memory_bytes) for s in tables.ranks], own
        ),
    ]


def close(claimed: float, computed: float) -> bool:
    """Whether a claim equals what was computed, up to the order of summation; NaN never does."""
    return math.isclose(claimed, computed, rel_tol=RELATIVE, abs_tol=1e-15)


def _compare(title: str, pairs: Mapping[str, tuple[float, float]], unit: str) -> list[str]:
    return [
        f"{title}{name} is claimed as {claimed:.6g} {unit} and comes to {computed:.6g} {unit}"
        for name, (claimed, computed) in pairs.items()
        if not close(claimed, computed)
    ]


def _time(proposal: Proposal, own: Recomputed) -> Check:
    faults = []
    for i, stage in enumerate(proposal.stages):
        pairs = {
            name: (getattr(stage, name), getattr(own, name)[i])
            for name in ("forward_s", "backward_s", "iteration_s", "reshard_s")
        }
        pairs["time_s"] = stage.time_s, own.stage_s[i]
        parts = {**own.time_parts[i], "resharding": own.reshard_s[i]}
        for name in dict.fromkeys((*parts, *stage.time_parts_s)):
            pairs[f"time part {name}"] = stage.time_parts_s.get(name, math.nan), parts.get(name, math.nan)
        if own.time_parts[i]:
            pairs["sum of time parts"] = math.fsum(stage.time_parts_s.values()), own.stage_s[i]
        faults += _compare(f"stage {i}: ", pairs, "s")
    longest = max(range(own.depth), key=lambda i: own.stage_s[i])
    evidence = f"stage times agree with the tables; the longest is stage {longest}, {own.stage_s[longest]:.6g} s"
    return conclude("time", faults, evidence, PLAN_AGAIN)


def _transfers(proposal: Proposal, own: Recomputed) -> Check:
    claimed = proposal.predicted.cross_s
    faults = []
    if len(claimed) != len(own.cross_s):
        faults.append(f"{len(claimed)} boundaries are claimed, and {own.depth} stages have {len(own.cross_s)}")
    else:
        pairs = {f"boundary {j}|{j + 1}": pair for j, pair in enumerate(zip(claimed, own.cross_s, strict=True))}
        faults = _compare("", pairs, "s")
    evidence = f"transfers over {len(own.cross_s)} boundaries agree with the tables"
    return conclude("transfers", faults, evidence, PLAN_AGAIN)


def objective(proposal: Proposal, own: Recomputed) -> Check:
    """The claimed time per iteration, its parts and the rates that follow from it."""
    said, seconds = proposal.predicted, own.objective_s
    if not (math.isfinite(seconds) and seconds > 0):
        return conclude("objective", [f"the time per iteration comes to {seconds} s"], "", "plan again")
    samples = proposal.global_batch / seconds
    stages, transfers, steady = own.parts_s
    pairs = {
        "the time per iteration": (said.iteration_time_s, seconds),
        "time in stages": (said.stages_s, stages),
        "time in transfers": (said.transfers_s, transfers),
        "time in the steady state": (said.steady_s, steady),
        "samples per second": (said.samples_per_s, samples),
    }
    if said.tokens_per_s is not None or proposal.model.counts_positions:
        # Earlier files have a figure for models without a sequence, too: samples times a number without a meaning.
        told = math.nan if said.tokens_per_s is None else said.tokens_per_s
        pairs["tokens per second"] = (told, samples * proposal.sequence)
    evidence = f"{seconds:.6g} s per iteration = {stages:.6g} stages + {transfers:.6g} transfers + steady state"
    data: dict[str, float | int | str] = {"claimed_s": said.iteration_time_s, "computed_s": seconds}
    return conclude("objective", _compare("", pairs, "units"), evidence, PLAN_AGAIN, data)


def bound(bound_s: float | None, objective_s: float) -> Check:
    """A lower bound is a finite number that is not above the objective."""
    if bound_s is None:
        return conclude("bound", [], "no bound is claimed: the plan is feasible, not proven best", "")
    faults = []
    if not (math.isfinite(bound_s) and bound_s >= 0):
        faults.append(f"the bound is {bound_s}")
    elif bound_s > objective_s * (1 + RELATIVE):
        faults.append(f"the bound of {bound_s:.9g} s is above the objective of {objective_s:.9g} s that it bounds")
    gap = max(0.0, objective_s - bound_s) / objective_s if objective_s and not faults else 0.0
    evidence = f"bound {bound_s:.6g} s <= objective {objective_s:.6g} s, gap {gap:.2g}"
    fix = "the solver's bound is wrong: cross-check with another solver"
    return conclude("bound", faults, evidence, fix, None if faults else {"gap": gap})


def _memory(proposal: Proposal, tables: CostTables, own: Recomputed) -> Check:
    faults = [] if own.weights is None else _fullest(proposal, tables, own)
    for i, stage in enumerate(proposal.stages):
        parts = {
            **own.state_parts[i],
            "activations": stage.in_flight * own.stash_bytes[i],
        }
        if not own.chunks or own.chunks.index(own.chunks[i]) == i:
            parts["reserved"] = own.reserved_bytes[i]
        pairs = {"memory": (stage.memory_bytes, own.memory_bytes(i, stage.in_flight))}
        for name in dict.fromkeys((*parts, *stage.memory_parts_bytes)):
            pairs[f"memory part {name}"] = stage.memory_parts_bytes.get(name, math.nan), parts.get(name, math.nan)
        if stage.reserved_parts_bytes is not msgspec.UNSET:
            rank = own.chunks[i] if own.chunks else i
            held = {name: float(sizes[rank]) for name, sizes in tables.reserved_parts_bytes.items()}
            for name in dict.fromkeys((*held, *stage.reserved_parts_bytes)):
                said = stage.reserved_parts_bytes.get(name, math.nan)
                pairs[f"part of the reserve {name}"] = said, held.get(name, math.nan)
        if own.state_parts[i]:
            pairs["sum of memory parts"] = (
                math.fsum(stage.memory_parts_bytes.values()),
                own.memory_bytes(i, stage.in_flight),
            )
        faults += _compare(f"stage {i}: ", pairs, "B")
    return conclude("memory", faults, f"memory of {own.depth} stages, by parts, agrees with the tables", PLAN_AGAIN)


def _limits(proposal: Proposal, tables: CostTables) -> Check:
    """The limits are those of the tables, and no device has less."""
    cluster = proposal.cluster
    capacity = [bank.device.memory_bytes for n in cluster.nodes for bank in n.banks for _ in range(bank.devices)]
    faults = []
    for i, stage in enumerate(proposal.stages):
        priced = tables.ranks[proposal.chunks[i]]
        if not close(stage.memory_limit_bytes, priced.memory_bytes):
            faults.append(
                f"stage {i} claims a limit of {stage.memory_limit_bytes:.6g} B and was priced for "
                f"{priced.memory_bytes:.6g} B"
            )
        smallest = min((capacity[rank] for rank in stage.ranks if 0 <= rank < len(capacity)), default=0.0)
        if priced.memory_bytes > smallest * (1 + MEMORY_TOLERANCE):
            faults.append(
                f"stage {i} was priced for {priced.memory_bytes:.6g} B and its smallest device has {smallest:.6g} B"
            )
    return conclude("memory-limit", faults, "every stage is held to the memory of its smallest device", PLAN_AGAIN)


def _fullest(proposal: Proposal, tables: CostTables, own: Recomputed) -> list[str]:
    """Whether the chunks of each rank claim to hold what they hold at the fullest moment that was priced."""
    faults = []
    for i, stages in own.held.items():
        moments = tables.ranks[i].in_flight
        claimed = tuple(float(proposal.stages[j].in_flight) for j in stages)
        peak = max(own.rank_bytes(i, moment) for moment in moments)
        if claimed not in moments:
            faults.append(f"rank {i} was not priced with {_counts(claimed)} micro-batches of its chunks in flight")
        elif not close(own.rank_bytes(i, claimed), peak):
            faults.append(
                f"the chunks of rank {i} claim {own.rank_bytes(i, claimed):.6g} B, and its fullest moment needs "
                f"{peak:.6g} B"
            )
    return faults


def _counts(counts: Sequence[float]) -> str:
    return " + ".join(f"{count:g}" for count in counts)


def schedule_memory(in_flight: Sequence[float], limit_bytes: Sequence[float], own: Recomputed) -> Check:
    """Memory at every event of the schedule, from the micro-batches that a rank then holds of each of its chunks.

    Parameters
    ----------
    in_flight
        Claimed count of each stage when its rank is fullest, or an empty sequence if none is claimed.
    limit_bytes
        Of each rank.
    """
    faults, tightest, most = [], math.inf, 0.0
    try:
        rows = alive(own.schedule, own.placed, own.micro_batches)
    except UniapError as error:
        return conclude("memory-schedule", [error.cause], "", error.fix)
    for i, limit in enumerate(limit_bytes):
        stages, counts = own.held[i], rows[i]
        used = counts @ np.array([own.stash_bytes[j] for j in stages])
        # Where nothing is kept, the fullest moment is the one with most in flight.
        fullest = counts[np.lexsort((counts.sum(axis=1), used))[-1]].tolist()
        claimed = [in_flight[j] for j in stages] if in_flight else fullest
        word = "stage" if len(stages) == 1 else "rank"
        # Of plain schedules there is one way to count; of others more may be priced than this order holds.
        short = own.rank_bytes(i, claimed) < own.rank_bytes(i, fullest) * (1 - RELATIVE)
        if short or (own.weights is None and claimed != fullest):
            faults.append(
                f"{word} {i} claims {_counts(claimed)} micro-batches in flight and {own.schedule} holds "
                f"{_counts(fullest)}"
            )
        over = used + own.rank_bytes(i, [0] * len(stages)) > limit * (1 + MEMORY_TOLERANCE)
        first = int(over.argmax())
        needed = own.rank_bytes(i, counts[first].tolist())
        if needed > limit * (1 + MEMORY_TOLERANCE):
            faults.append(
                f"{word} {i} needs {needed:.6g} B of {limit:.6g} B at event {first} of its schedule, with "
                f"{_counts(counts[first])} micro-batches in flight"
            )
        tightest = min(tightest, (limit - own.rank_bytes(i, fullest)) / limit if limit else 0.0)
        most = max(most, float(counts.sum(axis=1).max()) / len(stages))
    evidence = (
        f"no event of {own.schedule} exceeds the memory of its stage; "
        f"{most:g} micro-batches in flight at most, {tightest:.1%} of the tightest stage free"
    )
    fix = "recompute or shard more, use more or smaller micro-batches, or move layers to another stage"
    return conclude("memory-schedule", faults, evidence, fix, {"free_share": tightest})
