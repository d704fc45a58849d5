"""Compiled: labels (sum, peak) over stages, exact on stage tables."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ...jit import compiled, float64, int64
from .arrays import FRAME, MERGE, NUMBERED, OBJECTIVE, PAIRS, RUN, TABLES, TAILS, Merge, Run

INF = np.inf


@compiled(int64(PAIRS, MERGE, PAIRS, RUN, float64, TAILS, int64, int64), inner=True)
def absorb_peak(own, merge, labels, run, weight, tails, d, many):
    """Merge labels of ``own`` with a run of others that a term extends, if they can meet the cutoff.

    The term adds ``run.first`` to the weighted sum and lasts ``run.second`` seconds; ``weight`` is that of the longest.
    What follows is one of the first ``many`` tails of downset ``d``; -1 asks for no such test. Returns how many labels
    there are then.
    """
    own_s, own_t = own
    lab_s, lab_t = labels
    begin, n, out = merge
    x, stop, add, term = run
    tail_s, tail_t, _, cutoff = tails
    i, end, k, best = begin, begin + n, out, INF
    while x < stop:
        s, t = lab_s[x] + add, max(lab_t[x], term)
        x += 1
        least = INF
        for y in range(many):
            least = min(least, s + tail_s[d, y] + weight * max(t, tail_t[d, y]))
        if many >= 0 and least > cutoff:
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


@compiled(int64(TABLES, FRAME, OBJECTIVE, TAILS, NUMBERED, NUMBERED, NUMBERED, PAIRS, int64, PAIRS))
def join_stage(tables, frame, objective, tails, entering, leaving, following, labels, used, aside):
    """Carry fronts of (weighted sum, longest) over a stage and its boundary; returns labels used, -1 if out of room.

    Fronts into a downset are numbered by start state (``entering``, and ``following`` behind the boundary), those out
    of it by state (``leaving``). ``aside`` is room for the two sides of a merge.
    """
    heads, ends, at, value = tables
    starts, states, (first, group, source, cross) = frame
    weight_p, weight_o, weight_t = objective
    enter_base, enter_at, enter_many = entering
    leave_base, leave_at, leave_many = leaving
    _, next_at, next_many = following
    lab_s, lab_t = labels
    tmp_s, tmp_t = aside
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
                    p = value[at[y] + f * states[b] + q]
                    state = enter_base[a] + f
                    if p < INF and enter_many[state] > 0:
                        run = Run(enter_at[state], enter_at[state] + enter_many[state], weight_p * p, p)
                        merge = Merge(side, count, room - side)
                        count = absorb_peak(aside, merge, labels, run, weight_t, tails, b, tails.size[b])
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
                    run = Run(leave_at[state], leave_at[state] + leave_many[state], weight_o * cross[z], cross[z])
                    count = absorb_peak(aside, Merge(side, count, total - side), labels, run, weight_t, tails, b, -1)
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
