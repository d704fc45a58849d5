"""A first point of the dual in closed form: every rank with an even share of every layer.

On rank i let ``c_i(r)`` be what its share costs where a byte costs ``r`` seconds, at the ``r`` where ``c_i(r) - r cap``
is highest. Layers are nowhere better placed than elsewhere if ``(sum + w_i) c_i`` is the same for all ranks, and the
weights ``w_i`` add up to ``peak``: so ``sum + w_i = (peak + P sum) / (c_i (1/c_0 + 1/c_1 + ...))``. A rank's price is
spread over its moments so that no chunk is cheaper than another (a matrix game, played by both sides with
multiplicative weights: Freund and Schapire 1999). Any weights and prices give a bound; these are good ones.
"""

from __future__ import annotations

import math

import numpy as np

from .arrays import Posed

Array = np.ndarray

ROUNDS = 60
"""Of the game."""

HALVINGS = 14
"""Steps to the best price of a rank, between these powers of e times its seconds for its bytes."""
LOW, HIGH = -7.0, 5.0


def evenly(posed: Posed) -> tuple[Array, Array]:
    """Weights of ranks and links (P + links,), and prices of rows of memory (M,)."""
    flow, objective = posed.flow, posed.objective
    ranks = flow.time.shape[1]
    mix, held = _moments(posed)
    cost, price = _shares(posed, held)
    once = 1 / np.maximum(cost, 1e-300)
    weight = np.maximum((objective.peak + ranks * objective.sum) * once / once.sum() - objective.sum, 0.0)
    total = float(weight.sum())
    weight = weight * (objective.peak / total) if total > 0 else np.full(ranks, objective.peak / ranks)
    dear = price * (objective.sum + weight)
    return np.concatenate([weight, np.zeros(posed.links)]), dear[flow.row] * mix


def _moments(posed: Posed) -> tuple[Array, Array]:
    """The part of each row in its rank's price (M,), and micro-batches in flight on any chunk by these parts (P,)."""
    flow = posed.flow
    mix, held = np.zeros(len(flow.row)), np.zeros(flow.time.shape[1])
    alike: dict[tuple[int, ...], list[int]] = {}
    rows = [np.flatnonzero(flow.row == i) for i in range(len(held))]
    chunks = [np.flatnonzero(flow.rank == i) for i in range(len(held))]
    for i in range(len(held)):
        alike.setdefault((len(rows[i]), len(chunks[i])), []).append(i)
    for members in alike.values():
        flight = np.array([flow.flight[np.ix_(rows[i], chunks[i])] for i in members])
        for i, parts, value in zip(members, *_game(flight), strict=True):
            mix[rows[i]], held[i] = parts, value
    return mix, held


def _game(gain: Array) -> tuple[Array, Array]:
    """Mixed rows of each matrix (N, R, C) whose least column is high (N, R), and that column (N,)."""
    _, rows, columns = gain.shape
    by_row, by_column = np.zeros(gain.shape[:2]), np.zeros((len(gain), columns))
    spread = np.maximum(np.ptp(gain, axis=(1, 2)), 1e-300)[:, None]
    pace = math.sqrt(8 * math.log(max(rows, columns, 2)) / ROUNDS) / spread
    mean = np.zeros_like(by_row)
    for _ in range(ROUNDS):
        up = np.exp(pace * (by_row - by_row.max(axis=1, keepdims=True)))
        up /= up.sum(axis=1, keepdims=True)
        down = np.exp(pace * (by_column.min(axis=1, keepdims=True) - by_column))
        down /= down.sum(axis=1, keepdims=True)
        by_row += np.einsum("nrc,nc->nr", gain, down)
        by_column += np.einsum("nr,nrc->nc", up, gain)
        mean += up / ROUNDS
    return mean, np.einsum("nr,nrc->nc", mean, gain).min(axis=1)


def _shares(posed: Posed, held: Array) -> tuple[Array, Array]:
    """What an even share costs on each rank at the best price of its memory (P,), and that price (P,)."""
    flow = posed.flow
    ranks = flow.time.shape[1]
    kinds = [posed.problem.kinds.layers[u] for u in posed.problem.order]
    _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
    share = counts / ranks
    time = flow.time[first].transpose(1, 0, 2)
    need = flow.state[first] + held[:, None, None] * flow.stash[first]
    cap = np.zeros(ranks)
    cap[flow.row] = flow.cap

    def at(price: Array) -> tuple[Array, Array]:
        cost = time + price[:, None, None] * need
        least = cost.min(axis=2)
        used = np.take_along_axis(need, cost.argmin(axis=2)[:, :, None], axis=2)[:, :, 0]
        return np.where(np.isfinite(least), least, 0.0) @ share, used @ share

    best, price = at(np.zeros(ranks))[0], np.zeros(ranks)
    unit, value = best / np.maximum(cap, 1.0), best
    low, high = np.full(ranks, LOW), np.full(ranks, HIGH)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = unit * np.exp(middle)
        cost, used = at(tried)
        better = cost - tried * cap > value
        value = np.where(better, cost - tried * cap, value)
        best, price = np.where(better, cost, best), np.where(better, tried, price)
        low, high = np.where(used > cap, middle, low), np.where(used > cap, high, middle)
    return best, price
