"""What is searched for: a model, a cluster, a batch, and the freedom of the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from .. import artifact, limits, models, registry, schedules
from .. import cluster as clusters
from ..cluster import Cluster
from ..costs import Candidate, Training
from ..errors import UsageError
from ..execute import Capability
from ..graph import ModelGraph
from ..pins import Pins
from ..profile import Profile
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
