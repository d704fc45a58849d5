"""How many layers ranks can hold in a time: what spreading them over chunks costs at the least, without posing it.

A rank that holds ``n`` layers of one kind on its chunks needs at its fullest moment no less than on average over
moments. With ``g_j`` micro-batches of chunk j in flight on that average, ``f`` the least of them, and any price ``y``
of a byte, its time is at least (Lagrange; t, w, q are time, state and stash of a layer under a strategy)::

    A + B n,   B = cost(f),   A = sum over its chunks of (cost(g_j) - cost(f)) - y M
    cost(g) = min over strategies of t + y (w + g q)

for every chunk holds a layer, and the others cost least where the fewest are in flight. So in a time T it holds at
most ``min over y of (T - A) / B``, and the slowest rank takes no less than the T at which all ranks together hold all
layers. Of several kinds, layers are counted by weights: any are valid, those that make all equally dear bound best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..tables import Array, Moment

PRICES = 32
"""Prices of a byte that are tried, and nothing; any gives a valid bound."""

HALVINGS = 40

ROUNDING = 1e-9
"""Relative, of a count of layers."""


class Layers(NamedTuple):
    """Kinds of layers under each strategy (kinds, K), ``inf`` where there is none; how many; the kinds of both ends.

    The end that nothing feeds lies in the first chunk, the one that feeds nothing in the last; ``None`` where there are
    several.
    """

    time_s: Array
    state_bytes: Array
    stash_bytes: Array
    counts: Array
    ends: tuple[int | None, int | None]


class Counted(NamedTuple):
    """The kinds of layers that are no ends, the weight of each kind, all layers by weight, and prices of a byte."""

    inner: Array
    weights: Array
    whole: float
    prices: Array


def least_spread_s(
    layers: Layers, budgets: Array, chunks: Sequence[int], flights: Sequence[Sequence[Moment]]
) -> tuple[float, float]:
    """The least time per micro-batch of all ranks together, and of the slowest, seconds; ``inf`` if nothing fits.

    Parameters
    ----------
    budgets
        Bytes of each rank that layers may use (P,).
    chunks
        Rank of each chunk.
    flights
        The moments of each rank.
    """
    where = np.array(chunks)
    mixtures = _mixtures(where, flights)
    mean = float(mixtures[0].mean())
    if not _fits(layers, budgets, where, mixtures, mean):
        return math.inf, math.inf
    counted = _counted(layers, mean)
    whole = counted.whole
    lines = [_lines(layers, budgets, where, flight, counted) for flight in mixtures]
    start, slope = (np.concatenate(parts) for parts in zip(*lines, strict=True))
    total = float((start.reshape(-1, len(budgets)).sum(axis=1) + whole * slope.min(axis=1)).max())

    def held(slowest_s: float) -> float:
        return float(((slowest_s - start) / slope).min(axis=0).sum())

    low, high = 0.0, max(total / len(budgets), 1e-300)
    while held(high) < whole and high < 1e300:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < whole else (low, middle)
    return total, low


def _fits(layers: Layers, budgets: Array, chunks: Array, mixtures: list[Array], mean: float) -> bool:
    """Whether ranks can hold all layers in any time: the same count with bytes for seconds."""
    bytes_alone = layers._replace(time_s=np.where(np.isfinite(layers.time_s), 0.0, np.inf))
    counted = _counted(bytes_alone, mean)._replace(prices=np.ones(1))
    lines = [_lines(bytes_alone, budgets, chunks, flight, counted) for flight in mixtures]
    most = np.min([-start / slope for start, slope in lines], axis=(0, 1))
    return float(most.sum()) >= counted.whole * (1 - ROUNDING)


def _mixtures(chunks: Array, flights: Sequence[Sequence[Moment]]) -> list[Array]:
    """What each chunk has in flight on average over some moments of its rank: all, and the most even one."""
    mean, even = np.zeros((2, len(chunks)))
    for rank, moments in enumerate(flights):
        counts = np.array(moments)
        mean[chunks == rank] = counts.mean(axis=0)
        even[chunks == rank] = max(counts, key=lambda moment: (moment.min(), moment.sum()))
    return [mean, even] if (mean != even).any() else [mean]


def _counted(layers: Layers, flight: float) -> Counted:
    """All layers but the ends, weighed by what they cost at the middle price where so many are in flight."""
    counts = layers.counts.copy()
    for kind in layers.ends:
        if kind is not None:
            counts[kind] -= 1
    main = int(counts.argmax())
    possible = np.isfinite(layers.time_s[main])
    need = layers.state_bytes[main, possible] + flight * layers.stash_bytes[main, possible]
    unit = layers.time_s[main, possible].min() / max(float(need.min()), 1e-300)
    prices = np.append(0.0, unit * np.geomspace(1e-3, 10.0, PRICES))
    middle = prices[[PRICES // 2]] if unit > 0 else np.ones(1)
    dear = np.maximum(_costs(layers, middle, np.array([flight]))[:, 0, 0], 1e-300)
    inner = np.flatnonzero(counts > 0)
    return Counted(inner, dear / dear[main], float(counts @ (dear / dear[main])), prices)


def _lines(layers: Layers, budgets: Array, chunks: Array, flight: Array, counted: Counted) -> tuple[Array, Array]:
    """``A`` and ``B``, shapes (prices, P)."""
    ranks = range(len(budgets))
    levels, level = np.unique(flight, return_inverse=True)
    least = np.searchsorted(levels, [flight[chunks == rank].min() for rank in ranks])
    cost = _costs(layers, counted.prices, levels)
    unit = counted.weights[:, None, None]
    inner = cost[counted.inner] / unit[counted.inner]
    slope = inner[:, :, least].min(axis=0) if len(inner) else np.ones((len(counted.prices), len(budgets)))
    extra = np.zeros((len(counted.prices), len(chunks)))
    if len(inner):
        extra = ((inner[:, :, level] - slope[:, chunks]) * unit[counted.inner]).min(axis=0)
    for kind, chunk in zip(layers.ends, (0, -1), strict=True):
        if kind is not None:
            extra[:, chunk] = cost[kind][:, level[chunk]]
    start = np.stack([extra[:, chunks == rank].sum(axis=1) for rank in ranks], axis=1)
    return start - counted.prices[:, None] * budgets, np.maximum(slope, 1e-300)


def _costs(layers: Layers, prices: Array, levels: Array) -> Array:
    """The cheapest strategy of each kind by price and by what is in flight, shape (kinds, prices, levels)."""
    found = np.empty((len(layers.time_s), len(prices), len(levels)))
    for kind, time_s in enumerate(layers.time_s):
        possible = np.isfinite(time_s)
        need = layers.state_bytes[kind, possible] + levels[:, None] * layers.stash_bytes[kind, possible]
        found[kind] = (time_s[possible] + prices[:, None, None] * need).min(axis=2)
    return found
