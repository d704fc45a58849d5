"""The compiled inner loops: flat arrays in, flat arrays out, no Python objects, no allocation that grows with labels.

Every function has one explicit signature and is cached on disk; where neither the package folder nor the user's
cache can be written, a temporary folder serves. A *front* is a run of labels ``(time, memory)`` with memory rising
and time falling: no label of it is at least as good as another in both.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

INF = np.inf


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit`` with an explicit signature and an on-disk cache that works wherever the package lies."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(signature, cache=True, boundscheck=False, error_model="numpy")(function)
        except RuntimeError:  # numba: no locator, that is, no writable cache folder
            os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"uniap-numba-{os.getuid()}"))
            numba.config.reload_config()
            return numba.njit(signature, cache=True, boundscheck=False, error_model="numpy")(function)

    return decorate


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


STEPS = "Tuple((i8[::1], i8[::1], i8[::1], i8[::1], f8[::1]))"
"""``Lattice.arcs``: (residuals, first, group, source, cost)."""
COSTS = "Tuple((f8, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1]))"
"""``StageClass.arrays``: (cap, start, enter, leave, time, memory)."""
TREE = "Tuple((i8[::1], i8[::1], i8[::1]))"
"""(parent, type, base): items of a tree of downsets; states of item ``x`` are ``base[x] .. base[x + 1]``."""


# --- paths under one price of memory ----------------------------------------------------------------------------


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
    parent, kind, base = tree
    cap = costs[0]
    n = len(parent)
    p, m = np.empty(base[n]), np.empty(base[n])
    out_p, out_m = np.empty(n), np.empty(n)
    left_p, left_m, right_p, right_m = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for x in range(n):
        alive[x] = True
    price_paths(n, 1.0, 0.0, tree, steps, costs, starts, alive, p, m, left_p, left_m)
    price_paths(n, 0.0, 1.0, tree, steps, costs, starts, alive, p, m, right_p, right_m)
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


# --- the program over cuts --------------------------------------------------------------------------------------


@compiled("i8(f8[::1], f8[::1], i8[::1], i8, f8, f8, i8, f8, b1)")
def insert(total, peak, origin, count, s, t, where, weight, relax):
    """Put ``(s, t)`` into a small front (total rising, peak falling) of bounded size; returns the new count.

    Over the size, ``relax`` replaces the two closest neighbors by their lower corner (the front stays a lower bound);
    otherwise the label that looks worst is dropped (the front stays attainable).
    """
    at = 0
    while at < count and total[at] < s:
        at += 1
    if (at > 0 and peak[at - 1] <= t) or (at < count and total[at] == s and peak[at] <= t):
        return count
    stop = at
    while stop < count and peak[stop] >= t:
        stop += 1
    shift = 1 - (stop - at)
    if shift == 1:
        for x in range(count, at, -1):
            total[x], peak[x], origin[x] = total[x - 1], peak[x - 1], origin[x - 1]
    elif shift < 0:
        for x in range(stop, count):
            total[x + shift], peak[x + shift], origin[x + shift] = total[x], peak[x], origin[x]
    total[at], peak[at], origin[at] = s, t, where
    count += shift
    if count < len(total):
        return count
    worst, worst_at = INF, 0
    for x in range(count - 1):
        loss = min(total[x + 1] - total[x], weight * (peak[x] - peak[x + 1]))
        if loss < worst:
            worst, worst_at = loss, x
    gone = worst_at + 1
    if relax:
        peak[worst_at] = peak[gone]
    elif total[worst_at] + weight * peak[worst_at] > total[gone] + weight * peak[gone]:
        gone = worst_at
    for x in range(gone, count - 1):
        total[x], peak[x], origin[x] = total[x + 1], peak[x + 1], origin[x + 1]
    return count - 1


@compiled(
    "void(i8[:, ::1], i8[:, ::1], i8[::1], f8[::1], f8[::1], f8, f8, b1, b1,"
    "f8[:, :, ::1], f8[:, :, ::1], i8[:, :, ::1], i8[:, ::1])"
)
def sweep(base, count, target, value, border, weight, limit, backward, relax, total, peak, origin, size):
    """Fronts of (sum, peak) over all chains of downsets, with stage times ``value`` and boundary times ``border``.

    Stages ``i`` from downset ``d`` are numbers ``base[i, d] + j`` with ``j < count[i, d]``; each ends at downset
    ``target`` and takes ``value``; ``border[d]`` is the time of a boundary at ``d``. Forward, ``total[i, d]`` and
    ``peak[i, d]`` hold the fronts of ``i`` stages that cover ``d``, boundaries included; backward, those from stage
    ``i`` and downset ``d`` on. ``origin`` is stage number * 64 + label of the predecessor (forward).
    """
    depth, nodes = base.shape
    for i in range(depth + 1):
        for a in range(nodes):
            size[i, a] = 0
    if backward:
        total[depth, nodes - 1, 0], peak[depth, nodes - 1, 0], size[depth, nodes - 1] = 0.0, 0.0, 1
    else:
        total[0, 0, 0], peak[0, 0, 0], size[0, 0] = 0.0, 0.0, 1
    for step in range(depth):
        i = depth - 1 - step if backward else step
        for a in range(nodes):
            if not backward and size[i, a] == 0:
                continue
            for at in range(base[i, a], base[i, a] + count[i, a]):
                b, p = target[at], value[at]
                final = b == nodes - 1
                if final != (i == depth - 1) or p == INF:
                    continue
                o = 0.0 if final else border[b]
                high = max(p, o)
                if backward:
                    for g in range(size[i + 1, b]):
                        s, t = p + o + total[i + 1, b, g], max(high, peak[i + 1, b, g])
                        if s + weight * t <= limit:
                            size[i, a] = insert(
                                total[i, a], peak[i, a], origin[i, a], size[i, a], s, t, 0, weight, relax
                            )
                else:
                    for g in range(size[i, a]):
                        s, t = p + o + total[i, a, g], max(high, peak[i, a, g])
                        if s + weight * t <= limit:
                            size[i + 1, b] = insert(
                                total[i + 1, b], peak[i + 1, b], origin[i + 1, b], size[i + 1, b],
                                s, t, at * 64 + g, weight, relax,
                            )  # fmt: skip


@compiled(
    "void(i8[:, ::1], i8[:, ::1], i8[::1], f8[::1], f8, f8, f8[:, :, ::1], f8[:, :, ::1], i8[:, ::1],"
    "f8[:, :, ::1], f8[:, :, ::1], i8[:, ::1], f8[::1])"
)
def stage_limits(base, count, target, border, weight, cutoff, ft, fp, fn, bt, bp, bn, out):
    """The most that each stage may take in a plan of at most ``cutoff``: ``-1`` if no such plan uses it.

    With ``rest`` what the cutoff leaves when everything else is at its bound (s, t): ``p + weight * max(p, t) <= rest``.
    """
    depth, nodes = base.shape
    for i in range(depth):
        for a in range(nodes):
            for at in range(base[i, a], base[i, a] + count[i, a]):
                b = target[at]
                best = -1.0
                if (b == nodes - 1) == (i == depth - 1):
                    o = 0.0 if b == nodes - 1 else border[b]
                    for f in range(fn[i, a]):
                        for g in range(bn[i + 1, b]):
                            rest = cutoff - ft[i, a, f] - bt[i + 1, b, g] - o
                            t = max(fp[i, a, f], bp[i + 1, b, g], o)
                            best = max(best, min(rest / (1 + weight), rest - weight * t))
                out[at] = best


# --- labels within a stage --------------------------------------------------------------------------------------


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
        if total > len(buf_p):
            buf_p, buf_m = np.empty(2 * total), np.empty(2 * total)
            alt_p, alt_m = np.empty(2 * total), np.empty(2 * total)
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
            if in_at[r] + count > len(in_p):
                more_p, more_m = np.empty(2 * (in_at[r] + count)), np.empty(2 * (in_at[r] + count))
                for y in range(in_at[r]):
                    more_p[y], more_m[y] = in_p[y], in_m[y]
                in_p, in_m = more_p, more_m
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
            if room > len(buf_p):
                buf_p, buf_m = np.empty(2 * room), np.empty(2 * room)
                alt_p, alt_m = np.empty(2 * room), np.empty(2 * room)
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
    residuals, first, group, source, reshard = steps
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


# --- labels over stages -----------------------------------------------------------------------------------------


@compiled("i8(f8[::1], f8[::1], i8, f8[::1], f8[::1], i8, i8, f8, f8, f8, f8[::1], f8[::1], i8, f8[::1], f8[::1])")
def absorb_peak(acc_s, acc_t, n, lab_s, lab_t, begin, stop, step, weight, cutoff, tail_s, tail_t, tails, out_s, out_t):
    """Merge a front of (sum, peak) with another extended by a term ``step``; drops what cannot meet the cutoff."""
    i, x, k, best = 0, begin, 0, INF
    while True:
        if x < stop:
            s, t = lab_s[x] + step, max(lab_t[x], step)
            least = INF
            for y in range(tails):
                least = min(least, s + tail_s[y] + weight * max(t, tail_t[y]))
            if least > cutoff:
                x += 1
                continue
            while i < n and (acc_s[i] < s or (acc_s[i] == s and acc_t[i] <= t)):
                if acc_t[i] < best:
                    best = acc_t[i]
                    out_s[k], out_t[k] = acc_s[i], best
                    k += 1
                i += 1
            if t < best:
                best = t
                out_s[k], out_t[k] = s, t
                k += 1
            x += 1
        else:
            while i < n:
                if acc_t[i] < best:
                    best = acc_t[i]
                    out_s[k], out_t[k] = acc_s[i], best
                    k += 1
                i += 1
            return k


@compiled(
    "i8(i8[::1], i8[::1], i8[::1], f8[::1], i8[::1], i8[::1], Tuple((i8[::1], i8[::1], i8[::1], f8[::1])), f8, f8,"
    "f8[:, ::1], f8[:, ::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1],"
    "f8[::1], f8[::1], i8)"
)
def join_stage(
    heads, ends, tables, value, starts, states, border, weight, cutoff, tail_s, tail_t, tails,
    enter_base, enter_at, enter_many, leave_base, leave_at, leave_many, next_at, next_many, lab_s, lab_t, used,
):  # fmt: skip
    """Carry fronts of (sum, peak) over one stage and its boundary; returns labels used, or -1 if out of room.

    Stage tables ``x`` lead from downset ``heads[x]`` to ``ends[x]`` (sorted by end) with values at ``tables[x]``, shape
    (start states, states). Fronts into downset ``d`` in its start state ``f`` are number ``enter_base[d] + f``; out of
    it in state ``q`` number ``leave_base[d] + q``. ``tail_s[d]``, ``tail_t[d]`` bound what follows, boundary included.
    """
    first, group, source, cross = border
    x = 0
    while x < len(heads):
        b = ends[x]
        stop = x
        room = 0
        while stop < len(heads) and ends[stop] == b:
            for f in range(starts[heads[stop]]):
                room += enter_many[enter_base[heads[stop]] + f]
            stop += 1
        buf_s, buf_t = np.empty(room + 1), np.empty(room + 1)
        alt_s, alt_t = np.empty(room + 1), np.empty(room + 1)
        total = 0
        for q in range(states[b]):
            count = 0
            for y in range(x, stop):
                a = heads[y]
                for f in range(starts[a]):
                    p = value[tables[y] + f * states[b] + q]
                    state = enter_base[a] + f
                    if p < INF and enter_many[state] > 0:
                        count = absorb_peak(
                            buf_s, buf_t, count, lab_s, lab_t, enter_at[state], enter_at[state] + enter_many[state],
                            p, weight, cutoff, tail_s[b], tail_t[b], tails[b], alt_s, alt_t,
                        )  # fmt: skip
                        buf_s, alt_s = alt_s, buf_s
                        buf_t, alt_t = alt_t, buf_t
            if used + count > len(lab_s):
                return -1
            state = leave_base[b] + q
            leave_at[state], leave_many[state] = used, count
            for z in range(count):
                lab_s[used + z], lab_t[used + z] = buf_s[z], buf_t[z]
            used += count
            total += count
        buf_s, buf_t = np.empty(total + 1), np.empty(total + 1)
        alt_s, alt_t = np.empty(total + 1), np.empty(total + 1)
        for f in range(starts[b]):
            count = 0
            for z in range(group[first[b] + f], group[first[b] + f + 1]):
                state = leave_base[b] + source[z]
                if leave_many[state] > 0:
                    # The tail holds the cheapest boundary already, so it cannot prune once more: only merge.
                    count = absorb_peak(
                        buf_s, buf_t, count, lab_s, lab_t, leave_at[state], leave_at[state] + leave_many[state],
                        cross[z], weight, INF, tail_s[b], tail_t[b], 0, alt_s, alt_t,
                    )  # fmt: skip
                    buf_s, alt_s = alt_s, buf_s
                    buf_t, alt_t = alt_t, buf_t
            if used + count > len(lab_s):
                return -1
            state = enter_base[b] + f
            next_at[state], next_many[state] = used, count
            for z in range(count):
                lab_s[used + z], lab_t[used + z] = buf_s[z], buf_t[z]
            used += count
        x = stop
    return used
