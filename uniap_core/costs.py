"""Cost tables, and the contract of the cost models that make them.

A cost model prices one candidate: every layer under every strategy, every edge between two layouts. Forward,
backward and once-per-iteration time are kept apart because the schedule simulation needs them apart; the problem
charges the last as 1/c of itself per micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from . import artifact
from .errors import BadValue
from .problem import Array, EdgeTable, LayerTable, Problem, Stage
from .schedule import in_flight
from .strategy import Strategy

if TYPE_CHECKING:
    from .cluster import Cluster
    from .graph import ModelGraph
    from .profile import Profile
    from .strategy import StrategySpace

MEMORY_PARTS = ("parameters", "gradients", "optimizer", "tied", "workspace")
"""Parts of the state bytes; stash and reserve complete the memory of a stage. ``tied`` is the copy of a tied weight on
a stage that has the other one too, which it needs if their layouts differ; ``workspace`` what a layer needs while it
runs beyond the workspace that is reserved."""

TIME_PARTS = ("compute", "recompute", "tensor_parallel", "data_parallel", "other")
"""Parts of a layer's time per micro-batch; resharding belongs to edges."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is trained how, apart from parallelism.

    Attributes
    ----------
    global_batch
        Samples per iteration, B.
    precision
        bf16, fp16 (mixed precision with fp32 master weights), fp32, tf32 or fp8.
    schedule
        A key of :data:`uniap_core.schedule.SCHEDULES`.
    optimizer
        adamw, adam or sgd: decides state bytes and update time.
    flash_attention
        Whether attention avoids materializing its probabilities.
    flash_version
        The kernel that does: 1 is FlashAttention (Dao 2022, and the Triton kernels of its time), 2 FlashAttention-2
        (Dao 2023), 3 FlashAttention-3 and cuDNN's, which exist from Hopper on (Shah 2024).
    tensor_overlap
        Which collectives of tensor parallelism run behind products. ``none``. ``backward``: those of an input's
        gradient behind the product that makes the weight's (Megatron-LM from 2022 on). ``all``: each behind the
        product beside it, piece by piece (Megatron-LM ``--tp-comm-overlap``).
    scatter_gather
        Whether ranks of a tensor-parallel group that hold the same activations send one part each to the next stage,
        which gathers them (Narayanan et al. 2021, section 4.1; Megatron-LM without sequence parallelism, DeepSpeed).
    dropout
        Whether dropout is on (masks are stashed, kernels run).
    """

    global_batch: int
    precision: str = "bf16"
    schedule: str = "1f1b"
    optimizer: str = "adamw"
    flash_attention: bool = True
    flash_version: Literal[1, 2, 3] = 2
    tensor_overlap: Literal["none", "backward", "all"] = "none"
    scatter_gather: bool = False
    dropout: bool = False


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of the outer enumeration: P stages, c micro-batches."""

    pp: int
    micro_batches: int
    training: Training

    @property
    def micro_batch(self) -> int:
        """Samples per micro-batch over all data-parallel ranks, b = B / c."""
        return self.training.global_batch // self.micro_batches

    @property
    def name(self) -> str:
        """Short name, as in ``pp2-c8``."""
        return f"pp{self.pp}-c{self.micro_batches}"


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """The costs of one layer under each strategy; layers that are alike share arrays.

    Attributes
    ----------
    forward_s, backward_s
        Shape (P, K): seconds per micro-batch, communication included, overlap applied, recomputation in backward;
        ``inf`` where impossible.
    iteration_s
        Shape (P, K): seconds once per iteration (exposed gradient reduction, optimizer step).
    state_bytes, stash_bytes
        Shape (K,): bytes per device; stash per micro-batch in flight.
    time_parts_s
        By a key of :data:`TIME_PARTS`, shape (P, K), summing to forward + backward + iteration / c.
    state_parts_bytes
        By a key of :data:`MEMORY_PARTS`, shape (K,), summing to ``state_bytes``.
    workspace_bytes
        Shape (K,) or ``None``: bytes of a device that the layer needs only while it runs. Charged already: in the
        stage's reserve, and beyond that in the state part ``workspace``; here for those who price one given plan.
    """

    name: str
    strategies: tuple[Strategy, ...]
    forward_s: Array
    backward_s: Array
    iteration_s: Array
    state_bytes: Array
    stash_bytes: Array
    time_parts_s: Mapping[str, Array] = field(default_factory=dict)
    state_parts_bytes: Mapping[str, Array] = field(default_factory=dict)
    workspace_bytes: Array | None = None


@dataclass(frozen=True, eq=False)
class CostTables:
    """Everything that the plan of one candidate is made from.

    Attributes
    ----------
    model
        ``name/version`` of the cost model, so that a stale plan can be told.
    stages
        Memory and reserve of each stage, with the in-flight count of the schedule.
    edges
        Resharding and crossing times, forward and backward together (s per micro-batch).
    reserved_parts_bytes
        What each stage's reserve is made of (context, workspace, gather buffers), by name, one entry per stage.
    """

    model: str
    candidate: Candidate
    stages: tuple[Stage, ...]
    layers: tuple[LayerCosts, ...]
    edges: tuple[EdgeTable, ...]
    reserved_parts_bytes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def problem(self) -> Problem:
        """The candidate as a :class:`~uniap_core.problem.Problem`; equal layers share arrays there too."""
        shared: dict[tuple[int, ...], Array] = {}
        c = self.candidate.micro_batches
        named: dict[tuple[Strategy, ...], tuple[str, ...]] = {}
        tables = []
        for layer in self.layers:
            key = (id(layer.forward_s), id(layer.backward_s), id(layer.iteration_s))
            if key not in shared:
                shared[key] = layer.forward_s + layer.backward_s + layer.iteration_s / c
            if layer.strategies not in named:
                named[layer.strategies] = tuple(s.name for s in layer.strategies)
            names = named[layer.strategies]
            tables.append(LayerTable(layer.name, names, shared[key], layer.state_bytes, layer.stash_bytes))
        return Problem(self.candidate.name, c, self.stages, tuple(tables), self.edges)

    @cached_property
    def hash(self) -> str:
        """Hash of the model name and of the problem that the tables pose."""
        return artifact.digest([self.model, self.problem.hash])


def stages(memory_bytes: list[float], reserved_bytes: list[float], candidate: Candidate) -> tuple[Stage, ...]:
    """The stages of a candidate with the in-flight counts of its schedule."""
    c, schedule = candidate.micro_batches, candidate.training.schedule
    return tuple(
        Stage(float(memory), float(reserved), in_flight(schedule, i, candidate.pp, c))
        for i, (memory, reserved) in enumerate(zip(memory_bytes, reserved_bytes, strict=True))
    )


class Price(Protocol):
    """The function that a cost model plugin names."""

    def __call__(
        self,
        graph: ModelGraph,
        cluster: Cluster,
        space: StrategySpace,
        candidate: Candidate,
        profile: Profile | None = None,
    ) -> CostTables:
        """Price one candidate.

        Raises
        ------
        BadValue
            If the candidate does not fit the cluster or no strategy of the space fits a layer.
        """


@dataclass(frozen=True)
class MeasuredRun:
    """A run that constants may be fitted to.

    Attributes
    ----------
    seconds
        Measured time per iteration.
    generations
        Device generations it ran on; a run on several tells nothing of one.
    predict
        From a price function to predicted seconds.
    weight
        Relative weight (sources with many near-copies should weigh less each).
    """

    seconds: float
    generations: frozenset[str]
    predict: Callable[[Price], float]
    weight: float = 1.0


@dataclass(frozen=True)
class Fit:
    """What fitting to ``runs`` runs found: mean absolute errors, the fitted constants and their 95 % intervals."""

    runs: int
    error_before: float
    error_after: float
    constants: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """Fits by device generation, and all constants as the text of a file that the cost model reads."""

    fits: Mapping[str, Fit]
    text: str


@dataclass(frozen=True, kw_only=True)
class CostModelPlugin:
    """Descriptor of a cost model: plain data; functions are ``module:function`` strings, resolved late.

    Attributes
    ----------
    version
        Changes whenever its numbers may.
    price
        A :class:`Price`.
    calibrate
        ``(runs, title) -> Calibration`` from a sequence of :class:`MeasuredRun`, if it has constants to fit; the title
        says in the file where they come from.
    """

    name: str
    summary: str
    version: str
    price: str
    calibrate: str = ""
    needs_profile: bool = False
    modules: tuple[str, ...] = ()
    install: str = ""


def divide_batch(candidate: Candidate, strategy: Strategy) -> float | None:
    """Samples per device and micro-batch under a strategy, or ``None`` if the batch does not divide."""
    if candidate.micro_batch % strategy.dp:
        return None
    return candidate.micro_batch / strategy.dp


def check_candidate(cluster: Cluster, candidate: Candidate) -> None:
    """Refuse candidates that no cost model can price.

    Raises
    ------
    BadValue
        If P does not divide the devices, or c does not divide the batch.
    """
    if candidate.pp < 1 or cluster.devices % candidate.pp:
        raise BadValue(
            f"{candidate.pp} stages do not divide the {cluster.devices} devices of {cluster.name}",
            "choose a divisor for pp",
        )
    batch, c = candidate.training.global_batch, candidate.micro_batches
    if c < 1 or batch % c:
        raise BadValue(f"{c} micro-batches do not divide the batch of {batch}", "choose a divisor")
