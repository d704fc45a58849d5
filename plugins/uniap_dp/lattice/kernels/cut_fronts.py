"""Compiled: fronts (sum, peak) of bounded size over cuts alone, and what they leave for each stage."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from ...jit import boolean, compiled, float64, int64, void
from .arrays import FRONT, FRONTS, OBJECTIVE, STAGES, Front

INF = np.inf


@compiled(int64(FRONT, int64, float64, float64, int64, float64, boolean), inner=True)
def insert(front, count, s, t, where, weight, relax):
    """Put ``(s, t)`` into a small front (total rising, peak falling) of bounded size; returns the new count.

    Over the size, ``relax`` replaces the two closest neighbors by their lower corner (the front stays a lower bound);
    otherwise the label that looks worst is dropped (the front stays attainable).
    """
    total, peak, origin = front
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


@compiled(void(STAGES, float64[::1], OBJECTIVE, float64, boolean, boolean, FRONTS))
def sweep(stages, value, objective, limit, backward, relax, fronts):
    """Fronts of (weighted sum, peak) over all chains of downsets: stages take ``value``, boundaries ``border`` seconds.

    Forward, ``total[i, d]`` and ``peak[i, d]`` hold the fronts of ``i`` stages that cover ``d``, boundaries included;
    backward, those from stage ``i`` and downset ``d`` on. ``origin`` is stage number * 64 + label of the predecessor
    (forward).
    """
    base, count, target, border = stages
    total, peak, origin, size = fronts
    depth, nodes = base.shape
    weight_p, weight_o, weight_t = objective
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
                o = 0.0 if final else border[b]
                if final != (i == depth - 1) or p == INF or o == INF:
                    continue
                high, more = max(p, o), weight_p * p + weight_o * o
                # From where labels come and to where they go.
                j, c, k, d = (i + 1, b, i, a) if backward else (i, a, i + 1, b)
                for g in range(size[j, c]):
                    s, t = more + total[j, c, g], max(high, peak[j, c, g])
                    if s + weight_t * t <= limit:
                        front = Front(total[k, d], peak[k, d], origin[k, d])
                        size[k, d] = insert(front, size[k, d], s, t, at * 64 + g, weight_t, relax)


@compiled(void(STAGES, OBJECTIVE, float64, FRONTS, FRONTS, float64[::1]))
def stage_limits(stages, objective, cutoff, ahead, behind, out):
    """The most that each stage may take in a plan of at most ``cutoff``: ``-1`` if no such plan uses it.

    With ``rest`` what the cutoff leaves when all else is at its bound (s, t): ``weight_p * p + weight_t * max(p, t)
    <= rest``, that is, both with ``p`` and with ``t`` in place of the maximum. Without weights: ``inf``.
    """
    base, count, target, border = stages
    ft, fp, _, fn = ahead
    bt, bp, _, bn = behind
    depth, nodes = base.shape
    weight_p, weight_o, weight_t = objective
    both = weight_p + weight_t
    for i in range(depth):
        for a in range(nodes):
            for at in range(base[i, a], base[i, a] + count[i, a]):
                b = target[at]
                best = -1.0
                if (b == nodes - 1) == (i == depth - 1):
                    o = 0.0 if b == nodes - 1 else border[b]
                    for f in range(fn[i, a]):
                        for g in range(bn[i + 1, b]):
                            rest = cutoff - ft[i, a, f] - bt[i + 1, b, g] - weight_o * o
                            t = max(fp[i, a, f], bp[i + 1, b, g], o)
                            left = rest - weight_t * t
                            if left >= 0.0:
                                own = left / weight_p if weight_p > 0.0 else INF
                                best = max(best, min(rest / both if both > 0.0 else INF, own))
                out[at] = best
