"""Compiled: labels (time, memory) within one stage. A *front* is a run of labels, memory rising and time falling."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ...jit import boolean, compiled, float64, int64, void
from .arrays import MERGE, PAIRS, RUN, SEGMENT, SPOTS, TEST, TO_GO, Merge, Run, Test

INF = np.inf


@compiled(void(int64[::1], float64[::1], float64[::1], int64[::1], int64[::1], float64, boolean[::1]))
def pareto_cells(kind, time, memory, enter, leave, cap, keep):
    """Mark in ``keep`` the possible, undominated strategies; ``kind`` sorts them by (leave, enter, memory, time)."""
    best = INF
    for at in range(len(kind)):
        k = kind[at]
        if at == 0 or leave[k] != leave[kind[at - 1]] or enter[k] != enter[kind[at - 1]]:
            best = INF
        if time[k] < best and memory[k] <= cap:
            best = time[k]
            keep[at] = True


@compiled(int64(PAIRS, MERGE, PAIRS, RUN, TEST), inner=True)
def absorb(own, merge, labels, run, test):
    """Merge labels of ``own`` with a run of others, dropping what cannot be of use; returns how many there are then."""
    own_p, own_m = own
    lab_p, lab_m = labels
    begin, n, out = merge
    x, stop, dp, dm = run
    cap, prices, slack, state, spare = test
    tolerance = 1e-12
    i, end, k, best = begin, begin + n, out, INF
    while x < stop:
        q, w = lab_p[x] + dp, lab_m[x] + dm
        x += 1
        if w + spare > cap:
            x = stop
            continue
        useless = False
        for y in range(len(prices)):
            excess = q + prices[y] * (w - cap) + slack[state, y]
            if excess > tolerance * (q + prices[y] * cap):
                useless = True
                break
        if useless:
            continue
        while i < end and (own_m[i] < w or (own_m[i] == w and own_p[i] <= q)):
            if own_p[i] < best:
                best = own_p[i]
                own_p[k], own_m[k] = best, own_m[i]
                k += 1
            i += 1
        if q < best:
            best = q
            own_p[k], own_m[k] = q, w
            k += 1
    while i < end:
        if own_p[i] < best:
            best = own_p[i]
            own_p[k], own_m[k] = best, own_m[i]
            k += 1
        i += 1
    return k - out


@compiled(int64(PAIRS, int64, int64, int64, float64), inner=True)
def narrow(labels, begin, n, width, price):
    """Keep about ``width`` of ``n`` labels from ``begin``: those cheapest under a price of memory, and the fastest."""
    p, m = labels
    low, high = INF, -INF
    for x in range(begin, begin + n):
        value = p[x] + price * m[x]
        low, high = min(low, value), max(high, value)
    for _ in range(20):
        middle = 0.5 * (low + high)
        inside = 0
        for x in range(begin, begin + n):
            if p[x] + price * m[x] <= middle:
                inside += 1
        if inside > width:
            high = middle
        else:
            low = middle
    kept = begin
    for x in range(begin, begin + n):
        if (p[x] + price * m[x] <= low or x == begin + n - 1) and kept <= begin + width:
            p[kept], m[kept] = p[x], m[x]
            kept += 1
    return kept - begin


@compiled(int64(SEGMENT, TO_GO, int64, int64, SPOTS, PAIRS, int64, PAIRS, int64[::1]))
def extend(segment, to_go, x, width, spots, labels, used, aside, in_at):
    """All labels of item ``x`` from those of its parent; returns the labels used, or -1 if out of room.

    Labels without a useful completion (:func:`completions`) are dropped. A positive ``width`` keeps that many labels
    of a state, those that look best under the last price: a beam. ``aside`` is room in three parts: two sides of a
    merge, and the fronts of all residual states, of which ``r`` is at ``in_at[r] .. in_at[r + 1]``.
    """
    parent, kind, base = segment.tree
    residuals, first, group, source, reshard = segment.arcs
    cap, start, enter, leave, time, memory, _ = segment.costs
    in_base, prices, slack, slack_in, spare, spare_in = to_go
    rows, where, many = spots
    lab_p, lab_m = labels
    tmp_p, tmp_m = aside
    t, room = kind[x], len(tmp_p) // 3
    states, states_before = base[x + 1] - base[x], base[parent[x] + 1] - base[parent[x]]
    for f in range(rows):
        here = base[x] * rows + f * states
        before = base[parent[x]] * rows + f * states_before
        total = 0
        for q in range(states_before):
            total += many[before + q]
        for q in range(states):
            where[here + q], many[here + q] = used, 0
        if total == 0:
            continue
        if total > room:
            return -1
        side, in_at[0] = 0, 2 * room
        for r in range(residuals[t]):
            count, ir = 0, in_base[x] + r
            if spare_in[ir] < INF:
                for z in range(group[first[t] + r], group[first[t] + r + 1]):
                    q = before + source[z]
                    if many[q] == 0:
                        continue
                    count = absorb(
                        aside, Merge(side, count, room - side), labels,
                        Run(where[q], where[q] + many[q], reshard[z], 0.0),
                        Test(cap, prices, slack_in, ir, spare_in[ir]),
                    )  # fmt: skip
                    side = room - side
            if in_at[r] + count > len(tmp_p):
                return -1
            for y in range(count):
                tmp_p[in_at[r] + y], tmp_m[in_at[r] + y] = tmp_p[side + y], tmp_m[side + y]
            in_at[r + 1] = in_at[r] + count
        e = start[t]
        while e < start[t + 1]:
            q, need, stop = leave[e], 0, e
            while stop < start[t + 1] and leave[stop] == q:
                need += in_at[enter[stop] + 1] - in_at[enter[stop]]
                stop += 1
            if need > room:
                return -1
            count = 0
            if need > 0 and spare[base[x] + q] < INF:
                for entry in range(e, stop):
                    begin, end = in_at[enter[entry]], in_at[enter[entry] + 1]
                    if begin == end:
                        continue
                    count = absorb(
                        aside, Merge(side, count, room - side), aside, Run(begin, end, time[entry], memory[entry]),
                        Test(cap, prices, slack, base[x] + q, spare[base[x] + q]),
                    )  # fmt: skip
                    side = room - side
            if width > 0 and count > width:
                count = narrow(aside, side, count, width, prices[len(prices) - 1])
            if used + count > len(lab_p):
                return -1
            for y in range(count):
                lab_p[used + y], lab_m[used + y] = tmp_p[side + y], tmp_m[side + y]
            where[here + q], many[here + q] = used, count
            used += count
            e = stop
    return used
