"""The words of a plan, for exported scripts: what the modules beside this one read of it, without uniap.

``uniap export --to fsdp`` puts this module in the place of ``uniap_core.api``, and ``uniap_core.axes`` beside it, which
needs nothing of uniap either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

from uniap_core.api import Grids, Layout, Span, arrange

__all__ = [
    "BadFile",
    "Inexpressible",
    "Job",
    "Layer",
    "LayerPlan",
    "Layout",
    "ModelGraph",
    "Operator",
    "Plan",
    "Span",
    "Strategy",
    "UniapError",
    "arrange",
    "plan",
]


class UniapError(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause} ({fix})" if fix else cause)
        self.cause, self.fix = cause, fix


class BadFile(UniapError):
    """A file is missing or of another kind."""


class Inexpressible(UniapError):
    """The plan cannot be run."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a layer is shared by the devices of its stage; ``name`` says the same in one word."""

    name: str
    tp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    sharding: str = "none"
    recompute: str = "none"
    sequence_parallel: bool = False
    # Scripts are written of plans alone that have no more than these.
    replicate: ClassVar[int] = 1
    folded: ClassVar[bool] = False

    @property
    def grids(self) -> Grids:
        """How it arranges the ranks of a stage."""
        return arrange(tp=self.tp, cp=self.cp, dp=self.dp, ep=self.ep)

    @property
    def devices(self) -> int:
        """Devices of a stage."""
        return self.grids.dense.ranks

    @property
    def layout(self) -> Layout:
        """How its activations lie on the devices."""
        return Layout(self.grids.dense, self.sequence_parallel)


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer: its stage and its strategy."""

    name: str
    stage: int
    strategy: Strategy


@dataclass(frozen=True)
class Layer:
    """A layer of the model; exported models say themselves how they are split."""

    name: str
    module: str = ""
    operators: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ModelGraph:
    """What a model is built from."""

    family: str
    sequence: int
    architecture: Mapping[str, Any]
    layers: tuple[Layer, ...]
    source: str = ""
    # Scripts are written of models alone that train whole: nothing of them is frozen, nothing lacks a backward pass.
    parameters: int = 0
    trained: int = 0
    chosen: tuple[tuple[str, str], ...] = ()
    without_backward: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train for how long."""

    steps: int = 5
    learning_rate: float = 1e-3
    clip_norm: float | None = 1.0
    seed: int = 0
    data: str = ""
    checkpoint: str = ""
    checkpoint_every: int = 0
    resume: str = ""


@dataclass(frozen=True)
class Pipeline:
    """The shape of the pipeline: the pipeline rank of each stage, and how many devices each rank has."""

    chunks: tuple[int, ...]
    width: int

    def devices_per_rank(self, devices: int) -> int:
        """Devices of one rank; the plan knows of how many."""
        return self.width


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan."""

    model: ModelGraph
    layers: tuple[LayerPlan, ...]
    pp: int
    chunks: tuple[int, ...]
    devices_per_rank: int
    micro_batches: int
    global_batch: int
    precision: str
    schedule: str
    optimizer: str
    dropout: bool = False
    devices: int = 1
    stages: tuple[Any, ...] = field(default=())

    @property
    def training(self) -> SimpleNamespace:
        """Optimizer and dropout; what a script does not do is off."""
        off = {"tensor_overlap": "none", "scatter_gather": False}
        return SimpleNamespace(optimizer=self.optimizer, dropout=self.dropout, **off)

    @property
    def candidate(self) -> SimpleNamespace:
        """Its pipeline."""
        return SimpleNamespace(pipeline=Pipeline(self.chunks, self.devices_per_rank))

    @property
    def cluster(self) -> SimpleNamespace:
        """How many devices."""
        return SimpleNamespace(devices=self.devices)

    @property
    def sequence(self) -> int:
        """Positions per sample."""
        return self.model.sequence


Operator = Any


def plan(
    *,
    family: str,
    architecture: Mapping[str, Any],
    sequence: int,
    strategies: Iterable[Strategy],
    layers: Mapping[str, Mapping[str, Any]],
    **rest: Any,
) -> Plan:
    """A plan from its tables: strategies, and by the name of each layer its stage and the name of its strategy."""
    known = {strategy.name: strategy for strategy in strategies}
    rows = tuple(
        LayerPlan(name=name, stage=row["stage"], strategy=known[row["strategy"]]) for name, row in layers.items()
    )
    graph = ModelGraph(family, sequence, architecture, tuple(Layer(layer.name) for layer in rows))
    return Plan(model=graph, layers=rows, **rest)
