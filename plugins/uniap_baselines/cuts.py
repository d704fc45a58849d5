"""Where stages end: fixed rules, and the best cuts for given costs of runs of layers."""

from __future__ import annotations

import math

import numpy as np

from uniap_core.api import Weights

from .clock import Clock
from .line import Line

Array = np.ndarray

Ends = tuple[int, ...]
"""Position before which each stage ends; the last is the number of layers."""


def even(line: Line) -> Ends | None:
    """Equally many repeated layers in every stage; what lies around them goes along. ``None`` if too few layers."""
    depth, blocks = line.problem.depth, line.blocks
    if len(blocks) < depth:
        return None
    first = [blocks[-(-i * len(blocks) // depth)] for i in range(1, depth)]
    return (*first, len(line))


def balanced(line: Line) -> Ends | None:
    """Equal shares of the parameters in every stage, by the largest states that any strategy keeps."""
    depth, n = line.problem.depth, len(line)
    if n < depth:
        return None
    weights = np.cumsum([float(layer.state_bytes.max()) for layer in line.layers])
    ends: list[int] = []
    for i in range(1, depth):
        at = int(np.searchsorted(weights, weights[-1] * i / depth)) + 1
        ends.append(min(max(at, (ends[-1] if ends else 0) + 1), n - depth + i))
    return (*ends, n)


def best(runs_s: list[Array], cross_s: Array, weights: Weights, clock: Clock) -> tuple[float, Ends] | None:
    """Cuts of least ``sum * (p_0 + ...) + cross * (o_0 + ...) + peak * max(p, o)``, exact for these costs.

    An epsilon-constraint method: the least sum under a ceiling on the largest term, the ceiling lowered below the
    largest term found, until nothing can be better. (Alpa's own enumeration of ceilings is much slower; a rival
    deserves the better one.)

    Parameters
    ----------
    runs_s
        By stage, time of every run a..b-1, ``inf`` where it may not lie; shape (n + 1, n + 1).
    cross_s
        Time to cross the boundary before each position; length n + 1.

    Returns
    -------
    tuple or None
        Seconds and cuts, or ``None`` if there are none.
    """
    ceiling = math.inf
    found: tuple[float, Ends] | None = None
    steady = weights.peak * _least_bottleneck(runs_s)
    while not clock.over():
        answer = _least_sum(runs_s, cross_s, weights, ceiling)
        if answer is None:
            break
        total, largest, ends = answer
        value = total + weights.peak * largest
        if found is None or value < found[0]:
            found = value, ends
        if total + steady >= found[0]:  # every later sum is at least this one
            break
        ceiling = largest
    return found


def _least_bottleneck(runs_s: list[Array]) -> float:
    """No stage is faster than the slowest layer alone."""
    alone = np.min([np.diagonal(runs, 1) for runs in runs_s], axis=0)
    return float(np.max(alone[np.isfinite(alone)], initial=0.0))


def _least_sum(
    runs_s: list[Array], cross_s: Array, weights: Weights, ceiling: float
) -> tuple[float, float, Ends] | None:
    """Cuts of the least weighted sum with every term below a ceiling: the sum, the largest term, the cuts."""
    n = len(cross_s) - 1
    entering = _weighed(cross_s, weights.cross, ceiling)
    entering[0] = 0.0
    reach = np.full(n + 1, math.inf)
    reach[0] = 0.0
    origins = []
    for runs in runs_s:
        costs = (reach + entering)[:, None] + _weighed(runs, weights.sum, ceiling)
        costs[np.tril_indices(n + 1)] = math.inf  # no stage is empty
        origins.append(costs.argmin(axis=0))
        reach = costs.min(axis=0)
    if math.isinf(reach[n]):
        return None
    ends = [n]
    for origin in reversed(origins[1:]):
        ends.append(int(origin[ends[-1]]))
    ends.reverse()
    starts = [0, *ends[:-1]]
    terms = [float(runs[a, b]) for runs, a, b in zip(runs_s, starts, ends, strict=True)]
    terms += [float(cross_s[a]) for a in starts[1:]]
    return float(reach[n]), max(terms), tuple(ends)


def _weighed(times_s: Array, weight: float, ceiling: float) -> Array:
    """Times below a ceiling times a weight, ``inf`` for the others."""
    below = times_s < ceiling
    weighed: Array = np.where(below, weight * np.where(below, times_s, 0.0), math.inf)
    return weighed
