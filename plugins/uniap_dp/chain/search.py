"""Short chains in one compiled pass: labels from the first layer to the last, under bounds over cuts.

Stage tables pay where many stages share them; a chain of a dozen layers is solved before they are laid out. Here memory
is priced on every stage, every stage bounded by what its layers cost at these prices, and the program over cuts run
backward on the bounds (:mod:`.bounds`). Then partial plans are extended layer by layer (:mod:`.labels`).
Among plans of one stage whose last strategies have equal rows of resharding, one that is at least as good in time, peak
and memory replaces another; one that cannot end below the goal is dropped. Goals rise from the bound on the whole
chain, and the first that a plan meets proves the best such plan.

Skip edges (:mod:`.skips`) are left out of the bounds, but for what every boundary costs at least; plans that differ in
what later layers must know of them are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uniap_core.api import Assignment, Problem

from .. import jit
from ..codes import TooLarge
from ..dense import assignment, chain_edges, dense, edge_tables
from ..objective import Objective
from . import skips
from .arrays import Chain, Fronts, Goal, Labels, Priced, Rows, Skips, Tables

Array = np.ndarray

MOST_LAYERS = 128
"""Longer chains are not short."""

MOST_WORK = 1_000_000
"""Sums per price behind the bounds on stages beyond which a chain is not short either."""

MOST_LABELS = 16384
"""Labels of one pass; with more, stage tables are faster."""

FIRST_GAP = 0.024
"""How far above the bound the goal of the first pass is, per stage up to four, and per layer: what one layer can be
off is the less of the whole the more there are, and a stage more is a choice of bytes more that bounds relax."""

FEW_LABELS = 200
"""After a pass with fewer, the goal may rise faster."""


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes
    ----------
    assignment
        The best one below the goal, if ``done``; ``None`` if there is none.
    bound_s
        No plan is shorter, rounding aside.
    done
        False if the search ended early.
    labels
        Number of labels of the last pass.
    """

    assignment: Assignment | None
    bound_s: float
    done: bool
    labels: int


def search(problem: Problem, goal: float, most: int, steps: int) -> Outcome | None:
    """The best assignment strictly below a goal; ``None`` if this is not a short chain.

    Parameters
    ----------
    goal
        Seconds; may be ``inf``.
    most
        Labels that one pass may keep before the search ends early.
    steps
        Labels that all passes together may look at, extended or compared.
    """
    count, depth = len(problem.layers), problem.depth
    widest = max(len(layer.strategies) for layer in problem.layers)
    links = None if count > MOST_LAYERS else chain_edges(problem)
    if links is None or widest * sums(count, depth) > MOST_WORK:
        return None
    carried, plain = skips.none(count, widest), len(links) == len(problem.edges)
    both = [] if plain else skips.shared(problem, links)
    if steps and not plain:
        try:
            carried = skips.build(problem, links, both, widest)
        except TooLarge:
            return None
    layers = dense(problem)
    link, border = edge_tables([problem.edges[number] for number in links], widest), np.zeros(count)
    if plain:
        border[1:] = link[1].min(axis=(1, 2))
    else:
        link[1, both] = 0.0
        border = skips.least_tolls(problem)
    own = np.empty((*layers.time.shape, 2))
    own[..., 0], own[..., 1] = layers.time, layers.memory
    found = _price(Tables(own, link, border, layers.cap), carried)
    if found is None:
        return None
    return _climb(problem, *found, goal, min(most, MOST_LABELS), steps)


def _price(tables: Tables, carried: Skips) -> tuple[Chain, Array] | None:
    """The chain with every stage bounded, (P, L, L); ``None`` if there are too many kinds of strategies."""
    jit.load(["chain.bounds"], ["chain.labels"])
    from .bounds import CORNERS, PRICES, bound_stages, number_rows

    count, depth, widest, _ = tables.own.shape
    row, first = np.zeros((2, count, widest), dtype=np.int64)
    rows = Rows(row, first, np.zeros(count, dtype=np.int64))
    if number_rows(tables, rows) > MOST_WORK // (widest * sums(count, depth)):
        return None
    to_go = np.empty((depth, count, widest, count, PRICES + 1))
    priced = Priced(np.empty((depth, PRICES)), np.empty(depth, dtype=np.int64), to_go)
    low = np.empty((depth, count, count))
    bound_stages(tables, rows, priced, low, np.empty((2, widest, 3)))
    ends = depth + 1, count + 1
    fronts = Fronts(np.empty((*ends, CORNERS, 2)), np.empty(ends, dtype=np.int64))
    return Chain(tables, rows, priced, fronts, carried), low


def _climb(problem: Problem, chain: Chain, low: Array, goal: float, most: int, steps: int) -> Outcome:
    """Passes below rising goals until one finds a plan, or nothing is left, or steps or room for labels run out."""
    from .bounds import bound_cuts
    from .labels import extend

    count, depth, widest, _ = chain.tables.own.shape
    objective, border, rounding_s = Objective.of(problem), chain.tables.border, chain.skips.rounding_s
    at = np.zeros((count + 1, depth, widest + 1), dtype=np.int64)
    labels = Labels(np.empty((max(2, most), 4)), np.empty((max(2, most), 4), dtype=np.int64))
    labels.label[0], labels.trail[0] = 0.0, 0
    root = bound_cuts(Goal(goal, objective), border, low, chain.fronts)
    proven, used, gap = min(root, goal), 0, FIRST_GAP * min(depth, 4) / count
    while proven < goal:
        below = goal if gap > 1.0 else min(goal, root * (1.0 + gap))
        aim = Goal(below, objective)
        bound_cuts(aim, border, low, chain.fronts)
        used, steps = extend(chain, aim, steps, at, labels)
        if steps < 0:
            return Outcome(None, proven - rounding_s, False, 0)
        proven = below
        gap *= 2.0 if used > FEW_LABELS else 4.0
        begin, stop = at[count, depth - 1, :2].tolist()
        if begin < stop:
            total, peak, time_s, _ = labels.label[begin:stop].T
            value = total + objective.peak * np.maximum(peak, time_s)
            best = int(value.argmin())
            path = _trace(labels.trail, begin + best, count)
            return Outcome(assignment(problem, path), float(value[best]) - rounding_s, True, used)
    return Outcome(None, proven - rounding_s, True, used)


def _trace(trail: Array, x: int, count: int) -> list[tuple[int, int, int]]:
    """(layer, stage, strategy) of the plan that ends with label ``x``, last layer first."""
    path = []
    for u in range(count - 1, -1, -1):
        x, i, k, _ = trail[x].tolist()
        path.append((u, i, k))
    return path


def sums(layers: int, depth: int) -> int:
    """How often a layer is seen when every segment is bounded that can be a stage; the last ends at the last layer."""
    return layers + layers * layers * (depth - 1) // 2
