"""Problem -> quadratic rows over one joint one-hot group per layer: x[u][j][k] is "u on chunk j with strategy k".

Reformulation
    With ``x`` one-hot over (j, k), the stage costs of the paper, of degree four in its placement and strategy
    variables, are quadratic, and memory is linear. With ``i = rank(j)``, the rank of a chunk::

        min  sum * (p_0 + ...) + cross * (o_0 + ...) + peak * T
        p_i >= sum_{j on i},u,k A[i][u][k] x[u][j][k]
               + sum_e,{a, b and all between on i},k,l R[e][k][l] x[u][a][k] x[v][b][l]
        w_tj >= sum_{a <= j < b},k,l X[e][k][l] x[u][a][k] x[v][b][l]    for each edge e of tensor t
        o_j >= sum_t w_tj                                                for each j|j+1 between two ranks
        T >= p_i          T >= sum of o_j over the boundaries from one rank to another
        sum_{j on i},u,k (W[u][k] + f_j Q[u][k]) x[u][j][k] <= m[i] - r[i]     for each moment f of rank i
        sum_u,k x[u][j][k] >= 1    sum_{j' <= j} x[v] <= sum_{j' <= j} x[u]    for each edge (u, v)

    A tensor with a single edge enters o_j without a column w of its own; what has the weight 0 has no columns; a
    moment that another exceeds has no row.
Accepts
    Any :class:`~uniap_core.problem.Problem`.
Produces
    A :class:`~uniap_core.program.ir.Program` with linear objective, couplings, and integer placement columns.
Size
    Columns: sum over layers of its possible and undominated (chunk, strategy) pairs; P ranks; one per boundary that
    can cost anything, one per boundary and shared tensor; one for the max if it is weighed. See ``tests/unit/program``.
Exactness
    Exact; the reductions of :mod:`~uniap_core.program.domains` keep an optimal assignment.
Reference
    UniAP (arXiv 2307.16375) eq. 1-7, with the order constraint and tensors of docs/problem.md.
"""

from __future__ import annotations

import math

from ...problem import Problem
from ..domains import domains
from ..form import Form
from ..ir import Builder
from ..terms import add_filled, add_memory, add_order, add_times, place, unit
from .contract import Rung, Step


def pose_joint(problem: Problem, limit_s: float = math.inf) -> Step:
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
    return Step(builder.build(problem.name, unit_s), placement.choose, placement.assign)


RUNG = Rung(name="joint", takes=Form.PROBLEM, gives=Form.QUADRATIC, cost=1.0, lower=pose_joint)
