"""Chains with few ways to cut them: all cuts that may beat a goal, each solved rank by rank, to the end.

Under given cuts a rank's strategies matter to others only through the classes by which its tensors enter and leave it.
So of all its ways to run its layers the fastest of each such signature are enough, and a search over ranks picks one of
each. Cuts are left out whose ranks, each at the best of a few prices of memory, already reach the goal.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .arrays import Posed
from .counts import least_transfers
from .cuts import SLACK, Ahead, Least, Mean, fit_rank, join, list_cuts
from .relax import Point, mean_moments, prices
from .repair import rank_prices

Array = np.ndarray

MOST_TRIED, MOST_LISTED = 30_000_000, 50_000
"""Chunks that are ended somewhere while cuts are listed, and cuts that are listed."""

MOST_SIGNATURES = 20_000
"""Signatures of a rank."""


def try_cuts(posed: Posed, point: Point, goal: float, most: int, clock: Callable[[], None]) -> tuple[list[Array], bool]:
    """Better and better paths (L, 2) below a goal, and whether all cuts were tried.

    Parameters
    ----------
    point
        Of the dual: bounds cuts, and its prices say how the moments of a rank are weighed.
    most
        Nodes to visit.
    """
    flow, objective = posed.flow, posed.objective
    count, depth, ranks = len(flow.time), len(flow.rank), flow.time.shape[1]
    sent, busiest = least_transfers(posed)
    priced = rank_prices(posed, point.dual)
    ahead = np.append(np.cumsum(flow.time.min(axis=(1, 2))[::-1])[::-1], 0.0)
    out, bounds = np.zeros((MOST_LISTED, depth + 1), dtype=np.int64), np.zeros(MOST_LISTED)
    ranks_s = np.zeros((MOST_LISTED, ranks))
    least = Least(sent, busiest, goal)
    edge = _edges(posed)
    flight, cap = mean_moments(posed, point.dual)
    means = [Mean(flight, float(c), due / c if c > 0 else due) for c, due in zip(cap, priced.due, strict=True)]
    listed = list_cuts(priced, objective, least, _ahead(posed, point, edge), ahead, MOST_TRIED, out, ranks_s, bounds)
    if listed < 0:
        return [], False
    best, paths = np.array([goal]), list[Array]()
    for x in np.argsort(bounds[:listed], kind="stable").tolist():
        if bounds[x] >= best[0] * SLACK:
            break
        clock()
        chunk = np.searchsorted(out[x, :-1], np.arange(count), side="right") - 1
        crossed = (np.diff(chunk, append=depth - 1) > 0) & (flow.link[chunk] >= 0)
        behind = np.where(crossed, edge, 0.0)
        left = _solve(posed, means, chunk, ranks_s[x].copy(), behind, best, most, paths)
        if left < 0:
            return paths, False
        most = left
    return paths, True


def _edges(posed: Posed) -> Array:
    """Least seconds of a transfer behind each layer (L,)."""
    flow = posed.flow
    possible = np.isfinite(flow.time).any(axis=1)
    both = possible[1:, :, None] & possible[:-1, None, :]
    return np.append(np.where(both, flow.cross[:-1], math.inf).min(axis=(1, 2)), 0.0)


def _ahead(posed: Posed, point: Point, edge: Array) -> Ahead:
    """A dual point as cuts see it."""
    flow = posed.flow
    paid = prices(posed, point.dual)
    upto, sent = np.zeros((len(flow.rank), len(flow.time) + 1)), np.zeros((len(flow.rank), len(flow.time)))
    for j, rank in enumerate(flow.rank.tolist()):
        time = np.where(np.isfinite(flow.time[:, rank]), flow.time[:, rank], 0.0)  # what cannot be is no cheaper
        cost = paid.rank[rank] * time + paid.state[j] * flow.state + paid.stash[j] * flow.stash
        upto[j, 1:] = cost.min(axis=1).cumsum()
        if flow.link[j] >= 0:
            sent[j] = paid.link[flow.link[j]] * np.where(np.isfinite(edge), edge, 0.0)
    return Ahead(upto, sent, np.ascontiguousarray(point.to_go.min(axis=2)), float(point.dual.price @ flow.cap))


def _solve(
    posed: Posed,
    means: list[Mean],
    chunk: Array,
    least: Array,
    behind: Array,
    best: Array,
    most: int,
    paths: list[Array],
) -> int:
    """The best plan of given cuts, if it beats ``best``; returns the nodes that are left, negative if they ran out.

    ``least`` are seconds that each rank takes at least (P,), ``behind`` those of each layer's transfer (L,).
    """
    flow, objective = posed.flow, posed.objective
    ranks, classes = len(least), flow.by_class.shape[2]
    base = objective.cross * float(behind.sum())
    here = flow.rank[chunk]
    ways: list[tuple[Array, Array, Array]] = []
    # The rank that is most likely too long comes first: then the others need not be fitted.
    for rank in np.argsort(-least, kind="stable").tolist():
        rest = float(least.sum() - least[rank])
        longest = (float(best[0]) - base - objective.sum * rest) / (objective.sum + objective.peak) * (1 + 1e-12)
        on = np.flatnonzero(here == rank)
        ends = np.stack([(on > 0) & (here[on - 1] != rank), here[np.minimum(on + 1, len(here) - 1)] != rank], axis=1)
        facing = ends.ravel()
        size = classes ** int(facing.sum())
        if size > MOST_SIGNATURES:
            return -1
        weight = np.zeros(len(facing), dtype=np.int64)
        weight[facing] = classes ** np.arange(int(facing.sum()))
        seconds, chosen = np.empty(size), np.zeros((size, len(on)), dtype=np.int64)
        layers = np.stack([on, chunk[on]], axis=1)
        most = fit_rank(flow, means[rank], layers, longest, most, weight, seconds, chosen)
        if most < 0:
            return most
        order = np.argsort(seconds, kind="stable")
        order = order[np.isfinite(seconds[order])]
        if not len(order):
            return most
        ways.append((on, seconds[order], chosen[order]))
        least[rank] = seconds[order[0]]
    widest = max(len(seconds) for _, seconds, _ in ways)
    table, strategy = np.full((ranks, widest), math.inf), np.zeros((len(chunk), widest), dtype=np.int64)
    for on, seconds, chosen in ways:
        table[here[on[0]], : len(seconds)] = seconds
        strategy[on, : len(seconds)] = chosen.T
    path, before = np.zeros(len(chunk), dtype=np.int64), float(best[0])
    most = join(flow, objective, behind, chunk, table, strategy, most, path, best)
    if best[0] < before:
        paths.append(np.stack([chunk, path], axis=1))
    return most
