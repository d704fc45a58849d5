"""Short chains in one compiled pass: labels from the first layer to the last, under bounds over cuts.

Stage tables pay where many stages share them; a chain of a dozen layers is solved before they are laid out. Here one
call prices memory on every stage, bounds every stage by what its layers cost at these prices, and runs the program
over cuts backward on the bounds. Then it extends *labels* layer by layer. A label is a partial plan: ``total`` seconds
of all that is placed, ``peak`` of closed stages and boundaries, and ``time`` and ``memory`` of the open stage. Among
labels of one stage whose last strategies have equal rows of resharding, one that is at least as good in all four
replaces another; one that cannot end below the goal is dropped. Goals rise from the bound on the whole chain, and the
first that a plan meets proves the best such plan.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from uniap_core.api import Assignment, EdgeTable, Problem

from .dense import dense, stack
from .jit import compiled

Array = np.ndarray

INF = np.inf

MOST_LAYERS = 64
"""Longer chains are not short."""

MOST_WORK = 2_000_000
"""Sums behind the bounds on stages beyond which a chain is not short either."""

MOST_LABELS = 4096
"""Labels of one pass; with more, stage tables are faster."""

PRICES = 4
"""Prices of memory per stage: none, and half, once and twice what an even cut asks for."""

CORNERS = 8
"""Labels of a front over cuts."""

ROUNDING = 1e-13
"""More than the relative error of any sum here."""

GOALS = np.array([1.003, 1.012, 1.05, 1.2, INF])
"""Goals of the passes, as multiples of the bound."""

TABLES = "Tuple((f8[:, :, ::1], f8[:, :, ::1], f8[::1], f8[:, :, ::1], f8[:, :, ::1]))"
"""(time, memory, cap, reshard, cross): (L, P, K) twice, (P,), and (L - 1, K, K) twice."""
ROWS = "Tuple((i8[:, ::1], i8[:, ::1], i8[::1]))"
"""(row of each strategy, first strategy of each row, number of rows): (L, K) twice and (L,)."""
COSTS = "Tuple((f8[:, ::1], f8[:, ::1], i8[::1]))"
"""(price, charge, count): (P, PRICES) twice and (P,); ``charge`` is a little more than the price of the cap."""
TO_GO = "Tuple((f8[:, :, :, :, ::1], f8[:, :, :, ::1]))"
"""(priced, memory): (P, L, rows, L, PRICES) and (P, L, rows, L): the least to go to the end of a stage."""
FRONTS = "Tuple((f8[:, :, ::1], f8[:, :, ::1], i8[:, ::1]))"
"""(total, peak, size): (P + 1, L + 1, CORNERS) twice and (P + 1, L + 1): boundary into a stage, and all after it."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    assignment
        The best one below the goal, if ``done``; ``None`` if there is none.
    bound_s
        No plan is shorter.
    done
        False if the search ended early.
    labels
        Number of labels of the last pass.
    """

    assignment: Assignment | None
    bound_s: float
    done: bool
    labels: int


def search(problem: Problem, goal: float, most: int, steps: int) -> Found | None:
    """The best assignment strictly below a goal; ``None`` if this is not a short chain.

    Parameters
    ----------
    most
        Labels that one pass may keep before the search ends early.
    steps
        Labels that all passes may look at.
    """
    edges = _links(problem)
    if edges is None:
        return None
    layers = dense(problem)
    count, _, widest = layers.time.shape
    tables = (
        layers.time, layers.memory, layers.cap,
        stack([e.reshard_s for e in edges], (widest, widest)), stack([e.cross_s for e in edges], (widest, widest)),
    )  # fmt: skip
    label, trail = np.empty((min(most, MOST_LABELS), 4)), np.empty((min(most, MOST_LABELS), 3), dtype=np.int64)
    bound, path = np.zeros(1), np.full((count, 2), -1, dtype=np.int64)
    used = climb(
        goal, problem.micro_batches - 1.0, steps, MOST_WORK, tables, layers.sizes, GOALS, label, trail, bound, path
    )
    if used == -1:
        return None
    chosen = None
    if path[0, 0] >= 0:
        stage, strategy = [0] * count, [0] * count
        for u, (i, k) in zip(problem.order, path.tolist(), strict=True):
            stage[u], strategy[u] = i, k
        chosen = Assignment(tuple(stage), tuple(strategy))
    return Found(chosen, float(bound[0]), used >= 0, max(used, 0))


def _links(problem: Problem) -> list[EdgeTable] | None:
    """The edge behind each layer but the last, if every layer feeds the next one and no other."""
    if len(problem.layers) > MOST_LAYERS or len(problem.edges) != len(problem.layers) - 1:
        return None
    order = problem.order
    following = dict(pairwise(order))
    leaving = {e.source: e for e in problem.edges if following.get(e.source) == e.target}
    if len(leaving) != len(problem.edges):
        return None
    return [leaving[u] for u in order[:-1]]


# --- compiled: bounds -------------------------------------------------------------------------------------------


@compiled(f"i8({TABLES}, i8[::1], {ROWS})")
def group(tables, sizes, rows):
    """Number the different rows of resharding and crossing; returns how many a layer has at most. ``rows`` are 0."""
    _, _, _, reshard, cross = tables
    row, first, many = rows
    last, most = len(sizes) - 1, 1
    for u in range(last):
        for k in range(sizes[u]):
            row[u, k] = -1
            for c in range(many[u]):
                h, same = first[u, c], True
                for x in range(sizes[u + 1]):
                    if reshard[u, h, x] != reshard[u, k, x] or cross[u, h, x] != cross[u, k, x]:
                        same = False
                        break
                if same:
                    row[u, k] = c
                    break
            if row[u, k] < 0:
                row[u, k] = many[u]
                first[u, many[u]] = k
                many[u] += 1
        most = max(most, many[u])
    many[last] = 1
    return most


@compiled("f8(f8[:, :, ::1], f8[:, :, ::1], f8, i8, i8, i8)")
def even_price(time, memory, cap, i, begin, stop):
    """The price at which layers ``begin .. stop`` of stage ``i``, resharding aside, just fit; 0 if the fastest do."""
    left_s, left_b, right_s, right_b = 0.0, 0.0, 0.0, 0.0
    for u in range(begin, stop):
        fast, small = 0, 0
        for k in range(time.shape[2]):
            if time[u, i, k] < time[u, i, fast]:
                fast = k
            if time[u, i, k] < INF and (memory[u, i, k] < memory[u, i, small] or time[u, i, small] == INF):
                small = k
        left_s, left_b = left_s + time[u, i, fast], left_b + memory[u, i, fast]
        right_s, right_b = right_s + time[u, i, small], right_b + memory[u, i, small]
    price = 0.0
    if left_b <= cap:
        return price
    for _ in range(8):
        if not (right_b < left_b and left_s < right_s < INF):
            break
        price = (right_s - left_s) / (left_b - right_b)
        middle_s, middle_b = 0.0, 0.0
        for u in range(begin, stop):
            best = 0
            for k in range(time.shape[2]):
                if time[u, i, k] + price * memory[u, i, k] < time[u, i, best] + price * memory[u, i, best]:
                    best = k
            middle_s, middle_b = middle_s + time[u, i, best], middle_b + memory[u, i, best]
        if middle_s + price * middle_b >= (left_s + price * left_b) * (1 - 1e-9):
            break
        if middle_b > cap:
            left_s, left_b = middle_s, middle_b
        else:
            right_s, right_b = middle_s, middle_b
    return price


@compiled(f"void({TABLES}, {COSTS})")
def set_prices(tables, costs):
    """Prices of memory on every stage; none is wrong, good ones bound well."""
    time, memory, cap, _, _ = tables
    price, charge, count = costs
    layers, depth, widest = time.shape
    for i in range(depth):
        middle = even_price(time, memory, cap[i], i, layers * i // depth, layers * (i + 1) // depth)
        all_b = abs(cap[i])
        for u in range(layers):
            largest = 0.0
            for k in range(widest):
                largest = max(largest, memory[u, i, k])
            all_b += largest
        count[i] = PRICES if middle > 0.0 else 1
        for r in range(count[i]):
            price[i, r] = 0.0 if r == 0 else 0.5 * middle if r == 1 else 2.0 * price[i, r - 1]
            charge[i, r] = price[i, r] * (cap[i] + ROUNDING * all_b)


@compiled(f"void({TABLES}, {ROWS}, {COSTS}, {TO_GO}, f8[:, :, ::1])")
def bound_stages(tables, rows, costs, to_go, low):
    """Fill ``to_go``, and ``low[i, a, b]``: no stage ``i`` over layers ``a .. b`` is shorter."""
    time, memory, cap, reshard, _ = tables
    row, first, many = rows
    price, charge, count = costs
    priced, least = to_go
    layers, depth, widest = time.shape
    for i in range(depth):
        for b in range(i, layers - (depth - 1 - i)):
            for q in range(many[b]):
                least[i, b, q, b] = 0.0
                for r in range(count[i]):
                    priced[i, b, q, b, r] = -charge[i, r]
            for u in range(b, i - 1, -1):
                need = INF
                for k in range(widest):
                    if time[u, i, k] < INF:
                        need = min(need, memory[u, i, k] + least[i, u, row[u, k], b])
                before = many[u - 1] if u > i else 0
                for q in range(before):
                    least[i, u - 1, q, b] = need
                for r in range(count[i]):
                    best = INF
                    for k in range(widest):
                        best = min(best, time[u, i, k] + price[i, r] * memory[u, i, k] + priced[i, u, row[u, k], b, r])
                    low[i, u, b] = best if r == 0 else max(low[i, u, b], best)
                    for q in range(before):
                        h, best = first[u - 1, q], INF
                        for k in range(widest):
                            own = time[u, i, k] + price[i, r] * memory[u, i, k] + priced[i, u, row[u, k], b, r]
                            best = min(best, reshard[u - 1, h, k] + own)
                        priced[i, u - 1, q, b, r] = best
                if need > cap[i] + ROUNDING * abs(cap[i]):
                    low[i, u, b] = INF


@compiled("i8(f8[::1], f8[::1], i8, f8, f8, f8)")
def put(front_s, front_t, n, s, t, weight):
    """Add (s, t) to a front; where it is full, in the place of the nearest label and as low as both."""
    if n == len(front_s):
        near, least = 0, INF
        for x in range(n):
            distance = abs(front_s[x] - s) + weight * abs(front_t[x] - t)
            if distance < least:
                near, least = x, distance
        s, t = min(s, front_s[near]), min(t, front_t[near])
    x = 0
    while x < n:
        if front_s[x] <= s and front_t[x] <= t:
            return n
        if s <= front_s[x] and t <= front_t[x]:
            n -= 1
            front_s[x], front_t[x] = front_s[n], front_t[n]
        else:
            x += 1
    front_s[n], front_t[n] = s, t
    return n + 1


@compiled(f"f8(f8, f8, f8[:, :, ::1], f8[::1], {FRONTS})")
def bound_cuts(goal, weight, low, border, fronts):
    """The program over cuts on ``low``, backward and below a goal; returns the bound on the whole chain."""
    total, peak, size = fronts
    depth, layers, _ = low.shape
    for i in range(depth + 1):
        for a in range(layers + 1):
            size[i, a] = 0
    total[depth, layers, 0], peak[depth, layers, 0], size[depth, layers] = 0.0, 0.0, 1
    for i in range(depth - 1, -1, -1):
        for a in range(i, 1 if i == 0 else layers - (depth - 1 - i)):
            front_s, front_t, n = total[i, a], peak[i, a], 0
            for b in range(a, layers - (depth - 1 - i)):
                if low[i, a, b] == INF:
                    continue
                for y in range(size[i + 1, b + 1]):
                    s = border[a] + low[i, a, b] + total[i + 1, b + 1, y]
                    t = max(border[a], low[i, a, b], peak[i + 1, b + 1, y])
                    if s + weight * t < goal:
                        n = put(front_s, front_t, n, s, t, weight)
            size[i, a] = n
    best = INF
    for y in range(size[0, 0]):
        best = min(best, total[0, 0, y] + weight * peak[0, 0, y])
    return best


# --- compiled: labels -------------------------------------------------------------------------------------------


VIEW = "Tuple((f8, f8[::1], i8, f8[:, ::1], f8[::1], f8[:, ::1], f8[:, ::1], i8[::1]))"
"""(cap, prices, their count, priced, memory, total, peak, size): what a stage and a row of strategies see ahead."""


@compiled(f"b1(f8, f8, f8, f8, f8, f8, i8, {VIEW})")
def promising(goal, weight, total, peak, time, memory, u, view):
    """Whether a label at layer ``u`` can end below the goal, whatever the last layer of its stage."""
    cap, price, count, priced, least, rest_s, rest_t, size = view
    for b in range(u, len(least)):
        if size[b + 1] == 0:
            continue
        if memory + least[b] > cap + ROUNDING * abs(cap):
            return False
        more = 0.0
        for r in range(count):
            more = max(more, priced[b, r] + price[r] * memory)
        longest = max(peak, time + more)
        if total + more + weight * longest >= goal:
            return False
        for y in range(size[b + 1]):
            if total + more + rest_s[b + 1, y] + weight * max(longest, rest_t[b + 1, y]) < goal:
                return True
    return False


@compiled("i8(f8[:, ::1], i8[:, ::1], i8, i8, f8, f8, f8, f8)")
def make_room(label, trail, begin, used, total, peak, time, memory):
    """Drop labels ``begin .. used`` that a new one replaces; returns how many are left in all, -1 if it is replaced."""
    x = begin
    while x < used:
        if label[x, 0] <= total and label[x, 1] <= peak and label[x, 2] <= time and label[x, 3] <= memory:
            return -1
        if total <= label[x, 0] and peak <= label[x, 1] and time <= label[x, 2] and memory <= label[x, 3]:
            used -= 1
            for y in range(4):
                label[x, y] = label[used, y]
            for y in range(3):
                trail[x, y] = trail[used, y]
        else:
            x += 1
    return used


@compiled(
    f"Tuple((i8, f8, i8))(f8[:, ::1], i8[:, ::1], i8, i8, i8, i8, i8, i8, i8, b1, f8, f8, f8, f8, f8, i8, b1, {VIEW})"
)
def add(
    label, trail, begin, used, start, stop, u, i, k, opens, link_s, own_s, own_b, goal, weight, steps, last, view
):  # fmt: skip
    """Extend labels ``start .. stop`` by strategy ``k`` of layer ``u`` on stage ``i``, which it opens or is in already.

    New labels go behind those from ``begin`` on. Returns (labels, goal, steps left); steps are -1 if there is no room.
    """
    for x in range(start, stop):
        total, peak, time, memory = label[x, 0] + link_s + own_s, label[x, 1], own_s, own_b
        if opens:
            peak = max(peak, label[x, 2], link_s)
        else:
            time, memory = label[x, 2] + link_s + own_s, label[x, 3] + own_b
        steps -= 8 + used - begin
        if memory > view[0] or not promising(goal, weight, total, peak, time, memory, u, view):
            continue
        left = make_room(label, trail, begin, used, total, peak, time, memory)
        if left < 0:
            continue
        used = left
        if used == len(label) or steps < 0:
            return used, goal, -1
        label[used, 0], label[used, 1], label[used, 2], label[used, 3] = total, peak, time, memory
        trail[used, 0], trail[used, 1], trail[used, 2] = x, i, k
        used += 1
        if last:
            goal = total + weight * max(peak, time)
    return used, goal, steps


@compiled(f"Tuple((i8, i8, i8))(f8, f8, i8, {TABLES}, {ROWS}, {COSTS}, {TO_GO}, {FRONTS}, f8[:, ::1], i8[:, ::1])")
def extend(goal, weight, steps, tables, rows, costs, to_go, fronts, label, trail):
    """One pass below a goal: (best label or -1, labels kept, steps left); steps are -1 if the pass ended early.

    ``label`` rows are (total, peak, time, memory), ``trail`` rows (label before, stage, strategy); the first label is
    the empty plan.
    """
    time, memory, cap, reshard, cross = tables
    row, first, many = rows
    price, _, count = costs
    priced, least = to_go
    rest_s, rest_t, size = fronts
    layers, depth, widest = time.shape
    at = np.zeros((layers + 1, depth, widest + 1), dtype=np.int64)  # labels of a row of strategies: from .. to the next
    label[0, 0], label[0, 1], label[0, 2], label[0, 3] = 0.0, 0.0, 0.0, 0.0
    at[0, 0, 1] = 1
    used = begin = 1
    for u in range(layers):
        for i in range(max(0, depth - layers + u), min(u + 1, depth)):
            for q in range(many[u]):
                at[u + 1, i, q] = begin = used
                view = (
                    cap[i], price[i], count[i], priced[i, u, q], least[i, u, q],
                    rest_s[i + 1], rest_t[i + 1], size[i + 1],
                )  # fmt: skip
                for k in range(widest):
                    if row[u, k] != q or time[u, i, k] == INF:
                        continue
                    for j in range(max(0, i - 1), i + 1):
                        for p in range(many[u - 1] if u > 0 else 1):
                            start, stop = at[u, j, p], at[u, j, p + 1]
                            if start == stop:
                                continue
                            link_s = 0.0
                            if u > 0:
                                tie = reshard if j == i else cross
                                link_s = tie[u - 1, first[u - 1, p], k]
                            used, goal, steps = add(
                                label, trail, begin, used, start, stop, u, i, k, j < i,
                                link_s, time[u, i, k], memory[u, i, k], goal, weight, steps, u == layers - 1, view,
                            )  # fmt: skip
                            if steps < 0:
                                return -1, used, -1
                at[u + 1, i, q + 1] = used
    return used - 1 if used > begin else -1, used, steps


@compiled(f"i8(f8, f8, i8, i8, {TABLES}, i8[::1], f8[::1], f8[:, ::1], i8[:, ::1], f8[::1], i8[:, ::1])")
def climb(goal, weight, steps, work, tables, sizes, multiples, label, trail, bound, path):
    """Passes below rising goals until one finds a plan, whose stages and strategies go into ``path``.

    Returns how many labels the last pass kept; -1 if bounds on stages need more than ``work`` sums, -2 if ``steps`` or
    the room for labels ran out. ``bound[0]`` is what was proven by then.
    """
    time, _, _, _, cross = tables
    layers, depth, widest = time.shape
    rows = (
        np.zeros((layers, widest), dtype=np.int64),
        np.zeros((layers, widest), dtype=np.int64),
        np.zeros(layers, dtype=np.int64),
    )
    most = group(tables, sizes, rows)
    if layers * layers * depth * most * widest > work:
        return -1
    costs = np.empty((depth, PRICES)), np.empty((depth, PRICES)), np.empty(depth, dtype=np.int64)
    set_prices(tables, costs)
    to_go = np.empty((depth, layers, most, layers, PRICES)), np.empty((depth, layers, most, layers))
    low = np.empty((depth, layers, layers))
    bound_stages(tables, rows, costs, to_go, low)
    border = np.zeros(layers)
    for u in range(1, layers):
        border[u] = INF
        for k in range(sizes[u - 1]):
            for h in range(sizes[u]):
                border[u] = min(border[u], cross[u - 1, k, h])
    shape = (depth + 1, layers + 1, CORNERS)
    fronts = np.empty(shape), np.empty(shape), np.empty((depth + 1, layers + 1), dtype=np.int64)
    root = bound_cuts(goal, weight, low, border, fronts)
    bound[0] = min(root, goal)
    used = 0
    for multiple in multiples:
        if bound[0] >= goal:
            break
        below = min(goal, root * multiple)
        bound_cuts(below, weight, low, border, fronts)
        best, used, steps = extend(below, weight, steps, tables, rows, costs, to_go, fronts, label, trail)
        if steps < 0:
            return -2
        bound[0] = below
        if best >= 0:
            bound[0] = label[best, 0] + weight * max(label[best, 1], label[best, 2])
            for u in range(layers - 1, -1, -1):
                path[u, 0], path[u, 1] = trail[best, 1], trail[best, 2]
                best = trail[best, 0]
            break
    return used
