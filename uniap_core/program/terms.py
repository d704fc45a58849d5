"""What every pose shares: scaling, the epigraph columns of p, o and max, memory rows, and the couplings of edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..problem import MEMORY_TOLERANCE, Assignment, Problem
from .domains import ROUNDING, Domains, stage_limit
from .ir import Array, Builder, Coupling, Program, summed


@dataclass(frozen=True, eq=False)
class Posed:
    """A program posed from a problem, with its two maps.

    ``choose`` is the down map: the member of each group that an assignment chooses, or one that dominates it; it
    raises ``ValueError`` for an assignment that is not feasible. ``assign`` is the up map: the assignment of a choice.
    """

    program: Program
    choose: Callable[[Assignment], Array]
    assign: Callable[[Array], Assignment]


@dataclass(frozen=True, eq=False)
class Placement:
    """Columns that say "layer u is on stage i with strategy k": one group per layer.

    All are per layer. ``column``, ``stage`` and ``strategy`` have one entry per member; ``instead`` has shape (P, K)
    and names the strategy that stands for each.
    """

    group: tuple[int, ...]
    column: tuple[Array, ...]
    stage: tuple[Array, ...]
    strategy: tuple[Array, ...]
    instead: tuple[Array, ...]

    def choose(self, assignment: Assignment) -> Array:
        """Position of each layer's stage and strategy among the members of its group; (layers,) int.

        Raises
        ------
        ValueError
            If the domains exclude one: no feasible assignment contains it.
        """
        choice = []
        for u, (i, k) in enumerate(zip(assignment.stage, assignment.strategy, strict=True)):
            found = np.flatnonzero((self.stage[u] == i) & (self.strategy[u] == self.instead[u][i, k]))
            if not len(found):
                raise ValueError(f"layer {u} cannot be on stage {i} with strategy {k}")
            choice.append(found[0])
        return np.array(choice, dtype=np.int64)

    def assign(self, choice: Array) -> Assignment:
        """Stage and strategy of each layer, from positions within the layers' groups."""
        stage = tuple(int(s[a]) for s, a in zip(self.stage, choice, strict=True))
        return Assignment(stage, tuple(int(k[a]) for k, a in zip(self.strategy, choice, strict=True)))


def place(builder: Builder, domains: Domains, *, integer: bool) -> Placement:
    """Add one column per layer, stage and strategy that the domains allow."""
    columns, stages, strategies, groups = [], [], [], []
    for member in domains.member:
        stage, strategy = np.nonzero(member)
        column = builder.add_columns(len(stage), integer=integer)
        groups.append(builder.add_group(column))
        columns.append(column)
        stages.append(stage)
        strategies.append(strategy)
    return Placement(tuple(groups), tuple(columns), tuple(stages), tuple(strategies), domains.instead)


def unit(problem: Problem) -> float:
    """Seconds per unit: the power of two that brings a typical objective to about a thousand.

    Solvers' absolute tolerances (1e-9 to 1e-6) are then far below the precision that is asked of the objective.
    """
    fastest = [float(np.min(layer.time_s)) for layer in problem.layers]
    total = math.fsum(t for t in fastest if math.isfinite(t))
    typical = total * (1 + (problem.micro_batches - 1) / problem.depth)
    if typical == 0:  # what is free may not fit
        times = [layer.time_s[np.isfinite(layer.time_s)].max(initial=0.0) for layer in problem.layers]
        typical = float(max([*times, *(e.reshard_s.max() + e.cross_s.max() for e in problem.edges)]))
    return 2.0 ** (math.floor(math.log2(typical)) - 10) if typical > 0 else 1.0


def add_memory(builder: Builder, problem: Problem, placement: Placement) -> None:
    """One row per stage whose memory can bind, scaled by a power of two to a right-hand side of about a thousand."""
    for i, stage in enumerate(problem.ranks):
        budget = stage.memory_bytes * (1 + MEMORY_TOLERANCE) - stage.reserved_bytes
        columns, weights, most = [], [], 0.0
        for u, layer in enumerate(problem.layers):
            here = placement.stage[u] == i
            k = placement.strategy[u][here]
            weight = layer.state_bytes[k] + stage.peak_in_flight[0] * layer.stash_bytes[k]
            columns.append(placement.column[u][here])
            weights.append(weight)
            most += float(weight.max(initial=0.0))
        if most > budget:
            scale = 2.0 ** (10 - math.floor(math.log2(budget))) if budget > 0 else 1.0
            weight = np.concatenate(weights) * scale
            builder.add_row(np.concatenate(columns), weight, upper=max(budget, 0.0) * scale)


def add_filled(builder: Builder, problem: Problem, placement: Placement) -> None:
    """No stage is empty: one covering row per stage."""
    for i in range(problem.depth):
        here = [c[s == i] for c, s in zip(placement.column, placement.stage, strict=True)]
        builder.add_row(np.concatenate(here), 1.0, lower=1.0)


def add_order(builder: Builder, problem: Problem, placement: Placement, domains: Domains) -> None:
    """Cumulative order cuts ``sum_{i' <= i} P_v <= sum_{i' <= i} P_u`` for every edge (u, v) and stage i."""
    for u, v in domains.edges:
        for i in range(problem.depth - 1):
            late = placement.column[v][placement.stage[v] <= i]
            early = placement.column[u][placement.stage[u] <= i]
            if len(late) and len(early) < len(placement.column[u]):
                builder.add_row(
                    np.concatenate([late, early]), np.repeat([1.0, -1.0], [len(late), len(early)]), upper=0.0
                )


def add_times(
    builder: Builder, problem: Problem, placement: Placement, domains: Domains, unit_s: float, limit_s: float
) -> None:
    """Epigraph rows of p_i, of what each tensor costs at each boundary, of o_j and of the max; the couplings of edges.

    Every cost is bounded from below only: the objective pushes it down, so that the inequality is tight at an
    optimum.
    """
    depth = problem.depth
    worst = math.fsum(float(np.max(t.time_s, initial=0.0, where=np.isfinite(t.time_s))) for t in problem.layers)
    worst += math.fsum(float(e.reshard_s.max()) for e in problem.edges)
    worst_cross = math.fsum(float(e.cross_s.max()) for e in problem.edges)
    allowed = stage_limit(problem, limit_s, math.fsum(float(np.min(t.time_s)) for t in problem.layers))
    # With slack, since sums in another order may differ in the last digits.
    bound, bound_cross = (min(w, allowed) * (1 + ROUNDING) / unit_s for w in (worst, worst_cross))
    stage_column = builder.add_columns(depth, upper=bound, cost=1.0)
    stage_row = []
    for i in range(depth):
        row = builder.add_row(stage_column[i : i + 1], 1.0, lower=0.0, defines=int(stage_column[i]))
        for u, layer in enumerate(problem.layers):
            here = placement.stage[u] == i
            builder.add_entries(row, placement.column[u][here], -layer.time_s[i, placement.strategy[u][here]] / unit_s)
        stage_row.append(row)
    cross_row = _cross_rows(builder, problem, domains, bound_cross)
    if problem.micro_batches > 1:
        slowest = builder.add_columns(1, upper=max(bound, bound_cross), cost=problem.micro_batches - 1.0)[0]
        for column in [*stage_column, *cross_row.columns]:
            builder.add_row([slowest, column], [1.0, -1.0], lower=0.0, defines=int(slowest))
    builder.couplings += _couplings(
        problem, placement, domains, stage_row, cross_row.of_edge, unit_s, bound, bound_cross
    )


@dataclass(frozen=True)
class _CrossRows:
    """Columns o_j, and for each (edge, boundary) the row that its crossing cost enters."""

    columns: list[int]
    of_edge: dict[tuple[int, int], int]


def _cross_rows(builder: Builder, problem: Problem, domains: Domains, bound: float) -> _CrossRows:
    columns: list[int] = []
    of_edge: dict[tuple[int, int], int] = {}
    priced = [e for e, edge in enumerate(problem.edges) if edge.cross_s.any()]
    for j in range(problem.depth - 1):
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
                of_edge[e, j] = builder.add_row([column], 1.0, lower=0.0, defines=int(column))
        total = builder.add_columns(1, upper=bound, cost=1.0)[0]
        row = builder.add_row([total, *shared], [1.0] + [-1.0] * len(shared), lower=0.0, defines=int(total))
        of_edge.update({(edges[0], j): row for edges in tensors if len(edges) == 1})
        columns.append(int(total))
    return _CrossRows(columns, of_edge)


def _may_cross(problem: Problem, domains: Domains, e: int, j: int) -> bool:
    source, target = problem.edges[e].source, problem.edges[e].target
    return bool(domains.member[source][: j + 1].any() and domains.member[target][j + 1 :].any())


def _couplings(
    problem: Problem,
    placement: Placement,
    domains: Domains,
    stage_row: list[int],
    cross_row: dict[tuple[int, int], int],
    unit_s: float,
    most: float,
    most_crossing: float,
) -> list[Coupling]:
    """One coupling per pair of layers joined by edges that cost anything.

    Pairs that alone take more than a stage or a boundary may (``most``, ``most_crossing``) are impossible.
    """
    joined: dict[tuple[int, int], list[int]] = {}
    for e, edge in enumerate(problem.edges):
        joined.setdefault((edge.source, edge.target), []).append(e)
    found = []
    for (u, v), edges in joined.items():
        left_stage, right_stage = placement.stage[u][:, None], placement.stage[v][None, :]
        gap = right_stage - left_stage
        possible = (gap >= 0) & (gap <= domains.reach[edges[0]])
        terms: list[tuple[int, Array, Array]] = []
        reshard = sum(problem.edges[e].reshard_s for e in edges)
        table = np.asarray(reshard)[np.ix_(placement.strategy[u], placement.strategy[v])] / unit_s
        terms += [(row, (gap == 0) & (left_stage == i), table) for i, row in enumerate(stage_row)]
        own = [problem.layers[w].time_s[placement.stage[w], placement.strategy[w]] / unit_s for w in (u, v)]
        within = possible & ((gap > 0) | (table + own[0][:, None] + own[1][None, :] <= most))
        for e in edges:
            table = problem.edges[e].cross_s[np.ix_(placement.strategy[u], placement.strategy[v])] / unit_s
            within &= (gap == 0) | (table <= most_crossing)
            for j in range(problem.depth - 1):
                if (e, j) in cross_row:
                    terms.append((cross_row[e, j], possible & (left_stage <= j) & (j < right_stage), table))
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
