"""Chains of equal layers: a bound by how many of them each rank holds, layers and strategies whole.

The dual cuts layers in parts: two ranks may share one. Where layers are equal, only how many each rank holds matters.
A rank's least time for each number comes from labels (seconds, bytes) over its chunks, on one mean of its moments'
memory rows; a program over ranks then shares the layers out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..codes import group_rows
from .arrays import Posed
from .fronts import Alike, Fronts, fill, trace
from .relax import Dual, mean_moments

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


class Shares(NamedTuple):
    """A bound on all plans shorter than a goal, or the goal, and a plan (L, 2) that it speaks of, if there is one.

    The plan fits the mean of each rank's moments, not every moment.
    """

    bound: float
    path: Array | None


class Held(NamedTuple):
    """A rank as equal layers see it.

    ``begun`` are labels of what lies on it besides (B, 2), ``ends`` the positions of these layers with their strategies
    in each label (B,), ``kept`` the strategies that ``alike`` has.
    """

    alike: Alike
    begun: Array
    ends: dict[int, Array]
    kept: Array


def bound(posed: Posed, dual: Dual, goal: float, room: int) -> float:
    """The bound of :func:`count` alone."""
    return count(posed, dual, goal, room).bound


def count(posed: Posed, dual: Dual, goal: float, room: int) -> Shares:
    """Bound all plans shorter than a goal; 0 where layers are not equal.

    Parameters
    ----------
    dual
        Whose prices say how the moments of a rank are weighed.
    room
        Labels of a front.
    """
    run = equal_run(posed)
    if run is None or not posed.objective.peak or goal == math.inf:
        return Shares(0.0, None)
    flow, objective = posed.flow, posed.objective
    sent, busiest = least_transfers(posed)
    shortest = objective.sum * float(flow.time.min(axis=(1, 2)).sum()) + objective.cross * sent
    longest = (goal - shortest) / objective.peak * (1 + 1e-12)
    if longest <= 0:
        return Shares(goal * (1 - 1e-12), None)
    total = run[1] - run[0]
    most = min(total, int(longest / max(float(flow.time[run[0]].min()), 1e-300)) + 1)
    ranks = _held(posed, run, dual, longest)
    fronts = [_fronts(rank, most, room) for rank in ranks]
    table = np.array([np.where(f.done_size[-1] > 0, f.done[-1, :, 0, 0], math.inf) for f in fronts])
    left = goal - objective.cross * sent
    least, shares = _shared(table, total, objective.sum, objective.peak, left, busiest)
    path = None if shares is None else _path(posed, run[0], ranks, fronts, shares)
    return Shares(min(goal, least + objective.cross * sent) * (1 - 1e-12), path)


def _held(posed: Posed, run: tuple[int, int], dual: Dual, longest: float) -> list[Held]:
    """Every rank, on the mean of its moments by the prices of a dual point."""
    flow, (a, b) = posed.flow, run
    layers, depth = len(flow.time), len(flow.rank)
    group, first = group_rows(np.hstack([flow.reshard[a], flow.reshard[a].T]))
    reshard = np.ascontiguousarray(flow.reshard[a][np.ix_(first, first)])
    flight, cap = mean_moments(posed, dual)
    found = []
    for rank, chunks in enumerate(posed.problem.held):
        must = np.array([a <= j < depth - (layers - b) for j in chunks])
        begun, ends = np.zeros((1, 2)), dict[int, Array]()
        for u, j in ((0, 0), (layers - 1, depth - 1)):
            if flow.rank[j] == rank and not a <= u < b:
                own = np.stack([flow.time[u, rank], flow.state[u] + flight[j] * flow.stash[u]], axis=1)
                possible = np.flatnonzero(np.isfinite(own[:, 0]))
                ends = {v: np.repeat(chosen, len(possible)) for v, chosen in ends.items()}
                ends[u] = np.tile(possible, len(begun))
                begun = (begun[:, None] + own[possible]).reshape(-1, 2)
        memory = flow.state[a] + flight[list(chunks)][:, None] * flow.stash[a]
        kept = _undominated(flow.time[a, rank], memory, group)
        alike = Alike(
            flow.time[a, rank, kept],
            np.ascontiguousarray(memory[:, kept]),
            group[kept],
            reshard,
            must,
            float(cap[rank]) * (1 + 1e-12),
            longest,
        )
        found.append(Held(alike, np.ascontiguousarray(begun), ends, kept))
    return found


def _fronts(rank: Held, most: int, room: int) -> Fronts:
    """The fronts of a rank for up to ``most`` layers."""
    chunks, groups = len(rank.alike.must), len(rank.alike.reshard)
    fronts = Fronts(
        np.empty((chunks + 1, most + 1, room, 2)),
        np.empty((chunks + 1, most + 1), dtype=np.int64),
        np.empty((chunks, most + 1, groups, room, 2)),
        np.empty((chunks, most + 1, groups), dtype=np.int64),
    )
    fill(rank.alike, rank.begun, fronts)
    return fronts


def _path(posed: Posed, a: int, ranks: list[Held], fronts: list[Fronts], shares: Array) -> Array | None:
    """The plan of the fastest labels of every rank, each with its share of the run from ``a``; ``None`` if unknown.

    Layers that no label has lie on the first or the last chunk, by their fastest strategy.
    """
    count, depth = len(posed.flow.time), len(posed.flow.rank)
    on: list[list[int]] = [[] for _ in range(depth)]
    ends: dict[int, int] = {}
    for rank, (held, known) in enumerate(zip(ranks, fronts, strict=True)):
        out = np.zeros((int(shares[rank]), 2), dtype=np.int64)
        begun = trace(held.alike, held.begun, known, int(shares[rank]), out)
        if begun < 0:
            return None
        for v, k in out.tolist():
            on[posed.problem.held[rank][v]].append(int(held.kept[k]))
        ends |= {u: int(chosen[begun]) for u, chosen in held.ends.items()}
    path = np.zeros((count, 2), dtype=np.int64)
    placed = [(j, k) for j, chosen in enumerate(on) for k in chosen]
    path[a : a + len(placed)] = placed
    path[a + len(placed) :, 0] = depth - 1
    for u in (*range(a), *range(a + len(placed), count)):
        path[u, 1] = ends.get(u, int(posed.flow.time[u, posed.flow.rank[path[u, 0]]].argmin()))
    return path


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


def _shared(
    table: Array, total: int, weight: float, peak: float, goal: float, busiest: float
) -> tuple[float, Array | None]:
    """The least of ``weight`` times all ranks' times plus ``peak`` times the longest, all layers shared out, and how.

    The longest takes no less than the ``busiest`` link.
    """
    best, shares = goal, None
    for longest in np.unique(np.maximum(table[np.isfinite(table)], busiest)).tolist():
        if peak * longest >= best:
            break
        rows = np.where(table <= longest, table, math.inf)
        least = [np.append(0.0, np.full(total, math.inf))]
        for row in rows:
            new = np.full(total + 1, math.inf)
            for n in np.flatnonzero(np.isfinite(row)).tolist():
                if n <= total:
                    new[n:] = np.minimum(new[n:], least[-1][: total + 1 - n] + row[n])
            least.append(new)
        if weight * float(least[-1][total]) + peak * longest < best:
            best, shares = weight * float(least[-1][total]) + peak * longest, _traced(rows, least)
    return best, shares


def _traced(rows: Array, least: list[Array]) -> Array:
    """How many layers each rank holds where all of them together cost least."""
    left = len(least[-1]) - 1
    shares = np.zeros(len(rows), dtype=np.int64)
    for rank in range(len(rows) - 1, -1, -1):
        most = min(left, rows.shape[1] - 1)
        cost = least[rank][left - most : left + 1][::-1] + rows[rank, : most + 1]
        shares[rank] = int(cost.argmin())
        left -= int(shares[rank])
    return shares
