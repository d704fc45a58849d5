"""The words of a plan, for exported scripts: what the modules beside this one read of it, without uniap.

``uniap export --to fsdp`` puts this module in the place of ``uniap_core.api``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class UniapError(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause} ({fix})" if fix else cause)
        self.cause, self.fix = cause, fix


class BadFile(UniapError):
    """A file is missing or of another kind."""


class Inexpressible(UniapError):
    """The plan cannot be run."""


@dataclass(frozen=True)
class Strategy:
    """How a layer is shared by the devices of its stage."""

    tp: int
    dp: int
    sharding: str
    recompute: str
    sequence_parallel: bool
    cp: int = 1
    ep: int = 1

    @property
    def name(self) -> str:
        """Its parts in one word."""
        return f"tp{self.tp}-dp{self.dp}-{self.sharding}-{self.recompute}" + "-sp" * self.sequence_parallel


@dataclass(frozen=True)
class LayerPlan:
    """A row of the plan."""

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


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The plan."""

    model: ModelGraph
    layers: tuple[LayerPlan, ...]
    pp: int
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
    def cluster(self) -> SimpleNamespace:
        """How many devices."""
        return SimpleNamespace(devices=self.devices)

    @property
    def sequence(self) -> int:
        """Positions per sample."""
        return self.model.sequence


Operator = Any


def plan(
    family: str, architecture: Mapping[str, Any], sequence: int, rows: Sequence[Sequence[Any]], **rest: Any
) -> Proposal:
    """A plan from its table: one row (layer, stage, tp, dp, sharding, recompute, sequence parallel) per layer."""
    layers = tuple(LayerPlan(name, stage, Strategy(*fields)) for name, stage, *fields in rows)
    graph = ModelGraph(family, sequence, architecture, tuple(Layer(layer.name) for layer in layers))
    return Proposal(model=graph, layers=layers, **rest)
