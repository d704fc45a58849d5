"""Any graph over its lattice: incumbents first, then rounds of exact search below goals until nothing better can be."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from uniap_core.api import Assignment

from ..arena import Arena, OutOfLabels
from ..dense import assignment
from ..ledger import Ledger
from . import cuts as bounds
from . import plans
from .cuts import Cuts
from .downsets import Lattice
from .kernels.arrays import Fronts
from .stage_tables import StageTable, priced, strategies, tabulate

Array = np.ndarray

BEAM = 6
"""Labels per state of a beam."""

HALVINGS = 6
"""Rounds below lower goals when labels run out."""

Key = tuple[int, int]
"""Class of a stage and the first downset of its kind: what a stage table belongs to."""


def prove(lattice: Lattice, ledger: Ledger, arena: Arena) -> None:
    """Raise the bound until it meets the goal."""
    cuts = _first_plan(lattice, ledger)
    if cuts is None:
        return
    if _prune(lattice, cuts, ledger, arena, ledger.goal, BEAM):
        return
    top = goal = ledger.goal
    for _ in range(HALVINGS):
        try:
            if _prune(lattice, cuts, ledger, arena, goal, 0):
                return
        except OutOfLabels:
            # Too many plans are that good. Fewer are better: at least the bound can rise.
            top, goal = goal, 0.5 * (goal + ledger.bound)
        else:
            goal = 0.5 * (top + goal)
    raise OutOfLabels


def _prune(lattice: Lattice, cuts: Cuts, ledger: Ledger, arena: Arena, goal: float, width: int) -> bool:
    """One round: search all plans of at most ``goal`` (with a beam: some); True if nothing is left to prove."""
    objective = lattice.objective
    reach = _reach(lattice, goal)
    ahead = bounds.fronts(cuts, cuts.low, objective, reach, backward=False, relax=True)
    behind = bounds.fronts(cuts, cuts.low, objective, reach, backward=True, relax=True)
    bound = bounds.least(ahead, objective.peak, (lattice.depth, lattice.size - 1)) * (1 - 1e-12) - lattice.rounding_s
    ledger.prove(min(goal, bound))
    if ledger.bound >= goal:
        return goal >= ledger.goal
    found = _round(lattice, cuts, reach, ahead, behind, ledger, arena, width)
    if not width:
        ledger.prove(min(goal, found))
    return ledger.bound >= ledger.goal or (not width and found < goal)


def _reach(lattice: Lattice, goal: float) -> float:
    """How far to search so that rounding hides no plan of at most ``goal``."""
    return goal * (1 + 1e-12) + lattice.rounding_s


def _first_plan(lattice: Lattice, ledger: Ledger) -> Cuts | None:
    """Stage bounds that are enough for every plan of interest, and an incumbent; ``None`` if there is no such plan."""
    least = bounds.least_times(lattice)
    total = float(least.sum())
    if not math.isfinite(total):
        return None
    ceiling = bounds.longest(lattice)
    limit = min(bounds.first_limit(lattice, least), ceiling)
    while True:
        ledger.check()
        cuts = bounds.cut(lattice, limit, least, ledger.check)
        found = bounds.fronts(cuts, cuts.high, lattice.objective, math.inf, backward=False, relax=False)
        legs = bounds.walk(cuts, found, lattice.objective.peak)
        if legs is not None:
            ledger.offer(_assemble(lattice, _recipes(lattice, cuts, legs)))
        if ledger.goal < math.inf:
            reach = _reach(lattice, ledger.goal)
            enough = min(bounds.peak_limit(reach, total, lattice.objective), ceiling)
            if enough <= cuts.limit:
                return cuts
            limit = enough if legs is not None or limit * 2 > enough else limit * 2
        elif limit >= ceiling:
            return None
        else:
            limit = min(limit * 1.6, ceiling)


def _recipes(lattice: Lattice, cuts: Cuts, legs: list[tuple[int, int]]) -> list[dict[int, int]]:
    """Strategies behind ``cuts.high`` for each stage."""
    return [
        priced(lattice, int(lattice.stage_class[i]), cuts.roots[node], int(cuts.item[at]), cuts.recipe[at])
        for i, (node, at) in enumerate(legs)
    ]


def _assemble(lattice: Lattice, plan: Iterable[dict[int, int]]) -> Assignment:
    """An assignment from the strategy of every position of every stage."""
    return assignment(lattice.problem, ((u, i, k) for i, chosen in enumerate(plan) for u, k in chosen.items()))


def _round(
    lattice: Lattice, cuts: Cuts, goal: float, ahead: Fronts, behind: Fronts, ledger: Ledger, arena: Arena, width: int
) -> float:
    """Search all plans of at most ``goal`` (with a beam: some); returns a bound on them."""
    objective = lattice.objective
    limits = bounds.stage_limits(cuts, objective, goal, ahead, behind)
    asks: dict[Key, tuple[Array, list[float]]] = {}
    uses: list[list[tuple[int, int, int, Key]]] = []
    for i in range(lattice.depth):
        use = []
        for node in np.flatnonzero(cuts.count[i]).tolist():
            at = np.arange(cuts.base[i, node], cuts.base[i, node] + cuts.count[i, node])
            at = at[limits[at] >= 0]
            if not len(at):
                continue
            root = cuts.roots[node]
            key = (int(lattice.stage_class[i]), root.twin)
            if key not in asks:
                asks[key] = (np.full(len(root.tree.parent), -1.0), [])
            most, met = asks[key]
            most[cuts.item[at]] = np.maximum(most[cuts.item[at]], limits[at])
            met += cuts.price[at].tolist()
            use += [(node, int(cuts.item[x]), int(cuts.target[x]), key) for x in at]
        uses.append(use)
    prices = {key: _prices(met) for key, (_, met) in asks.items()}
    tables: dict[Key, StageTable] = {}
    for key, (most, _) in asks.items():
        root = cuts.roots[key[1]]
        tables[key] = tabulate(lattice, key[0], root, most, prices[key], arena, ledger.check, width)
    choices = [[plans.Choice(node, item, target, tables[key]) for node, item, target, key in use] for use in uses]
    found = plans.join(lattice, cuts, choices, goal, behind, arena)
    if found is None:
        return goal
    value, legs = found
    plan = []
    for leg in legs:
        root = cuts.roots[leg.node]
        key = (int(lattice.stage_class[leg.stage]), root.twin)
        plan.append(strategies(lattice, root, leg, prices[key], arena, ledger.check))
    ledger.offer(_assemble(lattice, plan))
    return value * (1 - 1e-12) - lattice.rounding_s


def _prices(found: list[float]) -> Array:
    """No price, and up to three of those that the duals found."""
    distinct = sorted({price for price in found if price > 0})
    picked = distinct if len(distinct) <= 3 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
    return np.array([0.0, *picked])
