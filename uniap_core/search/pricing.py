"""Candidates priced and bounded: what the sweep orders, prunes and solves."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from .. import diagnose, registry
from ..costs import Candidate, CostModelPlugin, CostTables
from ..errors import BadValue
from ..pins import Pins, select
from ..problem import Problem
from ..profile import Profile
from ..proposal import Proposal
from ..solve.plugin import SolverPlugin
from .request import Search


@dataclass(frozen=True)
class Variant:
    """Tables to solve and a certified lower bound; a candidate has one, or one per strategy in a uniform space."""

    tables: CostTables
    bound_s: float


@dataclass(frozen=True)
class Priced:
    """A candidate with its variants by increasing bound, or why it is out.

    Attributes
    ----------
    bound_s
        The least bound of the variants; ``inf`` if the candidate is out.
    shortage
        Where memory provably falls short.
    impossible
        Why it cannot be priced.
    """

    candidate: Candidate
    variants: tuple[Variant, ...] = ()
    bound_s: float = math.inf
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
    plugin: CostModelPlugin = registry.load("cost model", search.cost_model)
    _check_batch(search, candidate)
    tables: CostTables = registry.resolve(plugin.price)(
        search.graph, search.cluster, search.space, candidate, search.profile
    )
    return search.pins.restrict(tables)


def tables_of(plan: Proposal, profile: Profile | None = None) -> CostTables:
    """Price a plan's candidate again, as it was priced when it was planned: for verification.

    Parameters
    ----------
    plan
        A plan or a proposal; its model, cluster, space and pins are in it.
    profile
        The measurements it was priced from, if any.

    Raises
    ------
    UnknownName, PluginError
        If its cost model is not installed.
    BadValue
        If the candidate cannot be priced (any more).
    """
    search = Search(
        graph=plan.model,
        cluster=plan.cluster,
        training=plan.training,
        space=plan.space,
        pins=Pins.of(plan.pins),
        profile=profile,
        cost_model=plan.cost_model.partition("/")[0],
    )
    tables = price(search, plan.candidate)
    if not plan.space.uniform:
        return tables
    common = {layer.strategy for layer in plan.layers}
    return next((t for t in variants(search, tables) if {t.layers[0].strategies[0]} == common), tables)


def _check_batch(search: Search, candidate: Candidate) -> None:
    """Refuse in microseconds what no strategy can serve: the micro-batch has fewer samples than every dp."""
    devices = search.cluster.devices // candidate.pp
    strategies = search.space.strategies(devices, search.cluster.node_size)
    if not any(candidate.micro_batch % s.dp == 0 for s in strategies):
        least = min((s.dp for s in strategies), default=devices)
        raise BadValue(
            f"a micro-batch of {candidate.micro_batch} does not divide over dp of {least} or more",
            "use fewer micro-batches, a larger batch, or a wider tensor parallel pin",
        )


def bounded(search: Search, candidate: Candidate) -> Priced:
    """Price a candidate and bound it; what cannot be priced or cannot fit is told apart here, without a solve."""
    started = time.perf_counter()
    try:
        tables = variants(search, price(search, candidate))
    except BadValue as error:
        return Priced(candidate, impossible=error.cause, seconds=time.perf_counter() - started)
    short = [diagnose.shortage(one.problem) for one in tables]
    if all(s is not None and s.certain for s in short):
        worst = min((s for s in short if s is not None), key=lambda s: s.factor)
        return Priced(candidate, shortage=worst, seconds=time.perf_counter() - started)
    fitting = [
        Variant(one, lower_bound(search, one.problem))
        for one, s in zip(tables, short, strict=True)
        if s is None or not s.certain
    ]
    fitting.sort(key=lambda variant: variant.bound_s)
    return Priced(candidate, tuple(fitting), fitting[0].bound_s, seconds=time.perf_counter() - started)


def variants(search: Search, tables: CostTables) -> tuple[CostTables, ...]:
    """The tables themselves, or in a uniform space one table per strategy that all layers have."""
    if not search.space.uniform:
        return (tables,)
    common = [s for s in tables.layers[0].strategies if all(s in layer.strategies for layer in tables.layers)]
    if not common:
        raise BadValue("no strategy is possible for all layers at once", "drop the uniform pin or the executor")
    return tuple(select(tables, [np.array([layer.strategies.index(s)]) for layer in tables.layers]) for s in common)


def lower_bound(search: Search, problem: Problem) -> float:
    """A certified bound on a problem's optimum, seconds: the solver's own where it has one; ``inf`` if infeasible."""
    plugin: SolverPlugin = registry.load("solver", search.solver)
    simple = simple_bound(problem)
    return max(simple, float(registry.resolve(plugin.bound)(problem))) if plugin.bound else simple


def simple_bound(problem: Problem) -> float:
    """A bound from the cheapest strategy of every layer anywhere: ``S + (c - 1) max(S / P, largest layer)``."""
    cheapest = [float(layer.time_s.min()) for layer in problem.layers]
    total = math.fsum(cheapest)
    return (total + (problem.micro_batches - 1) * max(total / problem.depth, *cheapest)) * (1 - 1e-12)
