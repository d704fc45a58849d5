"""Compiled: labels (sum, peak) over stages, exact on stage tables."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from .jit import compiled
from .signatures import WEIGHTS

INF = np.inf


@compiled(
    "i8(f8[::1], f8[::1], i8, i8, i8, f8[::1], f8[::1], i8, i8, f8, f8, f8, f8, f8[:, ::1], f8[:, ::1], i8, i8)",
    inner=True,
)
def absorb_peak(own_s, own_t, begin, n, out, lab_s, lab_t, x, stop, add, term, peak, cutoff, tail_s, tail_t, d, tails):
    """Merge ``n`` labels (sum, peak) from ``begin`` with ``x .. stop`` extended by a term, if that can meet the cutoff.

    The term lasts ``term`` seconds and adds ``add`` to the sum; ``peak`` is the weight of the longest.

    The first ones are in ``own_s``, ``own_t``, where the result goes too, from ``out`` on; returns its length.
    """
    i, end, k, best = begin, begin + n, out, INF
    while x < stop:
        s, t = lab_s[x] + add, max(lab_t[x], term)
        x += 1
        least = INF
        for y in range(tails):
            least = min(least, s + tail_s[d, y] + peak * max(t, tail_t[d, y]))
        if least > cutoff:
            continue
        while i < end and (own_s[i] < s or (own_s[i] == s and own_t[i] <= t)):
            if own_t[i] < best:
                best = own_t[i]
                own_s[k], own_t[k] = own_s[i], best
                k += 1
            i += 1
        if t < best:
            best = t
            own_s[k], own_t[k] = s, t
            k += 1
    while i < end:
        if own_t[i] < best:
            best = own_t[i]
            own_s[k], own_t[k] = own_s[i], best
            k += 1
        i += 1
    return k - out


@compiled(
    f"i8(i8[::1], i8[::1], i8[::1], f8[::1], i8[::1], i8[::1], Tuple((i8[::1], i8[::1], i8[::1], f8[::1])), {WEIGHTS},"
    "f8, f8[:, ::1], f8[:, ::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1],"
    "f8[::1], f8[::1], i8, f8[::1], f8[::1])"
)
def join_stage(
    heads, ends, tables, value, starts, states, border, weights, cutoff, tail_s, tail_t, tails,
    enter_base, enter_at, enter_many, leave_base, leave_at, leave_many, next_at, next_many, lab_s, lab_t, used,
    tmp_s, tmp_t,
):  # fmt: skip
    """Carry fronts of (sum, peak) over one stage and its boundary; returns labels used, or -1 if out of room.

    Stage tables ``x`` lead from downset ``heads[x]`` to ``ends[x]`` (sorted by end) with values at ``tables[x]``, shape
    (start states, states). Fronts into downset ``d`` in its start state ``f`` are number ``enter_base[d] + f``; out of
    it in state ``q`` number ``leave_base[d] + q``. ``tail_s[d]``, ``tail_t[d]`` bound what follows, boundary included.
    ``tmp_s`` and ``tmp_t`` are room for the two sides of a merge.
    """
    first, group, source, cross = border
    weight_p, weight_o, weight_t = weights
    x = 0
    while x < len(heads):
        b = ends[x]
        stop = x
        room = 0
        while stop < len(heads) and ends[stop] == b:
            for f in range(starts[heads[stop]]):
                room += enter_many[enter_base[heads[stop]] + f]
            stop += 1
        if 2 * room > len(tmp_s):
            return -1
        side, total = 0, 0
        for q in range(states[b]):
            count = 0
            for y in range(x, stop):
                a = heads[y]
                for f in range(starts[a]):
                    p = value[tables[y] + f * states[b] + q]
                    state = enter_base[a] + f
                    if p < INF and enter_many[state] > 0:
                        count = absorb_peak(
                            tmp_s, tmp_t, side, count, room - side, lab_s, lab_t,
                            enter_at[state], enter_at[state] + enter_many[state],
                            weight_p * p, p, weight_t, cutoff, tail_s, tail_t, b, tails[b],
                        )  # fmt: skip
                        side = room - side
            if used + count > len(lab_s):
                return -1
            state = leave_base[b] + q
            leave_at[state], leave_many[state] = used, count
            for z in range(count):
                lab_s[used + z], lab_t[used + z] = tmp_s[side + z], tmp_t[side + z]
            used += count
            total += count
        if 2 * total > len(tmp_s):
            return -1
        side = 0
        for f in range(starts[b]):
            count = 0
            for z in range(group[first[b] + f], group[first[b] + f + 1]):
                state = leave_base[b] + source[z]
                if leave_many[state] > 0:
                    # The tail holds the cheapest boundary already, so it cannot prune once more: only merge.
                    count = absorb_peak(
                        tmp_s, tmp_t, side, count, total - side, lab_s, lab_t,
                        leave_at[state], leave_at[state] + leave_many[state],
                        weight_o * cross[z], cross[z], weight_t, INF, tail_s, tail_t, b, 0,
                    )  # fmt: skip
                    side = total - side
            if used + count > len(lab_s):
                return -1
            state = enter_base[b] + f
            next_at[state], next_many[state] = used, count
            for z in range(count):
                lab_s[used + z], lab_t[used + z] = tmp_s[side + z], tmp_t[side + z]
            used += count
        x = stop
    return used
