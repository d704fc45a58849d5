"""A proposal: everything a plan says, before anybody has verified it.

The search makes proposals from cost tables and an assignment; the verifier judges them; only a judged proposal
becomes a :class:`~uniap_core.plan.Plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from .cluster import Cluster
from .costs import Candidate, CostTables, Training
from .graph import ModelGraph
from .posing import digest, pose
from .problem import Assignment
from .strategy import Strategy, StrategySpace
from .tables import Array


class LayerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer: its stage and its strategy.

    ``kind`` numbers layers that are alike, where that is known.
    """

    name: str
    stage: int
    strategy: Strategy
    kind: int | None = None


class StagePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage: who runs it, what it holds, how long it takes and what it stores.

    Attributes
    ----------
    time_s
        ``p_i``: forward + backward + iteration / turns + resharding, seconds per micro-batch
        (:attr:`uniap_core.costs.Candidate.turns`).
    forward_s, backward_s, iteration_s, reshard_s
        Its parts; ``iteration_s`` is per iteration.
    time_parts_s
        The same time by cause (:data:`uniap_core.costs.TIME_PARTS` and resharding).
    memory_bytes, memory_limit_bytes
        Peak per device, the reserve included, and what the device has.
    memory_parts_bytes
        Parameters, gradients, optimizer, activations (at ``in_flight``), reserved.
    """

    ranks: tuple[int, ...]
    layers: tuple[str, ...]
    in_flight: int
    time_s: float
    forward_s: float
    backward_s: float
    iteration_s: float
    reshard_s: float
    time_parts_s: dict[str, float]
    memory_bytes: float
    memory_limit_bytes: float
    memory_parts_bytes: dict[str, float]


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Time per iteration and what it is made of (seconds): ``stages + transfers + steady = iteration_time_s``.

    ``tokens_per_s`` is ``None`` for a model in which nothing grows with a sequence.
    """

    iteration_time_s: float
    stages_s: float
    transfers_s: float
    steady_s: float
    cross_s: tuple[float, ...]
    samples_per_s: float
    tokens_per_s: float | None


class Hashes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content hashes of what a proposal came from."""

    graph: str
    cluster: str
    tables: str
    problem: str


class Proposal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An unverified plan. Its document is :class:`uniap_core.proposal_file.ProposalFile`.

    Attributes
    ----------
    model, cluster, space, cost_model
        What it was planned for, with what freedom, priced by what (``name/version``).
    candidate
        Stages, micro-batches and what is trained.
    stages, layers
        The placement, by stage and by layer.
    predicted
        Claimed time per iteration.
    pins, regime
        What the user fixed, and what the executor that it was planned for asks of plans like this one.
    solver, bound_s
        Who found it and the proven lower bound over all candidates of the sweep (seconds), if any.
    """

    model: ModelGraph
    cluster: Cluster
    space: StrategySpace
    cost_model: str
    candidate: Candidate
    stages: tuple[StagePlan, ...]
    layers: tuple[LayerPlan, ...]
    predicted: Prediction
    solver: str
    bound_s: float | None
    pins: tuple[str, ...] = ()
    regime: tuple[str, ...] = ()
    hashes: Hashes

    @property
    def pp(self) -> int:
        """Number of stages."""
        return self.candidate.pp

    @property
    def micro_batches(self) -> int:
        """Micro-batches per iteration."""
        return self.candidate.micro_batches

    @property
    def training(self) -> Training:
        """What is trained how."""
        return self.candidate.training

    @property
    def schedule(self) -> str:
        """Name of the pipeline's schedule."""
        return self.candidate.schedule

    @property
    def global_batch(self) -> int:
        """Samples per iteration."""
        return self.candidate.training.global_batch

    @property
    def precision(self) -> str:
        """Precision of the training."""
        return self.candidate.training.precision

    @property
    def sequence(self) -> int:
        """Positions per sample."""
        return self.model.sequence

    @property
    def title(self) -> str:
        """What it is in a line: model, cluster, shape, time."""
        return (
            f"{self.model.name} on {self.cluster.name}, batch {self.global_batch}: pp {self.pp} x "
            f"{self.micro_batches} micro-batches, {self.predicted.iteration_time_s:.4g} s per iteration"
        )

    def __repr__(self) -> str:
        return f"<Proposal {self.title}>"


def propose(
    graph: ModelGraph,
    cluster: Cluster,
    space: StrategySpace,
    tables: CostTables,
    assignment: Assignment,
    *,
    solver: str,
    bound_s: float | None,
    pins: tuple[str, ...] = (),
    regime: tuple[str, ...] = (),
) -> Proposal:
    """Say in a plan's words what an assignment of a candidate's problem means.

    Parameters
    ----------
    tables
        The (possibly pinned) tables that the assignment indexes.
    assignment
        Stage and strategy of each layer.
    bound_s
        Proven lower bound on the time per iteration over the whole sweep, seconds.
    """
    problem, candidate = pose(tables), tables.candidate
    value = problem.evaluate(assignment)
    placed = list(zip(tables.layers, assignment.stage, assignment.strategy, strict=True))
    layers = tuple(
        LayerPlan(costs.name, i, costs.strategies[k], kind)
        for (costs, i, k), kind in zip(placed, tables.kinds.layers, strict=True)
    )
    stages = tuple(_stage(tables, cluster, assignment, i) for i in range(candidate.pp))
    # Whole-number zeros would not survive a JSON file, and the seal with them.
    transfers, total = sum(value.cross_s, 0.0), sum(value.rank_s, 0.0)
    seconds = value.objective_s
    samples = candidate.training.global_batch / seconds
    predicted = Prediction(
        iteration_time_s=seconds,
        stages_s=total,
        transfers_s=transfers,
        steady_s=problem.objective.peak * max(value.rank_s + value.cross_s),
        cross_s=value.cross_s,
        samples_per_s=samples,
        tokens_per_s=samples * graph.sequence if graph.counts_positions else None,
    )
    return Proposal(
        model=graph,
        cluster=cluster,
        space=space,
        cost_model=tables.model,
        candidate=candidate,
        stages=stages,
        layers=layers,
        predicted=predicted,
        solver=solver,
        bound_s=bound_s,
        pins=pins,
        regime=regime,
        hashes=Hashes(graph.hash, cluster.hash, digest(tables), problem.hash),
    )


def _stage(tables: CostTables, cluster: Cluster, assignment: Assignment, i: int) -> StagePlan:
    stage = tables.ranks[i]
    in_flight = stage.peak_in_flight[0]
    on_stage = [
        (layer, k)
        for layer, where, k in zip(tables.layers, assignment.stage, assignment.strategy, strict=True)
        if where == i
    ]

    def total(table: str) -> float:
        return sum((float(getattr(layer, table)[i, k]) for layer, k in on_stage), 0.0)

    reshard = sum(
        (
            float(e.reshard_s[assignment.strategy[e.source], assignment.strategy[e.target]])
            for e in tables.edges
            if assignment.stage[e.source] == assignment.stage[e.target] == i
        ),
        0.0,
    )
    forward, backward, iteration = total("forward_s"), total("backward_s"), total("iteration_s")
    parts = _sum_parts([(layer.time_parts_s, (i, k)) for layer, k in on_stage])
    memory = _sum_parts([(layer.state_parts_bytes, (k,)) for layer, k in on_stage])
    stash = sum(float(layer.stash_bytes[k]) for layer, k in on_stage)
    state = sum(float(layer.state_bytes[k]) for layer, k in on_stage)
    return StagePlan(
        ranks=tuple(tables.candidate.pipeline.block(i, cluster.devices)),
        layers=tuple(layer.name for layer, _ in on_stage),
        in_flight=int(in_flight),
        time_s=forward + backward + iteration / tables.candidate.turns + reshard,
        forward_s=forward,
        backward_s=backward,
        iteration_s=iteration,
        reshard_s=reshard,
        time_parts_s={**parts, "resharding": reshard},
        memory_bytes=stage.reserved_bytes + state + in_flight * stash,
        memory_limit_bytes=stage.memory_bytes,
        memory_parts_bytes={**memory, "activations": in_flight * stash, "reserved": stage.reserved_bytes},
    )


def _sum_parts(rows: list[tuple[Mapping[str, Array], tuple[int, ...]]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for parts, index in rows:
        for name, table in parts.items():
            total[name] = total.get(name, 0.0) + float(table[index])
    return total


Outcome = Literal["solved", "pruned", "infeasible", "impossible", "limit"]


class CandidateProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one (pp, micro_batches) candidate.

    Attributes
    ----------
    outcome
        ``solved``: optimum known. ``pruned``: proven no better than the plan. ``infeasible``: no assignment fits
        the memory. ``impossible``: cannot be priced (indivisible batch, no strategy). ``limit``: open, with a bound.
    bound_s, objective_s
        Proven lower bound and best objective, seconds per iteration.
    seconds
        Time spent on it, pricing included.
    note
        Why, in a few words.
    """

    pp: int
    micro_batches: int
    outcome: Outcome
    bound_s: float | None = None
    objective_s: float | None = None
    seconds: float = 0.0
    solver: str = ""
    note: str = ""
