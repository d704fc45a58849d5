"""Problem -> quadratic rows over one joint one-hot group per layer: x[u][i][k] is "u on stage i with strategy k".

Reformulation
    With ``x`` one-hot over (i, k), the stage costs of the paper, of degree four in its placement and strategy
    variables, are quadratic, and memory is linear::

        min  sum_i p_i + sum_j o_j + (c - 1) T
        p_i >= sum_u,k A[i][u][k] x[u][i][k] + sum_e,k,l R[e][k][l] x[u][i][k] x[v][i][l]
        w_tj >= sum_{i <= j < i'},k,l X[e][k][l] x[u][i][k] x[v][i'][l]    for each edge e of tensor t
        o_j >= sum_t w_tj          T >= p_i, o_j
        sum_u,k (W[u][k] + f(i) Q[u][k]) x[u][i][k] <= m[i] - r[i]
        sum_u,k x[u][i][k] >= 1    sum_{i' <= i} x[v] <= sum_{i' <= i} x[u]   for each edge (u, v)

    A tensor with a single edge enters o_j without a column w of its own.
Accepts
    Any :class:`~uniap_core.problem.Problem`.
Produces
    A :class:`~uniap_core.program.ir.Program` with linear objective, couplings, and integer placement columns.
Size
    Columns: sum over layers of its possible and undominated (stage, strategy) pairs; P stages; one per boundary that
    can cost anything, one per boundary and shared tensor; one for the max if c > 1. See ``tests/unit/program``.
Exactness
    Exact; the reductions of :mod:`~uniap_core.program.domains` keep an optimal assignment.
Reference
    UniAP (arXiv 2307.16375) eq. 1-7, with the order constraint and tensors of docs/problem.md.
"""

from __future__ import annotations

import math

from ..problem import Problem
from .domains import domains
from .ir import Builder
from .terms import Posed, add_filled, add_memory, add_order, add_times, place, unit


def pose_joint(problem: Problem, limit_s: float = math.inf) -> Posed:
    """Lower a problem to a quadratic program; the module's docstring states the reformulation.

    Parameters
    ----------
    problem
        What to lower.
    limit_s
        Only assignments with an objective of at most this are of interest; others may be cut off.
    """
    builder, reduced, unit_s = Builder(), domains(problem, limit_s), unit(problem)
    placement = place(builder, reduced, integer=True)
    add_filled(builder, problem, placement)
    add_order(builder, problem, placement, reduced)
    add_memory(builder, problem, placement)
    add_times(builder, problem, placement, reduced, unit_s, limit_s)
    return Posed(builder.build(problem.name, unit_s), placement.choose, placement.assign)
