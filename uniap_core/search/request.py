"""What is searched for: a model, a cluster, a batch, and the freedom of the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .. import artifact, models, registry, schedules
from .. import cluster as clusters
from ..cluster import Cluster
from ..costs import Training
from ..events import Emit, Note, silent
from ..execute import ExecutorPlugin
from ..graph import ModelGraph
from ..pins import Pins
from ..profile import Profile
from ..strategy import StrategySpace
from .ability import best_precision, check_ability, narrow, regimes_of

TIE = 1e-9
"""Relative difference below which two times per iteration count as equal."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for and how.

    Attributes
    ----------
    space, pins
        The freedom of the plan. An executor's capability has narrowed ``space`` already (:func:`narrow`).
    schedule
        A name of :mod:`uniap_core.schedules`.
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
    schedule: str = schedules.DEFAULT
    space: StrategySpace = field(default_factory=StrategySpace)
    free_space: StrategySpace = field(default_factory=StrategySpace)
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


def make(
    model: str | ModelGraph,
    cluster: str | Cluster,
    batch: int,
    *,
    seq: int | None = None,
    precision: str | None = None,
    schedule: str = schedules.DEFAULT,
    solver: str = "dp",
    cost_model: str = "analytic",
    profile: Profile | str | os.PathLike[str] | None = None,
    executor: str | None = None,
    pins: Sequence[str] = (),
    top: int = 1,
    time_limit: float | None = None,
    gap: float = TIE,
    workers: int = 1,
    emit: Emit = silent,
) -> Search:
    """The search that a command line or a call describes, by names.

    What the executor cannot run is refused or narrowed away here, before anything is priced; ``emit`` is told where
    it decides the precision.

    Raises
    ------
    UniapError
        If a name is unknown or a value makes no sense.
    """
    schedules.find(schedule)
    registry.load("solver", solver)
    plugin: ExecutorPlugin | None = None if executor is None else registry.load("executor", executor)
    machine = clusters.load(cluster) if isinstance(cluster, str) else cluster
    precision = precision or _chosen_precision(machine, plugin, emit)
    for node in machine.nodes:
        node.device.peak(precision)
    parsed = Pins.of(tuple(pins))
    graph = models.load(model, seq) if isinstance(model, str) else model
    training = Training(global_batch=batch, precision=precision)
    space = StrategySpace()
    if plugin is not None:
        check_ability(plugin, graph, machine, training, schedule)
        space = narrow(space, plugin.capability)
    return Search(
        graph=graph,
        cluster=machine,
        training=training,
        schedule=schedule,
        space=parsed.narrow(space),
        free_space=space,
        pins=parsed,
        regimes=regimes_of(plugin, graph, machine, training, schedule),
        executor=plugin,
        profile=artifact.read(profile, Profile) if isinstance(profile, str | os.PathLike) else profile,
        cost_model=cost_model,
        solver=solver,
        time_limit_s=time_limit,
        gap=gap,
        workers=workers,
        top=top,
    )


def _chosen_precision(cluster: Cluster, executor: ExecutorPlugin | None, emit: Emit) -> str:
    """The precision that is meant where none is named."""
    usual = cluster.best_precision
    if executor is None:
        return usual
    chosen = best_precision(executor, cluster)
    if chosen != usual:
        emit(Note(0.0, f"{executor.name} does not train in {usual}; planning for {chosen}, the fastest that it does"))
    return chosen


def moved(search: Search, cluster: Cluster, training: Training) -> Search:
    """The same search for another cluster or job.

    Raises
    ------
    UsageError
        If its executor cannot run that.
    """
    if search.executor is None:
        return replace(search, cluster=cluster, training=training)
    check_ability(search.executor, search.graph, cluster, training, search.schedule)
    regimes = regimes_of(search.executor, search.graph, cluster, training, search.schedule)
    return replace(search, cluster=cluster, training=training, regimes=regimes)
