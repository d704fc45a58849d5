"""The Lagrangian bound: prices on memory and weights on the longest, raised until the cheapest plan costs most.

With a price ``y_r >= 0`` for every row of memory (a moment of a rank) and weights ``w_i >= 0`` that add up to ``peak``,
one for every rank and link, every feasible plan costs at least

    sum P + cross O + (sum of w_i times the seconds of i) + (sum of y_r times (bytes of r - cap of r)),

for the longest is no shorter than any weighted mean and what fits uses no more than the cap. The plan that costs least
by this is a shortest path over (layer, chunk, strategy). Prices follow its use of time and memory, averaged over plans
(the volume algorithm: Barahona and Anbil 2000), in steps that aim at the best plan known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Posed, Prices
from .paths import cheapest

Array = np.ndarray

ROUNDING = 1e-12
"""Relative, of all that is priced: taken off every bound."""


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


class Climb:
    """The dual, climbed; what it is at stays its best point.

    Parameters
    ----------
    share
        1 for the objective; 0 for memory alone, where a bound above 0 says that nothing fits.
    start
        Where to begin.
    """

    def __init__(self, posed: Posed, share: float = 1.0, start: Dual | None = None) -> None:
        self.posed, self.share = posed, share
        flow = posed.flow
        self.ranks = flow.time.shape[1]
        self.tops = self.ranks + posed.links
        self.peak = posed.objective.peak * share
        if start is None:
            weight = np.zeros(self.tops)
            weight[: self.ranks] = self.peak / self.ranks
            start = Dual(weight, np.zeros(len(flow.cap)))
        self.best = value(posed, start, share)
        self.scale = max(abs(self.best.bound), 1e-300) if share else 1.0
        self.room = np.maximum(flow.cap, flow.cap.max() * 1e-3 + 1e-300)
        self.mean, self.starts = self.best.used.copy(), self._even()
        self.step, self.idle, self.rounds = 0.5, 0, 0

    def _even(self) -> Array:
        """First layer of each chunk where all have as much to do, by the fastest strategies."""
        time = self.posed.flow.time.min(axis=(1, 2))
        done = np.concatenate([[0.0], np.where(np.isfinite(time), time, 0.0).cumsum()])
        depth = len(self.posed.flow.rank)
        return np.searchsorted(done, np.arange(depth) / depth * done[-1]).astype(float)

    @property
    def stuck(self) -> bool:
        """Whether steps have become too short to lead anywhere."""
        return self.step < 1e-3

    def cuts(self) -> Array:
        """Chunk of each layer in the mean plan, rounded to one in which no chunk is empty (L,)."""
        count, depth = len(self.posed.flow.time), len(self.starts)
        start = np.rint(self.starts).astype(np.int64)
        start[0] = 0
        for j in range(1, depth):
            start[j] = max(start[j], start[j - 1] + 1)
        for j in range(depth - 1, 0, -1):
            start[j] = min(start[j], count - depth + j, start[j + 1] - 1 if j + 1 < depth else count)
        return np.searchsorted(start, np.arange(count), side="right") - 1

    def _slope(self, used: Array) -> tuple[Array, Array]:
        """Direction of growth for weights as parts of the peak, and for prices as parts of the whole a full rank."""
        seconds = self.peak * used[: self.tops] / self.scale
        bytes_ = (used[self.tops :] - self.posed.flow.cap) / self.room
        return seconds, bytes_

    def round(self, goal: float) -> Point:
        """One step towards a goal, and the point it leads to."""
        self.rounds += 1
        dual = self.best.dual
        part = dual.weight / self.peak if self.peak else dual.weight
        dear = dual.price * self.room / self.scale
        seconds, bytes_ = self._slope(self.mean)
        support = part > 1e-9
        if self.peak:
            seconds = seconds - float(seconds[support].mean())
            seconds = np.where(support | (seconds > 0), seconds, 0.0)
        bytes_ = np.where((dear > 0) | (bytes_ > 0), bytes_, 0.0)
        norm = float(seconds @ seconds + bytes_ @ bytes_)
        if norm <= 1e-24:
            self.mean = self.best.used.copy()
            self.step *= 0.5
            return self.best
        far = max(goal - self.best.bound, 1e-6 * self.scale) / self.scale
        length = self.step * far / norm
        part = _onto_simplex(part + length * seconds) if self.peak else part
        dear = np.maximum(dear + length * bytes_, 0.0)
        at = Dual(part * self.peak, dear * self.scale / self.room)
        if not self.share:
            at = Dual(part * self.peak, at.price / max(1.0, float(dear.sum())))
        point = value(self.posed, at, self.share)
        blend = self._blend(point.used)
        self.mean = blend * point.used + (1 - blend) * self.mean
        if self.posed.flow.linked:
            start = np.searchsorted(point.path[:, 0], np.arange(len(self.starts)))
            self.starts = blend * start + (1 - blend) * self.starts
        if point.bound > self.best.bound:
            better = point.bound - self.best.bound > 1e-4 * far * self.scale
            along = sum(float(a @ b) for a, b in zip(self._slope(point.used), (seconds, bytes_), strict=True))
            self.best = point
            self.idle = 0 if better else self.idle + 1
            if along > 0:
                self.step = min(2.0, self.step * 1.2)
        else:
            self.idle += 1
        if self.idle >= 10:
            self.step, self.idle = self.step * 0.66, 0
        return point

    def _blend(self, used: Array) -> float:
        """How much of the newest plan goes into the mean: what makes the mean's slope least, within limits."""
        mean, new = (np.concatenate(self._slope(x)) for x in (self.mean, used))
        seconds = slice(0, self.tops)
        for x in (mean, new):
            x[seconds] -= x[seconds].mean()
        change = new - mean
        norm = float(change @ change)
        blend = -float(mean @ change) / norm if norm > 0 else 0.0
        return min(max(blend, 0.01), 0.1)


def _onto_simplex(x: Array) -> Array:
    """The nearest point with parts that are none negative and add up to 1."""
    ordered = np.sort(x)[::-1]
    over = ordered.cumsum() - 1.0
    last = int(np.flatnonzero(ordered - over / np.arange(1, len(x) + 1) > 0)[-1])
    return np.maximum(x - over[last] / (last + 1), 0.0)
