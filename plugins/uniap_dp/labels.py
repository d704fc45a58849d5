"""Compiled: labels (time, memory) within one stage. A *front* is a run of labels, memory rising and time falling."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import COSTS, STEPS, TREE, compiled

INF = np.inf


@compiled("void(i8[::1], f8[::1], f8[::1], i8[::1], i8[::1], f8, b1[::1])")
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


@compiled("i8(f8[::1], f8[::1], i8, f8[::1], f8[::1], i8, i8, f8, f8, f8, f8[::1], f8[::1], f8, f8[::1], f8[::1])")
def absorb(acc_p, acc_m, n, lab_p, lab_m, begin, stop, dp, dm, cap, prices, slack, spare, out_p, out_m):
    """Merge a front with another one shifted by (dp, dm) into ``out``, dropping what cannot be of use."""
    tolerance = 1e-12
    i, x, k, best = 0, begin, 0, INF
    many = len(prices)
    while True:
        if x < stop:
            q, w = lab_p[x] + dp, lab_m[x] + dm
            if w + spare > cap:
                x = stop
                continue
            useless = False
            for y in range(many):
                excess = q + prices[y] * (w - cap) + slack[y]
                if excess > tolerance * (q + prices[y] * cap):
                    useless = True
                    break
            if useless:
                x += 1
                continue
            while i < n and (acc_m[i] < w or (acc_m[i] == w and acc_p[i] <= q)):
                if acc_p[i] < best:
                    best = acc_p[i]
                    out_p[k], out_m[k] = best, acc_m[i]
                    k += 1
                i += 1
            if q < best:
                best = q
                out_p[k], out_m[k] = q, w
                k += 1
            x += 1
        else:
            while i < n:
                if acc_p[i] < best:
                    best = acc_p[i]
                    out_p[k], out_m[k] = best, acc_m[i]
                    k += 1
                i += 1
            return k


@compiled("i8(f8[::1], f8[::1], i8, i8, f8)")
def narrow(p, m, n, width, price):
    """Keep about ``width`` labels of a front: those cheapest under a price of memory, and the fastest."""
    low, high = INF, -INF
    for x in range(n):
        value = p[x] + price * m[x]
        low, high = min(low, value), max(high, value)
    for _ in range(20):
        middle = 0.5 * (low + high)
        inside = 0
        for x in range(n):
            if p[x] + price * m[x] <= middle:
                inside += 1
        if inside > width:
            high = middle
        else:
            low = middle
    kept = 0
    for x in range(n):
        if (p[x] + price * m[x] <= low or x == n - 1) and kept <= width:
            p[kept], m[kept] = p[x], m[x]
            kept += 1
    return kept


@compiled("f8[::1](f8[::1], i8, i8)")
def roomy(buffer, kept, need):
    """The buffer, or a longer one with its first ``kept`` values."""
    if need <= len(buffer):
        return buffer
    longer = np.empty(2 * need)
    for x in range(kept):
        longer[x] = buffer[x]
    return longer


@compiled(
    f"i8(i8, i8, i8, {TREE}, i8[::1], {STEPS}, {COSTS}, i8[::1], i8[::1], f8[::1], f8[::1], i8,"
    "f8[::1], f8[:, ::1], f8[:, ::1], f8[::1], f8[::1], i8)"
)
def extend(
    x, rows, width, tree, in_base, steps, costs, where, many, lab_p, lab_m, used,
    prices, slack, slack_in, spare, spare_in, watch,
):  # fmt: skip
    """All labels of item ``x`` from those of its parent; returns the labels used, or -1 if out of room.

    Labels are kept apart by the state in which their stage began, ``rows`` of them. State ``q`` of item ``x`` in row
    ``f`` is number ``base[x] * rows + f * states + q``; ``where``, ``many`` locate its front in ``lab_p``, ``lab_m``.
    Labels without a useful completion (:func:`completions`) are dropped. A positive ``width`` keeps that many labels
    of a state, those that look best under ``prices[watch]``: a beam.
    """
    parent, kind, base = tree
    residuals, first, group, source, reshard = steps
    cap, start, enter, leave, time, memory = costs
    t = kind[x]
    states, states_before = base[x + 1] - base[x], base[parent[x] + 1] - base[parent[x]]
    in_at = np.empty(residuals[t] + 1, np.int64)
    in_p, in_m = np.empty(16), np.empty(16)
    buf_p, buf_m = np.empty(16), np.empty(16)
    alt_p, alt_m = np.empty(16), np.empty(16)
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
        buf_p, buf_m = roomy(buf_p, 0, total), roomy(buf_m, 0, total)
        alt_p, alt_m = roomy(alt_p, 0, total), roomy(alt_m, 0, total)
        in_at[0] = 0
        for r in range(residuals[t]):
            count = 0
            ir = in_base[x] + r
            if spare_in[ir] < INF:
                for z in range(group[first[t] + r], group[first[t] + r + 1]):
                    q = before + source[z]
                    if many[q] == 0:
                        continue
                    count = absorb(
                        buf_p, buf_m, count, lab_p, lab_m, where[q], where[q] + many[q], reshard[z], 0.0, cap,
                        prices, slack_in[ir], spare_in[ir], alt_p, alt_m,
                    )  # fmt: skip
                    buf_p, alt_p = alt_p, buf_p
                    buf_m, alt_m = alt_m, buf_m
            in_p, in_m = roomy(in_p, in_at[r], in_at[r] + count), roomy(in_m, in_at[r], in_at[r] + count)
            for y in range(count):
                in_p[in_at[r] + y], in_m[in_at[r] + y] = buf_p[y], buf_m[y]
            in_at[r + 1] = in_at[r] + count
        e = start[t]
        while e < start[t + 1]:
            q = leave[e]
            room, stop = 0, e
            while stop < start[t + 1] and leave[stop] == q:
                room += in_at[enter[stop] + 1] - in_at[enter[stop]]
                stop += 1
            buf_p, buf_m = roomy(buf_p, 0, room), roomy(buf_m, 0, room)
            alt_p, alt_m = roomy(alt_p, 0, room), roomy(alt_m, 0, room)
            count = 0
            if room > 0 and spare[base[x] + q] < INF:
                for entry in range(e, stop):
                    begin, end = in_at[enter[entry]], in_at[enter[entry] + 1]
                    if begin == end:
                        continue
                    count = absorb(
                        buf_p, buf_m, count, in_p, in_m, begin, end, time[entry], memory[entry], cap,
                        prices, slack[base[x] + q], spare[base[x] + q], alt_p, alt_m,
                    )  # fmt: skip
                    buf_p, alt_p = alt_p, buf_p
                    buf_m, alt_m = alt_m, buf_m
            if width > 0 and count > width:
                count = narrow(buf_p, buf_m, count, width, prices[watch])
            if used + count > len(lab_p):
                return -1
            for y in range(count):
                lab_p[used + y], lab_m[used + y] = buf_p[y], buf_m[y]
            where[here + q], many[here + q] = used, count
            used += count
            e = stop
    return used


@compiled(f"void(i8, i8, f8, f8, {TREE}, {STEPS}, {COSTS}, i8[::1], i8[::1], f8[::1], f8[::1], i8[::1])")
def trace_stage(x, q, p, m, tree, steps, costs, where, many, lab_p, lab_m, path):
    """Entries behind the label (p, m) of state ``q`` of item ``x``, labelled in one row.

    ``path[y]`` is the entry by which item ``y`` was reached, for ``x`` and its ancestors; -1 elsewhere. Sums on the
    grid are exact, so equality finds the predecessor.
    """
    parent, kind, base = tree
    _, first, group, source, reshard = steps
    _, start, enter, leave, time, memory = costs
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
