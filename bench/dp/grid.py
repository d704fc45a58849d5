"""The rival for one stage: a plain dynamic program on a grid of whole megabytes, vectorized, as Galvatron runs it."""

from __future__ import annotations

import math

import numpy as np

from uniap_core.api import Problem

MEGABYTE = 1 << 20


def solve(problem: Problem) -> float:
    """Least time of a one-stage chain with all bytes rounded up to megabytes; ``inf`` if nothing fits.

    State: megabytes used, strategy of the last layer. Source: the recurrence of Galvatron, arXiv 2211.13878.
    """
    budget = int(problem.ranks[0].budget_bytes // MEGABYTE)
    flight = problem.ranks[0].peak_in_flight[0]
    reshard = {e.target: e.reshard_s for e in problem.edges}
    best = np.zeros((budget + 1, 1))
    for u, layer in enumerate(problem.layers):
        need = np.ceil((layer.state_bytes + flight * layer.stash_bytes) / MEGABYTE).astype(int)
        after = np.full((budget + 1, len(need)), math.inf)
        for k, megabytes in enumerate(need):
            if megabytes <= budget:
                came = best + reshard[u][:, k] if u else best
                after[megabytes:, k] = came[: budget + 1 - megabytes].min(axis=1) + layer.time_s[0, k]
        best = after
    return float(best.min())
