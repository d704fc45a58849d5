"""The same job on another cluster with as little change of layout as the speed allows."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec

from ..errors import BadValue, Infeasible, NotEnoughTime, UsageError
from ..events import Emit, silent
from ..pins import Pin, Pins, parse
from ..plan import Plan
from ..search import Search, Sweep, sweep, within


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the old layout a new plan keeps, and what that costs against a plan made afresh."""

    what: str
    slower: float


def replan(old: Plan, search: Search, tolerance: float = 0.05, emit: Emit = silent) -> tuple[Sweep, Kept]:
    """Plan again, keeping as much of an old plan's layout as costs at most ``tolerance``.

    What is tried to be kept, most first: stages and tensor parallel degrees, sharding and recomputation of every
    layer; tensor parallel degrees and sharding (checkpoints reload without resharding inside a layer); tensor
    parallel degrees; nothing.

    Parameters
    ----------
    old
        The plan the job ran under.
    search
        The new request: same model, another cluster or batch.
    tolerance
        Relative slow-down that keeping may cost.

    Raises
    ------
    UsageError
        If the old plan is of another model.
    """
    if [layer.name for layer in old.model.layers] != [layer.name for layer in search.graph.layers]:
        raise UsageError(f"the old plan is of {old.model.name}, not of {search.graph.name}", "name the same model")
    began = time.perf_counter()
    free = sweep(search, emit)
    if free.interrupted:
        return free, Kept(what="nothing", slower=0.0)
    best = free.plan.predicted.iteration_time_s
    for what, keys, stages in (
        ("stages, tensor parallel, sharding and recomputation", ("tp", "sharding", "recompute"), True),
        ("tensor parallel, sharding and recomputation", ("tp", "sharding", "recompute"), False),
        ("tensor parallel and sharding", ("tp", "sharding"), False),
        ("tensor parallel", ("tp",), False),
    ):
        pins = Pins((*search.pins.pins, *_pins_of(old, keys, stages)))
        try:
            kept = sweep(within(replace(search, pins=pins), began), emit)
        except NotEnoughTime:
            break
        except (Infeasible, BadValue, UsageError):
            continue
        if kept.interrupted:
            break
        slower = kept.plan.predicted.iteration_time_s / best - 1
        if slower <= tolerance:
            return kept, Kept(what=what, slower=max(0.0, slower))
    return free, Kept(what="nothing", slower=0.0)


def _pins_of(old: Plan, keys: tuple[str, ...], stages: bool) -> tuple[Pin, ...]:
    pins = [parse(f"pp={old.pp}")] if stages else []
    for layer in old.layers:
        pins += [parse(f"{layer.name}:{key}={layer.strategy[key]}") for key in keys]
    return tuple(pins)
