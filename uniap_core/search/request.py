"""What is searched for: a model, a cluster, a batch, and the freedom of the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from .. import artifact, limits, models, registry, schedules
from .. import cluster as clusters
from ..cluster import Cluster
from ..costs import Candidate, CostModelPlugin, Training
from ..errors import PluginError, UsageError
from ..execute import Capability
from ..graph import ModelGraph
from ..pins import Pins
from ..plan import Plan
from ..profile import Profile
from ..solve.plugin import SolverPlugin
from ..strategy import StrategySpace, divisors

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
        regimes = (plan.regime,) if executor is None else executor.regimes
        return cls(
            graph=plan.model,
            cluster=plan.cluster,
            training=plan.training,
            schedule=plan.schedule,
            space=plan.space,
            free_space=_freed(plan.space, pins, executor),
            pins=pins,
            regimes=tuple(Pins.of(texts) for texts in regimes),
            profile=profile,
            cost_model=name,
            solver=plan.solver if _installed(plan.solver) else cls.solver,
        )


def _executor_of(plan: Plan) -> Capability | None:
    """What the executor can run that a plan was made for, as its regime tells; ``None`` if none or several have it."""
    if not plan.regime:
        return None
    found = []
    for name in registry.names("executor"):
        try:
            capability: Capability = registry.load("executor", name).capability
        except PluginError:  # a broken plugin breaks no other
            continue
        if plan.regime in capability.regimes and plan.schedule in capability.schedules:
            found.append(capability)
    return found[0] if len(found) == 1 else None


def _freed(space: StrategySpace, pins: Pins, executor: Capability | None) -> StrategySpace:
    """A plan's space without what its pins took from it."""
    if pins.narrow(StrategySpace()) == StrategySpace():
        return space
    return msgspec.structs.replace(space, max_strategies=1 if executor is not None and executor.uniform else None)


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
) -> Search:
    """The search that a command line or a call describes, by names.

    Raises
    ------
    UniapError
        If a name is unknown or a value makes no sense.
    """
    limits.check_options({"batch": batch, "seq": seq, "top": top, "gap": gap, "workers": workers})
    schedules.find(schedule)
    registry.load("solver", solver)
    machine = clusters.load(cluster) if isinstance(cluster, str) else cluster
    precision = precision or machine.best_precision
    for node in machine.nodes:
        node.device.peak(precision)
    parsed = Pins.of(tuple(pins))
    graph = models.load(model, seq) if isinstance(model, str) else model
    space = StrategySpace()
    regimes: tuple[Pins, ...] = (Pins(),)
    if executor is not None:
        capability: Capability = registry.load("executor", executor).capability
        _check_capability(executor, capability, graph, schedule)
        space, regimes = narrow(space, capability), tuple(Pins.of(texts) for texts in capability.regimes)
    return Search(
        graph=graph,
        cluster=machine,
        training=Training(global_batch=batch, precision=precision),
        schedule=schedule,
        space=parsed.narrow(space),
        free_space=space,
        pins=parsed,
        regimes=regimes,
        profile=artifact.read(profile, Profile) if isinstance(profile, str | os.PathLike) else profile,
        cost_model=cost_model,
        solver=solver,
        time_limit_s=limits.time_limit(time_limit),
        gap=gap,
        workers=workers,
        top=top,
    )


def narrow(space: StrategySpace, capability: Capability) -> StrategySpace:
    """The part of a space that an executor can launch.

    Raises
    ------
    UsageError
        If nothing is left.
    """
    shardings = tuple(s for s in space.shardings if s in capability.shardings)
    recomputes = tuple(r for r in space.recomputes if r in capability.recomputes)
    if not shardings or not recomputes:
        raise UsageError("the executor can launch none of the pinned strategies", "drop a pin or the executor")
    sequence_parallel = space.sequence_parallel
    if capability.sequence_parallel is not None and sequence_parallel is None:
        sequence_parallel = capability.sequence_parallel
    return msgspec.structs.replace(
        space,
        shardings=shardings,
        recomputes=recomputes,
        max_strategies=1 if capability.uniform else space.max_strategies,
        sequence_parallel=sequence_parallel,
    )


def _check_capability(name: str, capability: Capability, graph: ModelGraph, schedule: str) -> None:
    if capability.families is not None and graph.family not in capability.families:
        raise UsageError(
            f"{name} does not run models of the family {graph.family}", f"it runs {', '.join(capability.families)}"
        )
    if schedule not in capability.schedules:
        raise UsageError(f"{name} does not run the schedule {schedule}", f"it runs {', '.join(capability.schedules)}")


def candidates(search: Search) -> tuple[Candidate, ...]:
    """Every (pp, c): pp divides the devices and leaves no stage empty, c divides the batch; pins applied.

    Raises
    ------
    UsageError
        If the pins leave none.
    """
    depths = [pp for pp in divisors(search.cluster.devices) if pp <= len(search.graph.layers)]
    counts = divisors(search.training.global_batch)
    found = tuple(
        Candidate.of(pp, c, search.training, search.schedule)
        for pp in depths
        for c in counts
        if search.pins.allows(pp, c)
    )
    if not found:
        raise UsageError(
            f"the pins {', '.join(search.pins.texts)} leave no candidate",
            f"pp divides {search.cluster.devices} ({', '.join(map(str, depths))}); micro_batches divides "
            f"{search.training.global_batch}",
        )
    return found
