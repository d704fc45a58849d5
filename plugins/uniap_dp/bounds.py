"""Lower bounds without labels: Lagrangian duals of single stages, and the program over cuts built on them.

For a stage over layers ``a .. b`` the memory cap is priced: ``max over price of min over paths of
time + price * (memory - cap)`` is at most the least time that fits. On these numbers a program over cuts alone (no
strategies) keeps small fronts of (sum, peak); fronts that grow past their size are relaxed to lower corners. Forward
and backward fronts together say how long each stage may take in any plan that meets a cutoff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uniap_core.api import Problem

from . import kernels
from .chain import Chain, StageClass, build, is_chain

Array = np.ndarray

WIDTH = 16
"""Labels of a front over cuts."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """Stages by their layers: bounds on the time of every stage that takes at most ``limit`` seconds.

    Stage ``i`` over layers ``a .. a + j`` is number ``base[i, a] + j`` with ``j < count[i, a]``; ``low`` and ``high``
    are bounds on its least time (``high`` is attained by the path under the weights ``recipe``), ``price`` the price
    of memory behind ``low``. ``border[b]`` is the least time of the boundary before layer ``b``.
    """

    limit: float
    base: Array
    count: Array
    low: Array
    high: Array
    price: Array
    recipe: Array
    border: Array


def costs_of(stage: StageClass) -> tuple[float, Array, Array, Array, Array, Array]:
    """A stage class as the tuple that kernels take."""
    return stage.cap, stage.start, stage.enter, stage.leave, stage.time, stage.memory


def shape_of(chain: Chain) -> tuple[Array, Array, Array, Array]:
    """Classes and reshard costs as the tuple that kernels take."""
    return chain.enters, chain.leaves, chain.row, chain.reshard


def least_times(chain: Chain) -> Array:
    """Least time of each layer over all stages and strategies (L,), ``inf`` if it has none; no memory, no edges."""
    least = np.full(chain.length, math.inf)
    for stage in chain.classes:
        for at in range(chain.length):
            block = stage.time[stage.start[at] : stage.start[at + 1]]
            if len(block):
                least[at] = min(least[at], block.min())
    return least


def cut(chain: Chain, limit: float, least: Array) -> Cuts:
    """Bound every stage that may take at most ``limit`` seconds in a plan whose other stages do so too."""
    length, depth = chain.length, chain.depth
    before = np.concatenate([[0.0], np.cumsum(least)])
    slack = limit * 1e-9
    rows: dict[tuple[int, int], tuple[Array, ...]] = {}
    base = np.zeros((depth, length), dtype=np.int64)
    count = np.zeros((depth, length), dtype=np.int64)
    parts: list[tuple[Array, ...]] = []
    filled = 0
    for i in range(depth):
        kind = int(chain.stage_class[i])
        for a in range(i, min(length - (depth - i), 0 if i == 0 else length) + 1):
            # Layers before a lie on i stages, those from a on the others, none longer than the limit.
            if before[a] > i * (limit + slack) or before[-1] - before[a] > (depth - i) * (limit + slack):
                continue
            room = length - a - (depth - 1 - i)
            row = _row(chain, kind, a, room, limit, rows)
            use = min(room, len(row[0]))
            base[i, a], count[i, a] = filled, use
            parts.append(tuple(part[:use] for part in row))
            filled += use
    border = np.zeros(length)
    for b in range(1, length):
        block = chain.cross[chain.row[b - 1] : chain.row[b - 1] + chain.leaves[b - 1] * chain.enters[b]]
        border[b] = block.min()
    if parts:
        low, high, price, recipe = (np.concatenate(column) for column in zip(*parts, strict=True))
    else:
        low = high = price = np.zeros(0)
        recipe = np.zeros((0, 2))
    return Cuts(limit, base, count, low, high, price, recipe, border)


def _row(
    chain: Chain, kind: int, a: int, room: int, limit: float, rows: dict[tuple[int, int], tuple[Array, ...]]
) -> tuple[Array, ...]:
    """Bounds for stages of a class from layer ``a``; equal layers elsewhere are computed once."""
    for twin in range(a + 1):
        if chain.matches[twin, a] >= room and (kind, twin) in rows and rows[kind, twin][4][0] >= room:
            return rows[kind, twin][:4]
    low, high, price, recipe = np.empty(room), np.empty(room), np.empty(room), np.empty((room, 2))
    shape, costs = shape_of(chain), costs_of(chain.classes[kind])
    use = kernels.segment_duals(a, room, limit, shape, costs, low, high, price, recipe)
    rows[kind, a] = (low[:use], high[:use], price[:use], recipe[:use], np.array([room]))
    return rows[kind, a][:4]


@dataclass(frozen=True, eq=False)
class Fronts:
    """Fronts of (total, peak) at (stages done, layers done), and where each label came from (forward only)."""

    total: Array
    peak: Array
    origin: Array
    size: Array


def fronts(cuts: Cuts, value: Array, weight: float, cutoff: float, *, backward: bool, relax: bool) -> Fronts:
    """Run the program over cuts on stage times ``value``; ``weight`` is ``c - 1``."""
    depth, length = cuts.base.shape
    dims = (depth + 1, length + 1, WIDTH)
    total, peak, origin = np.zeros(dims), np.zeros(dims), np.zeros(dims, dtype=np.int64)
    size = np.zeros(dims[:2], dtype=np.int64)
    kernels.sweep(
        depth, cuts.base, cuts.count, value, cuts.border, weight, cutoff, backward, relax, total, peak, origin, size
    )
    return Fronts(total, peak, origin, size)


def least(found: Fronts, weight: float, at: tuple[int, int]) -> float:
    """The least ``total + weight * peak`` of a front; ``inf`` if it is empty."""
    size = found.size[at]
    if not size:
        return math.inf
    return float((found.total[at][:size] + weight * found.peak[at][:size]).min())


def walk(cuts: Cuts, found: Fronts, weight: float) -> list[tuple[int, int]] | None:
    """(first layer, layers) of every stage of the best plan of forward fronts; ``None`` if there is none."""
    depth, length = cuts.base.shape
    at = (depth, length)
    if not found.size[at]:
        return None
    label = int(np.argmin(found.total[at][: found.size[at]] + weight * found.peak[at][: found.size[at]]))
    stages = []
    b = length
    for i in range(depth, 0, -1):
        a, label = divmod(int(found.origin[i, b, label]), 64)
        stages.append((a, b - a))
        b = a
    return stages[::-1]


def stage_limits(cuts: Cuts, weight: float, cutoff: float, ahead: Fronts, behind: Fronts) -> Array:
    """The most each stage may take in a plan of at most ``cutoff``; -1 where no such plan has that stage."""
    out = np.full(len(cuts.low), -1.0)
    kernels.stage_limits(
        cuts.base.shape[0], cuts.base, cuts.count, cuts.border, weight, cutoff,
        ahead.total, ahead.peak, ahead.size, behind.total, behind.peak, behind.size, out,
    )  # fmt: skip
    out[out < cuts.low] = -1.0
    return out


def peak_limit(cutoff: float, least_sum: float, micro_batches: int) -> float:
    """The longest that any stage can take in a plan of at most ``cutoff`` whose stages sum to ``least_sum`` or more."""
    if micro_batches == 1:
        return cutoff
    return min((cutoff - least_sum) / (micro_batches - 1), cutoff / micro_batches)


def lower_bound(problem: Problem) -> float:
    """A certified lower bound on the time per iteration, in milliseconds of work; ``inf`` if proven infeasible.

    Parameters
    ----------
    problem
        Any candidate; for graphs that are not chains the bound is the weaker one of layer times alone.
    """
    if not is_chain(problem):
        least = np.array([layer.time_s.min() for layer in problem.layers])
        total = math.fsum(least)
        return (total + (problem.micro_batches - 1) * max(total / problem.depth, least.max())) * (1 - 1e-12)
    chain = build(problem)
    if chain.depth > chain.length:
        return math.inf
    return chain_bound(chain)[0]


def first_limit(chain: Chain, least_s: Array) -> float:
    """A first guess at the longest stage of a good plan."""
    return max(1.3 * float(least_s.sum()) / chain.depth, 1.001 * float(least_s.max()), 1e-300)


def chain_bound(chain: Chain) -> tuple[float, Cuts | None]:
    """Bound a chain: widen the limit on stages until the bound no longer depends on it."""
    weight = chain.problem.micro_batches - 1.0
    least_s = least_times(chain)
    total = float(least_s.sum())
    if not math.isfinite(total):
        return math.inf, None
    limit = first_limit(chain, least_s)
    ceiling = float(sum(stage.time.sum() for stage in chain.classes) + chain.reshard.sum()) + 1.0
    while True:
        cuts = cut(chain, limit, least_s)
        ahead = fronts(cuts, cuts.low, weight, math.inf, backward=False, relax=True)
        bound = least(ahead, weight, (chain.depth, chain.length))
        # A plan outside has a stage longer than the limit.
        outside = max(total, limit) + weight * limit if limit < ceiling else math.inf
        if bound <= outside or outside == math.inf:
            return bound * (1 - 1e-12) - chain.rounding_s, cuts
        if limit * 1.5 >= ceiling or bound == math.inf:
            limit = min(limit * 2, ceiling)
        else:
            limit = min(max(limit * 1.2, peak_limit(bound, total, chain.problem.micro_batches)), ceiling)
