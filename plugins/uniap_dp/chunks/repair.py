"""From the dual to feasible plans: cuts that balance the ranks, strategies that fit under them, and moves nearby."""

from __future__ import annotations

import numpy as np

from .arrays import Posed
from .moves import Aim, Plan, charge, improve
from .paths import cheapest
from .relax import Dual, mean_moments, prices
from .settle import Priced, settle

Array = np.ndarray

HALVINGS = 14
"""Evaluations that find how dear memory must be under given cuts."""

PRICES = 1.7 ** np.arange(-10, 10)
"""Prices at which ranks are balanced, in parts of a layer's seconds for a layer's bytes; and 0."""

SHIFTS = 20_000
"""Cuts that are tried."""


def even(posed: Posed) -> Array:
    """First layer of each chunk, and the end, where all have as much to do by the fastest strategies (J + 1,)."""
    time = posed.flow.time.min(axis=(1, 2))
    done = np.concatenate([[0.0], time.cumsum()])
    depth = len(posed.flow.rank)
    return spread(np.interp(np.arange(depth + 1) / depth * done[-1], done, np.arange(len(done))), len(time))


def spread(start: Array, count: int) -> Array:
    """Starts rounded so that no chunk is empty."""
    depth = len(start) - 1
    whole: Array = np.rint(start).astype(np.int64)
    whole[0], whole[depth] = 0, count
    for j in range(1, depth):
        whole[j] = max(whole[j], whole[j - 1] + 1)
    for j in range(depth - 1, 0, -1):
        whole[j] = min(whole[j], whole[j + 1] - 1)
    return whole


def rank_prices(posed: Posed, dual: Dual) -> Priced:
    """What layers and ranks cost at a few prices of memory, on the mean of each rank's moments."""
    flow = posed.flow
    flight, cap = mean_moments(posed, dual)
    finite = np.where(np.isfinite(flow.time), flow.time, 0.0)
    usual = finite.mean() / max(float((flow.state + flow.stash * flight.mean()).mean()), 1e-300)
    price = usual * np.concatenate([[0.0], PRICES])
    upto = np.zeros((len(flow.rank), len(flow.time) + 1, len(price)))
    dear = 1e3 * float(finite.max()) + 1e-300
    known: dict[tuple[int, float], int] = {}
    for j, (rank, count) in enumerate(zip(flow.rank.tolist(), flight.tolist(), strict=True)):
        same = known.setdefault((rank, count), j)
        if same == j:
            seconds = np.minimum(flow.time[:, rank], dear)
            need = flow.state + count * flow.stash
            upto[j, 1:] = (seconds[:, :, None] + need[:, :, None] * price).min(axis=1).cumsum(axis=0)
        else:
            upto[j] = upto[same]
    return Priced(flow.rank, upto, cap[:, None] * price)


def balanced(posed: Posed, dual: Dual, start: Array) -> Array:
    """Better cuts near these, chunk of each layer (L,)."""
    priced = rank_prices(posed, dual)
    unit = max(float(priced.upto[0, -1, 0]) / len(priced.due), 1e-300)
    start = start.copy()
    settle(priced, posed.objective, unit, start, SHIFTS)
    return np.searchsorted(start[:-1], np.arange(len(posed.flow.time)), side="right") - 1


def refit(posed: Posed, dual: Dual, path: Array) -> tuple[Array, Dual]:
    """The cheapest strategies under the cuts of a path, the memory of each rank just as dear as it must be to fit."""
    flow = posed.flow
    count, ranks, widest = flow.time.shape
    fixed = flow._replace(low=path[:, 0].copy(), high=path[:, 0].copy())
    here = flow.rank[path[:, 0]]
    to_go, new = np.empty((count, len(flow.rank), widest)), path.copy()
    used = np.zeros(ranks + posed.links + len(flow.row))
    room, dear = np.maximum(flow.cap, 1.0), dual.price.copy()
    most = np.zeros(ranks)
    np.maximum.at(most, flow.row, dear * room)
    finite = np.where(np.isfinite(flow.time), flow.time, 0.0)
    usual = float(dual.weight.sum() + posed.objective.sum + 1e-9) * float(finite.mean()) * count / ranks
    bare = most[flow.row] <= 1e-6 * usual
    dear = np.where(bare, 0.1 * usual / np.bincount(flow.row)[flow.row] / room, dear)
    low, high, factor = np.full(ranks, -7.0), np.full(ranks, 7.0), np.zeros(ranks)
    found, fits = path.copy(), np.zeros(ranks, dtype=bool)
    for turn in range(HALVINGS):
        if turn == 1:
            factor = np.where(fits, low, high)
        at = Dual(dual.weight, dear * np.exp(factor)[flow.row])
        if not np.isfinite(cheapest(fixed, prices(posed, at), to_go, new, used)):
            return path, dual
        over = np.zeros(ranks, dtype=bool)
        np.logical_or.at(over, flow.row, used[ranks + posed.links :] > flow.cap)
        take = ~over | ~fits
        found[:, 1] = np.where(take[here], new[:, 1], found[:, 1])
        fits |= ~over
        low, high = np.where(over, factor, low), np.where(over, high, factor)
        factor = (low + high) / 2
    return found, Dual(dual.weight, dear * np.exp(high)[flow.row])


def polish(posed: Posed, path: Array, most: int) -> Array:
    """A better plan nearby; ``most`` moves are tried."""
    flow = posed.flow
    count, ranks, _ = flow.time.shape
    chunk, strategy = path.T
    if np.isinf(flow.time[np.arange(count), flow.rank[chunk], strategy]).any():
        return path
    plan = Plan(
        path.copy(),
        np.zeros(len(flow.rank), dtype=np.int64),
        np.zeros(ranks + posed.links),
        np.zeros(len(flow.row)),
        np.searchsorted(flow.row, np.arange(ranks + 1)),
        np.zeros(ranks),
    )
    charge(flow, plan, 0, count - 1, 1.0)
    unit = max(float(plan.seconds.max()), 1e-300)
    total = (posed.objective.sum * ranks + posed.objective.peak) * unit
    for fine in (2.0, 100.0):
        most = improve(flow, Aim(posed.objective, unit, fine * max(total, 1e-300)), plan, posed.useful, most)
    return plan.path
