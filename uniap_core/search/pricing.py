"""Candidates priced and bounded: what the sweep orders, prunes and solves."""

from __future__ import annotations

import contextlib
import math
import numbers
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import msgspec
import numpy as np

from .. import cost_models, diagnose, limits, menus, registry
from ..costs import Candidate, CostModelPlugin, CostTables
from ..errors import BadValue, PluginError
from ..pins import Pins, satisfies, select
from ..plan import Plan
from ..posing import pose
from ..problem import Assignment, Problem
from ..profile import Profile
from ..solve.plugin import Form, SolverPlugin
from ..strategy import DEGREES, Strategy
from ..tables import Array
from .dominance import undominated
from .floor import Floor, floor_of
from .request import Search

FREE = Pins()


@dataclass(frozen=True)
class Variant:
    """A problem to solve for a candidate, with a certified lower bound.

    A candidate has one, its whole tables; with ``max_strategies`` it has one per set of so many strategies
    (``chosen``), whose restricted tables are built when they are asked for; and all that per ``regime`` of the
    executor that it is planned for. ``kept`` are the strategies of each layer that no other one dominates, where
    they may differ freely.
    """

    whole: CostTables
    bound_s: float
    chosen: tuple[Strategy, ...] | None = None
    regime: Pins = FREE
    kept: tuple[Array, ...] | None = None

    @cached_property
    def lean(self) -> CostTables:
        """The tables to solve, without dominated strategies."""
        return self.tables if self.kept is None else select(self.whole, list(self.kept))

    def assignment(self, lean: Assignment) -> Assignment:
        """An assignment of the lean tables as one of :attr:`tables`."""
        if self.kept is None:
            return lean
        chosen = (int(kept[k]) for kept, k in zip(self.kept, lean.strategy, strict=True))
        return msgspec.structs.replace(lean, strategy=tuple(chosen))

    @cached_property
    def tables(self) -> CostTables:
        """The tables that the answer is of."""
        return self.whole if self.chosen is None else restrict(self.whole, self.chosen)


@dataclass(frozen=True)
class PricedCandidate:
    """A candidate with its variants by increasing bound, or why it is out.

    Attributes
    ----------
    bound_s
        The least bound of the variants; ``inf`` if the candidate is out.
    raw
        Of a candidate that is not priced yet: its family's floor, by regime. Its bound is a coarse one then, and it
        has no variants (:func:`sharpened`).
    coarse_s
        The bounds that it had before it was sharpened, the coarsest first.
    shortage
        Where memory falls short, if the candidate is out for that.
    impossible
        Why it cannot be priced.
    """

    candidate: Candidate
    variants: tuple[Variant, ...] = ()
    bound_s: float = math.inf
    raw: tuple[tuple[Pins, Floor], ...] = ()
    coarse_s: tuple[float, ...] = ()
    shortage: diagnose.Shortage | None = None
    impossible: str = ""
    seconds: float = 0.0


def price(search: Search, candidate: Candidate) -> CostTables:
    """The tables of one candidate, pins applied.

    Raises
    ------
    BadValue
        If it cannot be priced: indivisible, or some layer has no strategy.
    """
    _check_batch(search, candidate)
    tables = cost_models.price(search.cost_model, search.graph, search.cluster, search.space, candidate, search.profile)
    try:
        return search.pins.restrict(tables, plain_layers(search))
    except BadValue as error:
        raise BadValue(error.cause + _misfits(search, candidate, tables), error.fix) from None


def plain_layers(search: Search) -> frozenset[int]:
    """The layers (by number) of a search that pins on experts do not mean."""
    return menus.without_experts(menus.extents(search.graph, search.space))


def _misfits(search: Search, candidate: Candidate, tables: CostTables) -> str:
    """Why the cost model has no price for what pins ask of the first layer that they leave nothing; often empty.

    It is asked for that layer alone, under that alone: then it says what does not divide.
    """
    ranks, node = candidate.pipeline.devices_per_rank(search.cluster.devices), search.cluster.node_size
    asked = search.pins.of_layers([layer.name for layer in tables.layers], plain_layers(search))
    extents = menus.extents(search.graph, search.space)
    both = zip(search.graph.layers, tables.layers, asked, extents, strict=True)
    layer, pins, extent = next((g, p, e) for g, t, p, e in both if not any(satisfies(s, p) for s in t.strategies))
    wanted = [s for s in search.space.strategies(ranks, node, extent) if satisfies(s, pins)]
    if not wanted:
        return ""
    alone = msgspec.structs.replace(search.graph, layers=(layer,), edges=())
    space = msgspec.structs.replace(
        search.space,
        **{key: tuple(dict.fromkeys(s[key] for s in wanted)) for key in DEGREES},
        shardings=tuple(dict.fromkeys(s.sharding for s in wanted)),
        recomputes=tuple(dict.fromkeys(s.recompute for s in wanted)),
    )
    try:
        cost_models.price(search.cost_model, alone, search.cluster, space, candidate, search.profile)
    except BadValue as error:
        return f"; {error.cause}"
    return ""


def tables_of(plan: Plan, profile: Profile | None = None) -> CostTables:
    """Price a plan's candidate again, as it was priced when it was planned: for verification.

    Parameters
    ----------
    plan
        A plan; its model, cluster, space, pins and regime are in it.
    profile
        The measurements it was priced from, if any.

    Raises
    ------
    UnknownName, PluginError
        If its cost model is not installed.
    UsageError
        If it was priced from measurements and none are given.
    BadValue
        If the candidate cannot be priced (any more).
    """
    _check_figures(plan)
    search = Search.of(plan, profile)
    tables = Pins.of(plan.regime).restrict(price(search, plan.candidate), plain_layers(search))
    sets = strategy_sets(tables, plan.space.max_strategies)
    used = {layer.strategy for layer in plan.layers}
    restricted = (restrict(tables, chosen) for chosen in sets or () if used <= set(chosen))
    return next((t for t in restricted if pose(t).hash == plan.hashes.problem), tables)


def _check_figures(plan: Plan) -> None:
    """Refuse what a file can say and no pricing can take: no samples, no stages, a precision that nothing has."""
    limits.check(plan.global_batch, limits.Samples, "the global batch of the plan")
    limits.check(plan.training.global_batch, limits.Samples, "the global batch of the plan's training")
    limits.check(plan.pp, limits.Degree, "pp of the plan")
    limits.check(plan.vpp, limits.Degree, "vpp of the plan")
    limits.check(plan.micro_batches, limits.Samples, "micro_batches of the plan")
    if plan.space.max_strategies is not None:
        limits.check(plan.space.max_strategies, limits.Degree, "max_strategies of the plan's space")
    for device in plan.cluster.device_kinds:
        device.peak(plan.training.precision)
    if plan.cluster.devices % plan.pp:
        raise BadValue(f"pp {plan.pp} does not divide {plan.cluster.devices} devices", "choose a divisor")
    if plan.training.global_batch % plan.micro_batches:
        raise BadValue(
            f"{plan.micro_batches} micro-batches do not divide a batch of {plan.training.global_batch}",
            "choose a divisor",
        )


def _check_batch(search: Search, candidate: Candidate) -> None:
    """Refuse in microseconds what no strategy can serve: the micro-batch has fewer samples than every dp."""
    devices = candidate.pipeline.devices_per_rank(search.cluster.devices)
    extents = dict.fromkeys(menus.extents(search.graph, search.space))
    strategies = [s for e in extents for s in search.space.strategies(devices, search.cluster.node_size, e)]
    if not any(candidate.divides(s.dp) for s in strategies):
        least = min((s.dp for s in strategies), default=devices)
        raise BadValue(
            f"a micro-batch of {candidate.micro_batch} does not divide over dp of {least} or more",
            "use fewer micro-batches, a larger batch, or a wider tensor parallel pin",
        )


Family = tuple[Candidate, ...]
"""Candidates whose layers cost the same: they differ in their schedule and chunks alone."""


def families(search: Search, todo: Sequence[Candidate]) -> list[Family]:
    """The candidates by what their layers cost, in the order of the first of each."""
    plugin: CostModelPlugin = registry.load("cost model", search.cost_model)
    found: dict[object, list[Candidate]] = {}
    for candidate in todo:
        chunks = candidate.pipeline.chunks
        alike = candidate.pp, candidate.micro_batches, chunks[0], chunks[-1]
        found.setdefault(alike if plugin.by_ends else candidate, []).append(candidate)
    return [tuple(members) for members in found.values()]


def bounded(search: Search, family: Family) -> list[PricedCandidate]:
    """Price a family and bound its members; what cannot be priced or fit is told apart here, without a solve.

    A plain pipeline alone is priced, posed and gets the solver's own bound. Where chunks make many of a family, each
    gets the floor of all, from one of them that was priced, until somebody asks for more (:func:`sharpened`).
    """
    found = []
    many = any(candidate.vpp > 1 for candidate in family)
    floors: list[tuple[Pins, Floor]] = []
    for candidate in sorted(family, key=lambda member: member.vpp > 1):
        started = time.perf_counter()
        try:
            if reason := candidate.pipeline.legal(candidate.micro_batches):
                raise BadValue(reason, "choose other micro-batches or another schedule")
            if many:
                floors = floors or _floors(search, family, price(search, candidate))
                one = _by_floor(candidate, floors)
            if not many or (math.isinf(one.bound_s) and candidate.vpp == 1):  # posed, it says what memory it lacks
                one = _posed(search, candidate, _regimes(search, candidate, price(search, candidate)))
        except BadValue as error:
            one = PricedCandidate(candidate, impossible=error.cause)
        found.append(replace(one, seconds=time.perf_counter() - started))
    return found


def _floors(search: Search, family: Family, tables: CostTables) -> list[tuple[Pins, Floor]]:
    """The floor of a family under each regime that leaves every layer a strategy."""
    turns = max(candidate.turns for candidate in family)
    found = []
    for regime in search.regimes:
        with contextlib.suppress(BadValue):
            found.append((regime, floor_of(regime.restrict(tables, plain_layers(search)), turns)))
    return found


def _by_floor(candidate: Candidate, floors: Sequence[tuple[Pins, Floor]]) -> PricedCandidate:
    raw = tuple((regime, floor) for regime, floor in floors if _allows(regime, candidate))
    if not raw:
        raise _none_for(candidate)
    return PricedCandidate(candidate, bound_s=min(floor.bound_s(candidate) for _, floor in raw), raw=raw)


def sharpened(search: Search, priced: PricedCandidate) -> PricedCandidate:
    """A candidate that was bounded by its family's floor, with the next bound.

    First the floor with what its schedule holds in flight, milliseconds; then it is priced, posed and bounded as it is.
    """
    started = time.perf_counter()
    coarse = (*priced.coarse_s, priced.bound_s)
    if not priced.coarse_s:
        held = max(priced.bound_s, min(floor.held_s(priced.candidate) for _, floor in priced.raw))
        if held < math.inf or priced.candidate.vpp > 1:  # plain pipelines say, once posed, what memory they lack
            seconds = priced.seconds + time.perf_counter() - started
            raw = priced.raw if held < math.inf else ()
            return replace(priced, bound_s=held, raw=raw, coarse_s=coarse, seconds=seconds)
    try:
        one = _posed(search, priced.candidate, _regimes(search, priced.candidate, price(search, priced.candidate)))
    except BadValue as error:
        return replace(priced, bound_s=math.inf, raw=(), impossible=error.cause)
    variants = tuple(replace(variant, bound_s=max(variant.bound_s, priced.bound_s)) for variant in one.variants)
    seconds = priced.seconds + time.perf_counter() - started
    return replace(one, variants=variants, bound_s=max(one.bound_s, priced.bound_s), coarse_s=coarse, seconds=seconds)


def _posed(search: Search, candidate: Candidate, priced: list[tuple[Pins, CostTables]]) -> PricedCandidate:
    started = time.perf_counter()
    # A baseline looks at some strategies alone (the same for all layers, plain data parallelism): it keeps all.
    exact = search.space.max_strategies is None and registry.load("solver", search.solver).exact
    variants: list[Variant] = []
    shortages = []
    for regime, tables in priced:
        kept = undominated(tables) if exact else None
        whole = Variant(tables, 0.0, regime=regime, kept=kept)
        short = diagnose.shortage(pose(whole.lean))
        if short is not None:
            shortages.append(short)
        if short is None or not short.certain:
            variants += _variants(search, whole)
    if all(math.isinf(variant.bound_s) for variant in variants) and shortages:
        closest = min(shortages, key=lambda short: short.factor)
        return PricedCandidate(candidate, shortage=closest, seconds=time.perf_counter() - started)
    variants.sort(key=lambda variant: variant.bound_s)
    return PricedCandidate(candidate, tuple(variants), variants[0].bound_s, seconds=time.perf_counter() - started)


def _allows(regime: Pins, candidate: Candidate) -> bool:
    return regime.allows(candidate.pp, candidate.micro_batches, candidate.schedule, candidate.vpp)


def _regimes(search: Search, candidate: Candidate, tables: CostTables) -> list[tuple[Pins, CostTables]]:
    """The tables under each regime that can run this candidate.

    Raises
    ------
    BadValue
        If none can.
    """
    found = []
    reasons: dict[str, None] = {}
    for regime in search.regimes:
        if _allows(regime, candidate):
            try:
                found.append((regime, regime.restrict(tables, plain_layers(search))))
            except BadValue as error:
                reasons[error.cause] = None
    if not found:
        raise _none_for(candidate, "; ".join(reasons))
    return found


def _none_for(candidate: Candidate, why: str = "") -> BadValue:
    chunks = f" x vpp {candidate.vpp}" if candidate.vpp > 1 else ""
    why = why or f"it has none for pp {candidate.pp}{chunks} with {candidate.micro_batches} micro-batches"
    return BadValue(f"the executor can run no plan of this candidate: {why}", "choose another executor")


def _variants(search: Search, whole: Variant) -> list[Variant]:
    tables, regime = whole.whole, whole.regime
    bound = lower_bound(search, pose(whole.lean))
    sets = strategy_sets(tables, search.space.max_strategies)
    if sets is None:
        return [replace(whole, bound_s=bound)]
    bounds = _set_bounds(tables, sets)
    return [Variant(tables, max(bound, b), chosen, regime) for chosen, b in zip(sets, bounds, strict=True)]


def strategy_sets(tables: CostTables, most: int | None) -> list[tuple[Strategy, ...]] | None:
    """The sets of ``most`` strategies that leave every layer one; ``None`` if there is nothing to restrict.

    Smaller sets are contained in these.

    Raises
    ------
    BadValue
        If no set serves all layers.
    """
    every = list(dict.fromkeys(s for layer in tables.layers for s in layer.strategies))
    if most is None or len(every) <= most:
        return None
    kinds = {frozenset(layer.strategies) for layer in tables.layers}
    sets = [chosen for chosen in combinations(every, most) if all(not kind.isdisjoint(chosen) for kind in kinds)]
    if not sets:
        raise BadValue(
            f"no {most} strateg{'y is' if most == 1 else 'ies are'} possible for all layers",
            "allow more strategies, or choose another executor",
        )
    return sets


def restrict(tables: CostTables, chosen: tuple[Strategy, ...]) -> CostTables:
    """The tables with only the chosen strategies."""
    rows = {layer.strategies: np.flatnonzero([s in chosen for s in layer.strategies]) for layer in tables.layers}
    return select(tables, [rows[layer.strategies] for layer in tables.layers])


def _set_bounds(tables: CostTables, sets: list[tuple[Strategy, ...]]) -> list[float]:
    """:func:`simple_bound` of every restriction, from the cheapest time of each kind of layer."""
    problem, counts = pose(tables), Counter(tables.kinds.layers)
    first = {kind: u for u, kind in reversed(list(enumerate(tables.kinds.layers)))}
    kinds = [
        (
            dict(zip(tables.layers[u].strategies, problem.layers[u].time_s.min(axis=0).tolist(), strict=True)),
            counts[kind],
        )
        for kind, u in first.items()
    ]
    bounds = []
    for chosen in sets:
        least = [(min(cheapest.get(s, math.inf) for s in chosen), count) for cheapest, count in kinds]
        bounds.append(_bound([t for t, _ in least], [count for _, count in least], problem))
    return bounds


def lower_bound(search: Search, problem: Problem) -> float:
    """A certified bound on a problem's optimum, seconds: the solver's own where it has one; ``inf`` if infeasible."""
    plugin: SolverPlugin = registry.load("solver", search.solver)
    simple = simple_bound(problem)
    if not plugin.bound or plugin.refusal(problem, Form.PROBLEM):
        return simple
    bound = float(registry.call(plugin, "bound", problem, returns=numbers.Real))  # type: ignore[type-abstract]
    if math.isnan(bound):
        raise PluginError(f"solver {plugin.name!r}: its bound is not a number", "correct the plugin")
    return max(simple, bound)


def simple_bound(problem: Problem) -> float:
    """A bound from the cheapest strategy of every layer anywhere: ``sum S + peak max(S / P, largest layer)``."""
    cheapest = [float(layer.time_s.min()) for layer in problem.layers]
    return _bound(cheapest, [1] * len(cheapest), problem)


def _bound(cheapest: list[float], counts: list[int], problem: Problem) -> float:
    total = math.fsum(t * count for t, count in zip(cheapest, counts, strict=True))
    if math.isinf(total):
        return math.inf
    weights = problem.objective
    return (weights.sum * total + weights.peak * max(total / len(problem.ranks), *cheapest)) * (1 - 1e-12)
