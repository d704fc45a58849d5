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


SHAPE = "Tuple((i8[::1], i8[::1], i8[::1], f8[::1]))"
"""(enters, leaves, row, table) of a chain; ``table`` is its reshard or its cross costs."""
COSTS = "Tuple((f8, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1]))"
"""(cap, start, enter, leave, time, memory) of a stage class."""


# --- paths under one price of memory ----------------------------------------------------------------------------


@compiled(f"void(i8, i8, f8, f8, {SHAPE}, {COSTS}, f8[::1], f8[::1], i8[:, ::1], i8[::1])")
def price_paths(a, n, wt, wm, shape, costs, out_p, out_m, choice, path):
    """Cheapest paths from layer ``a`` under ``wt * time + wm * memory``, for every length up to ``n``.

    ``out_p[j]``, ``out_m[j]`` are time and memory of the cheapest path over layers ``a .. a + j``, ``inf`` if there is
    none; ties take less time, then less memory. If ``path`` has ``n`` places, the entries of the longest path are
    written there, with ``choice`` (n, widest) as scratch.
    """
    enters, leaves, row, reshard = shape
    _, start, enter, leave, time, memory = costs
    widest = 1
    for l in range(a, a + n):
        widest = max(widest, enters[l], leaves[l])
    p, m = np.empty(widest), np.empty(widest)
    in_p, in_m = np.empty(widest), np.empty(widest)
    came = np.empty(widest, np.int64)
    traced = len(path) == n
    back = np.empty((n if traced else 1, widest), np.int64)
    for j in range(n):
        l = a + j
        for ci in range(enters[l]):
            if j == 0:
                in_p[ci], in_m[ci] = 0.0, 0.0
                continue
            best, best_p, best_m = INF, INF, INF
            for co in range(leaves[l - 1]):
                if p[co] == INF:
                    continue
                q = p[co] + reshard[row[l - 1] + co * enters[l] + ci]
                value = wt * q + wm * m[co]
                if value < best or (value == best and (q < best_p or (q == best_p and m[co] < best_m))):
                    best, best_p, best_m = value, q, m[co]
                    came[ci] = co
            in_p[ci], in_m[ci] = best_p, best_m
        for co in range(leaves[l]):
            p[co], m[co] = INF, INF
        for e in range(start[l], start[l + 1]):
            ci, co = enter[e], leave[e]
            if in_p[ci] == INF:
                continue
            q, w = in_p[ci] + time[e], in_m[ci] + memory[e]
            value = wt * q + wm * w
            old = wt * p[co] + wm * m[co] if p[co] < INF else INF
            if value < old or (value == old and (q < p[co] or (q == p[co] and w < m[co]))):
                p[co], m[co] = q, w
                if traced:
                    choice[j, co] = e
                    back[j, co] = came[ci]
        best, at = INF, -1
        for co in range(leaves[l]):
            if p[co] < INF and (at < 0 or wt * p[co] + wm * m[co] < best):
                best, at = wt * p[co] + wm * m[co], co
        out_p[j] = p[at] if at >= 0 else INF
        out_m[j] = m[at] if at >= 0 else INF
        if traced and j == n - 1 and at >= 0:
            for back_j in range(n - 1, -1, -1):
                path[back_j] = choice[back_j, at]
                at = back[back_j, at]


@compiled(f"i8(i8, i8, f8, {SHAPE}, {COSTS}, f8[::1], f8[::1], f8[::1], f8[:, ::1])")
def segment_duals(a, n, limit, shape, costs, low, high, price, recipe):
    """Bounds on the least time of the stage ``a .. a + j`` under its memory cap, for every ``j < n``.

    ``low[j]`` is the Lagrangian dual (maximum over prices of memory, by Newton steps on its concave graph), ``high[j]``
    the best feasible path met on the way, ``price[j]`` the best price (s/B), ``recipe[j]`` the two weights under which
    :func:`price_paths` gives the path behind ``high[j]``. Returns how many lengths are of use: longer ones do not
    fit in memory, or take more than ``limit``.
    """
    cap = costs[0]
    p, m = np.empty(n), np.empty(n)
    left_p, left_m, right_p, right_m = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    none2, none1 = np.empty((1, 1), np.int64), np.empty(0, np.int64)
    price_paths(a, n, 1.0, 0.0, shape, costs, left_p, left_m, none2, none1)
    price_paths(a, n, 0.0, 1.0, shape, costs, right_p, right_m, none2, none1)
    for j in range(n):
        if right_m[j] > cap or left_p[j] > limit:
            n = j
            break
        low[j], price[j] = left_p[j], 0.0
        fits = left_m[j] <= cap
        high[j] = left_p[j] if fits else right_p[j]
        recipe[j, 0] = 1.0 if fits else 0.0
        recipe[j, 1] = 0.0 if fits else 1.0
    steps = 0
    for target in range(n - 1, -1, -1):
        while high[target] > low[target] * (1 + 1e-9) and steps < 8 * n + 32:
            if left_m[target] <= cap:
                break
            steps += 1
            weight = (right_p[target] - left_p[target]) / (left_m[target] - right_m[target])
            if weight <= 0.0:
                break
            crossing = left_p[target] + weight * (left_m[target] - cap)
            price_paths(a, target + 1, 1.0, weight, shape, costs, p, m, none2, none1)
            for j in range(target + 1):
                value = p[j] + weight * (m[j] - cap)
                if value > low[j]:
                    low[j], price[j] = value, weight
                if m[j] <= cap and p[j] < high[j]:
                    high[j], recipe[j, 0], recipe[j, 1] = p[j], 1.0, weight
                if left_m[j] > cap:
                    own = (right_p[j] - left_p[j]) / (left_m[j] - right_m[j])
                    if p[j] + own * (m[j] - cap) < left_p[j] + own * (left_m[j] - cap):
                        if m[j] > cap:
                            left_p[j], left_m[j] = p[j], m[j]
                        else:
                            right_p[j], right_m[j] = p[j], m[j]
            if p[target] + weight * (m[target] - cap) >= crossing * (1 - 1e-7):
                break
    for j in range(n):
        low[j] = min(high[j], low[j] - 1e-13 * abs(low[j]) - 1e-13 * price[j] * cap)
        if low[j] > limit:
            return j
    return n


# --- the program over stages, by numbers of layers only ---------------------------------------------------------


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
    "void(i8, i8[:, ::1], i8[:, ::1], f8[::1], f8[::1], f8, f8, b1, b1,"
    "f8[:, :, ::1], f8[:, :, ::1], i8[:, :, ::1], i8[:, ::1])"
)
def sweep(depth, base, count, value, border, weight, limit, backward, relax, total, peak, origin, size):
    """Fronts of (sum, peak) over all ways to cut the chain, with stage times ``value`` and boundary times ``border``.

    ``value[base[i, a] + j]`` is the time of stage ``i`` over layers ``a .. a + j`` (``j < count[i, a]``), ``border[b]``
    that of the boundary before layer ``b``. Forward, ``total[i, a]`` and ``peak[i, a]`` hold the fronts of stages
    before ``i`` covering layers before ``a``, boundaries included; backward, those from ``i``, ``a`` on.
    ``origin`` = first layer * 64 + label of the predecessor (forward).
    """
    length = base.shape[1]
    size[:] = 0
    if backward:
        total[depth, length, 0], peak[depth, length, 0], size[depth, length] = 0.0, 0.0, 1
    else:
        total[0, 0, 0], peak[0, 0, 0], size[0, 0] = 0.0, 0.0, 1
    for step in range(depth):
        i = depth - 1 - step if backward else step
        for a in range(length):
            if not backward and size[i, a] == 0:
                continue
            for j in range(count[i, a]):
                b = a + j + 1
                if (b == length) != (i == depth - 1):
                    continue
                p = value[base[i, a] + j]
                if p == INF:
                    continue
                o = border[b] if b < length else 0.0
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
                                s, t, a * 64 + g, weight, relax,
                            )  # fmt: skip


@compiled(
    "void(i8, i8[:, ::1], i8[:, ::1], f8[::1], f8, f8, f8[:, :, ::1], f8[:, :, ::1], i8[:, ::1],"
    "f8[:, :, ::1], f8[:, :, ::1], i8[:, ::1], f8[::1])"
)
def stage_limits(depth, base, count, border, weight, cutoff, ft, fp, fn, bt, bp, bn, out):
    """The most that each stage may take in a plan of at most ``cutoff``: ``-1`` if no such plan uses it.

    With ``rest`` what the cutoff leaves when everything else is at its bound (s, t): ``p + weight * max(p, t) <= rest``.
    """
    length = base.shape[1]
    for i in range(depth):
        for a in range(length):
            for j in range(count[i, a]):
                b = a + j + 1
                best = -1.0
                if (b == length) == (i == depth - 1):
                    o = border[b] if b < length else 0.0
                    for f in range(fn[i, a]):
                        for g in range(bn[i + 1, b]):
                            rest = cutoff - ft[i, a, f] - bt[i + 1, b, g] - o
                            t = max(fp[i, a, f], bp[i + 1, b, g], o)
                            best = max(best, min(rest / (1 + weight), rest - weight * t))
                out[base[i, a] + j] = best


# --- labels within a stage --------------------------------------------------------------------------------------


@compiled(f"void(i8, i8, i8, i8, {SHAPE}, {COSTS}, i8[::1], f8[::1], f8[::1], f8[:, ::1], f8[::1])")
def completions(a, n, first, last, shape, costs, base, limit, prices, slack, spare):
    """How far a label is from the nearest useful end of its stage, under some prices of memory.

    States are (layer ``a + j``, in-class ``f`` of layer ``a``, out-class ``co``), number
    ``base[j] + (f - first) * leaves + co``. ``limit[state]`` is the most that a stage ending there may take (-1: may
    not end there). ``slack[x, state]`` is the least of (time to go + prices[x] * memory to go - limit at the end);
    ``spare[state]`` the least memory to go. A label (p, m) with ``p + prices[x] * (m - cap) + slack > 0`` or
    ``m + spare > cap`` has no useful completion.
    """
    enters, leaves, row, reshard = shape
    _, start, enter, leave, time, memory = costs
    widest = 1
    for l in range(a, a + n):
        widest = max(widest, enters[l])
    need = np.empty(widest)
    for x in range(-1, len(prices)):
        wt = 0.0 if x < 0 else 1.0
        wm = 1.0 if x < 0 else prices[x]
        for f in range(last - first):
            for j in range(n - 1, -1, -1):
                l = a + j
                here = base[j] + f * leaves[l]
                if j < n - 1:
                    after = base[j + 1] + f * leaves[l + 1]
                    for ci in range(enters[l + 1]):
                        need[ci] = INF
                    for e in range(start[l + 1], start[l + 2]):
                        follow = spare[after + leave[e]] if x < 0 else slack[x, after + leave[e]]
                        need[enter[e]] = min(need[enter[e]], wt * time[e] + wm * memory[e] + follow)
                for co in range(leaves[l]):
                    best = INF
                    if limit[here + co] >= 0:
                        best = 0.0 if x < 0 else -limit[here + co]
                    if j < n - 1:
                        for ci in range(enters[l + 1]):
                            best = min(best, wt * reshard[row[l] + co * enters[l + 1] + ci] + need[ci])
                    if x < 0:
                        spare[here + co] = best
                    else:
                        slack[x, here + co] = best


@compiled(
    "i8(f8[::1], f8[::1], i8, f8[::1], f8[::1], i8, i8, f8, f8, f8, f8[::1], f8[:, ::1], i8, f8, f8[::1], f8[::1])"
)
def absorb(acc_p, acc_m, n, lab_p, lab_m, begin, stop, dp, dm, cap, prices, slack, state, spare, out_p, out_m):
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
                excess = q + prices[y] * (w - cap) + slack[y, state]
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
    f"i8(i8, i8, i8, i8, i8, {SHAPE}, {COSTS}, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1], i8,"
    "f8[::1], f8[:, ::1], f8[::1], i8)"
)
def extend(a, j, first, last, width, shape, costs, base, where, many, lab_p, lab_m, used, prices, slack, spare, watch):
    """All labels of layer ``a + j`` from those of the layer before; returns the labels used, or -1 if out of room.

    ``where[state]``, ``many[state]`` locate the front of a state in ``lab_p``, ``lab_m``. A positive ``width`` keeps
    that many labels of a state, those that look best under ``prices[watch]``: a beam.
    """
    enters, leaves, row, reshard = shape
    cap, start, enter, leave, time, memory = costs
    l = a + j
    no_price, no_slack = np.empty(0), np.empty((0, 1))
    for f in range(last - first):
        here = base[j] + f * leaves[l]
        total = 0
        if j > 0:
            before = base[j - 1] + f * leaves[l - 1]
            for co in range(leaves[l - 1]):
                total += many[before + co]
        else:
            total = 1
        for co in range(leaves[l]):
            where[here + co], many[here + co] = used, 0
        if total == 0:
            continue
        in_at = np.zeros(enters[l] + 1, np.int64)
        in_p, in_m = np.empty(total * enters[l]), np.empty(total * enters[l])
        buf_p, buf_m = np.empty(total), np.empty(total)
        alt_p, alt_m = np.empty(total), np.empty(total)
        for ci in range(enters[l]):
            count = 0
            if j == 0:
                if ci == first + f:
                    buf_p[0], buf_m[0], count = 0.0, 0.0, 1
            else:
                for co in range(leaves[l - 1]):
                    if many[before + co] == 0:
                        continue
                    begin = where[before + co]
                    count = absorb(
                        buf_p, buf_m, count, lab_p, lab_m, begin, begin + many[before + co],
                        reshard[row[l - 1] + co * enters[l] + ci], 0.0, cap, no_price, no_slack, 0, 0.0, alt_p, alt_m,
                    )  # fmt: skip
                    buf_p, alt_p = alt_p, buf_p
                    buf_m, alt_m = alt_m, buf_m
            for x in range(count):
                in_p[in_at[ci] + x], in_m[in_at[ci] + x] = buf_p[x], buf_m[x]
            in_at[ci + 1] = in_at[ci] + count
        e = start[l]
        while e < start[l + 1]:
            co = leave[e]
            room, stop = 0, e
            while stop < start[l + 1] and leave[stop] == co:
                room += in_at[enter[stop] + 1] - in_at[enter[stop]]
                stop += 1
            if room > len(buf_p):
                buf_p, buf_m = np.empty(room), np.empty(room)
                alt_p, alt_m = np.empty(room), np.empty(room)
            count = 0
            state = here + co
            if spare[state] < INF:
                for entry in range(e, stop):
                    count = absorb(
                        buf_p, buf_m, count, in_p, in_m, in_at[enter[entry]], in_at[enter[entry] + 1], time[entry],
                        memory[entry], cap, prices, slack, state, spare[state], alt_p, alt_m,
                    )  # fmt: skip
                    buf_p, alt_p = alt_p, buf_p
                    buf_m, alt_m = alt_m, buf_m
            if width > 0 and count > width:
                count = narrow(buf_p, buf_m, count, width, prices[watch])
            if used + count > len(lab_p):
                return -1
            for x in range(count):
                lab_p[used + x], lab_m[used + x] = buf_p[x], buf_m[x]
            where[state], many[state] = used, count
            used += count
            e = stop
    return used


@compiled(f"void(i8, i8, i8, i8, {SHAPE}, {COSTS}, i8[::1], i8[::1], i8[::1], f8[::1], f8[::1], f8, f8, i8[::1])")
def trace_stage(a, n, f, co, shape, costs, base, where, many, lab_p, lab_m, p, m, path):
    """Entries behind the label (p, m) at the end of ``a .. a + n - 1``; sums on the grid are exact, so ``==`` finds it.

    ``f`` is the in-class row among those labelled, ``co`` the out-class at the end.
    """
    enters, leaves, row, reshard = shape
    _, start, enter, leave, time, memory = costs
    for j in range(n - 1, -1, -1):
        l = a + j
        path[j] = -1
        for e in range(start[l], start[l + 1]):
            if leave[e] != co or path[j] >= 0:
                continue
            if j == 0:
                if p == time[e] and m == memory[e]:
                    path[j] = e
                continue
            before = base[j - 1] + f * leaves[l - 1]
            for c in range(leaves[l - 1]):
                q = p - time[e] - reshard[row[l - 1] + c * enters[l] + enter[e]]
                w = m - memory[e]
                for x in range(where[before + c], where[before + c] + many[before + c]):
                    if lab_p[x] == q and lab_m[x] == w and path[j] < 0:
                        path[j] = e
                        next_co, next_p, next_m = c, q, w
        if path[j] < 0:
            return
        if j > 0:
            co, p, m = next_co, next_p, next_m


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
    f"i8(i8, i8[::1], i8[::1], i8[::1], f8[::1], {SHAPE}, f8, f8, f8[:, ::1], f8[:, ::1], i8[::1],"
    "i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], f8[::1], i8)"
)
def join_stage(
    final, heads, ends, tables, value, shape, weight, cutoff, tail_s, tail_t, tails,
    enter_base, enter_at, enter_many, leave_base, leave_at, leave_many, next_at, next_many, lab_s, lab_t, used,
):  # fmt: skip
    """Carry fronts of (sum, peak) over one stage and its boundary; returns labels used, or -1 if out of room.

    Stage tables ``x`` cover layers ``heads[x] .. ends[x]`` (sorted by end) with values at ``tables[x]``, shape
    (in-classes, out-classes). Fronts into layer ``a`` with in-class ``f`` are number ``enter_base[a] + f``; out of
    layer ``b`` with out-class ``co`` number ``leave_base[b] + co``. ``tail_s[b]``, ``tail_t[b]`` bound what follows
    the stage, its boundary included.
    """
    enters, leaves, row, cross = shape
    x = 0
    while x < len(heads):
        b = ends[x]
        stop = x
        room = 0
        while stop < len(heads) and ends[stop] == b:
            for f in range(enters[heads[stop]]):
                room += enter_many[enter_base[heads[stop]] + f]
            stop += 1
        buf_s, buf_t = np.empty(room + 1), np.empty(room + 1)
        alt_s, alt_t = np.empty(room + 1), np.empty(room + 1)
        total = 0
        for co in range(leaves[b]):
            count = 0
            for y in range(x, stop):
                a = heads[y]
                for f in range(enters[a]):
                    p = value[tables[y] + f * leaves[b] + co]
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
            state = leave_base[b] + co
            leave_at[state], leave_many[state] = used, count
            for z in range(count):
                lab_s[used + z], lab_t[used + z] = buf_s[z], buf_t[z]
            used += count
            total += count
        if not final:
            buf_s, buf_t = np.empty(total + 1), np.empty(total + 1)
            alt_s, alt_t = np.empty(total + 1), np.empty(total + 1)
            for f in range(enters[b + 1]):
                count = 0
                for co in range(leaves[b]):
                    state = leave_base[b] + co
                    if leave_many[state] > 0:
                        o = cross[row[b] + co * enters[b + 1] + f]
                        # The tail counts the cheapest boundary once more; leave it out here: only merge.
                        count = absorb_peak(
                            buf_s, buf_t, count, lab_s, lab_t, leave_at[state], leave_at[state] + leave_many[state],
                            o, weight, INF, tail_s[b], tail_t[b], 0, alt_s, alt_t,
                        )  # fmt: skip
                        buf_s, alt_s = alt_s, buf_s
                        buf_t, alt_t = alt_t, buf_t
                if used + count > len(lab_s):
                    return -1
                state = enter_base[b + 1] + f
                next_at[state], next_many[state] = used, count
                for z in range(count):
                    lab_s[used + z], lab_t[used + z] = buf_s[z], buf_t[z]
                used += count
        x = stop
    return used
