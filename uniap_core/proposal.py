"""A proposal: everything a plan says, before anybody has verified it.

The search makes proposals from cost tables and an assignment; the verifier judges them; only a judged proposal
becomes a :class:`~uniap_core.plan.Plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from .cluster import Cluster
from .costs import Candidate, CostTables, LayerCosts, Training
from .graph import ModelGraph
from .posing import digest, pose
from .problem import Assignment, Problem, link_times
from .schedules import DEFAULT
from .strategy import Strategy, StrategySpace


class LayerPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer: its stage and its strategy.

    ``stage`` is a chunk, counted along the flow: of a plain pipeline chunk i is all that rank i has. ``kind`` numbers
    layers that are alike, where that is known.
    """

    name: str
    stage: int
    strategy: Strategy
    kind: int | None = None


class StagePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage: who runs it, what it holds, how long it takes and what it stores.

    A stage is a chunk of the flow. Chunks of one pipeline rank name the same ``ranks``, and their memory adds up to
    that of the rank at its fullest moment.

    Attributes
    ----------
    ranks
        Devices of its pipeline rank.
    in_flight
        Micro-batches whose activations it holds when its rank is fullest.
    time_s
        ``t_j``: forward + backward + iteration / turns + resharding, seconds per micro-batch
        (:attr:`uniap_core.costs.Candidate.turns`).
    forward_s, backward_s, iteration_s, reshard_s
        Its parts; ``iteration_s`` is per iteration.
    time_parts_s
        The same time by cause (:data:`uniap_core.costs.TIME_PARTS` and resharding).
    memory_bytes, memory_limit_bytes
        Its part of its rank's peak per device, the reserve included in that of the rank's first chunk, and what the
        device has.
    memory_parts_bytes
        Parameters, gradients, optimizer, activations (at ``in_flight``), reserved.
    reserved_parts_bytes
        What ``reserved`` holds, by name, where the cost model says it.
    """

    ranks: tuple[int, ...]
    layers: tuple[str, ...]
    in_flight: int | float
    time_s: float
    forward_s: float
    backward_s: float
    iteration_s: float
    reshard_s: float
    time_parts_s: dict[str, float]
    memory_bytes: float
    memory_limit_bytes: float
    memory_parts_bytes: dict[str, float]
    reserved_parts_bytes: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


class Prediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Time per iteration and what it is made of (seconds): ``stages + transfers + steady = iteration_time_s``.

    The parts are weighted as the schedule weighs them (:class:`uniap_core.tables.Weights`). ``tokens_per_s`` is
    ``None`` for a model in which nothing grows with a sequence.
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
    searched
        The schedules that were considered; empty where it was its own alone.
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
    searched: tuple[str, ...] = ()
    hashes: Hashes

    @property
    def pp(self) -> int:
        """Number of pipeline ranks, P."""
        return self.candidate.pp

    @property
    def vpp(self) -> int:
        """Chunks on each pipeline rank, v."""
        return self.candidate.vpp

    @property
    def chunks(self) -> tuple[int, ...]:
        """Pipeline rank of each stage, in the order of the flow."""
        return self.candidate.pipeline.chunks

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that were considered, its own at least."""
        return self.searched or (self.schedule,)

    @property
    def links_s(self) -> dict[str, float]:
        """Seconds per micro-batch of what goes from one pipeline rank to another (``0 to 1``), all chunks together."""
        found: dict[str, float] = {}
        for (i, k), seconds in zip(pairwise(self.chunks), self.predicted.cross_s, strict=True):
            if i != k:
                found[f"{i} to {k}"] = found.get(f"{i} to {k}", 0.0) + seconds
        return found

    @property
    def held(self) -> tuple[tuple[StagePlan, ...], ...]:
        """The stages of each pipeline rank, in the order of the flow."""
        placed = list(zip(self.chunks, self.stages, strict=True))
        return tuple(tuple(stage for rank, stage in placed if rank == i) for i in range(self.pp))

    @property
    def by_rank(self) -> tuple[StagePlan, ...]:
        """Each pipeline rank as one stage: what its chunks take and hold together, in flight per chunk on average."""
        return tuple(held[0] if len(held) == 1 else _together(held) for held in self.held)

    @property
    def shape(self) -> str:
        """``pp4``, or ``pp4 x vpp2`` where ranks hold several chunks."""
        return f"pp{self.pp}" + (f" x vpp{self.vpp}" if self.vpp > 1 else "")

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
        pipeline = f"pp {self.pp}" if self.vpp == 1 else f"{self.shape} ({self.schedule})"
        return (
            f"{self.model.name} on {self.cluster.name}, batch {self.global_batch}: {pipeline} x "
            f"{self.micro_batches} micro-batches, {self.predicted.iteration_time_s:.4g} s per iteration"
        )

    def __repr__(self) -> str:
        return f"<Proposal {self.title}>"


def _together(held: tuple[StagePlan, ...]) -> StagePlan:
    def total(name: str) -> float:
        return sum((getattr(stage, name) for stage in held), 0.0)

    def parts(name: str) -> dict[str, float]:
        return _added(getattr(stage, name) for stage in held)

    return StagePlan(
        ranks=held[0].ranks,
        layers=tuple(name for stage in held for name in stage.layers),
        in_flight=total("in_flight") / len(held),
        time_s=total("time_s"),
        forward_s=total("forward_s"),
        backward_s=total("backward_s"),
        iteration_s=total("iteration_s"),
        reshard_s=total("reshard_s"),
        time_parts_s=parts("time_parts_s"),
        memory_bytes=total("memory_bytes"),
        memory_limit_bytes=held[0].memory_limit_bytes,
        memory_parts_bytes=parts("memory_parts_bytes"),
        reserved_parts_bytes=held[0].reserved_parts_bytes,
    )


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
    searched: tuple[str, ...] = (),
) -> Proposal:
    """Say in a plan's words what an assignment of a candidate's problem means.

    Parameters
    ----------
    tables
        The (possibly pinned) tables that the assignment indexes.
    assignment
        Chunk and strategy of each layer.
    bound_s
        Proven lower bound on the time per iteration over the whole sweep, seconds.
    searched
        The schedules of the sweep, if there were others than the plan's.
    """
    problem, candidate = pose(tables), tables.candidate
    value = problem.evaluate(assignment)
    placed = list(zip(tables.layers, assignment.stage, assignment.strategy, strict=True))
    layers = tuple(
        LayerPlan(costs.name, i, costs.strategies[k], kind)
        for (costs, i, k), kind in zip(placed, tables.kinds.layers, strict=True)
    )
    weights, links = problem.objective, link_times(problem.chunks, value.cross_s)
    # Whole-number zeros would not survive a JSON file, and the seal with them.
    transfers, total = weights.cross * sum(value.cross_s, 0.0), weights.sum * sum(value.rank_s, 0.0)
    seconds = value.objective_s
    samples = candidate.training.global_batch / seconds
    predicted = Prediction(
        iteration_time_s=seconds,
        stages_s=total,
        transfers_s=transfers,
        steady_s=weights.peak * max(value.rank_s + links),
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
        stages=_stages(tables, problem, cluster, assignment),
        layers=layers,
        predicted=predicted,
        solver=solver,
        bound_s=bound_s,
        pins=pins,
        regime=regime,
        searched=() if searched == (candidate.schedule,) else searched,
        hashes=Hashes(graph.hash, cluster.hash, digest(tables), problem.hash),
    )


def _stages(tables: CostTables, problem: Problem, cluster: Cluster, assignment: Assignment) -> tuple[StagePlan, ...]:
    """A stage per chunk, with what is in flight in it when its rank is fullest."""
    placed = list(zip(tables.layers, assignment.stage, assignment.strategy, strict=True))
    on_stage = [[(layer, k) for layer, where, k in placed if where == j] for j in range(problem.depth)]
    state = [sum(float(layer.state_bytes[k]) for layer, k in rows) for rows in on_stage]
    stash = [sum(float(layer.stash_bytes[k]) for layer, k in rows) for rows in on_stage]
    in_flight = [0.0] * problem.depth
    for rank, held in zip(tables.ranks, problem.held, strict=True):
        fullest = rank.fullest([(state[j], stash[j]) for j in held])
        for j, count in zip(held, fullest, strict=True):
            in_flight[j] = count
    return tuple(
        _stage(tables, cluster, assignment, j, rows, in_flight[j], first=problem.held[problem.chunks[j]][0] == j)
        for j, rows in enumerate(on_stage)
    )


def _stage(
    tables: CostTables,
    cluster: Cluster,
    assignment: Assignment,
    j: int,
    on_stage: list[tuple[LayerCosts, int]],
    in_flight: float,
    *,
    first: bool,
) -> StagePlan:
    chunks = tables.candidate.pipeline.chunks
    i = chunks[j]
    rank = tables.ranks[i]

    def total(table: str) -> float:
        return sum((float(getattr(layer, table)[i, k]) for layer, k in on_stage), 0.0)

    reshard = sum(
        (
            float(e.reshard_s[assignment.strategy[e.source], assignment.strategy[e.target]])
            for e in tables.edges
            if assignment.stage[e.target] == j and set(chunks[assignment.stage[e.source] : j + 1]) == {i}
        ),
        0.0,
    )
    forward, backward, iteration = total("forward_s"), total("backward_s"), total("iteration_s")
    parts = _added({name: float(table[i, k]) for name, table in layer.time_parts_s.items()} for layer, k in on_stage)
    memory = _added({name: float(table[k]) for name, table in layer.state_parts_bytes.items()} for layer, k in on_stage)
    stash = sum(float(layer.stash_bytes[k]) for layer, k in on_stage)
    state = sum(float(layer.state_bytes[k]) for layer, k in on_stage)
    reserved = rank.reserved_bytes if first else 0.0
    held = {name: float(sizes[i]) for name, sizes in tables.reserved_parts_bytes.items()} if first else {}
    return StagePlan(
        ranks=tuple(tables.candidate.pipeline.block(i, cluster.devices)),
        layers=tuple(layer.name for layer, _ in on_stage),
        in_flight=int(in_flight) if in_flight.is_integer() else in_flight,
        time_s=forward + backward + iteration / tables.candidate.turns + reshard,
        forward_s=forward,
        backward_s=backward,
        iteration_s=iteration,
        reshard_s=reshard,
        time_parts_s={**parts, "resharding": reshard},
        memory_bytes=reserved + state + in_flight * stash,
        memory_limit_bytes=rank.memory_bytes,
        memory_parts_bytes={**memory, "activations": in_flight * stash, **({"reserved": reserved} if first else {})},
        reserved_parts_bytes=held or msgspec.UNSET,
    )


def _added(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums by name."""
    total: dict[str, float] = {}
    for parts in rows:
        for name, value in parts.items():
            total[name] = total.get(name, 0.0) + value
    return total


Outcome = Literal["solved", "pruned", "infeasible", "impossible", "limit"]


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a proof says of one candidate, but for which schedule and chunks it has.

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


class CandidateProof(Known, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one candidate: (schedule, pp, vpp, micro_batches).

    Of the ``strategies`` of all its layers so many were ``dominated``: left out, as another one of the layer is nowhere
    worse. Not said where none were looked for.
    """

    schedule: str = DEFAULT
    vpp: int = 1
    strategies: int | UnsetType = UNSET
    dominated: int | UnsetType = UNSET

    @property
    def name(self) -> str:
        """Short name, as in ``pp2-vpp4-c8``; the schedule is named where there is more than one."""
        return f"pp{self.pp}" + (f"-vpp{self.vpp}" if self.vpp > 1 else "") + f"-c{self.micro_batches}"
