"""Problem -> quadratic rows in the variables of the UniAP paper: placement P, strategy S, contiguity Z.

Reformulation
    ``P[u][i]`` (u is on chunk i) and ``S[u][k]`` are one-hot per layer. Their product ``x[u][i][k]``, which the
    paper leaves to the solver (its costs ``P P S S`` have degree four), is spelled out by row and column sums, so
    that costs are the quadratic rows of :mod:`~uniap_core.program.rungs.pose_joint` over ``x``::

        sum_k x[u][i][k] = P[u][i]        sum_i x[u][i][k] = S[u][k]
        Z[v][i] >= P[v][i]    Z[v][i] <= Z[u][i]    Z[v][i] <= P[v][i] - P[u][i] + 1    for each edge (u, v)
        sum_{i' <= i} P[v][i'] <= sum_{i' <= i} P[u][i']                                for each edge (u, v)

    The Z rows say that every chunk is a contiguous set. The last row is not the paper's: contiguity alone does not
    order them (docs/problem.md), and implies nothing that the last row does not.
Accepts
    Any :class:`~uniap_core.problem.Problem`.
Produces
    A program with groups P, S and x of every layer; P and S are integer, x and Z continuous.
Size
    That of the joint pose, and per layer a column and at most a row per chunk and per strategy; per layer and
    chunk one Z and one row; per edge and chunk two rows.
Exactness
    Exact. For research comparison; the joint pose is smaller and not weaker.
Reference
    UniAP, arXiv 2307.16375: objective eq. 1, costs eqs. 2-3, memory eq. 4, order eq. 5, placement eq. 6, selection
    eq. 7 (Z after Tarnawski et al., msr-fiddle/dnn-partitioning, throughput-ip/ip.py).
"""

from __future__ import annotations

import math

import numpy as np

from ...problem import Assignment, Problem
from ..domains import domains
from ..form import Form
from ..ir import Array, Builder
from ..terms import PlacementColumns, add_filled, add_memory, add_order, add_times, place, unit
from .contract import Rung, Step


def pose_paper(problem: Problem, limit_s: float = math.inf) -> Step:
    """Lower a problem to the paper's variables; the module's docstring states the reformulation.

    Parameters
    ----------
    problem
        What to lower.
    limit_s
        Only assignments with an objective of at most this are of interest; others may be cut off.
    """
    builder, reduced, unit_s = Builder(), domains(problem, limit_s), unit(problem)
    placement = place(builder, reduced, integer=False)
    stage_columns, stage_members = _factor(builder, placement, placement.chunk, problem.depth)
    strategies = max(len(layer.strategies) for layer in problem.layers)
    _, strategy_members = _factor(builder, placement, placement.strategy, strategies)
    add_contiguity(builder, problem, stage_columns, reduced.edges)
    add_filled(builder, problem, placement)
    add_order(builder, problem, placement, reduced)
    add_memory(builder, problem, placement)
    add_times(builder, problem, placement, reduced, unit_s, limit_s)

    def choose(assignment: Assignment) -> Array:
        joint = placement.choose(assignment)
        there = placement.assign(joint)
        stage = [members.index(i) for members, i in zip(stage_members, there.stage, strict=True)]
        strategy = [members.index(k) for members, k in zip(strategy_members, there.strategy, strict=True)]
        return np.concatenate([joint, stage, strategy]).astype(np.int64)

    def assign(choice: Array) -> Assignment:
        return placement.assign(choice[: len(problem.layers)])

    return Step(builder.build(problem.name, unit_s), choose, assign)


def _factor(
    builder: Builder, placement: PlacementColumns, value: tuple[Array, ...], count: int
) -> tuple[list[Array], list[list[int]]]:
    """One-hot columns for each layer's stage (or strategy), tied to x by sums.

    Returns per layer its columns by value (-1 where the value is impossible) and the values of its members.
    """
    columns, members = [], []
    for column, values in zip(placement.column, value, strict=True):
        present = np.unique(values)
        new = builder.add_columns(len(present), integer=True)
        builder.add_group(new)
        for c, v in zip(new, present, strict=True):
            inside = column[values == v]
            builder.add_row(np.append(inside, c), np.append(np.ones(len(inside)), -1.0), 0.0, 0.0)
        by_value = np.full(count, -1, dtype=np.int64)
        by_value[present] = new
        columns.append(by_value)
        members.append(present.tolist())
    return columns, members


def add_contiguity(builder: Builder, problem: Problem, stage: list[Array], edges: tuple[tuple[int, int], ...]) -> None:
    """Z[v][i]: something on stage i can be reached from v (a layer reaches itself)."""
    reach = [builder.add_columns(problem.depth) for _ in problem.layers]
    rank = {u: position for position, u in enumerate(problem.order)}
    after: list[list[int]] = [[] for _ in problem.layers]
    for u, v in edges:
        after[u].append(v)
    for u in sorted(rank, key=lambda u: -rank[u]):
        for i in range(problem.depth):
            own = int(reach[u][i])
            if stage[u][i] >= 0:
                builder.add_row([own, int(stage[u][i])], [1.0, -1.0], lower=0.0, defines=own)
            for v in after[u]:
                builder.add_row([own, int(reach[v][i])], [1.0, -1.0], lower=0.0, defines=own)
                terms = [(int(reach[v][i]), 1.0), (int(stage[v][i]), -1.0), (int(stage[u][i]), 1.0)]
                column, value = zip(*((c, a) for c, a in terms if c >= 0), strict=True)
                builder.add_row(list(column), list(value), upper=1.0)


RUNG = Rung(name="paper", takes=Form.PROBLEM, gives=Form.QUADRATIC, cost=2.0, lower=pose_paper)
