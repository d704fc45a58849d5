"""Short chains in one compiled pass: labels from the first layer to the last, under bounds over cuts.

Stage tables pay where many stages share them; a chain of a dozen layers is solved before they are laid out. Here one
call (:mod:`.climb`) prices memory on every stage, bounds every stage by what its layers cost at these prices, and
runs the program over cuts backward on the bounds. Then it extends partial plans layer by layer. Among plans of one
stage whose last strategies have equal rows of resharding, one that is at least as good in time, peak and memory
replaces another; one that cannot end below the goal is dropped. Goals rise from the bound on the whole chain, and the
first that a plan meets proves the best such plan.

Skip edges (:mod:`.skips`) are left out of the bounds, but for what every boundary costs at least; plans that differ in
what later layers must know of them are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from uniap_core.api import Assignment, EdgeTable, Problem

from . import skips
from .codes import TooLarge
from .dense import assignment, dense, edge_tables

Array = np.ndarray

MOST_LAYERS = 128
"""Longer chains are not short."""

MOST_WORK = 1_000_000
"""Sums per price behind the bounds on stages beyond which a chain is not short either."""

MOST_LABELS = 16384
"""Labels of one pass; with more, stage tables are faster."""


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
    links = _links(problem)
    if links is None or widest * sums(count, depth) > MOST_WORK:
        return None
    carried, plain = skips.none(count, widest), len(links) == len(problem.edges)
    both = [] if plain else skips.shared(problem, links)
    if steps and not plain:
        try:
            carried = skips.build(problem, links, both, widest)
        except TooLarge:
            return None
    from . import climb as kernels

    layers = dense(problem)
    link, border = edge_tables(links, widest), np.zeros(count)
    if plain:
        border[1:] = link[1].min(axis=(1, 2))
    else:
        link[1, both] = 0.0
        border = skips.least_tolls(problem)
    own = np.empty((*layers.time.shape, 2))
    own[..., 0], own[..., 1] = layers.time, layers.memory
    tables = own, link, border, layers.cap
    rows = (*np.zeros((2, count, widest), dtype=np.int64), np.zeros(count, dtype=np.int64))
    prices = kernels.PRICES
    to_go = np.empty((depth, count, widest, count, prices + 1))
    priced = np.empty((depth, prices)), np.empty(depth, dtype=np.int64), to_go
    ends = depth + 1, count + 1
    fronts = np.empty((*ends, kernels.CORNERS, 2)), np.empty(ends, dtype=np.int64)
    at = np.zeros((count + 1, depth, widest + 1), dtype=np.int64)
    most = max(2, min(most, MOST_LABELS))
    labels = np.empty((most, 4)), np.empty((most, 4), dtype=np.int64)
    labels[0][0], labels[1][0] = 0.0, 0
    bound, path = np.zeros(1), np.full((count, 2), -1, dtype=np.int64)
    most_rows = MOST_WORK // (widest * sums(count, depth))
    used = kernels.climb(
        goal, problem.micro_batches - 1.0, steps, most_rows, tables, rows, priced, np.empty((depth, count, count)),
        fronts, carried.arrays, at, labels, bound, path,
    )  # fmt: skip
    if used == -1:
        return None
    chosen = None
    if path[0, 0] >= 0:
        chosen = assignment(problem, ((u, i, k) for u, (i, k) in enumerate(path.tolist())))
    return Outcome(chosen, float(bound[0]) - carried.rounding_s, used >= 0, max(used, 0))


def sums(layers: int, depth: int) -> int:
    """How often a layer is seen when every segment is bounded that can be a stage; the last ends at the last layer."""
    return layers + layers * layers * (depth - 1) // 2


def _links(problem: Problem) -> list[EdgeTable] | None:
    """An edge from each layer to the next, ``None`` if some are not joined."""
    if len(problem.layers) > MOST_LAYERS:
        return None
    following = dict(pairwise(problem.order))
    leaving = {e.source: e for e in reversed(problem.edges) if following.get(e.source) == e.target}
    if len(leaving) < len(problem.layers) - 1:
        return None
    return [leaving[u] for u in problem.order[:-1]]
