"""Chains of equal layers: a bound by how many of them each rank holds, layers and strategies whole.

The dual cuts layers in parts: two ranks may share one. Where layers are equal, only how many each rank holds matters.
A rank's least time for each number comes from labels (seconds, bytes) over its chunks, on one mean of its moments'
memory rows; a program over ranks then shares the layers out.
"""

from __future__ import annotations

import math

import numpy as np

from ..codes import group_rows
from .arrays import Posed
from .fronts import Alike, least_times
from .relax import Dual

Array = np.ndarray


def equal_run(posed: Posed) -> tuple[int, int] | None:
    """Positions ``a .. b`` of the longest run of equal layers joined by equal edges; ``None`` if it is not most."""
    if not posed.flow.linked:
        return None
    problem, flow = posed.problem, posed.flow
    kinds = [problem.kinds.layers[u] for u in problem.order]
    best, a = (0, 0), 0
    for u in range(1, len(kinds) + 1):
        if u < len(kinds) and kinds[u] == kinds[a]:
            same = u == a + 1 or (flow.reshard[u - 1] == flow.reshard[a]).all()
            if same:
                continue
        if u - a > best[1] - best[0]:
            best = a, u
        a = u
    return best if 2 * (best[1] - best[0]) > len(kinds) else None


def bound(posed: Posed, dual: Dual, goal: float, room: int) -> float:
    """A bound on all plans shorter than a goal, or the goal; 0 where layers are not equal.

    Parameters
    ----------
    dual
        Whose prices say how the moments of a rank are weighed.
    room
        Labels of a front.
    """
    run = equal_run(posed)
    if run is None or not posed.objective.peak or goal == math.inf:
        return 0.0
    flow, objective = posed.flow, posed.objective
    a, b = run
    ranks, depth, count = flow.time.shape[1], len(flow.rank), len(flow.time)
    sent, busiest = least_transfers(posed)
    shortest = objective.sum * float(flow.time.min(axis=(1, 2)).sum()) + objective.cross * sent
    longest = (goal - shortest) / objective.peak * (1 + 1e-12)
    if longest <= 0:
        return goal * (1 - 1e-12)
    most = min(b - a, int(longest / max(float(flow.time[a].min()), 1e-300)) + 1)
    table = np.full((ranks, most + 1), math.inf)
    group, first = group_rows(np.hstack([flow.reshard[a], flow.reshard[a].T]))
    reshard = np.ascontiguousarray(flow.reshard[a][np.ix_(first, first)])
    for rank in range(ranks):
        held = [j for j in range(depth) if flow.rank[j] == rank]
        rows = np.flatnonzero(flow.row == rank)
        mix = dual.price[rows] + max(float(dual.price.max()) * 1e-6, 1e-300)
        mix = mix / mix.sum()
        flight = mix @ flow.flight[rows]
        must = np.array([a <= j < depth - (count - b) for j in held])
        begun = np.zeros((1, 2))
        for u, j in ((0, 0), (count - 1, depth - 1)):
            if flow.rank[j] == rank and not a <= u < b:
                own = np.stack([flow.time[u, rank], flow.state[u] + flight[j] * flow.stash[u]], axis=1)
                own = own[np.isfinite(own[:, 0])]
                begun = (begun[:, None] + own).reshape(-1, 2)
        memory = flow.state[a] + flight[held][:, None] * flow.stash[a]
        kept = _undominated(flow.time[a, rank], memory, group)
        alike = Alike(
            flow.time[a, rank, kept],
            np.ascontiguousarray(memory[:, kept]),
            group[kept],
            reshard,
            must,
            float(mix @ flow.cap[rows]) * (1 + 1e-12),
            longest,
        )
        least = np.empty((most + 1, 2))
        least_times(alike, np.ascontiguousarray(begun), room, least)
        table[rank] = least[:, 0]
    left = goal - objective.cross * sent
    least = _shared(table, b - a, objective.sum, objective.peak, left, busiest)
    return min(goal, least + objective.cross * sent) * (1 - 1e-12)


def least_transfers(posed: Posed) -> tuple[float, float]:
    """Seconds that every plan of a chain spends on transfers, and those of the busiest link.

    No chunk is empty, so behind chunk j of J lies one of the layers ``j .. L - J + j``: its transfer takes no less than
    the cheapest one of them.
    """
    flow = posed.flow
    count, depth = len(flow.time), len(flow.rank)
    if not flow.linked or not posed.links:
        return 0.0, 0.0
    possible = np.isfinite(flow.time).any(axis=1)
    both = possible[1:, :, None] & possible[:-1, None, :]
    edge = np.where(both, flow.cross[:-1], math.inf).min(axis=(1, 2))
    behind = np.lib.stride_tricks.sliding_window_view(edge, count - depth + 1).min(axis=1)
    link = np.zeros(posed.links)
    crossed = flow.link[:-1] >= 0
    np.add.at(link, flow.link[:-1][crossed], behind[crossed])
    return float(link.sum()), float(link.max())


def _undominated(time: Array, memory: Array, group: Array) -> Array:
    """Strategies that are possible and that no other of their class matches in time and in bytes on every chunk."""
    kept: list[int] = []
    for k in np.lexsort((memory.sum(axis=0), time)).tolist():
        if math.isfinite(time[k]) and not any(
            group[m] == group[k] and (memory[:, m] <= memory[:, k]).all() for m in kept
        ):
            kept.append(k)
    return np.array(sorted(kept), dtype=np.int64)


def _shared(table: Array, total: int, weight: float, peak: float, goal: float, busiest: float) -> float:
    """The least of ``weight`` times all ranks' times plus ``peak`` times the longest, all layers shared out.

    The longest takes no less than the ``busiest`` link.
    """
    best = goal
    for longest in np.unique(np.maximum(table[np.isfinite(table)], busiest)).tolist():
        if peak * longest >= best:
            break
        least = np.full(total + 1, math.inf)
        least[0] = 0.0
        for row in np.where(table <= longest, table, math.inf):
            new = np.full(total + 1, math.inf)
            for n in np.flatnonzero(np.isfinite(row)).tolist():
                if n <= total:
                    new[n:] = np.minimum(new[n:], least[: total + 1 - n] + row[n])
            least = new
        best = min(best, weight * float(least[total]) + peak * longest)
    return best
