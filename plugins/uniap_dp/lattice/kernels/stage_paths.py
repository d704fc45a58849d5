"""Compiled, within one stage: cheapest paths and completions under prices of memory, and the path behind a label."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ...jit import boolean, compiled, float64, int64, void
from .arrays import DUALS, PAIRS, PATH_ENDS, PATH_ROOM, SEGMENT, SPOTS, TO_GO

INF = np.inf

CLOSE = 3e-4
"""How near its maximum a dual is good enough: paths that are priced for one end bound the others too."""


@compiled(void(SEGMENT, int64, float64, float64, int64[::1], boolean[::1], PATH_ROOM, float64[:, ::1]))
def price_paths(segment, stop, wt, wm, starts, alive, room, ends):
    """Cheapest paths from the root to each item before ``stop`` under ``wt * time + wm * memory``.

    ``room.best[:, q]`` gets time and memory of the best path into state ``q``, ``ends[:, x]`` those of the best into
    item ``x`` (``inf`` if there is none); ties take less time, then less memory. Items that are not ``alive`` are left
    out.
    """
    parent, kind, base = segment.tree
    residuals, first, group, source, reshard = segment.arcs
    _, start, enter, leave, time, memory, _ = segment.costs
    into, best = room
    for q in range(base[0], base[1]):
        best[0, q] = best[1, q] = INF
    for f in range(len(starts)):
        best[0, base[0] + starts[f]] = best[1, base[0] + starts[f]] = 0.0
    for x in range(1, stop):
        if not alive[x]:
            continue
        t, before, here = kind[x], base[parent[x]], base[x]
        for r in range(residuals[t]):
            least, least_p, least_m = INF, INF, INF
            for z in range(group[first[t] + r], group[first[t] + r + 1]):
                q = before + source[z]
                if best[0, q] == INF:
                    continue
                p, m = best[0, q] + reshard[z], best[1, q]
                value = wt * p + wm * m
                if value < least or (value == least and (p < least_p or (p == least_p and m < least_m))):
                    least, least_p, least_m = value, p, m
            into[0, r], into[1, r] = least_p, least_m
        for q in range(here, base[x + 1]):
            best[0, q] = best[1, q] = INF
        for e in range(start[t], start[t + 1]):
            if into[0, enter[e]] == INF:
                continue
            p, m = into[0, enter[e]] + time[e], into[1, enter[e]] + memory[e]
            q = here + leave[e]
            value = wt * p + wm * m
            old = wt * best[0, q] + wm * best[1, q] if best[0, q] < INF else INF
            if value < old or (value == old and (p < best[0, q] or (p == best[0, q] and m < best[1, q]))):
                best[0, q], best[1, q] = p, m
        least, ends[0, x], ends[1, x] = INF, INF, INF
        for q in range(here, base[x + 1]):
            p, m = best[0, q], best[1, q]
            if p < INF and (ends[0, x] == INF or wt * p + wm * m < least):
                least, ends[0, x], ends[1, x] = wt * p + wm * m, p, m


@compiled(void(SEGMENT, float64, int64[::1], boolean[::1], DUALS, PATH_ROOM, PATH_ENDS))
def segment_duals(segment, limit, starts, wanted, duals, room, met):
    """Bounds on the least time, under its memory cap, of the stage from the root of a tree to each ``wanted`` item.

    ``low`` is the Lagrangian dual (maximum over prices of memory, by Newton steps on its concave graph), ``high`` the
    best feasible path met on the way, ``price`` the best price (s/B), ``recipe`` the two weights under which
    :func:`price_paths` gives the path behind ``high``. ``alive`` is cleared for stages that do not fit in memory or
    take more than ``limit``; whatever contains such a stage is no better.
    """
    parent = segment.tree.parent
    cap = segment.costs.cap
    alive, low, high, price, recipe = duals
    left, right, ends = met
    n = len(parent)
    for x in range(n):
        alive[x] = True
    price_paths(segment, n, 1.0, 0.0, starts, alive, room, left)
    price_paths(segment, n, 0.0, 1.0, starts, alive, room, right)
    top = 0
    for x in range(1, n):
        alive[x] = alive[parent[x]] and right[1, x] <= cap and left[0, x] <= limit
        if not alive[x]:
            continue
        top = x if wanted[x] else top
        low[x], price[x] = left[0, x], 0.0
        fits = left[1, x] <= cap
        high[x] = left[0, x] if fits else right[0, x]
        recipe[x, 0] = 1.0 if fits else 0.0
        recipe[x, 1] = 0.0 if fits else 1.0
    steps_left = 8 * n + 32
    for goal in range(top, 0, -1):
        while (
            wanted[goal]
            and alive[goal]
            and high[goal] > low[goal] * (1 + 1e-9)
            and left[1, goal] > cap
            and steps_left > 0
        ):
            steps_left -= 1
            # Where the lines of the last two paths cross is the most that the dual can be.
            weight = (right[0, goal] - left[0, goal]) / (left[1, goal] - right[1, goal])
            if weight <= 0.0:
                break
            crossing = left[0, goal] + weight * (left[1, goal] - cap)
            if crossing <= low[goal] * (1 + CLOSE):
                break
            price_paths(segment, goal + 1, 1.0, weight, starts, alive, room, ends)
            for x in range(1, goal + 1):
                if not alive[x]:
                    continue
                p, m = ends[0, x], ends[1, x]
                value = p + weight * (m - cap)
                if value > low[x]:
                    low[x], price[x] = value, weight
                if m <= cap and p < high[x]:
                    high[x], recipe[x, 0], recipe[x, 1] = p, 1.0, weight
                if left[1, x] > cap:
                    own = (right[0, x] - left[0, x]) / (left[1, x] - right[1, x])
                    if p + own * (m - cap) < left[0, x] + own * (left[1, x] - cap):
                        if m > cap:
                            left[0, x], left[1, x] = p, m
                        else:
                            right[0, x], right[1, x] = p, m
            if low[goal] > limit:
                break
    for x in range(1, n):
        if alive[x]:
            low[x] = min(high[x], low[x] - 1e-13 * abs(low[x]) - 1e-13 * price[x] * abs(cap))
            alive[x] = low[x] <= limit


@compiled(void(SEGMENT, float64[::1], TO_GO))
def completions(segment, limit, to_go):
    """How far a label is from the nearest useful end of its stage, under some prices of memory.

    ``limit[x]`` is the most that a stage ending at item ``x`` may take (-1: may not end there). ``slack[q, y]``: in
    state ``q``, the least of (time to go + prices[y] * memory to go - limit at the end); ``slack_in[r, y]``: the same
    in residual ``r``. ``spare``, ``spare_in``: the least memory to go. A
    label (p, m) with ``p + prices[y] * (m - cap) + slack > 0`` or ``m + spare > cap`` has no useful completion.
    """
    parent, kind, base = segment.tree
    residuals, first, group, source, reshard = segment.arcs
    _, start, enter, leave, time, memory, _ = segment.costs
    in_base, prices, slack, slack_in, spare, spare_in = to_go
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


@compiled(void(SEGMENT, int64, int64, float64, float64, SPOTS, PAIRS, int64[::1]))
def trace_stage(segment, x, q, p, m, spots, labels, path):
    """Entries behind the label (p, m) of state ``q`` of item ``x``, labelled in one row.

    ``path[y]`` is the entry by which item ``y`` was reached, for ``x`` and its ancestors; -1 elsewhere. Sums on the
    grid are exact, so equality finds the predecessor.
    """
    parent, kind, base = segment.tree
    _, first, group, source, reshard = segment.arcs
    _, start, enter, leave, time, memory, _ = segment.costs
    _, where, many = spots
    lab_p, lab_m = labels
    for y in range(len(path)):
        path[y] = -1
    while x > 0:
        t, before = kind[x], base[parent[x]]
        next_q, next_p, next_m = -1, 0.0, 0.0
        for e in range(start[t], start[t + 1]):
            if leave[e] != q or path[x] >= 0:
                continue
            for z in range(group[first[t] + enter[e]], group[first[t] + enter[e] + 1]):
                if path[x] >= 0:
                    break
                old_p, old_m = p - time[e] - reshard[z], m - memory[e]
                state = before + source[z]
                for y in range(where[state], where[state] + many[state]):
                    if lab_p[y] == old_p and lab_m[y] == old_m:
                        path[x] = e
                        next_q, next_p, next_m = source[z], old_p, old_m
                        break
        if path[x] < 0:
            return
        x, q, p, m = parent[x], next_q, next_p, next_m
