"""Compiled: the least time of a rank for each number of equal layers on it, strategies whole."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import boolean, compiled, float64, int64, record

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


@compiled(int64(ALIKE, float64[:, ::1], int64, float64[:, ::1]))
def least_times(alike, begun, room, least):
    """Set the least seconds of a rank with each number of layers, ``inf`` if none fits (N + 1, 2).

    ``begun`` has labels of what lies on the rank besides (B, 2). In the first column chunks before the last are closed;
    the second is scratch.
    """
    time, memory, group, reshard, must, cap, longest = alike
    chunks, widest = memory.shape
    groups, most, total = len(reshard), len(least), 0
    done, done_size = np.empty((most, room, 2)), np.zeros(most, dtype=np.int64)
    here, here_size = np.empty((most, groups, room, 2)), np.zeros((most, groups), dtype=np.int64)
    found = np.empty((max(len(begun), room * (max(widest, groups) + 2)), 2))
    before = np.empty((room, 2))
    for x in range(len(begun)):
        found[x, 0], found[x, 1] = begun[x, 0], begun[x, 1]
    done_size[0] = front(found, len(begun), done[0])
    for v in range(chunks):
        here_size[:] = 0
        for n in range(1, most):
            for q in range(groups):
                used = 0
                for x in range(done_size[n - 1]):
                    found[used, 0], found[used, 1] = done[n - 1, x, 0], done[n - 1, x, 1]
                    used += 1
                for p in range(groups):
                    for x in range(here_size[n - 1, p]):
                        found[used, 0], found[used, 1] = here[n - 1, p, x, 0] + reshard[q, p], here[n - 1, p, x, 1]
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
                here_size[n, q] = front(found, used, here[n, q])
                total += used
        for n in range(most):
            used = 0
            if not must[v]:
                for x in range(done_size[n]):
                    found[used, 0], found[used, 1] = done[n, x, 0], done[n, x, 1]
                    used += 1
            for q in range(groups):
                for x in range(here_size[n, q]):
                    found[used, 0], found[used, 1] = here[n, q, x, 0], here[n, q, x, 1]
                    used += 1
            done_size[n] = front(found, used, done[n])
    for n in range(most):
        least[n, 0] = done[n, 0, 0] if done_size[n] else INF
    return total
