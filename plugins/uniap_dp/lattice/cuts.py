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

from ..codes import TooLarge
from ..objective import Objective
from .downsets import Lattice, Tick, Tree, idle
from .kernels import cut_fronts, stage_paths
from .kernels.arrays import Duals, Fronts, PathEnds, PathRoom, Segment, Stages, TreeItems

Array = np.ndarray

WIDTH = 16
"""Labels of a front over cuts."""


@dataclass(frozen=True, eq=False)
class Root:
    """A first downset and the tree above it; ``twin`` is the first downset whose tree is the same, item by item."""

    node: int
    tree: Tree
    twin: int
    base: Array

    def segment(self, lattice: Lattice, kind: int) -> Segment:
        """All stages of a class from here."""
        return Segment(TreeItems(self.tree.parent, self.tree.type, self.base), lattice.arcs, lattice.classes[kind])


@dataclass(frozen=True, eq=False)
class Cuts:
    """Stages as pairs of downsets: bounds on the time of every stage that takes at most ``limit`` seconds.

    Stages ``i`` from downset ``d`` are numbers ``base[i, d] + j``, ``j < count[i, d]``; each ends at item ``item`` of
    the tree of ``d``, downset ``target``. ``low`` and ``high`` bound its least time (``high`` is attained by the path
    under the weights ``recipe``), ``price`` is the price of memory behind ``low``. ``border[d]`` is the least time of a
    boundary at ``d``.
    """

    limit: float
    roots: dict[int, Root]
    base: Array
    count: Array
    item: Array
    target: Array
    low: Array
    high: Array
    price: Array
    recipe: Array
    border: Array

    @property
    def stages(self) -> Stages:
        """The stages as kernels take them."""
        return Stages(self.base, self.count, self.target, self.border)


def least_times(lattice: Lattice) -> Array:
    """Least time of each layer over all stages and strategies, seconds; no memory, no edges."""
    problem = lattice.problem
    return np.array([problem.layers[u].time_s.min() for u in problem.order]) * (1 - 1e-12)


def cut(lattice: Lattice, limit: float, least_s: Array, clock: Tick = idle, budget: int = 4_000_000) -> Cuts:
    """Bound every stage that may take at most ``limit`` seconds in a plan whose other stages do so too.

    Raises
    ------
    TooLarge
        If there are more than ``budget`` such stages to look at.
    """
    depth, size = lattice.depth, lattice.size
    done = _sums(lattice, least_s)
    reach = _reach(lattice, done, limit)
    roots = _roots(lattice, np.flatnonzero(reach.any(axis=0)), done, limit, budget)
    starts = [[roots[d] for d in np.flatnonzero(reach[i, :-1]).tolist()] for i in range(depth)]
    kinds = lattice.stage_class.tolist()
    wanted: dict[tuple[int, int], Array] = {}
    for i, kind in enumerate(kinds):
        for root in starts[i]:
            ends = reach[i + 1, root.tree.node]
            key = (kind, root.twin)
            wanted[key] = wanted[key] | ends if key in wanted else ends
    rows = {}
    for key, ends in wanted.items():
        clock()
        rows[key] = _row(lattice, key[0], roots[key[1]], limit, ends)
    base, count = np.zeros((depth, size), dtype=np.int64), np.zeros((depth, size), dtype=np.int64)
    parts: list[tuple[Array, ...]] = [(*(np.zeros(0, dtype=np.int64),) * 2, *(np.zeros(0),) * 3, np.zeros((0, 2)))]
    filled = 0
    for i, kind in enumerate(kinds):
        mine = [(root, rows[kind, root.twin]) for root in starts[i]]
        if not mine:
            continue
        columns = [np.concatenate(column) for column in zip(*(row for _, row in mine), strict=True)]
        target = np.concatenate([root.tree.node[row[0]] for root, row in mine])
        use = reach[i + 1, target]
        number = np.arange(len(mine)).repeat([len(row[0]) for _, row in mine])
        many = np.bincount(number[use], minlength=len(mine))
        nodes = [root.node for root, _ in mine]
        base[i, nodes], count[i, nodes] = filled + many.cumsum() - many, many
        filled += int(many.sum())
        parts.append((columns[0][use], target[use], *(column[use] for column in columns[1:])))
    item, target, low, high, price, recipe = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Cuts(limit, roots, base, count, item, target, low, high, price, recipe, _least_borders(lattice))


def _reach(lattice: Lattice, done: Array, limit: float) -> Array:
    """Whether stage ``i`` may begin at a downset, (P + 1, downsets); ``done`` is the least time of all layers in it."""
    depth, slack = lattice.depth, limit * (1 + 1e-9)
    layers = np.array([mask.bit_count() for mask in lattice.masks])
    reach: Array = np.array([(done <= i * slack) & (done[-1] - done <= (depth - i) * slack) for i in range(depth + 1)])
    reach &= np.array([(layers >= i) & (layers[-1] - layers >= depth - i) for i in range(depth + 1)])
    reach[0, 1:] = False
    reach[-1, :-1] = False
    return reach


def _sums(lattice: Lattice, values: Array) -> Array:
    """Sum of one value per layer over the layers of every downset."""
    sums = np.zeros(lattice.size)
    for node, steps in enumerate(lattice.steps):
        for u, _, after in steps:
            sums[after] = sums[node] + values[u]
    return sums


def _least_borders(lattice: Lattice) -> Array:
    """The least time of a boundary at each downset."""
    first, group, _, cost = lattice.border
    stops = np.append(first[1:], len(group) - 1)
    least = np.full(lattice.size, math.inf)
    for node, (begin, stop) in enumerate(zip(group[first].tolist(), group[stops].tolist(), strict=True)):
        if stop > begin:
            least[node] = cost[begin:stop].min()
    return least


def _roots(lattice: Lattice, nodes: Array, done: Array, limit: float, budget: int) -> dict[int, Root]:
    """Trees above every useful downset, as high as the limit allows, with equal ones paired up."""
    roots: dict[int, Root] = {}
    known: dict[tuple[bytes, ...], int] = {}
    items = 0
    for node in nodes.tolist():
        if node == lattice.size - 1:
            continue
        tree = lattice.tree(node, done - done[node] <= limit * (1 + 1e-9))
        items += len(tree.parent)
        if items > budget:
            raise TooLarge(f"more than {budget} pairs of downsets to weigh as stages")
        base = np.concatenate([[0], np.cumsum(lattice.states[tree.node])])
        same = (tree.parent.tobytes(), tree.type.tobytes(), base.tobytes(), lattice.starts(node).tobytes())
        roots[node] = Root(node, tree, known.setdefault(same, node), base)
    return roots


def _row(lattice: Lattice, kind: int, root: Root, limit: float, wanted: Array) -> tuple[Array, ...]:
    """Bounds for the stages of a class from one downset."""
    n = len(root.tree.parent)
    duals = Duals(np.zeros(n, dtype=np.bool_), np.empty(n), np.empty(n), np.empty(n), np.empty((n, 2)))
    room = PathRoom(np.empty((2, lattice.most_residuals)), np.empty((2, int(root.base[-1]))))
    stage_paths.segment_duals(
        root.segment(lattice, kind), limit, lattice.starts(root.node), wanted, duals, room,
        PathEnds(*np.empty((3, 2, n))),
    )  # fmt: skip
    wanted[0] = False
    item = np.flatnonzero(duals.alive & wanted)
    return item, *(column[item] for column in duals[1:])


def fronts(cuts: Cuts, value: Array, objective: Objective, cutoff: float, *, backward: bool, relax: bool) -> Fronts:
    """Run the program over cuts on stage times ``value``."""
    depth, nodes = cuts.base.shape
    dims = (depth + 1, nodes, WIDTH)
    found = Fronts(
        np.zeros(dims), np.zeros(dims), np.zeros(dims, dtype=np.int64), np.zeros(dims[:2], dtype=np.int64)
    )  # fmt: skip
    cut_fronts.sweep(cuts.stages, value, objective, cutoff, backward, relax, found)
    return found


def least(found: Fronts, peak: float, at: tuple[int, int]) -> float:
    """The least ``sum + peak * longest`` of a front; ``inf`` if it is empty."""
    size = found.size[at]
    if not size:
        return math.inf
    return float((found.total[at][:size] + peak * found.peak[at][:size]).min())


def walk(cuts: Cuts, found: Fronts, peak: float) -> list[tuple[int, int]] | None:
    """(first downset, stage number) of every stage of the best plan of forward fronts; ``None`` if there is none."""
    depth, nodes = cuts.base.shape
    at = (depth, nodes - 1)
    if not found.size[at]:
        return None
    label = int(np.argmin(found.total[at][: found.size[at]] + peak * found.peak[at][: found.size[at]]))
    stages = []
    node = nodes - 1
    for i in range(depth, 0, -1):
        number, label = divmod(int(found.origin[i, node, label]), 64)
        row = cuts.base[i - 1]
        holds = (row <= number) & (number < row + cuts.count[i - 1])
        node = int(np.flatnonzero(holds)[0])
        stages.append((node, number))
    return stages[::-1]


def stage_limits(cuts: Cuts, objective: Objective, cutoff: float, ahead: Fronts, behind: Fronts) -> Array:
    """The most each stage may take in a plan of at most ``cutoff``; -1 where no such plan has that stage."""
    out = np.full(len(cuts.low), -1.0)
    cut_fronts.stage_limits(cuts.stages, objective, cutoff, ahead, behind, out)
    out[out < cuts.low] = -1.0
    capped: Array = np.minimum(out, cuts.limit)
    return capped


def peak_limit(cutoff: float, least_sum: float, objective: Objective) -> float:
    """The longest that any stage can take in a plan of at most ``cutoff`` whose stages sum to ``least_sum`` or more."""
    share, _, peak = objective
    beside = (cutoff - share * least_sum) / peak if peak else math.inf
    alone = cutoff / (share + peak) if share + peak else math.inf
    return min(beside, alone)


def first_limit(lattice: Lattice, least_s: Array) -> float:
    """A first guess at the longest stage of a good plan."""
    return max(1.3 * float(least_s.sum()) / lattice.depth, 1.001 * float(least_s.max()), longest(lattice) / 256)


def longest(lattice: Lattice) -> float:
    """More than any stage can take, seconds."""
    problem = lattice.problem
    times = sum(float(np.where(np.isfinite(u.time_s), u.time_s, 0.0).max()) for u in problem.layers)
    return (times + sum(float(e.reshard_s.max()) for e in problem.edges)) * (1 + 1e-9) + lattice.rounding_s


def lattice_bound(lattice: Lattice) -> tuple[float, Cuts | None]:
    """Bound a problem: widen the limit on stages until the bound no longer depends on it."""
    objective = lattice.objective
    least_s = least_times(lattice)
    total = float(least_s.sum())
    if not math.isfinite(total):
        return math.inf, None
    ceiling = longest(lattice)
    limit = min(first_limit(lattice, least_s), ceiling)
    while True:
        cuts = cut(lattice, limit, least_s)
        ahead = fronts(cuts, cuts.low, objective, math.inf, backward=False, relax=True)
        bound = least(ahead, objective.peak, (lattice.depth, lattice.size - 1))
        # A plan outside has a stage longer than the limit.
        outside = objective.sum * max(total, limit) + objective.peak * limit if limit < ceiling else math.inf
        if bound <= outside or outside == math.inf:
            return bound * (1 - 1e-12) - lattice.rounding_s if bound < math.inf else bound, cuts
        if bound == math.inf:
            limit = min(limit * 1.6, ceiling)
        else:
            limit = min(max(limit * 1.2, peak_limit(bound, total, objective)), ceiling)
