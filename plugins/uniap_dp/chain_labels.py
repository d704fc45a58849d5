"""Partial plans of a short chain, extended layer by layer below rising goals.

A label is (total, peak, time, memory): seconds of all that is placed, of the longest closed stage or boundary, of the
open stage, and bytes of the open stage. Every function is compiled.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .chain_bounds import FRONTS, PRICED, PRICES, ROUNDING, ROWS, TABLES, bound_cuts, bound_stages, number_rows
from .jit import compiled

INF = np.inf

FIRST_GAP = 0.003
"""How far above the bound the goal of the first pass is."""

FEW_LABELS = 200
"""After a pass with fewer, the goal may rise faster."""

LABELS = "Tuple((f8[:, ::1], i8[:, ::1]))"
"""(label, trail): (N, 4) as above, and (label before, stage, strategy) of shape (N, 3). The first is the empty plan."""
AHEAD = "Tuple((f8, f8[::1], i8, f8[:, ::1], f8[:, :, ::1], i8[::1]))"
"""(cap, price, count, to go, front, size): ``PRICED`` and ``FRONTS`` as seen from a stage and a row."""


@compiled(f"b1(f8, f8, f8, f8, f8, f8, i8, {AHEAD})")
def promising(goal, weight, total, peak, time, memory, u, ahead):
    """Whether a label at layer ``u`` can end below the goal, whatever the last layer of its stage."""
    cap, price, count, to_go, front, size = ahead
    for b in range(u, len(to_go)):
        if size[b + 1] == 0:
            continue
        if memory + to_go[b, PRICES] > cap + ROUNDING * abs(cap):
            return False
        more = 0.0
        for r in range(count):
            more = max(more, to_go[b, r] + price[r] * memory)
        longest = max(peak, time + more)
        if total + more + weight * longest >= goal:
            return False
        for y in range(size[b + 1]):
            if total + more + front[b + 1, y, 0] + weight * max(longest, front[b + 1, y, 1]) < goal:
                return True
    return False


@compiled(f"i8({LABELS}, i8, i8, f8, f8, f8, f8)")
def make_room(labels, begin, used, total, peak, time, memory):
    """Drop labels ``begin .. used`` that a new one replaces; returns how many are left in all, -1 if it is replaced."""
    label, trail = labels
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


@compiled(f"Tuple((i8, i8))({LABELS}, i8, i8, i8, i8, i8, i8, i8, b1, f8, f8, f8, f8, f8, i8, {AHEAD})")
def add(labels, begin, used, start, stop, u, i, k, opens, link_s, own_s, own_b, goal, weight, steps, ahead):
    """Extend labels ``start .. stop`` by strategy ``k`` of layer ``u`` on stage ``i``, which it may open.

    New labels go behind those from ``begin`` on. Returns (labels, steps left); steps are -1 if there is no room.
    """
    label, trail = labels
    for x in range(start, stop):
        total, peak, time, memory = label[x, 0] + link_s + own_s, label[x, 1], own_s, own_b
        if opens:
            peak = max(peak, label[x, 2], link_s)
        else:
            time, memory = label[x, 2] + link_s + own_s, label[x, 3] + own_b
        steps -= 8 + used - begin
        if memory > ahead[0] or not promising(goal, weight, total, peak, time, memory, u, ahead):
            continue
        left = make_room(labels, begin, used, total, peak, time, memory)
        if left < 0:
            continue
        used = left
        if used == len(label) or steps < 0:
            return used, -1
        label[used, 0], label[used, 1], label[used, 2], label[used, 3] = total, peak, time, memory
        trail[used, 0], trail[used, 1], trail[used, 2] = x, i, k
        used += 1
    return used, steps


@compiled(f"Tuple((i8, i8))(f8, f8, i8, {TABLES}, {ROWS}, {PRICED}, {FRONTS}, i8[:, :, ::1], {LABELS})")
def extend(goal, weight, steps, tables, rows, priced, fronts, at, labels):
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
            for q in range(many[u]):
                at[u + 1, i, q] = begin = used
                ahead = cap[i], price[i], count[i], to_go[i, u, q], front[i + 1], size[i + 1]
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
                                own[u, i, k, 0], own[u, i, k, 1], goal, weight, steps, ahead,
                            )  # fmt: skip
                            if steps < 0:
                                return used, -1
                at[u + 1, i, q + 1] = used
    return used, steps


@compiled(
    f"i8(f8, f8, i8, i8, {TABLES}, {ROWS}, {PRICED}, f8[:, :, ::1], {FRONTS}, i8[:, :, ::1], {LABELS},"
    "f8[::1], i8[:, ::1])"
)
def climb(goal, weight, steps, work, tables, rows, priced, low, fronts, at, labels, bound, path):
    """Passes below rising goals until one finds a plan, whose best goes into ``path`` as (stage, strategy).

    Returns how many labels the last pass kept; -1 if bounds on stages need more than ``work`` sums, -2 if ``steps`` or
    the room for labels ran out. ``bound[0]`` is what was proven by then.
    """
    label, trail = labels
    layers, depth, widest, _ = tables[0].shape
    if layers * layers * depth * widest * number_rows(tables, rows) > work:
        return -1
    bound_stages(tables, rows, priced, low)
    root = bound_cuts(goal, weight, tables[2], low, fronts)
    bound[0] = min(root, goal)
    used, gap = 0, FIRST_GAP
    while bound[0] < goal:
        below = goal if gap > 1.0 else min(goal, root * (1.0 + gap))
        bound_cuts(below, weight, tables[2], low, fronts)
        used, steps = extend(below, weight, steps, tables, rows, priced, fronts, at, labels)
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
