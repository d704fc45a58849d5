"""From cheapest plans to feasible ones: strategies refitted under the cuts of a plan, then moves nearby."""

from __future__ import annotations

import numpy as np

from .arrays import Posed
from .moves import Aim, Plan, charge, improve
from .paths import cheapest
from .relax import Climb, Dual, prices

Array = np.ndarray

HALVINGS = 12
"""Evaluations that find how dear memory must be under given cuts."""


def refit(posed: Posed, dual: Dual, path: Array) -> Array:
    """The cheapest strategies under the cuts of a path, memory of each rank just as dear as it must be to fit."""
    flow = posed.flow
    count, ranks, widest = flow.time.shape
    fixed = flow._replace(low=path[:, 0].copy(), high=path[:, 0].copy())
    to_go, new = np.empty((count, len(flow.rank), widest)), path.copy()
    used = np.zeros(ranks + posed.links + len(flow.row))
    room = np.maximum(flow.cap, 1.0)
    dear, most = dual.price * room, np.zeros(ranks)
    np.maximum.at(most, flow.row, dear)
    usual = max(float(most.max()), 1e-3 * float(dual.weight.sum() + posed.objective.sum) * _mean_s(posed))
    # Where a rank's memory has no price, all its moments get the usual one.
    dear = np.where(most[flow.row] > 1e-3 * usual, dear, usual / np.bincount(flow.row)[flow.row]) / room
    low, high = np.full(ranks, -4.0), np.full(ranks, 4.0)
    factor = np.zeros(ranks)
    found = path
    for turn in range(HALVINGS):
        at = Dual(dual.weight, dear * np.exp(factor)[flow.row])
        cheapest(fixed, prices(posed, at), to_go, new, used)
        over = np.zeros(ranks, dtype=bool)
        np.logical_or.at(over, flow.row, used[ranks + posed.links :] > flow.cap)
        low, high = np.where(over, factor, low), np.where(over, high, factor)
        if not over.any() or turn == 0:
            found = new.copy()
        factor = (low + high) / 2
    return found


def _mean_s(posed: Posed) -> float:
    time = posed.flow.time
    return float(np.where(np.isfinite(time), time, 0.0).mean() * len(time) / time.shape[1])


def polish(posed: Posed, path: Array, most: int) -> Array:
    """A better plan nearby; ``most`` moves are tried."""
    flow = posed.flow
    count, ranks, _ = flow.time.shape
    chunk, strategy = path.T
    if np.isinf(flow.time[np.arange(count), flow.rank[chunk], strategy]).any():
        return path
    plan = Plan(
        path.copy(), np.zeros(len(flow.rank), dtype=np.int64), np.zeros(ranks + posed.links), np.zeros(len(flow.row))
    )
    charge(flow, plan, 0, count - 1, 1.0)
    unit = max(float(plan.seconds.max()), 1e-300)
    total = (posed.objective.sum * ranks + posed.objective.peak) * unit
    for fine in (2.0, 100.0):
        most = improve(flow, Aim(posed.objective, unit, fine * max(total, 1e-300)), plan, most)
    return plan.path


def repaired(posed: Posed, climb: Climb, path: Array, most: int) -> Array:
    """The plan that comes of the cuts of a path."""
    return polish(posed, refit(posed, climb.best.dual, path), most)
