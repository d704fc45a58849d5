"""The compiled pass over a short chain: bounds on stages and on the rest behind a cut, then labels below rising goals.

A label is a partial plan (total, peak, time, memory): seconds of all that is placed, of the longest closed stage or
boundary, of the open stage, and bytes of the open stage. All is in one module because a cached loop holds a copy of
those that it calls and does not notice when another file changes. ``L`` layers, ``P`` stages and ``K`` strategies are
the sizes of arrays.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import compiled

INF = np.inf

PRICES = 4
LOWER = 0.8
HIGHER = 1.25
"""Prices of memory per stage: what an even cut asks for, half and twice that, and none."""

CORNERS = 8
"""Labels of a front over cuts."""

ROUNDING = 1e-13
"""More than the relative error of any sum here."""

FIRST_GAP = 0.024
"""How far above the bound the goal of the first pass is, per stage up to four, and per layer: what one layer can be
off is the less of the whole the more there are, and a stage more is a choice of bytes more that bounds relax."""

FEW_LABELS = 200
"""After a pass with fewer, the goal may rise faster."""

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
LABELS = "Tuple((f8[:, ::1], i8[:, ::1]))"
"""(label, trail): labels (N, 4), and (label before, stage, strategy, signature) of shape (N, 4). The first is the empty
plan."""
SKIPS = "Tuple((i8[::1], f8[:, ::1], i8[:, ::1], i8[::1], i8[::1], f8[::1]))"
"""(first, extra, after, arc, into, toll): ``skips.Skips``."""
AHEAD = "Tuple((f8, f8[::1], i8, i8, f8[:, ::1], f8[:, :, ::1], i8[::1]))"
"""(cap, price, count, nearest, to go, front, size): ``PRICED`` and ``FRONTS`` as seen from a stage and a row, and the
nearest layer that can be the last of the stage."""


# --- bounds -----------------------------------------------------------------------------------------------------------


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


@compiled(f"f8({TABLES}, {ROWS}, i8, i8, i8)")
def even_price(tables, rows, i, begin, stop):
    """The price at which layers ``begin .. stop`` of stage ``i`` just fit; 0 if the fastest do.

    Newton's method on the dual: the price at which the fastest choice and the smallest cost the same, and then in place
    of one of them what is best at that price.
    """
    own, link, _, cap = tables
    row, first, many = rows
    widest = own.shape[2]
    # The best behind each row of a layer and of the one before: value, seconds, bytes.
    best, side = np.zeros((2, widest + 1, 3)), 0
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


@compiled(f"void({TABLES}, {ROWS}, {PRICED}, f8[:, :, ::1])")
def bound_stages(tables, rows, priced, low):
    """Fill ``priced``, and ``low[i, a, b]``: no stage ``i`` over layers ``a .. b`` is shorter."""
    own, link, _, cap = tables
    row, first, many = rows
    price, count, to_go = priced
    layers, depth, widest, _ = own.shape
    for i in range(depth):
        middle = even_price(tables, rows, i, layers * i // depth, layers * (i + 1) // depth)
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
                to_go[i, b, q, b, PRICES] = 0.0
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


# --- labels -----------------------------------------------------------------------------------------------------------


@compiled(f"b1(f8, f8, f8, f8, f8, f8, {AHEAD})")
def promising(goal, weight, total, peak, time, memory, ahead):
    """Whether a label can end below the goal, whatever the last layer of its stage."""
    cap, price, count, nearest, to_go, front, size = ahead
    for b in range(nearest, len(to_go)):
        if size[b + 1] == 0:
            continue
        if memory + to_go[b, PRICES] > cap + ROUNDING * abs(cap):
            return False
        more, longest = 0.0, 0.0
        for r in range(count):
            more = max(more, to_go[b, r] + price[r] * memory)
            longest = max(peak, time + more)
            if total + more + weight * longest >= goal:
                return False
        for y in range(size[b + 1]):
            if total + more + front[b + 1, y, 0] + weight * max(longest, front[b + 1, y, 1]) < goal:
                return True
    return False


@compiled(f"i8({LABELS}, i8, i8, f8, f8, f8, f8, i8)")
def make_room(labels, begin, used, total, peak, time, memory, signature):
    """Drop labels ``begin .. used`` that a new one replaces; returns how many are left in all, -1 if it is replaced."""
    label, trail = labels
    x = begin
    while x < used:
        if trail[x, 3] != signature:
            x += 1
            continue
        if label[x, 0] <= total and label[x, 1] <= peak and label[x, 2] <= time and label[x, 3] <= memory:
            return -1
        if total <= label[x, 0] and peak <= label[x, 1] and time <= label[x, 2] and memory <= label[x, 3]:
            used -= 1
            for y in range(4):
                label[x, y], trail[x, y] = label[used, y], trail[used, y]
        else:
            x += 1
    return used


@compiled(f"Tuple((i8, i8))({LABELS}, i8, i8, i8, i8, i8, i8, i8, b1, f8, f8, f8, f8, f8, i8, {AHEAD}, {SKIPS})")
def add(labels, begin, used, start, stop, u, i, k, opens, link_s, own_s, own_b, goal, weight, steps, ahead, skips):
    """Extend labels ``start .. stop`` by strategy ``k`` of layer ``u`` on stage ``i``, which it may open.

    New labels go behind those from ``begin`` on. Returns (labels, steps left); steps are -1 if there is no room.
    """
    label, trail = labels
    first, extra, after, arc, into, toll = skips
    base = first[u]
    for x in range(start, stop):
        signature, z, beyond = base + trail[x, 3], 0, 1
        if opens:
            z, beyond = arc[signature], arc[signature + 1]
        while z < beyond:
            border_s = link_s
            if opens:
                signature, border_s = base + into[z], link_s + toll[z]
            z += 1
            own = own_s + extra[signature, k]
            total, peak, time, memory = label[x, 0] + border_s + own, label[x, 1], own, own_b
            if opens:
                peak = max(peak, label[x, 2], border_s)
            else:
                time, memory = label[x, 2] + border_s + own, label[x, 3] + own_b
            steps -= 8
            if memory > ahead[0] or not promising(goal, weight, total, peak, time, memory, ahead):
                continue
            steps -= used - begin
            left = make_room(labels, begin, used, total, peak, time, memory, after[signature, k])
            if left < 0:
                continue
            used = left
            if used == len(label) or steps < 0:
                return used, -1
            label[used, 0], label[used, 1], label[used, 2], label[used, 3] = total, peak, time, memory
            trail[used, 0], trail[used, 1], trail[used, 2], trail[used, 3] = x, i, k, after[signature, k]
            used += 1
    return used, steps


@compiled(f"Tuple((i8, i8))(f8, f8, i8, {TABLES}, {ROWS}, {PRICED}, {FRONTS}, {SKIPS}, i8[:, :, ::1], {LABELS})")
def extend(goal, weight, steps, tables, rows, priced, fronts, skips, at, labels):
    """One pass: all labels that matter below a goal, and steps left; steps are -1 if the pass ended early.

    Labels of row ``q`` of layer ``u - 1`` on stage ``i`` are ``at[u, i, q] .. at[u, i, q + 1]``; ``at`` comes in as 0.
    """
    own, link, _, cap = tables
    row, first, many = rows
    price, count, to_go = priced
    front, size = fronts
    layers, depth, widest, _ = own.shape
    at[0, 0, 1], used = 1, 1
    for u in range(layers):
        for i in range(max(0, depth - layers + u), min(u + 1, depth)):
            nearest = u
            while nearest < layers and size[i + 1, nearest + 1] == 0:
                nearest += 1
            for q in range(many[u]):
                at[u + 1, i, q] = begin = used
                ahead = cap[i], price[i], count[i], nearest, to_go[i, u, q], front[i + 1], size[i + 1]
                for k in range(widest):
                    if row[u, k] != q or own[u, i, k, 0] == INF:
                        continue
                    for opens in range(2 if i > 0 else 1):
                        for p in range(many[max(0, u - 1)]):
                            start, stop = at[u, i - opens, p], at[u, i - opens, p + 1]
                            if start >= stop:
                                continue
                            link_s = link[opens, u - 1, first[u - 1, p], k] if u > 0 else 0.0
                            used, steps = add(
                                labels, begin, used, start, stop, u, i, k, opens > 0, link_s,
                                own[u, i, k, 0], own[u, i, k, 1], goal, weight, steps, ahead, skips,
                            )  # fmt: skip
                            if steps < 0:
                                return used, -1
                at[u + 1, i, q + 1] = used
    return used, steps


@compiled(
    f"i8(f8, f8, i8, i8, {TABLES}, {ROWS}, {PRICED}, f8[:, :, ::1], {FRONTS}, {SKIPS}, i8[:, :, ::1], {LABELS},"
    "f8[::1], i8[:, ::1])"
)
def climb(goal, weight, steps, most_rows, tables, rows, priced, low, fronts, skips, at, labels, bound, path):
    """Passes below rising goals until one finds a plan, whose best goes into ``path`` as (stage, strategy).

    Returns how many labels the last pass kept; -1 if a layer has more than ``most_rows`` rows, -2 if ``steps`` or
    the room for labels ran out. ``bound[0]`` is what was proven by then.
    """
    label, trail = labels
    layers, depth, _, _ = tables[0].shape
    if number_rows(tables, rows) > most_rows:
        return -1
    bound_stages(tables, rows, priced, low)
    root = bound_cuts(goal, weight, tables[2], low, fronts)
    bound[0] = min(root, goal)
    used, gap = 0, FIRST_GAP * min(depth, 4) / layers
    while bound[0] < goal:
        below = goal if gap > 1.0 else min(goal, root * (1.0 + gap))
        bound_cuts(below, weight, tables[2], low, fronts)
        used, steps = extend(below, weight, steps, tables, rows, priced, fronts, skips, at, labels)
        if steps < 0:
            return -2
        bound[0] = below
        gap *= 2.0 if used > FEW_LABELS else 4.0
        best = -1
        for x in range(at[layers, depth - 1, 0], at[layers, depth - 1, 1]):
            objective = label[x, 0] + weight * max(label[x, 1], label[x, 2])
            if objective < bound[0]:
                best, bound[0] = x, objective
        if best >= 0:
            for u in range(layers - 1, -1, -1):
                path[u, 0], path[u, 1] = trail[best, 1], trail[best, 2]
                best = trail[best, 0]
            return used
    return used
