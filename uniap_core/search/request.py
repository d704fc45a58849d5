"""What is searched for: a model, a cluster, a batch, and the freedom of the plan."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from .. import artifact, limits, models, registry
from .. import cluster as clusters
from ..cluster import Cluster
from ..costs import MARGIN, CostModelPlugin, Loss, States, Training
from ..errors import PluginError, UsageError
from ..events import Emit, Note, silent
from ..execute import ExecutorPlugin
from ..graph import ModelGraph
from ..modules import MODULES, words_of
from ..packing import packed
from ..pins import Pins
from ..pipeline import searched
from ..plan import Plan
from ..profile import Profile
from ..searched import SEARCHED
from ..solve.plugin import SolverPlugin
from ..strategy import FREE, StrategySpace
from ..system import Attention
from ..tuning import tuned
from .ability import able_schedules, best_precision, narrow, regimes_of
from .software import space_of, stack_of, trained, with_kernels

TIE = 1e-9
"""Relative difference below which two times per iteration count as equal."""

NEAR = 0.005
"""Candidates with chunks are many and nearly alike: one whose bound is so near the best time is left open there, and
solved no further than that. Plain pipelines are proven to the end."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for and how.

    Attributes
    ----------
    space, pins
        The freedom of the plan. An executor's capability has narrowed ``space`` already (:func:`narrow`).
    schedules
        Names of :mod:`uniap_core.schedules`: those that are considered, each with every number of chunks that it and
        the number of layers allow.
    free_space
        The space without what pins took from it, for pricing them.
    regimes
        Alternative sets of further pins: what an executor can run may depend on the number of stages. A plan
        names the one it was found under.
    executor
        Who is to launch the plan; ``None`` for nobody in particular.
    time_limit_s
        Wall seconds for the whole sweep; what is open then is reported with its bound.
    top
        How many of the best candidates to solve to their own optimum.
    workers
        Processes that solve candidates side by side.
    """

    graph: ModelGraph
    cluster: Cluster
    training: Training
    schedules: tuple[str, ...] = searched(SEARCHED)
    space: StrategySpace = FREE
    free_space: StrategySpace = FREE
    pins: Pins = field(default_factory=Pins)
    regimes: tuple[Pins, ...] = (Pins(),)
    executor: ExecutorPlugin | None = None
    profile: Profile | None = None
    cost_model: str = "analytic"
    solver: str = "dp"
    time_limit_s: float | None = None
    gap: float = TIE
    workers: int = 1
    top: int = 1

    @classmethod
    def of(cls, plan: Plan, profile: Profile | None = None) -> Search:
        """The search that a plan answers: the same job, freedom, pins and prices. The only way back from a plan.

        A plan names the regime that it was found under; the search has all regimes of the executor that has it. The
        solver is the one that found the plan, or the default where that is not installed.

        Parameters
        ----------
        profile
            The measurements that the plan was priced from, if any.

        Raises
        ------
        UnknownName, PluginError
            If its cost model is not installed.
        UsageError
            If it was priced from measurements and none are given.
        """
        name = plan.cost_model.partition("/")[0]
        plugin: CostModelPlugin = registry.load("cost model", name)
        if plugin.needs_profile and profile is None:
            raise UsageError(
                f"the plan was priced from measurements (cost model {plan.cost_model}), and none are given",
                "name the profile it was planned with (--profile FILE)",
            )
        pins = Pins.of(plan.pins)
        executor = _executor_of(plan)
        regimes: tuple[Pins, ...] = (Pins.of(plan.regime),)
        if executor is not None:
            regimes = regimes_of(executor, plan.model, plan.cluster, plan.training, plan.schedules)
        return cls(
            graph=plan.model,
            cluster=plan.cluster,
            training=plan.training,
            schedules=plan.schedules,
            space=plan.space,
            free_space=_freed(plan.space, pins, executor),
            pins=pins,
            regimes=regimes,
            executor=executor,
            profile=profile,
            cost_model=name,
            solver=plan.solver if _installed(plan.solver) else cls.solver,
        )


def _executor_of(plan: Plan) -> ExecutorPlugin | None:
    """The executor that a plan was made for, as its regime tells; ``None`` if none or several have it."""
    if not plan.regime:
        return None
    found = []
    for name in registry.names("executor"):
        try:
            plugin: ExecutorPlugin = registry.load("executor", name)
            known = regimes_of(plugin, plan.model, plan.cluster, plan.training, plan.schedules)
        except (PluginError, UsageError):  # a broken plugin breaks no other, and some cannot run the model
            continue
        if plan.regime in [regime.texts for regime in known] and set(plan.schedules) <= set(
            plugin.capability.schedules
        ):
            found.append(plugin)
    return found[0] if len(found) == 1 else None


def _freed(space: StrategySpace, pins: Pins, executor: ExecutorPlugin | None) -> StrategySpace:
    """A plan's space without what its pins took from it."""
    if pins.narrow(StrategySpace()) == StrategySpace():
        return space
    return msgspec.structs.replace(space, max_strategies=1 if executor and executor.capability.uniform else None)


def _installed(solver: str) -> bool:
    if solver not in registry.names("solver"):
        return False
    plugin: SolverPlugin = registry.load("solver", solver)
    return not registry.missing(plugin.modules)


def make(
    model: str | ModelGraph,
    cluster: str | Cluster,
    batch: int,
    *,
    seq: int | None = None,
    tokens_per_device: int | None = None,
    precision: str | None = None,
    optimizer: str = "adamw",
    states: States = "mixed",
    loss: Loss = "whole",
    train: str | None = None,
    freeze: Sequence[str] = (),
    imbalance: float = 1.0,
    margin: float = MARGIN,
    schedule: str = "",
    solver: str = "dp",
    cost_model: str = "analytic",
    profile: Profile | str | os.PathLike[str] | None = None,
    executor: str | None = None,
    system: str | None = None,
    attention: Attention | None = None,
    pins: Sequence[str] = (),
    top: int = 1,
    time_limit: float | None = None,
    gap: float = TIE,
    workers: int = 1,
    emit: Emit = silent,
) -> Search:
    """The search that a command line or a call describes, by names.

    What the executor cannot run is refused or narrowed away here, before anything is priced; ``emit`` is told where
    it decides the precision or the schedules, and what software and which attention are priced without being named.

    Parameters
    ----------
    tokens_per_device
        Tokens that every device packs documents of ``seq`` positions to in each micro-batch, which is one pack then;
        ``batch`` counts documents.
    train, freeze
        What of the model is trained (:func:`uniap_core.tuning.tuned`); all that its source trains, where nothing is
        said.
    schedule
        A name; ``auto`` for :data:`~uniap_core.searched.AUTO`, ``any`` for all that there are; empty for
        :data:`~uniap_core.searched.SEARCHED`.

    Raises
    ------
    UniapError
        If a name is unknown or a value makes no sense.
    """
    limits.check_options(
        {"batch": batch, "seq": seq, "tokens_per_device": tokens_per_device, "top": top, "gap": gap, "workers": workers}
    )
    names = searched(schedule or SEARCHED)
    registry.load("solver", solver)
    plugin: ExecutorPlugin | None = None if executor is None else registry.load("executor", executor)
    machine = clusters.load(cluster) if isinstance(cluster, str) else cluster
    precision = _chosen_precision(precision, machine, plugin, emit)
    parsed = Pins.of(tuple(pins))
    graph = models.load(model, seq, emit=emit) if isinstance(model, str) else model
    stack = stack_of(system, plugin, emit)
    graph = tuned(with_kernels(graph, stack, attention, emit), train, freeze)
    document = graph.sequence
    if tokens_per_device is not None:
        graph = packed(graph, tokens_per_device)
        batch = _packs(document, batch, tokens_per_device, emit)
    software = trained(graph, machine, stack, attention, batch, precision)
    training = msgspec.structs.replace(
        software, optimizer=optimizer, states=states, loss=loss, imbalance=imbalance, margin=margin
    )
    space = space_of(graph, machine, stack, precision)
    if tokens_per_device is not None:
        training = msgspec.structs.replace(training, documents=document)
        space = msgspec.structs.replace(space, cp=(1,))  # a pack is of one device: nothing divides its positions
    if plugin is not None:
        names = _chosen_schedules(plugin, graph, machine, training, names, emit)
        space = narrow(space, plugin.capability)
    space = _with_sets(space, parsed, plugin)
    return Search(
        graph=graph,
        cluster=machine,
        training=training,
        schedules=names,
        space=parsed.narrow(space),
        free_space=space,
        pins=parsed,
        regimes=regimes_of(plugin, graph, machine, training, names),
        executor=plugin,
        profile=artifact.read(profile, Profile) if isinstance(profile, str | os.PathLike) else profile,
        cost_model=cost_model,
        solver=solver,
        time_limit_s=limits.time_limit(time_limit),
        gap=gap,
        workers=workers,
        top=top,
    )


def _packs(document: int, batch: int, tokens: int, emit: Emit) -> int:
    """Samples of an iteration: packs of so many tokens that documents of one length fill.

    Raises
    ------
    UsageError
        If packs of that size do not divide the documents of an iteration.
    """
    packs, rest = divmod(batch * document, tokens)
    if rest or not packs:
        least = tokens // math.gcd(tokens, document)
        raise UsageError(
            f"{batch} documents of {document} positions do not fill packs of {tokens} tokens",
            f"let --batch be a multiple of {least}, or choose other tokens per device",
        )
    emit(Note(0.0, f"{batch} documents of {document} positions are {packs} packs of {tokens} tokens"))
    return packs


def _with_sets(space: StrategySpace, pins: Pins, executor: ExecutorPlugin | None) -> StrategySpace:
    """The space with the sets of modules that pins name, so far as the executor has them: others need no pin."""
    able = set(MODULES if executor is None else executor.capability.modules)
    asked = (name for name in pins.named_sets() if able.issuperset(words_of(name)))
    return msgspec.structs.replace(space, recomputes=tuple(dict.fromkeys((*space.recomputes, *asked))))


def _chosen_precision(named: str | None, cluster: Cluster, executor: ExecutorPlugin | None, emit: Emit) -> str:
    """The precision that is named, which every device has, or the one that is meant where none is."""
    if named:
        for device in cluster.device_kinds:
            device.peak(named)
        return named
    usual = cluster.best_precision
    if executor is None:
        return usual
    chosen = best_precision(executor, cluster)
    if chosen != usual:
        emit(Note(0.0, f"{executor.name} does not train in {usual}; planning for {chosen}, the fastest that it does"))
    return chosen


def _chosen_schedules(
    executor: ExecutorPlugin,
    graph: ModelGraph,
    cluster: Cluster,
    training: Training,
    names: tuple[str, ...],
    emit: Emit,
) -> tuple[str, ...]:
    """The schedules that an executor can run; ``emit`` is told of those that are not searched for it."""
    able = able_schedules(executor, graph, cluster, training, names)
    if left := [name for name in names if name not in able]:
        emit(Note(0.0, f"{executor.name} does not run {', '.join(left)}; searching {', '.join(able)}"))
    return able


def moved(search: Search, cluster: Cluster, training: Training) -> Search:
    """The same search for another cluster or job.

    Raises
    ------
    UsageError
        If its executor cannot run that.
    """
    if search.executor is None:
        return replace(search, cluster=cluster, training=training)
    names = able_schedules(search.executor, search.graph, cluster, training, search.schedules)
    regimes = regimes_of(search.executor, search.graph, cluster, training, names)
    return replace(search, cluster=cluster, training=training, schedules=names, regimes=regimes)
