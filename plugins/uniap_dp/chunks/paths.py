"""Compiled: the plan of least priced cost, by one pass from the last layer to the first."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ..jit import compiled, float64, int64
from .arrays import FLOW, PRICES

INF = np.inf


@compiled(float64(FLOW, PRICES, float64[:, :, ::1], int64[:, ::1], float64[::1]))
def cheapest(flow, prices, to_go, path, used):
    """The least priced cost, ``inf`` if nothing is possible.

    Parameters
    ----------
    to_go
        Set to the least priced cost of each layer on (chunk, strategy) and all behind it, (L, J, K).
    path
        Set to (chunk, strategy) of each layer of the cheapest plan, (L, 2).
    used
        Set to what that plan uses: seconds of each rank, seconds of each link, bytes of each row.
    """
    rank, link, row, time, state, stash = flow.rank, flow.link, flow.row, flow.time, flow.state, flow.stash
    reshard, cross, low, high, linked = flow.reshard, flow.cross, flow.low, flow.high, flow.linked
    count, depth, widest = to_go.shape
    classes = flow.by_class.shape[2]
    to_go[:] = INF
    # What is behind: the least of each class that enters it, and of each class that leaves this layer.
    near, out, beyond = np.empty((depth, classes)), np.empty(classes), 0.0
    for u in range(count - 1, -1, -1):
        least = INF
        for j in range(low[u], high[u] + 1):
            out[:] = INF
            if u == count - 1:
                if not linked or j == depth - 1:
                    out[:] = 0.0
            elif not linked:
                out[:] = beyond
            else:
                for i in range(j, min(j + 2, depth)):
                    if i < low[u + 1] or i > high[u + 1]:
                        continue
                    inside = i == j or link[j] < 0
                    price = prices.rank[rank[j]] if inside else prices.link[link[j]]
                    table = flow.by_class[0 if inside else 1, u]
                    for q in range(classes):
                        after = near[i, q]
                        if after < INF:
                            for p in range(classes):
                                out[p] = min(out[p], after + price * table[q, p])
            i = rank[j]
            near[j] = INF
            for k in range(widest):
                if time[u, i, k] < INF:
                    value = (
                        out[flow.leave[u, k]]
                        + prices.rank[i] * time[u, i, k]
                        + prices.state[j] * state[u, k]
                        + prices.stash[j] * stash[u, k]
                    )
                    to_go[u, j, k] = value
                    least = min(least, value)
                    near[j, flow.enter[u, k]] = min(near[j, flow.enter[u, k]], value)
        beyond = least
    if beyond == INF:
        return INF
    used[:] = 0.0
    flight, ranks, links = flow.flight, time.shape[1], len(prices.link)
    a, b = 0, 0
    for u in range(count):
        least, j, k = INF, 0, 0
        first, last = low[u], high[u]
        if linked:
            first, last = (a, min(a + 1, depth - 1)) if u else (0, 0)
        for i in range(max(first, low[u]), min(last, high[u]) + 1):
            inside = i == a or link[a] < 0
            for m in range(widest):
                value = to_go[u, i, m]
                if linked and u and value < INF:
                    if inside:
                        value += prices.rank[rank[a]] * reshard[u - 1, m, b]
                    else:
                        value += prices.link[link[a]] * cross[u - 1, m, b]
                if value < least:
                    least, j, k = value, i, m
        if linked and u:
            if j == a or link[a] < 0:
                used[rank[a]] += reshard[u - 1, k, b]
            else:
                used[ranks + link[a]] += cross[u - 1, k, b]
        used[rank[j]] += time[u, rank[j], k]
        for r in range(len(row)):
            if row[r] == rank[j]:
                used[ranks + links + r] += state[u, k] + flight[r, j] * stash[u, k]
        path[u, 0], path[u, 1] = j, k
        a, b = j, k
    return beyond
