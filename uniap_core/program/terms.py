"""What every pose shares: scaling, the epigraph columns of p, o and max, memory rows, and the couplings of edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..problem import MEMORY_TOLERANCE, Assignment, Problem
from . import pipe
from .domains import ROUNDING, Domains, peak_limit
from .ir import Array, Builder, Coupling, summed


@dataclass(frozen=True, eq=False)
class PlacementColumns:
    """Columns that say "layer u is on chunk j with strategy k": one group per layer.

    All are per layer. ``column``, ``chunk`` and ``strategy`` have one entry per member; ``instead`` has shape
    (chunks, K) and names the strategy that stands for each.
    """

    group: tuple[int, ...]
    column: tuple[Array, ...]
    chunk: tuple[Array, ...]
    strategy: tuple[Array, ...]
    instead: tuple[Array, ...]

    def choose(self, assignment: Assignment) -> Array:
        """Position of each layer's chunk and strategy among the members of its group; (layers,) int.

        Raises
        ------
        ValueError
            If the domains exclude one: no feasible assignment contains it.
        """
        choice = []
        for u, (j, k) in enumerate(zip(assignment.stage, assignment.strategy, strict=True)):
            found = np.flatnonzero((self.chunk[u] == j) & (self.strategy[u] == self.instead[u][j, k]))
            if not len(found):
                raise ValueError(f"layer {u} cannot be on stage {j} with strategy {k}")
            choice.append(found[0])
        return np.array(choice, dtype=np.int64)

    def assign(self, choice: Array) -> Assignment:
        """Chunk and strategy of each layer, from positions within the layers' groups."""
        chunk = tuple(int(c[a]) for c, a in zip(self.chunk, choice, strict=True))
        return Assignment(chunk, tuple(int(k[a]) for k, a in zip(self.strategy, choice, strict=True)))


def place(builder: Builder, domains: Domains, *, integer: bool) -> PlacementColumns:
    """Add one column per layer, chunk and strategy that the domains allow."""
    columns, chunks, strategies, groups = [], [], [], []
    for member in domains.member:
        chunk, strategy = np.nonzero(member)
        column = builder.add_columns(len(chunk), integer=integer)
        groups.append(builder.add_group(column))
        columns.append(column)
        chunks.append(chunk)
        strategies.append(strategy)
    return PlacementColumns(tuple(groups), tuple(columns), tuple(chunks), tuple(strategies), domains.instead)


def unit(problem: Problem) -> float:
    """Seconds per unit: the power of two that brings a typical objective to about a thousand.

    Solvers' absolute tolerances (1e-9 to 1e-6) are then far below the precision that is asked of the objective.
    """
    fastest = [float(np.min(layer.time_s)) for layer in problem.layers]
    total = math.fsum(t for t in fastest if math.isfinite(t))
    typical = total * (problem.objective.sum + problem.objective.peak / len(problem.ranks))
    if typical == 0:  # what is free may not fit
        times = [layer.time_s[np.isfinite(layer.time_s)].max(initial=0.0) for layer in problem.layers]
        typical = float(max([*times, *(e.reshard_s.max() + e.cross_s.max() for e in problem.edges)]))
    return 2.0 ** (math.floor(math.log2(typical)) - 10) if typical > 0 else 1.0


def add_memory(builder: Builder, problem: Problem, placement: PlacementColumns) -> None:
    """One row per rank and moment whose memory can bind, scaled by a power of two to a right-hand side near 1000."""
    chunks = np.array(problem.chunks)
    for i, rank in enumerate(problem.ranks):
        budget = rank.memory_bytes * (1 + MEMORY_TOLERANCE) - rank.reserved_bytes
        flight = np.zeros(problem.depth)
        for moment in pipe.deciding(rank):
            flight[list(problem.held[i])] = moment
            columns, weights, most = [], [], 0.0
            for u, layer in enumerate(problem.layers):
                here = chunks[placement.chunk[u]] == i
                k = placement.strategy[u][here]
                weight = layer.state_bytes[k] + flight[placement.chunk[u][here]] * layer.stash_bytes[k]
                columns.append(placement.column[u][here])
                weights.append(weight)
                most += float(weight.max(initial=0.0))
            if most > budget:
                scale = 2.0 ** (10 - math.floor(math.log2(budget))) if budget > 0 else 1.0
                weight = np.concatenate(weights) * scale
                builder.add_row(np.concatenate(columns), weight, upper=max(budget, 0.0) * scale)


def add_filled(builder: Builder, problem: Problem, placement: PlacementColumns) -> None:
    """No chunk is empty: one covering row per chunk."""
    for j in range(problem.depth):
        here = [column[chunk == j] for column, chunk in zip(placement.column, placement.chunk, strict=True)]
        builder.add_row(np.concatenate(here), 1.0, lower=1.0)


def add_order(builder: Builder, problem: Problem, placement: PlacementColumns, domains: Domains) -> None:
    """Cumulative order cuts ``sum_{j' <= j} P_v <= sum_{j' <= j} P_u`` for every edge (u, v) and chunk j."""
    for u, v in domains.edges:
        for j in range(problem.depth - 1):
            late = placement.column[v][placement.chunk[v] <= j]
            early = placement.column[u][placement.chunk[u] <= j]
            if len(late) and len(early) < len(placement.column[u]):
                builder.add_row(
                    np.concatenate([late, early]), np.repeat([1.0, -1.0], [len(late), len(early)]), upper=0.0
                )


def add_times(
    builder: Builder, problem: Problem, placement: PlacementColumns, domains: Domains, unit_s: float, limit_s: float
) -> None:
    """Epigraph rows of p_i, of what each tensor costs at each boundary, of o_j and of the max; the couplings of edges.

    Every cost is bounded from below only: the objective pushes it down, so that the inequality is tight at an
    optimum. What the objective does not weigh gets no column.
    """
    weights, bounds = problem.objective, _bounds(problem, unit_s, limit_s)
    rank_row = np.full(len(problem.ranks), -1)
    rank_column = np.zeros(0, dtype=np.int64)
    if weights.sum or weights.peak:
        rank_column = builder.add_columns(len(problem.ranks), upper=bounds.rank, cost=weights.sum)
        chunks = np.array(problem.chunks)
        for i in range(len(problem.ranks)):
            row = builder.add_row(rank_column[i : i + 1], 1.0, lower=0.0, defines=int(rank_column[i]))
            for u, layer in enumerate(problem.layers):
                here = chunks[placement.chunk[u]] == i
                value = -layer.time_s[i, placement.strategy[u][here]] / unit_s
                builder.add_entries(row, placement.column[u][here], value)
            rank_row[i] = row
    crossing = _CrossRows({}, {})
    if weights.cross or weights.peak:
        crossing = _cross_rows(builder, problem, domains, bounds.cross)
    if weights.peak:
        slowest = builder.add_columns(1, upper=max(bounds.rank, bounds.link), cost=weights.peak)[0]
        links = [[crossing.column[j] for j in link if j in crossing.column] for link in pipe.links(problem)]
        terms = [[int(column)] for column in rank_column] + [link for link in links if link]
        for columns in terms:
            builder.add_row([slowest, *columns], [1.0] + [-1.0] * len(columns), lower=0.0, defines=int(slowest))
    builder.couplings += _couplings(problem, placement, domains, rank_row, crossing, unit_s, bounds)


@dataclass(frozen=True)
class _Bounds:
    """The most that p_i, one boundary's o_j, and the boundaries of one link together may take, in units."""

    rank: float
    cross: float
    link: float


def _bounds(problem: Problem, unit_s: float, limit_s: float) -> _Bounds:
    worst = math.fsum(float(np.max(t.time_s, initial=0.0, where=np.isfinite(t.time_s))) for t in problem.layers)
    worst += math.fsum(float(e.reshard_s.max()) for e in problem.edges)
    worst_cross = math.fsum(float(e.cross_s.max()) for e in problem.edges)
    worst_link = worst_cross * max((len(link) for link in pipe.links(problem)), default=1)
    least, weights = math.fsum(float(np.min(t.time_s)) for t in problem.layers), problem.objective
    rank, link = (peak_limit(problem, limit_s, least, weight) for weight in (weights.sum, weights.cross))
    # With slack, since sums in another order may differ in the last digits.
    slack = (1 + ROUNDING) / unit_s
    return _Bounds(min(worst, rank) * slack, min(worst_cross, link) * slack, min(worst_link, link) * slack)


@dataclass(frozen=True)
class _CrossRows:
    """Columns o_j by boundary, and for each (edge, boundary) the row that its crossing cost enters."""

    column: dict[int, int]
    of_edge: dict[tuple[int, int], int]


def _cross_rows(builder: Builder, problem: Problem, domains: Domains, bound: float) -> _CrossRows:
    found = _CrossRows({}, {})
    priced = [e for e, edge in enumerate(problem.edges) if edge.cross_s.any()]
    for j in sorted(j for link in pipe.links(problem) for j in link):
        crossing = {e for e in priced if _may_cross(problem, domains, e, j)}
        tensors = [[e for e in edges if e in crossing] for edges in problem.tensors.values()]
        tensors = [edges for edges in tensors if edges]
        if not tensors:
            continue
        shared = []
        for edges in (edges for edges in tensors if len(edges) > 1):
            # A tensor with several consumers crosses once: its cost is the largest of its edges.
            column = builder.add_columns(1, upper=bound)[0]
            shared.append(column)
            for e in edges:
                found.of_edge[e, j] = builder.add_row([column], 1.0, lower=0.0, defines=int(column))
        total = builder.add_columns(1, upper=bound, cost=problem.objective.cross)[0]
        row = builder.add_row([total, *shared], [1.0] + [-1.0] * len(shared), lower=0.0, defines=int(total))
        found.of_edge.update({(edges[0], j): row for edges in tensors if len(edges) == 1})
        found.column[j] = int(total)
    return found


def _may_cross(problem: Problem, domains: Domains, e: int, j: int) -> bool:
    source, target = problem.edges[e].source, problem.edges[e].target
    return bool(domains.member[source][: j + 1].any() and domains.member[target][j + 1 :].any())


def _couplings(
    problem: Problem,
    placement: PlacementColumns,
    domains: Domains,
    rank_row: Array,
    crossing: _CrossRows,
    unit_s: float,
    bounds: _Bounds,
) -> list[Coupling]:
    """One coupling per pair of layers joined by edges that cost anything.

    Pairs that alone take more than a rank or a boundary may are impossible.
    """
    joined: dict[tuple[int, int], list[int]] = {}
    for e, edge in enumerate(problem.edges):
        joined.setdefault((edge.source, edge.target), []).append(e)
    chunks, changes = np.array(problem.chunks), pipe.rank_changes(problem)
    times = [pipe.time_s(problem, layer) for layer in problem.layers]
    found = []
    for (u, v), edges in joined.items():
        left, right = placement.chunk[u][:, None], placement.chunk[v][None, :]
        possible = (right >= left) & (right - left <= domains.reach[edges[0]])
        inside = possible & (changes[left] == changes[right])
        reshard = sum(problem.edges[e].reshard_s for e in edges)
        table = np.asarray(reshard)[np.ix_(placement.strategy[u], placement.strategy[v])] / unit_s
        terms = [(int(row), inside & (chunks[left] == i), table) for i, row in enumerate(rank_row) if row >= 0]
        own = [times[w][placement.chunk[w], placement.strategy[w]] / unit_s for w in (u, v)]
        together = np.where(inside, table, 0.0) + own[0][:, None] + own[1][None, :]
        within = possible & ((chunks[left] != chunks[right]) | (together <= bounds.rank))
        for e in edges:
            table = problem.edges[e].cross_s[np.ix_(placement.strategy[u], placement.strategy[v])] / unit_s
            within &= inside | (table <= bounds.cross)
            for j in crossing.column:
                if (e, j) in crossing.of_edge:
                    terms.append((crossing.of_edge[e, j], possible & (left <= j) & (j < right), table))
        if terms:
            coupling = _coupling(placement.group[u], placement.group[v], within, terms)
            if len(coupling.value):
                found.append(coupling)
    return found


def _coupling(left: int, right: int, possible: Array, terms: list[tuple[int, Array, Array]]) -> Coupling:
    rows, lefts, rights, values = [], [], [], []
    for row, where, table in terms:
        a, b = np.nonzero(where & (table != 0))
        rows.append(np.full(len(a), row))
        lefts.append(a)
        rights.append(b)
        values.append(-table[a, b])
    # Two tensors between the same layers may meet in one row.
    members = np.concatenate(lefts) * possible.shape[1] + np.concatenate(rights)
    place, value = summed(np.concatenate(rows) * possible.size + members, np.concatenate(values))
    into, pair = np.divmod(place, max(1, possible.size))
    return Coupling(left, right, possible, into, pair // possible.shape[1], pair % possible.shape[1], value)
