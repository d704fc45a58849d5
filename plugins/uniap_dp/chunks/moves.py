"""Compiled: better plans nearby. Layers change strategies, alone or in pairs, and cuts shift, alone or in runs."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import boolean, compiled, float64, int64, record, void
from ..objective import Objective
from .arrays import FLOW

Array = np.ndarray

INF = np.inf
BETTER = 1 - 1e-10
"""A move is taken if it leaves less than this share."""
STILL = 1 - 5e-11
"""The same after rounding errors of moves that were taken back."""


class Aim(NamedTuple):
    """What moves make less: an objective in which the longest is mostly itself, partly a norm, and fines.

    The norm is of parts of ``unit`` seconds; a rank that needs twice its memory pays ``fine`` seconds.
    """

    objective: Objective
    unit: float
    fine: float


class Plan(NamedTuple):
    """A plan that moves change, and what it makes.

    Attributes
    ----------
    path
        Chunk and strategy of each layer (L, 2).
    size
        Layers of each chunk (J,).
    seconds, bytes
        Seconds of ranks, then of links (P + links,), and bytes of rows (M,).
    rows
        First row of each rank, and the end (P + 1,).
    over
        What the fullest moment of each rank is over its cap, as a part of it (P,).
    """

    path: Array
    size: Array
    seconds: Array
    bytes: Array
    rows: Array
    over: Array


OBJECTIVE = record(Objective, float64, float64, float64)
AIM = record(Aim, OBJECTIVE, float64, float64)
PLAN = record(Plan, int64[:, ::1], int64[::1], float64[::1], float64[::1], int64[::1], float64[::1])


@compiled(void(FLOW, PLAN, int64, int64, float64))
def charge(flow, plan, a, b, sign):
    """Add layers ``a .. b`` with the edges into them and out of the last, or take them away."""
    path, size, seconds, bytes_, rows, over = plan
    ranks = flow.time.shape[1]
    for u in range(a, min(b + 2, len(path))):
        j, k = path[u, 0], path[u, 1]
        if u <= b:
            i = flow.rank[j]
            size[j] += int(sign)
            seconds[i] += sign * flow.time[u, i, k]
            most = 0.0
            for r in range(rows[i], rows[i + 1]):
                bytes_[r] += sign * (flow.state[u, k] + flow.flight[r, j] * flow.stash[u, k])
                most = max(most, bytes_[r] - flow.cap[r])
            over[i] = most / max(flow.cap[rows[i]], 1.0)
        if u > 0:
            h, m = path[u - 1, 0], path[u - 1, 1]
            for c in range(h, max(j, h + 1)):
                if h == j or flow.link[c] < 0:
                    if h == j or j == h + 1:
                        seconds[flow.rank[j]] += sign * flow.reshard[u - 1, k, m]
                else:
                    seconds[ranks + flow.link[c]] += sign * flow.cross[u - 1, k, m]


@compiled(float64(FLOW, AIM, PLAN))
def worth(flow, aim, plan):
    """What is made less."""
    seconds = plan.seconds
    ranks = flow.time.shape[1]
    total, norm, longest = 0.0, 0.0, 0.0
    for s in range(len(seconds)):
        total += (aim.objective.sum if s < ranks else aim.objective.cross) * seconds[s]
        longest = max(longest, seconds[s])
        x = seconds[s] / aim.unit
        x = x * x
        x = x * x
        x = x * x
        x = x * x
        x = x * x
        norm += x * x
    over = 0.0
    for i in range(ranks):
        over += plan.over[i]
    return total + aim.objective.peak * (0.9 * longest + 0.1 * aim.unit * norm ** (1.0 / 64.0)) + aim.fine * over


@compiled(void(FLOW, PLAN, int64, int64, int64))
def shift(flow, plan, a, b, way):
    """Move the cuts behind chunks ``a .. b`` by one layer."""
    path = plan.path
    u = 0
    for c in range(a, b + 1):
        while path[u, 0] <= c:
            u += 1
        v = u - 1 if way < 0 else u
        charge(flow, plan, v, v, -1.0)
        path[v, 0] = c + 1 if way < 0 else c
        charge(flow, plan, v, v, 1.0)


@compiled(void(FLOW, PLAN, int64, int64), inner=True)
def switch(flow, plan, u, k):
    """Give layer ``u`` strategy ``k``."""
    charge(flow, plan, u, u, -1.0)
    plan.path[u, 1] = k
    charge(flow, plan, u, u, 1.0)


@compiled(int64(FLOW, AIM, PLAN, int64), inner=True)
def one_by_one(flow, aim, plan, most):
    """Other strategies of single layers; returns how many tries are left."""
    path, best = plan.path, worth(flow, aim, plan)
    count, _, widest = flow.time.shape
    for u in range(count):
        for k in range(widest):
            old = path[u, 1]
            if k == old or flow.time[u, flow.rank[path[u, 0]], k] == INF:
                continue
            most -= 1
            switch(flow, plan, u, k)
            value = worth(flow, aim, plan)
            if value < best * BETTER:
                best = value
            else:
                switch(flow, plan, u, old)
    return most


@compiled(int64(FLOW, AIM, PLAN, int64), inner=True)
def runs_of_cuts(flow, aim, plan, most):
    """Runs of cuts by one layer, forth or back; returns how many tries are left."""
    path, best, depth = plan.path, worth(flow, aim, plan), len(flow.rank)
    for way in range(-1, 2, 2):
        for a in range(depth - 1):
            for b in range(a, depth - 1):
                giver = a if way < 0 else b + 1
                if plan.size[giver] < 2:
                    continue
                most -= b - a + 1
                good = True
                u = 0
                for c in range(a, b + 1):
                    while path[u, 0] <= c:
                        u += 1
                    v = u - 1 if way < 0 else u
                    to = c + 1 if way < 0 else c
                    if flow.time[v, flow.rank[to], path[v, 1]] == INF:
                        good = False
                if not good:
                    continue
                shift(flow, plan, a, b, way)
                value = worth(flow, aim, plan)
                if value < best * BETTER:
                    best = value
                else:
                    shift(flow, plan, a, b, -way)
    return most


@compiled(int64(FLOW, AIM, PLAN, boolean[:, ::1], int64), inner=True)
def two_at_once(flow, aim, plan, useful, most):
    """Other ``useful`` strategies of two layers of one rank; returns how many tries are left."""
    path, best = plan.path, worth(flow, aim, plan)
    count, _, widest = flow.time.shape
    for u in range(count):
        for v in range(u + 1, count):
            i = flow.rank[path[u, 0]]
            if flow.rank[path[v, 0]] != i or most <= 0:
                continue
            for k in range(widest):
                old = path[u, 1]
                if k == old or not useful[u, k] or flow.time[u, i, k] == INF:
                    continue
                switch(flow, plan, u, k)
                kept = False
                for m in range(widest):
                    before = path[v, 1]
                    if m == before or not useful[v, m] or flow.time[v, i, m] == INF:
                        continue
                    most -= 1
                    switch(flow, plan, v, m)
                    value = worth(flow, aim, plan)
                    if value < best * BETTER:
                        best, kept = value, True
                    else:
                        switch(flow, plan, v, before)
                if not kept:
                    switch(flow, plan, u, old)
    return most


@compiled(int64(FLOW, AIM, PLAN, boolean[:, ::1], int64))
def improve(flow, aim, plan, useful, most):
    """Take better moves while there are any, up to ``most`` tries; returns how many tries are left.

    ``useful`` says which strategies of a layer are tried in pairs (L, K).
    """
    while most > 0:
        before = worth(flow, aim, plan)
        most = one_by_one(flow, aim, plan, most)
        most = runs_of_cuts(flow, aim, plan, most)
        if worth(flow, aim, plan) < before * STILL:
            continue
        most = two_at_once(flow, aim, plan, useful, most)
        if not worth(flow, aim, plan) < before * STILL:
            break
    return most
