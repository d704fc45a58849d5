"""Compiled, of short chains: partial plans that can end below a goal, layer by layer.

A label is a partial plan (total, peak, time, memory): weighted seconds of all that is placed, seconds of the longest
closed stage or boundary, seconds and bytes of the open stage. ``L`` layers, ``P`` stages and ``K`` strategies are the
sizes of arrays.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import compiled
from .signatures import FRONTS, PRICED, ROWS, TABLES, WEIGHTS

INF = np.inf

LABELS = "Tuple((f8[:, ::1], i8[:, ::1]))"
"""(label, trail): labels (N, 4), and (label before, stage, strategy, signature) of shape (N, 4). The first is the empty
plan."""
SKIPS = "Tuple((i8[::1], f8[:, ::1], i8[:, ::1], i8[::1], i8[::1], f8[::1]))"
"""(first, extra, after, arc, into, toll): ``skips.Skips``."""
AHEAD = "Tuple((f8, f8[::1], i8, i8, f8[:, ::1], f8[:, :, ::1], i8[::1]))"
"""(cap, price, count, nearest, to go, front, size): ``PRICED`` and ``FRONTS`` as seen from a stage and a row, and the
nearest layer that can be the last of the stage."""


@compiled(f"b1(f8, {WEIGHTS}, f8, f8, f8, f8, {AHEAD})", inner=True)
def promising(goal, weights, total, peak, time, memory, ahead):
    """Whether a label can end below the goal, whatever the last layer of its stage."""
    cap, price, count, nearest, to_go, front, size = ahead
    weight_p, _, weight_t = weights
    spare = to_go.shape[1] - 1
    for b in range(nearest, len(to_go)):
        if size[b + 1] == 0:
            continue
        if memory + to_go[b, spare] > cap:
            return False
        more, longest = 0.0, 0.0
        for r in range(count):
            more = max(more, to_go[b, r] + price[r] * memory)
            longest = max(peak, time + more)
            if total + weight_p * more + weight_t * longest >= goal:
                return False
        for y in range(size[b + 1]):
            least = total + weight_p * more + front[b + 1, y, 0] + weight_t * max(longest, front[b + 1, y, 1])
            if least < goal:
                return True
    return False


@compiled(f"i8({LABELS}, i8, i8, f8, f8, f8, f8, i8)", inner=True)
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


@compiled(
    f"Tuple((i8, i8))({LABELS}, i8, i8, i8, i8, i8, i8, i8, b1, f8, f8, f8, f8, {WEIGHTS}, i8, {AHEAD}, {SKIPS})",
    inner=True,
)
def add(labels, begin, used, start, stop, u, i, k, opens, link_s, own_s, own_b, goal, weights, steps, ahead, skips):
    """Extend labels ``start .. stop`` by strategy ``k`` of layer ``u`` on stage ``i``, which it may open.

    New labels go behind those from ``begin`` on. Returns (labels, steps left); steps are -1 if there is no room.
    """
    label, trail = labels
    first, extra, after, arc, into, toll = skips
    weight_p, weight_o, _ = weights
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
            total, peak, time, memory = label[x, 0], label[x, 1], own, own_b
            if opens:
                total += weight_o * border_s + weight_p * own
                peak = max(peak, label[x, 2], border_s)
            else:
                total += weight_p * (border_s + own)
                time, memory = label[x, 2] + border_s + own, label[x, 3] + own_b
            steps -= 8
            if memory > ahead[0] or not promising(goal, weights, total, peak, time, memory, ahead):
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


@compiled(f"Tuple((i8, i8))(f8, {WEIGHTS}, i8, {TABLES}, {ROWS}, {PRICED}, {FRONTS}, {SKIPS}, i8[:, :, ::1], {LABELS})")
def extend(goal, weights, steps, tables, rows, priced, fronts, skips, at, labels):
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
                                own[u, i, k, 0], own[u, i, k, 1], goal, weights, steps, ahead, skips,
                            )  # fmt: skip
                            if steps < 0:
                                return used, -1
                at[u + 1, i, q + 1] = used
    return used, steps
