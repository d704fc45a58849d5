"""The Lagrangian bound: prices on memory and weights on the longest, raised until the cheapest plan costs most.

With a price ``y_r >= 0`` for every row of memory (a moment of a rank) and weights ``w_i >= 0`` that add up to ``peak``,
one for every rank and link, every feasible plan costs at least

    sum P + cross O + (sum of w_i times the seconds of i) + (sum of y_r times (bytes of r - cap of r)),

for the longest is no shorter than any weighted mean and what fits uses no more than the cap. The plan that costs least
by this is a shortest path over (layer, chunk, strategy). Each plan met is a plane above the bound over weights and
prices; the next point is the highest under the last planes, less what it is away from the best one (a proximal bundle:
Lemarechal 1975, Kiwiel 1990). The mean of plans that makes that point is as good as the linear relaxation's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Posed, Prices
from .outset import evenly
from .paths import cheapest

Array = np.ndarray

ROUNDING = 1e-12
"""Relative, of all that is priced: taken off every bound."""

PLANES = 40
"""Planes that are kept."""

GRADIENTS = 60
"""Steps towards the highest point under them."""

FIRST_REACH = 0.05
"""How far the first step goes: parts of the whole for a slope of 1."""


MOST_REACH = 1e9
"""How far a step goes at most: the dual of what does not fit has no highest point."""


@dataclass(frozen=True, eq=False)
class Dual:
    """A point of the dual: weights of ranks and links (P + links,), prices of rows of memory (M,) in seconds a byte."""

    weight: Array
    price: Array


@dataclass(frozen=True, eq=False)
class Point:
    """A dual point, its bound, the cheapest plan (L, 2) and what it uses, and the cost to go (L, J, K)."""

    dual: Dual
    bound: float
    path: Array
    used: Array
    to_go: Array


def prices(posed: Posed, dual: Dual, share: float = 1.0) -> Prices:
    """What seconds and bytes cost; ``share`` 0 leaves the objective out."""
    flow, objective = posed.flow, posed.objective
    ranks = flow.time.shape[1]
    dear = np.where(flow.flight >= 0, dual.price[:, None], 0.0)
    return Prices(
        rank=share * objective.sum + dual.weight[:ranks],
        link=share * objective.cross + dual.weight[ranks:],
        state=dear.sum(axis=0),
        stash=(dear * np.maximum(flow.flight, 0.0)).sum(axis=0),
    )


def mean_moments(posed: Posed, dual: Dual) -> tuple[Array, Array]:
    """In flight on each chunk (J,), and bytes of each rank (P,), in the mean of its moments by their prices.

    What fits at every moment fits in any mean of them.
    """
    flow = posed.flow
    mix = np.zeros((flow.time.shape[1], len(flow.row)))
    mix[flow.row, np.arange(len(flow.row))] = dual.price + max(float(dual.price.max()) * 1e-6, 1e-300)
    mix /= mix.sum(axis=1, keepdims=True)
    return (mix @ np.maximum(flow.flight, 0.0))[flow.rank, np.arange(len(flow.rank))], mix @ flow.cap


def value(posed: Posed, dual: Dual, share: float = 1.0) -> Point:
    """The bound of a dual point."""
    flow = posed.flow
    count, ranks, widest = flow.time.shape
    to_go, path = np.empty((count, len(flow.rank), widest)), np.zeros((count, 2), dtype=np.int64)
    used = np.zeros(ranks + posed.links + len(flow.row))
    least = cheapest(flow, prices(posed, dual, share), to_go, path, used)
    due = float(dual.price @ flow.cap)
    bound = least - due - ROUNDING * (abs(least) + abs(due)) if least < math.inf else math.inf
    return Point(dual, bound, path, used, to_go)


def first_bound(posed: Posed) -> float:
    """A lower bound, ``inf`` if nothing fits: one point of the dual."""
    return math.inf if (posed.flow.cap < 0).any() else value(posed, Dual(*evenly(posed))).bound


class Climb:
    """The dual, climbed; what it is at stays its best point.

    Inside, weights are parts of the peak, and prices what a full row costs as a part of the first bound.

    Parameters
    ----------
    share
        1 for the objective; 0 for memory alone, where a bound above 0 says that nothing fits.
    start
        Where to begin; by default as :mod:`.outset` says, without prices for memory alone.
    """

    def __init__(self, posed: Posed, share: float = 1.0, start: Dual | None = None) -> None:
        self.posed, self.share = posed, share
        flow = posed.flow
        self.ranks = flow.time.shape[1]
        self.tops = self.ranks + posed.links
        self.peak = posed.objective.peak * share
        if start is None:
            start = Dual(*evenly(posed)) if share else Dual(np.zeros(self.tops), np.zeros(len(flow.cap)))
        self.best = value(posed, start, share)
        self.scale = max(abs(self.best.bound), 1e-300) if share and math.isfinite(self.best.bound) else 1.0
        self.room = np.maximum(flow.cap, flow.cap.max() * 1e-3 + 1e-300)
        self.center = self._point(start)
        self.base, self.slope, self.starts = np.zeros(0), np.zeros((0, len(self.center))), np.zeros((0, len(flow.rank)))
        self.mean = np.zeros(0)
        self.reach, self.idle, self.rounds, self.expected = FIRST_REACH, 0, 0, math.inf
        self._learn(self.best)

    def cuts(self) -> Array:
        """First layer of each chunk in the mean plan, and the end; not whole (J + 1,)."""
        start: Array = np.append(self.mean @ self.starts, float(len(self.posed.flow.time)))
        return start

    def round(self) -> Point:
        """One step, and the point it leads to."""
        self.rounds += 1
        at = self._next()
        model = float((self.base + self.slope @ at).min())
        point = value(self.posed, self._dual(at), self.share)
        now, got = self.best.bound / self.scale, point.bound / self.scale
        self.expected = max(model - now, 0.0) * self.scale
        self.idle = 0 if got - now >= 0.1 * (model - now) else self.idle + 1
        if got - now >= 0.5 * (model - now):
            self.reach = min(2.0 * self.reach, MOST_REACH)
        elif self.idle and self.idle % 4 == 0:
            self.reach *= 0.7
        if got > now:
            self.best, self.center = point, at
        if math.isfinite(got):
            self._learn(point)
        return point

    def _next(self) -> Array:
        """The highest point under the planes that is near the best one; sets ``mean``, the share of each plane.

        Its dual is a smooth function of the shares, made least by accelerated projected gradients.
        """
        base, slope, mean = self.base, self.slope, self.mean
        level = slope.copy()
        if self.peak:
            level[:, : self.tops] -= level[:, : self.tops].mean(axis=1, keepdims=True)
        steep = self.reach * max(float(np.linalg.norm(level, 2)) ** 2, 1e-12)
        ahead, pace = mean, 1.0
        for _ in range(GRADIENTS):
            at = self._allowed(self.center + self.reach * (ahead @ slope))
            down = base + slope @ at
            new = _onto_simplex(ahead - down / steep)
            step = new - mean
            faster = (1 + math.sqrt(1 + 4 * pace * pace)) / 2
            if float(down @ step) > 0:
                ahead, pace = new, 1.0
            else:
                ahead, pace = new + (pace - 1) / faster * step, faster
            mean = new
            if float(np.abs(step).max()) < 1e-7:
                break
        self.mean = mean
        return self._allowed(self.center + self.reach * (mean @ slope))

    def _learn(self, point: Point) -> None:
        """Add the plane of a point; the planes that matter least become one, their mean."""
        used, objective, flow = point.used, self.posed.objective, self.posed.flow
        seconds, bytes_ = used[: self.tops], used[self.tops :]
        base = objective.sum * seconds[: self.ranks].sum() + objective.cross * seconds[self.ranks :].sum()
        slope = np.concatenate([seconds * self.peak / self.scale, (bytes_ - flow.cap) / self.room])
        start = np.searchsorted(np.sort(point.path[:, 0]), np.arange(len(flow.rank)))
        if len(self.mean) >= PLANES:
            order = np.argsort(-self.mean, kind="stable")[: PLANES - 2]
            self.base, self.slope, self.starts = (
                np.concatenate([rows[order], (self.mean @ rows)[None]]) for rows in (self.base, self.slope, self.starts)
            )
            self.mean = np.append(self.mean[order], 1.0 - self.mean[order].sum())
        self.base = np.append(self.base, self.share * base / self.scale)
        self.slope, self.starts = np.vstack([self.slope, slope]), np.vstack([self.starts, start])
        self.mean = np.append(0.9 * self.mean, 0.1) if len(self.mean) else np.ones(1)

    def _point(self, dual: Dual) -> Array:
        weight = dual.weight / self.peak if self.peak else dual.weight
        return np.concatenate([weight, dual.price * self.room / self.scale])

    def _dual(self, at: Array) -> Dual:
        return Dual(at[: self.tops] * self.peak, at[self.tops :] * self.scale / self.room)

    def _allowed(self, at: Array) -> Array:
        """The nearest point whose weights are parts of a whole and whose prices are none negative."""
        parts = _onto_simplex(at[: self.tops]) if self.peak else np.zeros(self.tops)
        prices_ = np.maximum(at[self.tops :], 0.0)
        if not self.share and prices_.sum() > 1.0:
            prices_ = _onto_simplex(prices_)
        return np.concatenate([parts, prices_])


def _onto_simplex(x: Array) -> Array:
    """The nearest point with parts that are none negative and add up to 1."""
    ordered = np.sort(x)[::-1]
    over = ordered.cumsum() - 1.0
    last = int(np.flatnonzero(ordered - over / np.arange(1, len(x) + 1) > 0)[-1])
    nearest: Array = np.maximum(x - over[last] / (last + 1), 0.0)
    return nearest
