"""Compiled: every way to cut a chain that may beat a goal, and the best strategies of a rank under given cuts."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import compiled, float64, int64, record
from ..objective import Objective
from .arrays import FLOW
from .settle import PRICED

Array = np.ndarray

INF = np.inf
SLACK = 1 + 1e-10
"""What is more than a limit by more than this is left out: priced sums are differences of larger ones."""


class Least(NamedTuple):
    """Seconds that every plan spends on transfers and on its longest link, and the goal that it must beat."""

    sent: float
    busiest: float
    goal: float


class Mean(NamedTuple):
    """The mean of a rank's moments: in flight on each chunk (J,), bytes, and prices of a byte (N,)."""

    flight: Array
    cap: float
    price: Array


class Ahead(NamedTuple):
    """One point of the dual, with strategies left open.

    Attributes
    ----------
    upto
        Least priced cost of the layers before each, were they on a chunk (J, L + 1).
    sent
        Least priced cost of a transfer behind each layer, were a chunk to end there (J, L).
    to_go
        Least priced cost of a layer on a chunk and of all behind it, ``inf`` where it cannot lie (L, J).
    due
        What is taken off for memory.
    """

    upto: Array
    sent: Array
    to_go: Array
    due: float


OBJECTIVE = record(Objective, float64, float64, float64)
MEAN = record(Mean, float64[::1], float64, float64[::1])
AHEAD = record(Ahead, float64[:, ::1], float64[:, ::1], float64[:, ::1], float64)
LEAST = record(Least, float64, float64, float64)


@compiled(int64(PRICED, OBJECTIVE, LEAST, AHEAD, float64[::1], int64, int64[:, ::1], float64[:, ::1], float64[::1]))
def list_cuts(priced, objective, least, dual, ahead, most, out, ranks_s, bounds):
    """Set the cuts (X, J + 1) that may beat the goal, the least of each rank (X, P) and of all; returns how many.

    -1 if there is no room for all, or after ``most`` nodes. ``ahead`` has the least seconds of each layer and all
    behind it, on any rank (L + 1,).
    """
    rank, upto, due = priced
    depth, layers = len(rank), upto.shape[1] - 1
    ranks, prices = due.shape
    goal = least.goal * SLACK
    fixed = objective.cross * least.sent
    longest = (goal - fixed - objective.sum * ahead[0]) / objective.peak
    start = np.zeros(depth + 1, dtype=np.int64)
    cost = np.zeros((depth + 1, ranks, prices))
    cost[0] = -due
    begun, spent = np.zeros((depth + 1, ranks)), np.zeros(depth + 1)
    found, j = 0, 0
    start[1] = 0
    while j >= 0:
        most -= 1
        if most < 0:
            return -1
        # Chunk j ends one layer later.
        start[j + 1] = max(start[j + 1], start[j]) + 1 if j < depth - 1 else max(start[j + 1] + 1, layers)
        if start[j + 1] > layers - (depth - 1 - j):
            j -= 1
            continue
        spent[j + 1] = spent[j] + dual.upto[j, start[j + 1]] - dual.upto[j, start[j]] + dual.sent[j, start[j + 1] - 1]
        if j < depth - 1 and spent[j + 1] + dual.to_go[start[j + 1], j + 1] - dual.due >= goal:
            continue
        cost[j + 1], begun[j + 1] = cost[j], begun[j]
        i, top = rank[j], 0.0
        for n in range(prices):
            cost[j + 1, i, n] += upto[j, start[j + 1], n] - upto[j, start[j], n]
            top = max(top, cost[j + 1, i, n])
        begun[j + 1, i] = max(begun[j + 1, i] + upto[j, start[j + 1], 0] - upto[j, start[j], 0], top)
        if begun[j + 1, i] > longest:
            j -= 1  # more layers on this chunk take no less
            continue
        room = 0.0
        for r in range(ranks):
            room += longest - begun[j + 1, r]
        if ahead[start[j + 1]] > room * SLACK + 1e-300:
            continue
        if j < depth - 1:
            j += 1
            start[j + 1] = start[j]
            continue
        total, peak = 0.0, least.busiest
        for r in range(ranks):
            own = 0.0
            for n in range(prices):
                own = max(own, cost[depth, r, n])
            if found < len(out):
                ranks_s[found, r] = own
            total += own
            peak = max(peak, own)
        value = fixed + objective.sum * total + objective.peak * peak
        if value < goal:
            if found == len(out):
                return -1
            out[found] = start
            bounds[found] = value
            found += 1
    return found


@compiled(int64(FLOW, MEAN, int64[:, ::1], float64, int64, int64[::1], float64[::1], int64[:, ::1]))
def fit_rank(flow, mean, layers, longest, most, weight, best, chosen):
    """The least seconds of a rank for each signature of its strategies, and these strategies.

    Parameters
    ----------
    layers
        Position and chunk of each layer of the rank (N, 2).
    longest
        Seconds beyond which nothing matters.
    weight
        What the class of a layer counts for in the signature: entered from another rank, then left for one (2 N,).
    best, chosen
        Seconds of each signature (X,), ``inf`` where there is none, and strategies (X, N).

    Returns how many nodes are left of ``most``; negative if they did not do.
    """
    count, widest = len(layers), flow.time.shape[2]
    rank = flow.rank[layers[0, 1]]
    first, last = 0, 0
    for r in range(len(flow.row)):
        if flow.row[r] < rank:
            first = r + 1
        if flow.row[r] <= rank:
            last = r + 1
    rows = last - first
    prices = len(mean.price)
    least_s, least_b = np.zeros((count + 1, prices)), np.zeros((count + 1, rows))
    for d in range(count - 1, -1, -1):
        u, j = layers[d, 0], layers[d, 1]
        fastest = np.full(prices, INF)
        smallest = np.full(rows, INF)
        for k in range(widest):
            if flow.time[u, rank, k] < INF:
                b = flow.state[u, k] + mean.flight[j] * flow.stash[u, k]
                for n in range(prices):
                    fastest[n] = min(fastest[n], flow.time[u, rank, k] + mean.price[n] * b)
                for r in range(rows):
                    smallest[r] = min(smallest[r], flow.state[u, k] + flow.flight[first + r, j] * flow.stash[u, k])
        least_s[d] = least_s[d + 1] + fastest
        for r in range(rows):
            least_b[d, r] = least_b[d + 1, r] + smallest[r]
    best[:] = INF
    seconds, bytes_, used = np.zeros(count + 1), np.zeros((count + 1, rows)), np.zeros(count + 1)
    mark, choice = np.zeros(count + 1, dtype=np.int64), np.full(count + 1, -1, dtype=np.int64)
    d = 0
    while d >= 0:
        choice[d] += 1
        if choice[d] == widest:
            choice[d] = -1
            d -= 1
            continue
        most -= 1
        if most < 0:
            return most
        u, j, k = layers[d, 0], layers[d, 1], choice[d]
        if flow.time[u, rank, k] == INF:
            continue
        s = seconds[d] + flow.time[u, rank, k]
        if d > 0 and layers[d - 1, 0] == u - 1:
            s += flow.reshard[u - 1, k, choice[d - 1]]
        used[d + 1] = used[d] + flow.state[u, k] + mean.flight[j] * flow.stash[u, k]
        fits = True
        for n in range(prices):
            fits = fits and s + least_s[d + 1, n] + mean.price[n] * (used[d + 1] - mean.cap) <= longest * SLACK
        if not fits:
            continue
        for r in range(rows):
            b = bytes_[d, r] + flow.state[u, k] + flow.flight[first + r, j] * flow.stash[u, k]
            bytes_[d + 1, r] = b
            fits = fits and (b + least_b[d + 1, r]) <= flow.cap[first + r] * SLACK
        if not fits:
            continue
        seconds[d + 1] = s
        mark[d + 1] = mark[d] + weight[2 * d] * flow.enter[u, k] + weight[2 * d + 1] * flow.leave[u, k]
        if d < count - 1:
            d += 1
            continue
        for r in range(rows):
            fits = fits and bytes_[count, r] <= flow.cap[first + r]
        if fits and s < best[mark[count]]:
            best[mark[count]] = s
            for e in range(count):
                chosen[mark[count], e] = choice[e]
    return most


@compiled(int64(FLOW, OBJECTIVE, float64[::1], int64[::1], float64[:, ::1], int64[:, ::1], int64,
                int64[::1], float64[::1]))  # fmt: skip
def join(flow, objective, edge, chunk, seconds, strategy, most, path, goal):
    """Pick of each rank one way to run its layers; sets ``path`` and ``goal`` (1,) where that is better.

    Parameters
    ----------
    edge
        Least seconds of a transfer behind each layer, 0 where none is (L,).
    chunk
        Of each layer (L,).
    seconds
        Of each way, rising, ``inf`` where there are no more (P, X).
    strategy
        Of each layer under each way of its rank (L, X).

    Returns how many nodes are left of ``most``; negative if they did not do.
    """
    ranks, ways = seconds.shape
    links = 0
    for c in flow.link:
        links = max(links, c + 1)
    count = len(chunk)
    pick = np.full(ranks + 1, -1, dtype=np.int64)
    link = np.zeros(links)
    i = 0
    while i >= 0:
        pick[i] += 1
        most -= 1
        if most < 0:
            return most
        if pick[i] == ways or seconds[i, pick[i]] == INF:
            pick[i] = -1
            i -= 1
            continue
        total, peak, sent = 0.0, 0.0, 0.0
        for r in range(ranks):
            s = seconds[r, pick[r] if r <= i else 0]
            total += s
            peak = max(peak, s)
        if objective.sum * total + objective.peak * peak >= goal[0]:
            pick[i] = -1  # later ways of this rank take no less
            i -= 1
            continue
        link[:] = 0.0
        for u in range(count - 1):
            number = flow.link[chunk[u]]
            if chunk[u] == chunk[u + 1] or number < 0:
                continue
            a, b = flow.rank[chunk[u]], flow.rank[chunk[u + 1]]
            more = edge[u]
            if a <= i and b <= i:
                more = flow.cross[u, strategy[u + 1, pick[b]], strategy[u, pick[a]]]
            sent += more
            link[number] += more
        for x in link:
            peak = max(peak, x)
        value = objective.sum * total + objective.cross * sent + objective.peak * peak
        if value >= goal[0]:
            continue
        if i < ranks - 1:
            i += 1
            pick[i] = -1
            continue
        goal[0] = value
        for u in range(count):
            path[u] = strategy[u, pick[flow.rank[chunk[u]]]]
    return most
