"""What a short chain is bounded by: stages at prices of memory, and the program over cuts on these bounds.

Every function is compiled. ``L`` layers, ``P`` stages and ``K`` strategies are the sizes of its arrays.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import compiled

INF = np.inf

PRICES = 4
"""Prices of memory per stage: none, and half, once and twice what an even cut asks for."""

CORNERS = 8
"""Labels of a front over cuts."""

ROUNDING = 1e-13
"""More than the relative error of any sum here."""

TABLES = "Tuple((f8[:, :, :, ::1], f8[:, :, :, ::1], f8[::1], f8[::1]))"
"""(own, link, border, cap): seconds and bytes of a strategy (L, P, K, 2), resharding and crossing (2, L - 1, K, K), the
least of a boundary before each layer (L,), and what layers may use on each stage, bytes (P,)."""
ROWS = "Tuple((i8[:, ::1], i8[:, ::1], i8[::1]))"
"""(row of each strategy, first strategy of each row, number of rows): (L, K) twice and (L,). Strategies with the same
rows in both tables of the link behind them have the same row."""
PRICED = "Tuple((f8[:, ::1], i8[::1], f8[:, :, :, :, ::1]))"
"""(price, count, to go): (P, PRICES), (P,) and (P, L, rows, L, PRICES + 1). ``to_go[i, u, q, b]`` is the least of the
layers ``u + 1 .. b`` on stage ``i`` behind row ``q``: seconds and priced bytes above the cap, and last bytes alone."""
FRONTS = "Tuple((f8[:, :, :, ::1], i8[:, ::1]))"
"""((sum, peak), size): (P + 1, L + 1, CORNERS, 2) and (P + 1, L + 1): the boundary before a layer, and all behind it
from a stage on."""


@compiled(f"i8({TABLES}, {ROWS})")
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
                same = not found
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


@compiled("f8(f8[:, :, :, ::1], f8, i8, i8, i8)")
def even_price(own, cap, i, begin, stop):
    """The price at which layers ``begin .. stop`` of stage ``i``, resharding aside, just fit; 0 if the fastest do.

    Between the fastest choice and the smallest: the price at which both cost the same, and then in place of one of
    them what is best at that price (Kelley's cutting planes in one dimension).
    """
    left_s, left_b, right_s, right_b, price = 0.0, 0.0, 0.0, 0.0, 0.0
    for turn in range(10):
        middle_s, middle_b = 0.0, 0.0
        for u in range(begin, stop):
            best, least = 0, INF
            for k in range(own.shape[2]):
                value = own[u, i, k, 0] + price * own[u, i, k, 1]
                if turn == 1 and value < INF:
                    value = own[u, i, k, 1]
                if value < least:
                    best, least = k, value
            middle_s, middle_b = middle_s + own[u, i, best, 0], middle_b + own[u, i, best, 1]
        if turn > 1 and middle_s + price * middle_b >= (left_s + price * left_b) * (1 - 1e-9):
            break
        if turn != 1 and middle_b > cap:
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


@compiled(f"void({TABLES}, {ROWS}, {PRICED}, f8[:, :, ::1])")
def bound_stages(tables, rows, priced, low):
    """Fill ``priced``, and ``low[i, a, b]``: no stage ``i`` over layers ``a .. b`` is shorter."""
    own, link, _, cap = tables
    row, first, many = rows
    price, count, to_go = priced
    layers, depth, widest, _ = own.shape
    for i in range(depth):
        middle = even_price(own, cap[i], i, layers * i // depth, layers * (i + 1) // depth)
        count[i] = PRICES if middle > 0.0 else 1
        price[i, 0], price[i, 1], price[i, 2], price[i, 3] = 0.0, 0.5 * middle, middle, 2.0 * middle
        slack = abs(cap[i])
        for u in range(layers):
            largest = 0.0
            for k in range(widest):
                largest = max(largest, own[u, i, k, 1])
            slack += largest
        for b in range(i, layers - (depth - 1 - i)):
            for q in range(many[b]):
                to_go[i, b, q, b, PRICES] = 0.0
                for r in range(count[i]):
                    to_go[i, b, q, b, r] = -price[i, r] * (cap[i] + ROUNDING * slack)
            for a in range(b, i - 1, -1):
                need, low[i, a, b] = INF, 0.0
                for k in range(widest):
                    if own[a, i, k, 0] < INF:
                        need = min(need, own[a, i, k, 1] + to_go[i, a, row[a, k], b, PRICES])
                before = many[a - 1] if a > i else 0
                for r in range(count[i]):
                    best = INF
                    for q in range(before):
                        to_go[i, a - 1, q, b, r], to_go[i, a - 1, q, b, PRICES] = INF, need
                    for k in range(widest):
                        value = own[a, i, k, 0] + price[i, r] * own[a, i, k, 1] + to_go[i, a, row[a, k], b, r]
                        best = min(best, value)
                        for q in range(before):
                            behind = link[0, a - 1, first[a - 1, q], k] + value
                            to_go[i, a - 1, q, b, r] = min(to_go[i, a - 1, q, b, r], behind)
                    low[i, a, b] = max(low[i, a, b], best)
                if need > cap[i] + ROUNDING * abs(cap[i]):
                    low[i, a, b] = INF


@compiled("i8(f8[:, ::1], i8, f8, f8, f8)")
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


@compiled(f"f8(f8, f8, f8[::1], f8[:, :, ::1], {FRONTS})")
def bound_cuts(goal, weight, border, low, fronts):
    """The program over cuts on ``low``, backward and below a goal; returns the bound on the whole chain."""
    front, size = fronts
    depth, layers, _ = low.shape
    for a in range(layers + 1):
        size[depth, a] = 0
    front[depth, layers, 0, 0], front[depth, layers, 0, 1], size[depth, layers] = 0.0, 0.0, 1
    for i in range(depth - 1, -1, -1):
        for a in range(layers + 1):
            n = 0
            if i <= a < layers - (depth - 1 - i) and (i > 0 or a == 0):
                for b in range(a, layers - (depth - 1 - i)):
                    for y in range(size[i + 1, b + 1]):
                        s = border[a] + low[i, a, b] + front[i + 1, b + 1, y, 0]
                        t = max(border[a], low[i, a, b], front[i + 1, b + 1, y, 1])
                        if s + weight * t < goal:
                            n = put(front[i, a], n, s, t, weight)
            size[i, a] = n
    best = INF
    for y in range(size[0, 0]):
        best = min(best, front[0, 0, y, 0] + weight * front[0, 0, y, 1])
    return best
