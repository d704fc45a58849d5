"""Handing a plan to a runtime as files: what it can run as planned, or the nearest plan that it can, and its price."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from . import menus, registry
from .errors import BadFile, BadValue, Inexpressible, Infeasible, NotEnoughTime, PluginError, Stopped, UsageError
from .events import Emit, silent
from .execute import ExecutorPlugin
from .gate import admit
from .modules import words_of
from .pins import Pins, satisfies
from .plan import Plan
from .profile import Profile
from .search import Search, able_schedules, best_precision, lacks, narrow, refusals, regimes_of, sweep

TRIED = 8
"""Candidates solved to their own optimum in the search for the nearest plan: the best may be inexpressible too."""


def export(
    plan: Plan,
    executor: str | ExecutorPlugin,
    folder: str | os.PathLike[str],
    profile: Profile | None = None,
    emit: Emit = silent,
) -> list[str]:
    """Write what a runtime needs to run a plan.

    Parameters
    ----------
    plan
        A sealed plan.
    executor
        Name or descriptor of an executor that can export.
    folder
        Where to write; made if it is not there.
    profile
        What the plan was priced from, for the nearest plan's price.
    emit
        Told of progress, if a nearest plan has to be searched for.

    Returns
    -------
    list of str
        Paths of the files written.

    Raises
    ------
    Unverified
        If the plan was edited or its verdict did not pass.
    Inexpressible
        If the runtime cannot run the plan, with the nearest plan that it can run and its price.
    UnknownName, UsageError
        If there is no such executor, or it does not export.
    """
    admit(plan, profile)
    if isinstance(executor, str):
        executor = load(executor)
    reasons = obstacles(plan, executor)
    if reasons:
        raise refusal(plan, executor, reasons, profile, emit)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(f"{folder} cannot be made: {error.strerror}", "name a folder that can be written") from None
    written = registry.call(executor, "export", plan, folder, returns=list[str])
    absent = [path for path in written if not Path(path).exists()]
    if absent:
        raise PluginError(
            f"executor {executor.name!r} says that it wrote {absent[0]}, which is not there", "correct the plugin"
        )
    return written


def load(name: str) -> ExecutorPlugin:
    """The executor of a name, if it can export.

    Raises
    ------
    UnknownName, PluginError
        If there is none, or it does not load.
    UsageError
        If it does not export; lists those that do.
    """
    executor: ExecutorPlugin = registry.load("executor", name)
    if not executor.export:
        able = [other.name for other in registry.working("executor")[0] if other.export]
        raise UsageError(f"the executor {name!r} runs plans and does not export them", f"choose {' or '.join(able)}")
    return executor


def obstacles(plan: Plan, executor: ExecutorPlugin) -> list[str]:
    """Why an executor cannot run a plan as it stands; empty if it can."""
    reasons = [cause for cause, _ in lacks(executor, plan.model, plan.training)]
    if executor.express:
        reasons += registry.call(executor, "express", plan, returns=list[str])
    else:
        reasons += _beyond(plan, executor)
    return list(dict.fromkeys(reasons))


def nearest(plan: Plan, executor: ExecutorPlugin, profile: Profile | None = None, emit: Emit = silent) -> Plan | None:
    """The best plan of the same job that an executor can run: the plan's pins are kept if they can be.

    Parameters
    ----------
    plan
        The plan that it cannot run.
    profile
        What the plan was priced from, if anything.

    Returns
    -------
    Plan or None
        ``None`` if the executor cannot run the model at all, or nothing that it can run fits the memory.

    Raises
    ------
    UsageError
        If the plan was priced from measurements and none are given.
    """
    for pins in dict.fromkeys((plan.pins, ())):
        able = (other for other in _best(plan, executor, pins, profile, emit) if not obstacles(other, executor))
        found = next(able, None)
        if found is not None:
            return found
    return None


def refusal(
    plan: Plan, executor: ExecutorPlugin, reasons: list[str], profile: Profile | None, emit: Emit
) -> Inexpressible:
    """The error that names the obstacles, the nearest plan and what it costs."""
    cause = f"{executor.name} cannot run this plan: {'; '.join(reasons)}"
    try:
        other = nearest(plan, executor, profile, emit)
    except UsageError as error:
        return Inexpressible(cause, f"the nearest plan that it can run is not known: {error.cause}; {error.fix}")
    if other is None:
        return Inexpressible(cause, "no plan of this job can be run by it; choose another executor")
    slower = other.predicted.iteration_time_s / plan.predicted.iteration_time_s - 1
    strategies = list(dict.fromkeys(layer.strategy.name for layer in other.layers))
    changed = f"in {other.precision}, " if other.precision != plan.precision else ""
    dropped = [pin for pin in plan.pins if pin not in other.pins]
    return Inexpressible(
        cause,
        f"the nearest plan that it can run ({changed}pp {other.pp}, {other.micro_batches} micro-batches, "
        f"{', '.join(strategies)}{'; without the pins ' + ', '.join(dropped) if dropped else ''}) takes "
        f"{other.predicted.iteration_time_s:.4g} s per iteration, {abs(slower):.1%} "
        f"{'more' if slower >= 0 else 'less'} than this one; "
        f"uniap plan ... --executor {executor.name} finds it",
    )


def _best(
    plan: Plan, executor: ExecutorPlugin, pins: tuple[str, ...], profile: Profile | None, emit: Emit
) -> tuple[Plan, ...]:
    """The best plans of the job that an executor can run, fastest first; none if nothing fits."""
    own, capability, training = Search.of(plan, profile), executor.capability, plan.training
    schedules = tuple(s for s in own.schedules if s in capability.schedules) or capability.schedules[:1]
    try:
        if training.precision not in capability.precisions:
            training = msgspec.structs.replace(training, precision=best_precision(executor, plan.cluster))
        schedules = able_schedules(executor, plan.model, plan.cluster, training, schedules)
        parsed, space = Pins.of(pins), narrow(plan.space, capability)
        search = replace(
            own,
            training=training,
            schedules=schedules,
            space=parsed.narrow(space),
            free_space=space,
            pins=parsed,
            regimes=regimes_of(executor, plan.model, plan.cluster, training, schedules),
            executor=executor,
            top=TRIED,
        )
        return sweep(search, emit).plans
    except Stopped:
        raise
    except (Infeasible, NotEnoughTime, UsageError, BadValue):
        return ()


def _beyond(plan: Plan, executor: ExecutorPlugin) -> Iterator[str]:
    """What of a plan is outside a capability."""
    capability = executor.capability
    yield from (cause for cause, _ in refusals(executor, plan.model, plan.cluster, plan.training, plan.schedule))
    if capability.uniform and len({layer.strategy for layer in plan.layers}) > 1:
        yield f"{executor.name} takes one strategy for the whole model"
    for key in ("sharding", "recompute", "cp", "ep"):
        known = getattr(capability, {"sharding": "shardings", "recompute": "recomputes"}.get(key, key))
        for layer in plan.layers:
            value = layer.strategy[key]
            if key == "recompute" and (words := words_of(str(value))) and set(words) <= set(capability.modules):
                continue
            if known is not None and value not in known:
                yield f"layer {layer.name} has {key} {value}; {executor.name} runs {', '.join(map(str, known))}"
                break
    if not capability.replicas and (copied := [layer for layer in plan.layers if layer.strategy.replicate > 1]):
        yield f"layer {copied[0].name} has {copied[0].strategy.replicate} replicas; {executor.name} has none beside"
    sp = capability.sequence_parallel
    if sp is not None and any(
        s.tp > 1 and s.sequence_parallel != sp for s in {layer.strategy for layer in plan.layers}
    ):
        yield f"{executor.name} runs tensor parallelism only {'with' if sp else 'without'} sequence parallelism"
    regimes = regimes_of(executor, plan.model, plan.cluster, plan.training, (plan.schedule,))
    if not any(_under(plan, regime) for regime in regimes):
        sets = "; or ".join(", ".join(regime.texts) for regime in regimes[:4])
        yield f"{executor.name} runs plans only with {sets}"


def _under(plan: Plan, regime: Pins) -> bool:
    """True if a plan satisfies all pins of a regime."""
    plain = menus.without_experts(menus.extents(plan.model, plan.space))
    on = regime.of_layers([layer.name for layer in plan.layers], plain)
    fine = all(satisfies(layer.strategy, pins) for layer, pins in zip(plan.layers, on, strict=True))
    return fine and regime.allows(plan.pp, plan.micro_batches, plan.schedule, plan.vpp)
