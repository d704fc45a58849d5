"""Cost tables, and the contract of the cost models that make them.

A cost model prices one candidate: every layer under every strategy, every edge between two layouts. Forward,
backward and once-per-iteration time are kept apart because the schedule simulation needs them apart; the problem
charges the last per micro-batch, divided by :attr:`Candidate.turns`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import msgspec

from . import registry
from .errors import BadValue
from .pipeline import Pipeline
from .precisions import precision
from .schedules import DEFAULT
from .strategy import Strategy
from .tables import Array, Contents, EdgeTable, Kinds, Rank, numbered

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


OPTIMIZERS = ("adamw", "adam", "sgd", "adamw-8bit", "adam-8bit")
"""Optimizers that can be priced."""

States = Literal["mixed", "bf16-moments", "bf16"]
STATES: tuple[States, ...] = get_args(States)
Loss = Literal["whole", "chunked"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


MARGIN = 0.06
"""Share of a device's memory that is left free where nothing is said."""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is trained how, apart from parallelism.

    Attributes
    ----------
    global_batch
        Samples per iteration, B.
    precision
        A recipe of :data:`uniap_core.precisions.PRECISIONS`: bf16, fp16 (mixed precision with fp32 master weights),
        fp32, tf32, fp8, fp8-delayed, fp8-tensorwise, fp8-blockwise, mxfp8 or nvfp4.
    optimizer
        One of :data:`OPTIMIZERS`: decides state bytes and update time. With ``-8bit`` moments take a byte each
        (bitsandbytes; Dettmers et al. 2022, arXiv 2110.02861).
    states
        ``mixed``: moments, gradients and a master copy of 16-bit weights in fp32. ``bf16-moments``: moments in bf16.
        ``bf16``: weights, gradients and moments in bf16, no master.
    loss
        ``whole``: the logits of all rows at once. ``chunked``: of a piece at a time, forward and backward (Liger
        Kernel's fused linear cross-entropy, torchtune's chunked losses).
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
    system
        The software that was asked for by name (:mod:`uniap_core.system`); what it does is in the other fields.
    vocabulary_multiple
        What each tensor-parallel rank's part of a vocabulary is padded to a multiple of.
    imbalance
        Rows of the expert-parallel rank that is sent most of them, over the mean: 1 where routing is even.
    buckets_bytes
        Bytes that the software keeps for reducing gradients under zero1 and zero2.
    documents
        Positions of the documents that are packed to the model's sequence, one pack on a device in every micro-batch;
        0: samples are not packed.
    margin
        Share of a device's memory that a plan leaves free, for what the estimate misses and for fragmentation that is
        not counted.
    """

    global_batch: int
    precision: str = "bf16"
    optimizer: str = "adamw"
    states: States = "mixed"
    loss: Loss = "whole"
    flash_attention: bool = True
    flash_version: Literal[1, 2, 3] = 2
    tensor_overlap: Literal["none", "backward", "all"] = "none"
    scatter_gather: bool = False
    dropout: bool = False
    system: str = ""
    vocabulary_multiple: int = 1
    imbalance: float = 1.0
    buckets_bytes: float = 0.0
    documents: int = 0
    margin: float = MARGIN

    def __post_init__(self) -> None:
        for word, given, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("states", self.states, STATES),
            ("loss", self.loss, LOSSES),
        ):
            if given not in known:
                raise BadValue(f"{word} is {given!r}", f"choose {', '.join(known)}")
        if not 1 <= self.imbalance < math.inf:
            raise BadValue(
                f"imbalance is {self.imbalance}", "give the fullest expert rank's rows over the mean, 1 or more"
            )
        if not 0 <= self.margin < 1:
            raise BadValue(f"margin is {self.margin}", "give a share of the memory, at least 0 and below 1")
        if self.states != "mixed" and precision(self.precision).others != "bf16":
            raise BadValue(
                f"states in {self.states} are kept by trainings in bf16, not in {self.precision}",
                "plan with --precision bf16, or --states mixed",
            )


UNNAMED = ("1f1b", "gpipe", "interleaved")
"""Schedules that short names leave out: once there were no others, and the hash of a problem has its name in it."""


class Candidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of the outer enumeration: a pipeline and c micro-batches."""

    pipeline: Pipeline
    micro_batches: int
    training: Training

    @classmethod
    def of(cls, pp: int, micro_batches: int, training: Training, schedule: str = DEFAULT, vpp: int = 1) -> Candidate:
        """The candidate of a schedule with ``pp`` ranks and ``vpp`` chunks on each.

        Raises
        ------
        UniapError
            If there is no such pipeline.
        """
        return cls(Pipeline.of(schedule, pp, vpp), micro_batches, training)

    @property
    def pp(self) -> int:
        """Pipeline ranks, P."""
        return self.pipeline.ranks

    @property
    def vpp(self) -> int:
        """Chunks on each pipeline rank, v."""
        return self.pipeline.chunks_per_rank

    @property
    def schedule(self) -> str:
        """The name of its pipeline's schedule."""
        return self.pipeline.schedule

    @property
    def turns(self) -> float:
        """What work that each rank does once per iteration is divided by (:meth:`Weights.turns`)."""
        return self.pipeline.weights(self.micro_batches).turns(self.pp)

    @property
    def micro_batch(self) -> int:
        """Samples per micro-batch over all data-parallel ranks, b = B / c."""
        return self.training.global_batch // self.micro_batches

    def divides(self, dp: int) -> bool:
        """Whether a micro-batch divides over a data-parallel degree; packs are one to a rank."""
        return self.micro_batch == dp if self.training.documents else self.micro_batch % dp == 0

    @property
    def name(self) -> str:
        """Short name, as in ``pp2-c8`` or ``pp2-vpp2-zbv-c8``."""
        schedule = "" if self.schedule in UNNAMED else f"-{self.schedule}"
        return f"{self.pipeline.name}{schedule}-c{self.micro_batches}"


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """The costs of one layer under each strategy.

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
        By a key of :data:`TIME_PARTS`, shape (P, K), summing to forward + backward + iteration / turns.
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
        Who priced (:func:`identity`), so that a stale plan can be told.
    ranks
        Memory and reserve of each pipeline rank, with the in-flight counts of the schedule.
    edges
        Resharding and crossing times, forward and backward together (s per micro-batch).
    reserved_parts_bytes
        What each rank's reserve is made of (context, workspace, gather buffers), by name, one entry per rank.
    kinds
        Which layers and which edges are alike in all their costs: as ``alike`` says, otherwise found by content.
    """

    model: str
    candidate: Candidate
    ranks: tuple[Rank, ...]
    layers: tuple[LayerCosts, ...]
    edges: tuple[EdgeTable, ...]
    reserved_parts_bytes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alike: InitVar[Kinds | None] = None
    kinds: Kinds = field(init=False)

    def __post_init__(self, alike: Kinds | None) -> None:
        object.__setattr__(self, "kinds", alike or _kinds(self.layers, self.edges))


def _kinds(layers: tuple[LayerCosts, ...], edges: tuple[EdgeTable, ...]) -> Kinds:
    """Layers and edges that cost the same, by content."""
    content = Contents()

    def parts(tables: Mapping[str, Array]) -> tuple[tuple[str, Hashable], ...]:
        return tuple((name, content(values)) for name, values in tables.items())

    return Kinds(
        numbered(
            (
                t.strategies,
                *(content(v) for v in (t.forward_s, t.backward_s, t.iteration_s, t.state_bytes, t.stash_bytes)),
                parts(t.time_parts_s),
                parts(t.state_parts_bytes),
                None if t.workspace_bytes is None else content(t.workspace_bytes),
            )
            for t in layers
        ),
        numbered((content(e.reshard_s), content(e.cross_s)) for e in edges),
    )


def pipeline_ranks(memory_bytes: list[float], reserved_bytes: list[float], candidate: Candidate) -> tuple[Rank, ...]:
    """The pipeline ranks of a candidate with what its schedule holds in flight."""
    flights = candidate.pipeline.in_flight(candidate.micro_batches)
    return tuple(
        Rank(float(memory), float(reserved), moments)
        for memory, reserved, moments in zip(memory_bytes, reserved_bytes, flights, strict=True)
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


def check_legal(candidate: Candidate) -> None:
    """Refuse numbers of micro-batches that the schedule itself cannot run.

    Raises
    ------
    BadValue
        Saying why.
    """
    if reason := candidate.pipeline.legal(candidate.micro_batches):
        raise BadValue(f"{candidate.name}: {reason}", "choose other micro-batches or another schedule")


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
        Goes up whenever prices move.
    price
        A :class:`Price`.
    constants
        ``() -> str``, a digest of what prices depend on besides code and request (a file of constants, an environment
        variable); without it there is nothing of the kind.
    calibrate
        ``(runs, title) -> Calibration`` from a sequence of :class:`MeasuredRun`, if it has constants to fit; the title
        says in the file where they come from.
    by_ends
        Whether times and bytes of layers and what is reserved depend on a pipeline by its ranks and those of its first
        and its last chunk alone, and what crosses besides on which ranks are neighbours, of which more make nothing
        cheaper: then one candidate bounds all those that are alike.
    """

    name: str
    summary: str
    version: str
    price: str
    constants: str = ""
    calibrate: str = ""
    needs_profile: bool = False
    by_ends: bool = False
    modules: tuple[str, ...] = ()
    install: str = ""


def identity(plugin: CostModelPlugin) -> str:
    """Who prices, as plans name it: ``name/version``, and a digest of the constants where a model has any."""
    name = f"{plugin.name}/{plugin.version}"
    return f"{name}+{registry.resolve(plugin.constants)()}" if plugin.constants else name


def divide_batch(candidate: Candidate, strategy: Strategy) -> float | None:
    """Samples per device and micro-batch under a strategy, or ``None`` if the batch does not divide."""
    if not candidate.divides(strategy.dp):
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
