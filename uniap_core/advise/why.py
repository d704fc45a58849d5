"""Why a plan is as it is: its bottleneck, what binds, and what an alternative would cost."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..errors import BadValue, Infeasible, Stopped, Unverified, UsageError
from ..events import Emit, silent
from ..pins import PLAN_KEYS, Pins, parse
from ..plan import Plan
from ..posing import pose
from ..profile import Profile
from ..proposal import StagePlan
from ..search import TIE, Search, sweep, tables_of

TIGHT = 0.97
"""Share of a device's memory from which a stage counts as full."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The reasons of a plan.

    Attributes
    ----------
    bottleneck
        ``stage I`` or ``transfer I``: the largest term, paid ``c - 1`` more times.
    resource
        What most of the bottleneck's time goes to.
    resource_share
        Its share of the bottleneck's time.
    steady_share
        Share of the iteration that is the bottleneck repeated.
    full_stages
        Stages whose memory is nearly full: the binding constraints.
    imbalance
        How much longer the slowest stage takes than the average one.
    layers
        For the layers asked about: strategy and share of the stage's memory-free choices, in words.
    """

    bottleneck: str
    resource: str
    resource_share: float
    steady_share: float
    full_stages: tuple[int, ...]
    imbalance: float
    sentences: tuple[str, ...]


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """The best plan with something forced: how much slower, or why there is none."""

    pin: str
    slower: float | None
    iteration_time_s: float | None
    reason: str


def explain(plan: Plan) -> Explanation:
    """The bottleneck and the binding constraints of a plan, from its own figures."""
    stages = plan.by_rank
    terms = {f"stage {i}": stage.time_s for i, stage in enumerate(stages)}
    terms |= {f"transfer {ends}": seconds for ends, seconds in plan.links_s.items()}
    bottleneck = max(terms, key=lambda name: terms[name])
    if bottleneck.startswith("stage"):
        stage = stages[int(bottleneck.split()[1])]
        resource = max(stage.time_parts_s, key=lambda part: stage.time_parts_s[part])
        share = stage.time_parts_s[resource] / stage.time_s if stage.time_s else 0.0
    else:
        resource, share = "transfer between stages", 1.0
    full = tuple(i for i, s in enumerate(stages) if s.memory_bytes >= TIGHT * s.memory_limit_bytes)
    average = sum(stage.time_s for stage in stages) / plan.pp
    imbalance = max(stage.time_s for stage in stages) / average - 1 if average else 0.0
    steady = plan.predicted.steady_s / plan.predicted.iteration_time_s
    return Explanation(
        bottleneck=bottleneck,
        resource=resource.replace("_", " "),
        resource_share=share,
        steady_share=steady,
        full_stages=full,
        imbalance=imbalance,
        sentences=tuple(_sentences(plan, bottleneck, resource, share, full, imbalance)),
    )


def _sentences(
    plan: Plan, bottleneck: str, resource: str, share: float, full: tuple[int, ...], imbalance: float
) -> list[str]:
    where = f"{bottleneck} is the bottleneck" if plan.pp > 1 else "there is one stage, so no bubble and no transfers"
    found = [f"{where}; {share:.0%} of its time is {resource.replace('_', ' ')}"]
    if plan.vpp > 1:
        idle = "a rank waits for chunks of the others, not for all that they hold"
        found.append(f"each stage has {plan.vpp} chunks, in turn ({plan.schedule}): while the pipeline fills, {idle}")
    if plan.pp > 1:
        found.append(f"stages are balanced to within {imbalance:.1%}")
    if full:
        names = ", ".join(map(str, full))
        found.append(f"memory binds on stage {names}: {_memory(plan.by_rank[full[0]])}")
    else:
        emptiest = min(1 - s.memory_bytes / s.memory_limit_bytes for s in plan.by_rank)
        found.append(f"memory does not bind: at least {emptiest:.0%} of every device is free")
    stage = max(plan.by_rank, key=lambda s: s.memory_bytes / s.memory_limit_bytes)
    if stage.reserved_parts_bytes:
        held = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in stage.reserved_parts_bytes.items())
        found.append(f"{stage.memory_parts_bytes['reserved'] / 2**30:.1f} GiB of a device are reserved: {held} GiB")
    paid = [layer for layer in plan.layers if layer.strategy.recompute != "none"]
    if paid:
        found.append(f"{len(paid)} of {len(plan.layers)} layers recompute activations to fit")
    return found


def _memory(stage: StagePlan) -> str:
    parts = sorted(stage.memory_parts_bytes.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {size / 2**30:.1f} GiB" for name, size in parts[:3])


def of_layer(plan: Plan, name: str) -> str:
    """Where one layer is and how it is run, in a sentence.

    Raises
    ------
    UsageError
        If the plan has no such layer.
    """
    for layer in plan.layers:
        if layer.name == name:
            where = f"stage {plan.chunks[layer.stage]}" + (f", chunk {layer.stage}" if plan.vpp > 1 else "")
            return f"{name} is on {where}, {layer.strategy.words}"
    raise UsageError(f"the plan has no layer {name!r}", f"layers are {plan.layers[0].name} ... {plan.layers[-1].name}")


def why_not(
    plan: Plan,
    alternative: str,
    layer: str | None = None,
    emit: Emit = silent,
    *,
    profile: Profile | None = None,
) -> Alternative:
    """The best plan with an alternative forced, against this plan.

    Parameters
    ----------
    alternative
        A pin, as in ``tp=4`` or ``pp=2``.
    layer
        A layer (or pattern) that it is for; all layers by default, and always for what is one number for a plan.
    profile
        The measurements that the plan was priced from, if any.

    Raises
    ------
    UsageError
        If the alternative is no pin, or the plan was priced from measurements and none are given.
    Unverified
        If the plan's prices are not those of now: nothing can be compared with it.
    """
    general = layer is None or parse(alternative).key in PLAN_KEYS
    text = alternative if general else f"{layer}:{alternative}"
    pin = parse(text)
    search = Search.of(plan, profile)
    _check_prices(plan, profile)
    forced = Pins((*search.pins.pins, pin))
    try:
        found = sweep(replace(search, pins=forced, space=forced.narrow(search.space)), emit)
    except UsageError as error:
        # What is not searched may well exist.
        return Alternative(pin=text, slower=None, iteration_time_s=None, reason=f"not searched: {error.cause}")
    except (Infeasible, BadValue) as error:
        return Alternative(pin=text, slower=None, iteration_time_s=None, reason=f"there is no such plan: {error.cause}")
    if found.interrupted:
        raise Stopped("interrupted before the alternative was planned")
    best = found.plan.predicted.iteration_time_s
    slower = best / plan.predicted.iteration_time_s - 1
    if abs(slower) <= TIE:
        slower, reason = 0.0, f"{text} costs nothing: the best plan with it takes as long"
    elif slower > 0:
        reason = f"the best plan with {text} is {slower:.2%} slower"
    else:
        # Only a plan that nobody proved optimal can be beaten.
        reason = f"a plan with {text} is {-slower:.2%} faster: {plan.solver} did not prove this plan the best"
    return Alternative(pin=text, slower=slower, iteration_time_s=best, reason=reason)


def _check_prices(plan: Plan, profile: Profile | None) -> None:
    """Refuse to compare with a plan that was priced otherwise than plans are now."""
    if pose(tables_of(plan, profile)).hash != plan.hashes.problem:
        raise Unverified(
            f"the plan is stale: it was priced otherwise ({plan.cost_model}), so nothing can be compared with it",
            "plan again; or give what it was priced from (--profile, UNIAP_CONSTANTS)",
        )
