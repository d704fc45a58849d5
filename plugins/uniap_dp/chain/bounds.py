"""Compiled, of short chains: what stages and the rest behind a cut cost at least, under prices of memory.

``L`` layers, ``P`` stages and ``K`` strategies are the sizes of arrays.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ..jit import compiled, float64, int64, void
from .arrays import FRONTS, GOAL, PRICED, ROWS, TABLES

INF = np.inf

PRICES = 4
LOWER = 0.8
HIGHER = 1.25
"""Prices of memory per stage: what an even cut asks for, a little less and more, and none."""

CORNERS = 8
"""Labels of a front over cuts."""

ROUNDING = 1e-13
"""More than the relative error of any sum here."""


@compiled(int64(TABLES, ROWS))
def number_rows(tables, rows):
    """Fill ``rows``, which are 0; returns the most rows of a layer."""
    own, link, _, _ = tables
    row, first, many = rows
    layers, depth, widest, _ = own.shape
    most = many[layers - 1] = 1
    for u in range(layers - 1):
        for k in range(widest):
            possible, found = False, False
            for i in range(depth):
                possible = possible or own[u, i, k, 0] < INF
            for q in range(many[u]):
                same = True
                for x in range(widest):
                    if not same:
                        break
                    for y in range(2):
                        same = same and link[y, u, k, x] == link[y, u, first[u, q], x]
                if same:
                    row[u, k], found = q, True
            if possible and not found:
                row[u, k], first[u, many[u]] = many[u], k
                many[u] += 1
        most = max(most, many[u])
    return most


@compiled(float64(TABLES, ROWS, int64, int64, int64, float64[:, :, ::1]), inner=True)
def even_price(tables, rows, i, begin, stop, best):
    """The price at which layers ``begin .. stop`` of stage ``i`` just fit; 0 if the fastest do.

    Newton's method on the dual: the price at which the fastest choice and the smallest cost the same, and then in place
    of one of them what is best at that price. ``best`` is room for the best behind each row of a layer and of the one
    before: value, seconds, bytes (2, K, 3).
    """
    own, link, _, cap = tables
    row, first, many = rows
    widest, side = own.shape[2], 0
    left_s, left_b, right_s, right_b, price = 0.0, 0.0, 0.0, 0.0, 0.0
    for turn in range(10):
        for q in range(many[stop - 1]):
            best[side, q, 1] = best[side, q, 2] = 0.0
        for u in range(stop - 1, begin - 1, -1):
            before, after = many[u - 1] if u > begin else 1, side
            side = 1 - side
            for q in range(before):
                best[side, q, 0] = INF
            for k in range(widest):
                q = row[u, k]
                seconds, size = own[u, i, k, 0] + best[after, q, 1], own[u, i, k, 1] + best[after, q, 2]
                for q in range(before):
                    link_s = link[0, u - 1, first[u - 1, q], k] if u > begin else 0.0
                    value = size if turn == 1 and seconds < INF else seconds + link_s + price * size
                    if value < best[side, q, 0]:
                        best[side, q, 0], best[side, q, 1], best[side, q, 2] = value, seconds + link_s, size
        middle_s, middle_b = best[side, 0, 1], best[side, 0, 2]
        if turn > 1 and middle_s + price * middle_b >= (left_s + price * left_b) * (1 - 1e-9):
            break
        if turn != 1 and middle_b > cap[i]:
            left_s, left_b = middle_s, middle_b
        elif turn == 0:
            break
        else:
            right_s, right_b = middle_s, middle_b
        if turn > 0:
            if not (right_b < left_b and left_s < right_s < INF):
                break
            price = (right_s - left_s) / (left_b - right_b)
    return price


@compiled(void(TABLES, ROWS, PRICED, float64[:, :, ::1], float64[:, :, ::1]))
def bound_stages(tables, rows, priced, low, room):
    """Fill ``priced``, and ``low[i, a, b]``: no stage ``i`` over layers ``a .. b`` is shorter. ``room``: (2, K, 3)."""
    own, link, _, cap = tables
    row, first, many = rows
    price, count, to_go = priced
    layers, depth, widest, _ = own.shape
    for i in range(depth):
        middle = even_price(tables, rows, i, layers * i // depth, layers * (i + 1) // depth, room)
        count[i] = PRICES if middle > 0.0 else 1
        price[i, 0], price[i, 1], price[i, 2], price[i, 3] = middle, LOWER * middle, HIGHER * middle, 0.0
        slack = abs(cap[i])
        for u in range(layers):
            largest = 0.0
            for k in range(widest):
                largest = max(largest, own[u, i, k, 1])
            slack += largest
        for b in range(i if i < depth - 1 else layers - 1, layers - (depth - 1 - i)):
            for q in range(many[b]):
                to_go[i, b, q, b, PRICES] = -ROUNDING * abs(cap[i])
                for r in range(count[i]):
                    to_go[i, b, q, b, r] = -price[i, r] * (cap[i] + ROUNDING * slack)
            for a in range(b, i - 1, -1):
                need, low[i, a, b] = INF, 0.0
                for k in range(widest):
                    if own[a, i, k, 0] < INF:
                        need = min(need, own[a, i, k, 1] + to_go[i, a, row[a, k], b, PRICES])
                before = many[a - 1] if a > i else 0
                for q in range(before):
                    to_go[i, a - 1, q, b, PRICES] = need
                for r in range(count[i]):
                    best = INF
                    for q in range(before):
                        to_go[i, a - 1, q, b, r] = INF
                    for k in range(widest):
                        value = own[a, i, k, 0] + price[i, r] * own[a, i, k, 1] + to_go[i, a, row[a, k], b, r]
                        best = min(best, value)
                        for q in range(before):
                            behind = link[0, a - 1, first[a - 1, q], k] + value
                            to_go[i, a - 1, q, b, r] = min(to_go[i, a - 1, q, b, r], behind)
                    low[i, a, b] = max(low[i, a, b], best)
                if need > cap[i]:
                    low[i, a, b] = INF


@compiled(int64(float64[:, ::1], int64, float64, float64, float64))
def put(front, n, s, t, weight):
    """Add (s, t) to a front; where it is full, in the place of the nearest label and as low as both."""
    if n == len(front):
        near, least = 0, INF
        for x in range(n):
            distance = abs(front[x, 0] - s) + weight * abs(front[x, 1] - t)
            if distance < least:
                near, least = x, distance
        s, t = min(s, front[near, 0]), min(t, front[near, 1])
    x = 0
    while x < n:
        if front[x, 0] <= s and front[x, 1] <= t:
            return n
        if s <= front[x, 0] and t <= front[x, 1]:
            n -= 1
            front[x, 0], front[x, 1] = front[n, 0], front[n, 1]
        else:
            x += 1
    front[n, 0], front[n, 1] = s, t
    return n + 1


@compiled(float64(GOAL, float64[::1], float64[:, :, ::1], FRONTS))
def bound_cuts(goal, border, low, fronts):
    """The program over cuts on ``low``, backward and below a goal; returns the bound on the whole chain."""
    front, size = fronts
    below, (weight_p, weight_o, weight_t) = goal
    depth, layers, _ = low.shape
    for a in range(layers + 1):
        size[depth, a] = 0
    front[depth, layers, 0, 0], front[depth, layers, 0, 1], size[depth, layers] = 0.0, 0.0, 1
    for i in range(depth - 1, -1, -1):
        for a in range(layers + 1):
            n = 0
            if i <= a < layers - (depth - 1 - i) and (i > 0 or a == 0):
                for b in range(a, layers - (depth - 1 - i)):
                    if low[i, a, b] == INF:
                        continue
                    more = weight_o * border[a] + weight_p * low[i, a, b]
                    for y in range(size[i + 1, b + 1]):
                        s = more + front[i + 1, b + 1, y, 0]
                        t = max(border[a], low[i, a, b], front[i + 1, b + 1, y, 1])
                        if s + weight_t * t < below:
                            n = put(front[i, a], n, s, t, weight_t)
            size[i, a] = n
    best = INF
    for y in range(size[0, 0]):
        best = min(best, front[0, 0, y, 0] + weight_t * front[0, 0, y, 1])
    return best
