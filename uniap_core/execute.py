"""The contract of executors, and the gate: only a plan with a passing, current verdict gets through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from . import artifact, fence, registry
from .axes import Groups
from .costs import Loss, States, identity
from .errors import Unverified
from .plan import Plan, check_seal
from .precisions import PRECISIONS
from .proposal import Proposal
from .strategy import RECOMPUTES, SHARDINGS, Recompute, Sharding, Strategy
from .verify import layout
from .verify.verdict import VERIFIER, Check

if TYPE_CHECKING:
    from .cluster import Cluster
    from .costs import CostTables
    from .graph import ModelGraph


OPTIMIZERS = ("adamw", "adam", "sgd")
"""Optimizers of an executor that names none."""


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What an executor can launch; the search narrows its space to it before it prices anything.

    What depends on the model or the cluster is said by the descriptor's function ``fit``.

    Attributes
    ----------
    uniform
        One strategy for all layers of the model.
    sequence_parallel
        Whether tensor parallelism runs with sequence parallelism only (True), without only (False), or either way.
    modules
        Modules of :data:`uniap_core.modules.MODULES` of which it recomputes any set.
    replicas
        Whether it shards states within groups of the ranks that hold the same parameters, with copies beside (HSDP).
    cp, ep
        Context and expert parallel degrees that it can run, or ``None`` for any.
    schedules, precisions, optimizers, states, losses
        Those it trains by, in and with (:class:`uniap_core.costs.Training`).
    frozen
        Whether it trains part of a model's parameters and leaves the others as they are, as the model's source says.
    tuning
        Whether it trains what was chosen apart from the source: adapters that it adds, patterns that it freezes.
    packed
        Whether it packs documents of several lengths into samples.
    families
        Model families it can build, or ``None`` for any traced model.
    generations
        Generations of devices that it runs on (:class:`uniap_core.cluster.Device`), or ``None`` for any.
    equal_nodes
        All nodes must hold equally many devices.
    regimes
        Alternative sets of pins; it can launch a plan that satisfies one of them (what it can shard may depend on
        the number of stages). Limits on tensor and data parallel degrees are pins too: ``tp<=8``.
    """

    uniform: bool = False
    sequence_parallel: bool | None = None
    shardings: tuple[Sharding, ...] = SHARDINGS
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    modules: tuple[str, ...] = ()
    replicas: bool = False
    cp: tuple[int, ...] | None = None
    ep: tuple[int, ...] | None = None
    schedules: tuple[str, ...] = ("gpipe", "1f1b")
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    optimizers: tuple[str, ...] = OPTIMIZERS
    states: tuple[States, ...] = ("mixed",)
    losses: tuple[Loss, ...] = ("whole",)
    frozen: bool = False
    tuning: bool = False
    packed: bool = False
    families: tuple[str, ...] | None = None
    generations: tuple[str, ...] | None = None
    equal_nodes: bool = False
    regimes: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True, kw_only=True)
class ExecutorPlugin:
    """Descriptor of an executor: plain data, functions as ``module:attribute`` strings, resolved late.

    ``layout(plan) -> RankLayout`` is a dry run on CPU; ``launch(plan, job, emit) -> RunReport`` trains;
    ``export(plan, folder) -> list of files written``. An empty string means that it cannot.
    ``express(plan) -> list of reasons`` says why it could not run a plan as it stands; without it the capability
    decides. ``fit(graph, cluster, training, schedule) -> sets of pins`` says before the search what it can run of this
    very model: alternative sets, each of them added to each of the capability's regimes. It raises ``Inexpressible``
    if it can run nothing of it. ``system`` names its software (:mod:`uniap_core.system`), which decides prices.
    """

    name: str
    summary: str
    capability: Capability
    layout: str = ""
    launch: str = ""
    export: str = ""
    express: str = ""
    fit: str = ""
    system: str = ""
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
        Ranks of each stage; those of one pipeline rank have the same.
    groups
        By layer: the tensor-parallel groups and the data-parallel groups of its stage, as ranks.
    parameters
        By rank of the world that was built: elements of parameters it stores.
    pipelines
        Ranks that pass activations on, one group per rank of a stage.
    """

    world: int
    stages: tuple[tuple[int, ...], ...]
    groups: dict[str, dict[str, Groups]]
    parameters: dict[int, int]
    notes: tuple[str, ...] = ()
    pipelines: Groups = ()


# --- dry run ----------------------------------------------------------------------------------------------------


def rank_layout(plan: Plan | Proposal) -> RankLayout:
    """Who works with whom, computed from a plan alone; its degrees multiply to its stages."""
    stages = tuple(stage.ranks for stage in plan.stages)
    known: dict[tuple[int, Strategy], dict[str, Groups]] = {}
    groups = {}
    for layer in plan.layers:
        key = layer.stage, layer.strategy
        if key not in known:
            known[key] = layer.strategy.groups(stages[layer.stage])
        groups[layer.name] = known[key]
    return RankLayout(
        world=plan.cluster.devices,
        stages=stages,
        groups=groups,
        parameters={},
        pipelines=tuple(zip(*dict.fromkeys(stages), strict=True)),
    )


def dry_run(plan: Plan, executor: ExecutorPlugin) -> tuple[RankLayout, list[Check]]:
    """Let an executor lay a plan out on CPU and hold what it built against the plan.

    Raises
    ------
    Unverified
        If the plan may not be executed at all.
    Inexpressible
        If the executor cannot run it.
    """
    admit(plan)
    layout_of = executor.layout
    built = registry.call(executor, "layout", plan, returns=RankLayout) if layout_of else rank_layout(plan.proposal)
    return built, layout.checks(plan.proposal, world=built.world, stages=built.stages, built=built.groups)


# --- the gate ---------------------------------------------------------------------------------------------------


def admit(
    plan: Plan,
    tables: CostTables | None = None,
    *,
    graph: ModelGraph | None = None,
    cluster: Cluster | None = None,
) -> None:
    """Let a plan through to devices, or say why not.

    A verdict is believed only if it passed, is about this very plan, and was given by this version of the verifier on
    figures of this version of the cost model. All checks that need no tables are made once more, so that a plan with
    a forged verdict and seal does not pass either; with tables, all checks are.

    Parameters
    ----------
    tables
        Freshly priced tables of the plan's candidate.
    graph, cluster
        The model and the machines at hand; the plan must have been made for exactly these.

    Raises
    ------
    Unverified
        If the verdict is missing, failed, stale or edited, with the remedy.
    """
    from .verify.judge import standing, verify

    check_seal(plan)
    stale = list(_stale(plan, graph, cluster))
    if stale:
        raise Unverified(f"the plan is stale: {'; '.join(stale)}", "plan again with what you have now")
    checks: Sequence[Check] = standing(plan.proposal, plan.proof)
    if tables is not None:
        checks = verify(plan.proposal, tables, plan.proof).checks
    failed = [check for check in checks if not check.passed]
    if failed:
        raise Unverified(
            "the plan does not hold: " + "; ".join(f"{check.name}: {check.evidence}" for check in failed),
            "; ".join(dict.fromkeys(check.fix for check in failed if check.fix)),
        )


def _stale(plan: Plan, graph: ModelGraph | None, cluster: Cluster | None) -> Iterator[str]:
    if plan.verdict.verifier != VERIFIER:
        yield f"it was verified by {plan.verdict.verifier}, and this is {VERIFIER}"
    name = plan.cost_model.partition("/")[0]
    if name in registry.names("cost model"):
        with fence.guard(f"cost model {name!r}: constants"):
            now = identity(registry.load("cost model", name))
        if now != plan.cost_model:
            yield f"it was priced by {plan.cost_model}, and {now} is installed"
    for word, given, hashed in (("model", graph, plan.hashes.graph), ("cluster", cluster, plan.hashes.cluster)):
        if given is not None and artifact.digest(given) != hashed:
            yield f"it was made for another {word} than {given.name}"
