"""Compiled: cheapest paths and completions under prices of memory, within one stage."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import COSTS, STEPS, TREE, compiled

INF = np.inf


@compiled(f"void(i8, f8, f8, {TREE}, {STEPS}, {COSTS}, i8[::1], b1[::1], f8[::1], f8[::1], f8[::1], f8[::1])")
def price_paths(stop, wt, wm, tree, steps, costs, starts, alive, p, m, out_p, out_m):
    """Cheapest paths from the root to each item before ``stop`` under ``wt * time + wm * memory``.

    ``p``, ``m`` get time and memory of the best path into each state, ``out_p``, ``out_m`` those of the best into each
    item (``inf`` if there is none); ties take less time, then less memory. Items that are not ``alive`` are left out.
    """
    parent, kind, base = tree
    residuals, first, group, source, reshard = steps
    _, start, enter, leave, time, memory = costs
    widest = 1
    for x in range(1, stop):
        widest = max(widest, residuals[kind[x]])
    in_p, in_m = np.empty(widest), np.empty(widest)
    for q in range(base[0], base[1]):
        p[q], m[q] = INF, INF
    for f in range(len(starts)):
        p[base[0] + starts[f]], m[base[0] + starts[f]] = 0.0, 0.0
    for x in range(1, stop):
        if not alive[x]:
            continue
        t, before, here = kind[x], base[parent[x]], base[x]
        for r in range(residuals[t]):
            best, best_p, best_m = INF, INF, INF
            for z in range(group[first[t] + r], group[first[t] + r + 1]):
                q = before + source[z]
                if p[q] == INF:
                    continue
                time_s = p[q] + reshard[z]
                value = wt * time_s + wm * m[q]
                if value < best or (value == best and (time_s < best_p or (time_s == best_p and m[q] < best_m))):
                    best, best_p, best_m = value, time_s, m[q]
            in_p[r], in_m[r] = best_p, best_m
        for q in range(here, base[x + 1]):
            p[q], m[q] = INF, INF
        for e in range(start[t], start[t + 1]):
            if in_p[enter[e]] == INF:
                continue
            time_s, bytes_ = in_p[enter[e]] + time[e], in_m[enter[e]] + memory[e]
            q = here + leave[e]
            value = wt * time_s + wm * bytes_
            old = wt * p[q] + wm * m[q] if p[q] < INF else INF
            if value < old or (value == old and (time_s < p[q] or (time_s == p[q] and bytes_ < m[q]))):
                p[q], m[q] = time_s, bytes_
        best, at = INF, -1
        for q in range(here, base[x + 1]):
            if p[q] < INF and (at < 0 or wt * p[q] + wm * m[q] < best):
                best, at = wt * p[q] + wm * m[q], q
        out_p[x] = p[at] if at >= 0 else INF
        out_m[x] = m[at] if at >= 0 else INF


@compiled(f"void(f8, {TREE}, {STEPS}, {COSTS}, i8[::1], b1[::1], b1[::1], f8[::1], f8[::1], f8[::1], f8[:, ::1])")
def segment_duals(limit, tree, steps, costs, starts, wanted, alive, low, high, price, recipe):
    """Bounds on the least time, under its memory cap, of the stage from the root of a tree to each ``wanted`` item.

    ``low`` is the Lagrangian dual (maximum over prices of memory, by Newton steps on its concave graph), ``high`` the
    best feasible path met on the way, ``price`` the best price (s/B), ``recipe`` the two weights under which
    :func:`price_paths` gives the path behind ``high``. ``alive`` is cleared for stages that do not fit in memory or
    take more than ``limit``; whatever contains such a stage is no better.
    """
    parent, _, base = tree
    cap = costs[0]
    n = len(parent)
    p, m = np.empty(base[n]), np.empty(base[n])
    out_p, out_m = np.empty(n), np.empty(n)
    ends_p, ends_m = np.empty((2, n)), np.empty((2, n))
    for x in range(n):
        alive[x] = True
    for end in range(2):
        price_paths(n, 1.0 - end, 1.0 * end, tree, steps, costs, starts, alive, p, m, ends_p[end], ends_m[end])
    left_p, left_m, right_p, right_m = ends_p[0], ends_m[0], ends_p[1], ends_m[1]
    top = 0
    for x in range(1, n):
        alive[x] = alive[parent[x]] and right_m[x] <= cap and left_p[x] <= limit
        if not alive[x]:
            continue
        top = x if wanted[x] else top
        low[x], price[x] = left_p[x], 0.0
        fits = left_m[x] <= cap
        high[x] = left_p[x] if fits else right_p[x]
        recipe[x, 0] = 1.0 if fits else 0.0
        recipe[x, 1] = 0.0 if fits else 1.0
    steps_left = 8 * n + 32
    for goal in range(top, 0, -1):
        while (
            wanted[goal]
            and alive[goal]
            and high[goal] > low[goal] * (1 + 1e-9)
            and left_m[goal] > cap
            and steps_left > 0
        ):
            steps_left -= 1
            weight = (right_p[goal] - left_p[goal]) / (left_m[goal] - right_m[goal])
            if weight <= 0.0:
                break
            crossing = left_p[goal] + weight * (left_m[goal] - cap)
            price_paths(goal + 1, 1.0, weight, tree, steps, costs, starts, alive, p, m, out_p, out_m)
            for x in range(1, goal + 1):
                if not alive[x]:
                    continue
                value = out_p[x] + weight * (out_m[x] - cap)
                if value > low[x]:
                    low[x], price[x] = value, weight
                if out_m[x] <= cap and out_p[x] < high[x]:
                    high[x], recipe[x, 0], recipe[x, 1] = out_p[x], 1.0, weight
                if left_m[x] > cap:
                    own = (right_p[x] - left_p[x]) / (left_m[x] - right_m[x])
                    if out_p[x] + own * (out_m[x] - cap) < left_p[x] + own * (left_m[x] - cap):
                        if out_m[x] > cap:
                            left_p[x], left_m[x] = out_p[x], out_m[x]
                        else:
                            right_p[x], right_m[x] = out_p[x], out_m[x]
            if low[goal] > limit or out_p[goal] + weight * (out_m[goal] - cap) >= crossing * (1 - 1e-7):
                break
    for x in range(1, n):
        if alive[x]:
            low[x] = min(high[x], low[x] - 1e-13 * abs(low[x]) - 1e-13 * price[x] * abs(cap))
            alive[x] = low[x] <= limit


@compiled(f"void({TREE}, i8[::1], {STEPS}, {COSTS}, f8[::1], f8[::1], f8[:, ::1], f8[:, ::1], f8[::1], f8[::1])")
def completions(tree, in_base, steps, costs, limit, prices, slack, slack_in, spare, spare_in):
    """How far a label is from the nearest useful end of its stage, under some prices of memory.

    ``limit[x]`` is the most that a stage ending at item ``x`` may take (-1: may not end there). ``slack[q, y]``: in
    state ``q``, the least of (time to go + prices[y] * memory to go - limit at the end); ``slack_in[r, y]``: the same
    in residual ``r``, those of item ``x`` from ``in_base[x]`` on. ``spare``, ``spare_in``: the least memory to go. A
    label (p, m) with ``p + prices[y] * (m - cap) + slack > 0`` or ``m + spare > cap`` has no useful completion.
    """
    parent, kind, base = tree
    residuals, first, group, source, reshard = steps
    _, start, enter, leave, time, memory = costs
    many = len(prices)
    for x in range(len(parent)):
        for q in range(base[x], base[x + 1]):
            spare[q] = 0.0 if limit[x] >= 0 else INF
            for y in range(many):
                slack[q, y] = -limit[x] if limit[x] >= 0 else INF
    for r in range(len(spare_in)):
        spare_in[r] = INF
        for y in range(many):
            slack_in[r, y] = INF
    for x in range(len(parent) - 1, 0, -1):
        t, before = kind[x], base[parent[x]]
        for e in range(start[t], start[t + 1]):
            r, q = in_base[x] + enter[e], base[x] + leave[e]
            if spare[q] == INF:
                continue
            spare_in[r] = min(spare_in[r], memory[e] + spare[q])
            for y in range(many):
                slack_in[r, y] = min(slack_in[r, y], time[e] + prices[y] * memory[e] + slack[q, y])
        for c in range(residuals[t]):
            r = in_base[x] + c
            if spare_in[r] == INF:
                continue
            for z in range(group[first[t] + c], group[first[t] + c + 1]):
                q = before + source[z]
                spare[q] = min(spare[q], spare_in[r])
                for y in range(many):
                    slack[q, y] = min(slack[q, y], reshard[z] + slack_in[r, y])
