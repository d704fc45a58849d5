"""The contract of executors, and the gate: only a plan with a passing, current verdict gets through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from .strategy import RECOMPUTES, SHARDINGS, Recompute, Sharding


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What an executor can launch; the search narrows its space to it.

    Attributes
    ----------
    uniform
        One strategy for all layers of the model.
    even_stages
        All stages must hold equally many repeated blocks.
    families
        Model families it can build, or ``None`` for any traced model.
    regimes
        Alternative sets of pins; it can launch a plan that satisfies one of them (what it can shard may depend on
        the number of stages).
    """

    uniform: bool = False
    even_stages: bool = False
    sequence_parallel: bool | None = None
    shardings: tuple[Sharding, ...] = SHARDINGS
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    schedules: tuple[str, ...] = ("gpipe", "1f1b")
    families: tuple[str, ...] | None = None
    regimes: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True, kw_only=True)
class ExecutorPlugin:
    """Descriptor of an executor: plain data, functions as ``module:attribute`` strings, resolved late.

    ``layout(plan) -> RankLayout`` is a dry run on CPU; ``launch(plan, job, emit) -> RunReport`` trains;
    ``export(plan, folder) -> list of files written``. An empty string means that it cannot.
    ``express(plan) -> list of reasons`` says why it could not run a plan as it stands; without it the capability
    decides.
    """

    name: str
    summary: str
    capability: Capability
    layout: str = ""
    launch: str = ""
    export: str = ""
    express: str = ""
    modules: tuple[str, ...] = ()
    install: str = ""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to train for how long; everything about parallelism is in the plan.

    Attributes
    ----------
    steps
        Iterations in total; a resumed job continues to this number.
    learning_rate, clip_norm
        Of the plan's optimizer; gradients are clipped to this global norm (``None``: not at all).
    seed
        Of initial weights and synthetic data.
    device
        ``cpu``, ``cuda``, or ``auto``: CUDA where there is any.
    data
        A ``.npy`` file of token ids, read in order; empty for synthetic samples.
    folder
        Where logs of each rank and the report go; empty for a new folder under the system's temporary folder.
    checkpoint, checkpoint_every
        Folder of checkpoints, and steps between them (0: at the end only). Empty: none is written.
    resume
        Checkpoint to start from, made under this or any other plan of the model.
    check_memory
        Whether to refuse a machine that has less free memory than the plan needs.
    """

    steps: int = 5
    learning_rate: float = 1e-3
    clip_norm: float | None = 1.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: str = ""
    folder: str = ""
    checkpoint: str = ""
    checkpoint_every: int = 0
    resume: str = ""
    check_memory: bool = True


class StageReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage as predicted and as measured: busy seconds per micro-batch, peak bytes per device.

    ``measured_memory_bytes`` is the allocator's peak on CUDA and the growth of the resident set on CPU.
    """

    stage: int
    ranks: tuple[int, ...]
    predicted_time_s: float
    measured_time_s: float
    predicted_memory_bytes: float
    measured_memory_bytes: float


class RunReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.run/1``: what a launched plan did.

    Attributes
    ----------
    plan
        Seal of the plan that ran.
    first_step
        Number of the first iteration (more than 0 after resuming).
    losses, gradient_norms, step_s
        One per iteration: mean loss, global norm before clipping, seconds.
    predicted_time_s, measured_time_s
        Seconds per iteration; measured is the median without the first iterations.
    notes
        Where the run deviates from the plan's letter, and why.
    """

    schema: Literal["uniap.run/1"] = "uniap.run/1"
    plan: str
    executor: str
    device: str
    world: int
    first_step: int
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    step_s: tuple[float, ...]
    predicted_time_s: float
    measured_time_s: float
    stages: tuple[StageReport, ...]
    folder: str
    checkpoint: str = ""
    notes: tuple[str, ...] = ()


class RankLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who works with whom, from a dry run.

    Attributes
    ----------
    world
        Number of ranks.
    stages
        Ranks of each stage.
    groups
        By layer: the tensor-parallel groups and the data-parallel groups of its stage, as ranks.
    parameters
        By rank of the world that was built: elements of parameters it stores.
    """

    world: int
    stages: tuple[tuple[int, ...], ...]
    groups: dict[str, dict[str, tuple[tuple[int, ...], ...]]]
    parameters: dict[int, int]
    notes: tuple[str, ...] = ()
