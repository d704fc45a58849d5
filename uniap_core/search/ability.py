"""What an executor can launch, applied to a search before anything is priced: narrowed, or refused with the remedy."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import UNSET

from .. import registry
from ..cluster import Cluster
from ..costs import Training
from ..errors import Inexpressible, UsageError
from ..execute import Capability, ExecutorPlugin
from ..graph import ModelGraph
from ..pins import Pins
from ..strategy import StrategySpace

USUAL = ("bf16", "fp16", "fp32", "tf32")
"""Precisions that are chosen without being named; of equally fast ones the first."""


def best_precision(executor: ExecutorPlugin, cluster: Cluster) -> str:
    """The precision to plan in where none is named: the devices' usual one, or the fastest that the executor has.

    Raises
    ------
    UsageError
        If the executor and the devices have none in common.
    """
    able = _common(executor.capability, cluster)
    if cluster.best_precision in able:
        return cluster.best_precision
    if not able:
        have = sorted(set.intersection(*(set(device.peak_flops) for device in cluster.device_kinds)))
        raise UsageError(
            f"{executor.name} trains in {_either(executor.capability.precisions)}, and the devices of {cluster.name} "
            f"have figures for {_either(tuple(have) or ('no precision in common',))}",
            "choose other devices or another executor",
        )
    return max(able, key=lambda p: (min(device.peak(p) for device in cluster.device_kinds), -able.index(p)))


def _common(capability: Capability, cluster: Cluster) -> list[str]:
    """The usual precisions, then the others, that an executor and all devices have."""
    ordered = sorted(capability.precisions, key=lambda p: USUAL.index(p) if p in USUAL else len(USUAL))
    shared = [p for p in ordered if all(device.runs(p) for device in cluster.device_kinds)]
    return [p for p in shared if p in USUAL] or shared


def check_ability(
    executor: ExecutorPlugin, graph: ModelGraph, cluster: Cluster, training: Training, schedule: str
) -> None:
    """Refuse a job that an executor cannot run under any plan.

    Raises
    ------
    UsageError
        With everything that it lacks, and the remedy of each.
    """
    found = list(refusals(executor, graph, cluster, training, schedule))
    if found:
        raise UsageError("; ".join(cause for cause, _ in found), "; ".join(fix for _, fix in found))


def refusals(
    executor: ExecutorPlugin, graph: ModelGraph, cluster: Cluster, training: Training, schedule: str
) -> Iterator[tuple[str, str]]:
    """What a job asks for that an executor's capability lacks, each with its remedy."""
    name, able = executor.name, executor.capability
    if able.families is not None and graph.family not in able.families:
        yield f"{name} does not run models of the family {graph.family}", f"it runs {', '.join(able.families)}"
    if schedule not in able.schedules:
        fix = f"it runs --schedule {_either(able.schedules)}"
        yield f"{name} does not run the schedule {schedule}", fix
    if training.precision not in able.precisions:
        here = tuple(_common(able, cluster))
        fix = (
            f"on {cluster.name} it trains in {_either(here)}: --precision {here[0]}" if here else "choose other devices"
        )
        yield f"{name} does not train in {training.precision}", fix
    yield from lacks(executor, graph, training)
    for device, made in {device.name: device.generation for device in cluster.device_kinds}.items():
        if able.generations is not None and made and made not in able.generations:
            yield f"{name} does not run on {device} ({made})", f"it runs on {_either(able.generations)}"
    sizes = sorted({node.devices for node in cluster.nodes})
    if able.equal_nodes and len(sizes) > 1:
        yield (
            f"{name} starts equally many ranks on every node; nodes of {cluster.name} have {_either(sizes)} devices",
            "leave the larger nodes' other devices out of the cluster, or choose another executor",
        )


def lacks(executor: ExecutorPlugin, graph: ModelGraph, training: Training) -> Iterator[tuple[str, str]]:
    """What an executor cannot do of what is trained and with which states, under any plan; each with its remedy."""
    name, able = executor.name, executor.capability
    if training.optimizer not in able.optimizers:
        yield (
            f"{name} does not train with {training.optimizer}",
            f"it trains with --optimizer {_either(able.optimizers)}",
        )
    if training.states not in able.states:
        yield f"{name} does not keep states in {training.states}", f"it has --states {_either(able.states)}"
    if training.loss not in able.losses:
        yield f"{name} does not compute a {training.loss} loss", f"it has --loss {_either(able.losses)}"
    if training.documents and not able.packed:
        yield f"{name} gives every device samples of one length, not packs of documents", "leave out tokens per device"
    if graph.chosen and not able.tuning:
        chosen = " ".join(f"--{option} {value}" for option, value in graph.chosen)
        yield (
            f"{name} trains what the source of a model does, and neither adds adapters nor freezes parts ({chosen})",
            "plan without an executor, or let a factory make the model so (PEFT, requires_grad=False) and name that",
        )
        return
    frozen = graph.parameters - graph.trained
    if frozen and not able.frozen:
        yield (
            f"{name} trains all parameters, and {frozen:,} of the {graph.parameters:,} of {graph.name} are frozen",
            "choose an executor that leaves them as they are, or trace the model with all of them trained",
        )


def _either(words: tuple[str, ...] | list[int]) -> str:
    *most, last = map(str, words)
    return f"{', '.join(most)} or {last}" if most else last


def narrow(space: StrategySpace, capability: Capability) -> StrategySpace:
    """The part of a space that an executor can launch.

    Raises
    ------
    UsageError
        If nothing is left.
    """
    shardings = tuple(s for s in space.shardings if s in capability.shardings)
    recomputes = tuple(r for r in space.recomputes if r in capability.recomputes)
    degrees = {key: _shared(getattr(space, key), getattr(capability, key)) for key in ("cp", "ep")}
    alone = capability.replicas or not space.replicate or 1 in space.replicate
    if not shardings or not recomputes or () in degrees.values() or not alone:
        raise UsageError("the executor can launch none of the pinned strategies", "drop a pin or the executor")
    sequence_parallel = space.sequence_parallel
    if capability.sequence_parallel is not None and sequence_parallel is None:
        sequence_parallel = capability.sequence_parallel
    return msgspec.structs.replace(
        space,
        **degrees,
        shardings=shardings,
        recomputes=recomputes,
        replicate=space.replicate if capability.replicas else UNSET,
        modules=tuple(m for m in space.modules or () if m in capability.modules) or UNSET,
        max_strategies=1 if capability.uniform else space.max_strategies,
        sequence_parallel=sequence_parallel,
    )


def _shared(asked: tuple[int, ...] | None, able: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Degrees that are in both, where ``None`` is any."""
    if asked is None or able is None:
        return able if asked is None else asked
    return tuple(degree for degree in asked if degree in able)


def able_schedules(
    executor: ExecutorPlugin | None, graph: ModelGraph, cluster: Cluster, training: Training, names: tuple[str, ...]
) -> tuple[str, ...]:
    """The schedules, of some, that an executor runs for a job.

    Raises
    ------
    UsageError
        If it runs none of them, or not the job under any.
    """
    if executor is None:
        return names
    kept = tuple(name for name in names if name in executor.capability.schedules) or names[:1]
    check_ability(executor, graph, cluster, training, kept[0])
    found, refused = [], None
    for name in kept:
        try:
            _fits(executor, graph, cluster, training, name)
            found.append(name)
        except UsageError as error:
            refused = refused or error
    if not found and refused is not None:
        raise refused
    return tuple(found)


def regimes_of(
    executor: ExecutorPlugin | None,
    graph: ModelGraph,
    cluster: Cluster,
    training: Training,
    schedules: tuple[str, ...],
) -> tuple[Pins, ...]:
    """The alternative sets of pins under which an executor runs a job: its regimes, each with each that fits the model.

    Where what fits depends on the schedule, a set pins that too.

    Raises
    ------
    UsageError
        If it can run nothing of the model.
    """
    if executor is None:
        return (Pins(),)
    fits = {name: _fits(executor, graph, cluster, training, name) for name in schedules}
    alike = len(set(fits.values())) == 1
    sets = fits[schedules[0]] if alike else [(*fit, f"schedule={name}") for name in schedules for fit in fits[name]]
    return tuple(Pins.of((*regime, *fit)) for regime in executor.capability.regimes for fit in sets)


def _fits(
    executor: ExecutorPlugin, graph: ModelGraph, cluster: Cluster, training: Training, schedule: str
) -> tuple[tuple[str, ...], ...]:
    if not executor.fit:
        return ((),)
    try:
        return tuple(map(tuple, registry.resolve(executor.fit)(graph, cluster, training, schedule)))
    except Inexpressible as error:
        raise UsageError(error.cause, error.fix) from None
