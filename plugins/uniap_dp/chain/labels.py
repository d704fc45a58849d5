"""Compiled, of short chains: partial plans that can end below a goal, layer by layer."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ..jit import boolean, compiled, int64, pair
from .arrays import AHEAD, CHAIN, GOAL, LABELS, PARTIAL, SKIPS, STEP, Ahead, Partial, Step

INF = np.inf


@compiled(boolean(GOAL, PARTIAL, AHEAD), inner=True)
def promising(goal, plan, ahead):
    """Whether a partial plan can end below the goal, whatever the last layer of its stage."""
    cap, price, count, nearest, to_go, front, size = ahead
    below, (weight_p, _, weight_t) = goal
    total, peak, time, memory = plan
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
            if total + weight_p * more + weight_t * longest >= below:
                return False
        for y in range(size[b + 1]):
            least = total + weight_p * more + front[b + 1, y, 0] + weight_t * max(longest, front[b + 1, y, 1])
            if least < below:
                return True
    return False


@compiled(int64(LABELS, int64, int64, PARTIAL, int64), inner=True)
def make_room(labels, begin, used, plan, signature):
    """Drop labels ``begin .. used`` that a new one replaces; returns how many are left in all, -1 if it is replaced."""
    label, trail = labels
    total, peak, time, memory = plan
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


@compiled(pair(int64)(LABELS, int64, int64, STEP, GOAL, int64, AHEAD, SKIPS), inner=True)
def add(labels, begin, used, step, goal, steps, ahead, skips):
    """Take a step from some labels; new ones go behind those from ``begin`` on.

    Returns (labels, steps left); steps are -1 if there is no room.
    """
    label, trail = labels
    first, extra, after, arc, into, toll, _ = skips
    start, stop, u, i, k, opens, link_s, own_s, own_b = step
    _, (weight_p, weight_o, _) = goal
    cap = ahead[0]
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
            plan = Partial(total, peak, time, memory)
            if memory > cap or not promising(goal, plan, ahead):
                continue
            steps -= used - begin
            left = make_room(labels, begin, used, plan, after[signature, k])
            if left < 0:
                continue
            used = left
            if used == len(label) or steps < 0:
                return used, -1
            label[used, 0], label[used, 1], label[used, 2], label[used, 3] = total, peak, time, memory
            trail[used, 0], trail[used, 1], trail[used, 2], trail[used, 3] = x, i, k, after[signature, k]
            used += 1
    return used, steps


@compiled(pair(int64)(CHAIN, GOAL, int64, int64[:, :, ::1], LABELS))
def extend(chain, goal, steps, at, labels):
    """One pass: all labels that matter below a goal, and steps left; steps are -1 if the pass ended early.

    Labels of row ``q`` of layer ``u - 1`` on stage ``i`` are ``at[u, i, q] .. at[u, i, q + 1]``; ``at`` comes in as 0.
    """
    own, link, _, cap = chain.tables
    row, first, many = chain.rows
    price, count, to_go = chain.priced
    front, size = chain.fronts
    skips = chain.skips
    layers, depth, widest, _ = own.shape
    at[0, 0, 1], used = 1, 1
    for u in range(layers):
        for i in range(max(0, depth - layers + u), min(u + 1, depth)):
            nearest = u
            while nearest < layers and size[i + 1, nearest + 1] == 0:
                nearest += 1
            for q in range(many[u]):
                at[u + 1, i, q] = begin = used
                ahead = Ahead(cap[i], price[i], count[i], nearest, to_go[i, u, q], front[i + 1], size[i + 1])
                for k in range(widest):
                    if row[u, k] != q or own[u, i, k, 0] == INF:
                        continue
                    for opens in range(2 if i > 0 else 1):
                        for p in range(many[max(0, u - 1)]):
                            start, stop = at[u, i - opens, p], at[u, i - opens, p + 1]
                            if start >= stop:
                                continue
                            link_s = link[opens, u - 1, first[u - 1, p], k] if u > 0 else 0.0
                            step = Step(start, stop, u, i, k, opens, link_s, own[u, i, k, 0], own[u, i, k, 1])
                            used, steps = add(labels, begin, used, step, goal, steps, ahead, skips)
                            if steps < 0:
                                return used, -1
                at[u + 1, i, q + 1] = used
    return used, steps
