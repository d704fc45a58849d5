"""What would make an infeasible request fit: the smallest single changes, each verified by a solve."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from .. import diagnose
from ..cluster import Cluster
from ..devices import GIB
from ..errors import BadValue, Infeasible, NotEnoughTime, UniapError, UsageError
from ..events import Emit, Progress, silent
from ..graph import at_sequence
from ..pins import Pins
from ..posing import pose
from ..search import Search, candidates, moved, price, sweep, within
from ..searched import AUTO, PLAIN
from ..strategy import divisors
from .orders import orders

STEP = 0.25 * GIB
"""Memory is asked for in steps of a quarter of a GiB."""


class Relaxation(msgspec.Struct, frozen=True, kw_only=True):
    """One change that makes the request feasible, and the time per iteration it then has (seconds)."""

    change: str
    iteration_time_s: float


def relaxations(search: Search, emit: Emit = silent, began: float | None = None) -> tuple[Relaxation, ...]:
    """The smallest single changes with which a plan exists; those that do not help are left out.

    Of ``auto`` plain pipelines alone are asked: those with chunks hold more in flight.

    An interrupt or the search's time limit ends it with what was found until then.

    Parameters
    ----------
    search
        A search that :func:`uniap_core.search.sweep` calls infeasible.
    began
        When its time limit began, on the performance counter; ``None``: now.
    """
    began = time.perf_counter() if began is None else began
    if search.schedules == AUTO and not any(pin.key in ("schedule", "vpp") for pin in search.pins.pins):
        search = replace(search, schedules=(PLAIN,))
    found: list[Relaxation] = []
    kinds = (_memory, _devices, _states, _batch, _sequence, _order, _pins)
    with contextlib.suppress(NotEnoughTime, KeyboardInterrupt):
        for done, kind in enumerate(kinds):
            emit(Progress(float("inf"), done, len(kinds), kind.__name__.strip("_")))
            for change, relaxed in kind(search):
                seconds = _solved(within(relaxed, began))
                if seconds is not None:
                    found.append(Relaxation(change=change, iteration_time_s=seconds))
                    break
    return tuple(found)


Steps = Iterator[tuple[str, Search]]


def _memory(search: Search) -> Steps:
    """More memory per device, from the exact need of the roomiest candidate upwards."""
    needs = []
    for candidate in candidates(search):
        try:
            tables = price(search, candidate)
        except BadValue:
            continue
        short = diagnose.shortage(pose(tables))
        if short is not None:
            needs.append(short.needed_bytes)
    start = min(needs, default=0.0)
    most = max(device.memory_bytes for device in search.cluster.device_kinds)
    size = max(start, most) // STEP * STEP
    for _ in range(24):
        size = max(size + STEP, size * 1.005 // STEP * STEP)
        yield f"devices with {size / GIB:.2f} GiB of memory", replace(search, cluster=_with_memory(search, size))


def _with_memory(search: Search, size: float) -> Cluster:
    nodes = tuple(
        node.with_devices(lambda device: msgspec.structs.replace(device, memory_bytes=size))
        for node in search.cluster.nodes
    )
    return msgspec.structs.replace(search.cluster, nodes=nodes)


def _devices(search: Search) -> Steps:
    """More nodes of the same kind."""
    nodes = search.cluster.nodes
    for factor in (2, 3, 4, 6, 8, 12, 16, 24, 32, 64):
        grown = msgspec.structs.replace(search.cluster, nodes=nodes * factor)
        batch = search.training.global_batch
        yield f"{factor} times the devices ({grown.devices}), batch still {batch}", replace(search, cluster=grown)


def _states(search: Search) -> Steps:
    """Smaller states, those that change the arithmetic least first, and chunked logits with them."""
    moments = {"optimizer": f"{search.training.optimizer.removesuffix('-8bit')}-8bit"}
    steps: tuple[dict[str, str], ...] = ({"loss": "chunked"}, {"states": "bf16-moments"}, moments, {"states": "bf16"})
    steps += ({"states": "bf16", **moments}, {"states": "bf16", "loss": "chunked", **moments})
    for step in steps:
        try:
            training = msgspec.structs.replace(search.training, **step)
            relaxed = moved(search, search.cluster, training)
        except UniapError:  # no such optimizer in 8 bits, a precision without 16-bit states, an executor without it
            continue
        if training != search.training:
            yield " ".join(f"--{name} {value}" for name, value in step.items()), relaxed


def _batch(search: Search) -> Steps:
    """A smaller batch, largest first."""
    for batch in reversed(divisors(search.training.global_batch)[:-1]):
        training = msgspec.structs.replace(search.training, global_batch=batch)
        yield f"a global batch of {batch}", replace(search, training=training)


def _sequence(search: Search) -> Steps:
    """A shorter sequence, for models whose rows follow it."""
    follows = any(op.rows.per_position for layer in search.graph.layers for op in layer.operators)
    sequence = search.graph.sequence
    while follows and sequence > 128:
        sequence //= 2
        if search.graph.counts_positions and search.graph.holds_at(sequence):
            yield f"a sequence of {sequence}", replace(search, graph=at_sequence(search.graph, sequence))


def _order(search: Search) -> Steps:
    """Unequal nodes in another order."""
    for order in orders(search.cluster):
        turned = moved(search, search.cluster.reordered(order), search.training)
        yield f"another order of the nodes (--node-order {','.join(map(str, order))})", turned


def _pins(search: Search) -> Steps:
    """One pin less."""
    for pin in search.pins.pins:
        rest: Pins = search.pins.without(pin)
        yield f"without the pin {pin.text}", replace(search, pins=rest, space=rest.narrow(search.free_space))


def _solved(search: Search) -> float | None:
    try:
        found = sweep(search)
    except (Infeasible, BadValue, UsageError):
        return None
    if found.interrupted:
        raise KeyboardInterrupt
    return found.plan.predicted.iteration_time_s
