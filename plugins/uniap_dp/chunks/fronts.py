"""Compiled: the least time of a rank for each number of equal layers on it, strategies whole."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import boolean, compiled, float64, int64, record, void

Array = np.ndarray

INF = np.inf


class Alike(NamedTuple):
    """A rank of ``V`` chunks, as a layer of ``K`` strategies of ``Q`` classes sees it.

    Attributes
    ----------
    time, memory
        Seconds (K,), and bytes on each chunk (V, K).
    group
        Class of each strategy: those of one class reshard alike (K,).
    reshard
        Seconds between two layers by class of the second and the first (Q, Q).
    must
        Whether a chunk must hold one of them (V,).
    cap
        Bytes for them all.
    longest
        Seconds beyond which nothing matters.
    """

    time: Array
    memory: Array
    group: Array
    reshard: Array
    must: Array
    cap: float
    longest: float


ALIKE = record(Alike, float64[::1], float64[:, ::1], int64[::1], float64[:, ::1], boolean[::1], float64, float64)


@compiled(int64(float64[:, ::1], int64, float64[:, ::1]))
def front(found, used, out):
    """The labels (seconds, bytes) that no other matches in both, rising in seconds; returns how many.

    If that is more than there is room for, neighbors become one that is as good as both.
    """
    order = np.argsort(found[:used, 0])
    kept, least = 0, INF
    for x in order:
        if found[x, 1] < least:
            least = found[x, 1]
            order[kept] = x
            kept += 1
    room = len(out)
    if kept <= room:
        for y in range(kept):
            out[y, 0], out[y, 1] = found[order[y], 0], found[order[y], 1]
        return kept
    for y in range(room):
        out[y, 0] = found[order[y * kept // room], 0]
        out[y, 1] = found[order[(y + 1) * kept // room - 1], 1]
    return room


class Fronts(NamedTuple):
    """Labels (seconds, bytes) of a rank, and how many there are, by the number of layers from 0 to N.

    Attributes
    ----------
    done, done_size
        When all chunks before the v-th are closed (V + 1, N + 1, room, 2), (V + 1, N + 1).
    here, here_size
        When the last layer lies on chunk v, by its class (V, N + 1, Q, room, 2), (V, N + 1, Q).
    """

    done: Array
    done_size: Array
    here: Array
    here_size: Array


FRONTS = record(Fronts, float64[:, :, :, ::1], int64[:, ::1], float64[:, :, :, :, ::1], int64[:, :, ::1])


@compiled(void(ALIKE, float64[:, ::1], FRONTS))
def fill(alike, begun, fronts):
    """Set the fronts of a rank on which other layers lie already, as labels (B, 2) say."""
    time, memory, group, reshard, must, cap, longest = alike
    done, done_size, here, here_size = fronts
    chunks, widest = memory.shape
    groups, most, room = len(reshard), done.shape[1], done.shape[2]
    done_size[:] = 0
    here_size[:] = 0
    found = np.empty((max(len(begun), room * (max(widest, groups) + 2)), 2))
    before = np.empty((room, 2))
    for x in range(len(begun)):
        found[x, 0], found[x, 1] = begun[x, 0], begun[x, 1]
    done_size[0, 0] = front(found, len(begun), done[0, 0])
    for v in range(chunks):
        for n in range(1, most):
            for q in range(groups):
                used = 0
                for x in range(done_size[v, n - 1]):
                    found[used, 0], found[used, 1] = done[v, n - 1, x, 0], done[v, n - 1, x, 1]
                    used += 1
                for p in range(groups):
                    for x in range(here_size[v, n - 1, p]):
                        found[used, 0] = here[v, n - 1, p, x, 0] + reshard[q, p]
                        found[used, 1] = here[v, n - 1, p, x, 1]
                        used += 1
                size = front(found, used, before)
                used = 0
                for k in range(widest):
                    if group[k] != q:
                        continue
                    for x in range(size):
                        s, b = before[x, 0] + time[k], before[x, 1] + memory[v, k]
                        if s <= longest and b <= cap:
                            found[used, 0], found[used, 1] = s, b
                            used += 1
                here_size[v, n, q] = front(found, used, here[v, n, q])
        for n in range(most):
            used = 0
            if not must[v]:
                for x in range(done_size[v, n]):
                    found[used, 0], found[used, 1] = done[v, n, x, 0], done[v, n, x, 1]
                    used += 1
            for q in range(groups):
                for x in range(here_size[v, n, q]):
                    found[used, 0], found[used, 1] = here[v, n, q, x, 0], here[v, n, q, x, 1]
                    used += 1
            done_size[v + 1, n] = front(found, used, done[v + 1, n])


@compiled(int64(ALIKE, float64[:, ::1], FRONTS, int64, int64[:, ::1]))
def trace(alike, begun, fronts, n, out):
    """Chunk and strategy of each of the ``n`` layers of the fastest label of all, in order (n, 2).

    Returns which of the labels it began with; -1 if there is none, or if merged fronts hide the way.
    """
    time, memory, group, reshard = alike.time, alike.memory, alike.group, alike.reshard
    done, done_size, here, here_size = fronts
    chunks, widest = memory.shape
    groups = len(reshard)
    if done_size[chunks, n] == 0:
        return -1
    s, b, q = done[chunks, n, 0, 0], done[chunks, n, 0, 1], -1
    v = chunks - 1
    while n > 0:
        if q < 0:
            for p in range(groups):
                for x in range(here_size[v, n, p]):
                    if here[v, n, p, x, 0] == s and here[v, n, p, x, 1] == b:
                        q = p
            if q < 0:
                v -= 1
                if v < 0:
                    return -1
                continue
        last, t, c, p = -1, 0.0, 0.0, -1
        for k in range(widest):
            if group[k] != q or last >= 0:
                continue
            for x in range(done_size[v, n - 1]):
                if done[v, n - 1, x, 0] + time[k] == s and done[v, n - 1, x, 1] + memory[v, k] == b:
                    last, t, c, p = k, done[v, n - 1, x, 0], done[v, n - 1, x, 1], -1
            for r in range(groups):
                for x in range(here_size[v, n - 1, r]):
                    met = here[v, n - 1, r, x, 0] + reshard[q, r] + time[k] == s
                    if met and here[v, n - 1, r, x, 1] + memory[v, k] == b:
                        last, t, c, p = k, here[v, n - 1, r, x, 0], here[v, n - 1, r, x, 1], r
        if last < 0:
            return -1
        n -= 1
        out[n, 0], out[n, 1] = v, last
        s, b, q = t, c, p
        if q < 0:
            v -= 1
            if v < 0 and n > 0:
                return -1
    for x in range(len(begun)):
        if begun[x, 0] == s and begun[x, 1] == b:
            return x
    return -1
