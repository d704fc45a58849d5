"""Compiled: better cuts nearby, every rank worth what its layers cost at the best of a few prices of memory."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import compiled, float64, int64, record
from ..objective import Objective

Array = np.ndarray


class Priced(NamedTuple):
    """What layers cost at ``N`` prices of memory.

    Attributes
    ----------
    rank
        Rank of each chunk (J,).
    upto
        Least priced seconds of the layers before each, were they on a chunk (J, L + 1, N).
    due
        What a rank's whole memory costs (P, N).
    """

    rank: Array
    upto: Array
    due: Array


OBJECTIVE = record(Objective, float64, float64, float64)
PRICED = record(Priced, int64[::1], float64[:, :, ::1], float64[:, ::1])


@compiled(float64(PRICED, OBJECTIVE, float64, int64[::1], float64[:, ::1]))
def worth(priced, objective, unit, start, cost):
    """The objective of cuts, transfers aside, the longest partly a norm; sets what each rank costs at each price."""
    rank, upto, due = priced
    cost[:] = -due
    for j in range(len(rank)):
        for n in range(due.shape[1]):
            cost[rank[j], n] += upto[j, start[j + 1], n] - upto[j, start[j], n]
    total, longest, norm = 0.0, 0.0, 0.0
    for i in range(len(cost)):
        most = cost[i, 0]
        for n in range(1, due.shape[1]):
            most = max(most, cost[i, n])
        total += most
        longest = max(longest, most)
        x = most / unit
        x = x * x
        x = x * x
        x = x * x
        norm += x * x * x * x
    return objective.sum * total + objective.peak * (0.95 * longest + 0.05 * unit * norm ** (1.0 / 32.0))


@compiled(int64(PRICED, OBJECTIVE, float64, int64[::1], int64))
def settle(priced, objective, unit, start, most):
    """Shift runs of cuts by one or two layers while that is better; returns how many tries are left."""
    depth = len(priced.rank)
    cost = np.empty(priced.due.shape)
    best = worth(priced, objective, unit, start, cost)
    moved = True
    while moved and most > 0:
        moved = False
        for step in (1, -1, 2, -2):
            for a in range(1, depth):
                for b in range(a, depth):
                    giver = b if step > 0 else a - 1
                    if start[giver + 1] - start[giver] <= abs(step):
                        continue
                    most -= 1
                    for c in range(a, b + 1):
                        start[c] += step
                    value = worth(priced, objective, unit, start, cost)
                    if value < best * (1 - 1e-12):
                        best, moved = value, True
                    else:
                        for c in range(a, b + 1):
                            start[c] -= step
    return most
