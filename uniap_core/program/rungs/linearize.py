"""Quadratic rows -> linear rows: each pair of coupled one-hot groups by row and column sums of product columns.

Reformulation
    For groups g, h with members a, b and product columns y[a][b]::

        sum_b y[a][b] = x[a]     sum_a y[a][b] = x[b]     0 <= y,  y[a][b] = 0 for impossible pairs

    and every term ``value * x[a] * x[b]`` becomes ``value * y[a][b]``. Members that have the same coefficients
    against every member of the other group, in every row, form one class; y is over pairs of classes and the sums
    over classes. That loses nothing: any y over classes splits proportionally over members. One product of each
    class that costs nothing is not a column but what is left over (``x[a] - sum of the others >= 0``).
Accepts
    Programs whose couplings join one-hot groups (all of :mod:`~uniap_core.program.ir`).
Produces
    The same program without couplings, with continuous product columns and the pairings that say whose they are.
Size
    Per coupling of m x n classes: m + n rows; one column per possible pair of classes, less one per class of the
    left group that has a pair without cost (:func:`added_size` counts them exactly).
Exactness
    Exact for one-hot x: y is then forced to the product. The relaxation is the convex hull of each pair.
Reference
    The local polytope of pairwise models (the same rows as eqs. e-g of Alpa's ILP). Against McCormick rows on a
    12-layer chain: 188 rows instead of 2124 and no gap instead of 25 %.
"""

from __future__ import annotations

import numpy as np

from ..form import Form
from ..ir import Array, Builder, Coupling, Pairing, Program
from .contract import Rung, Step


def linearize(program: Program) -> Program:
    """Replace all quadratic terms; the module's docstring states the reformulation."""
    builder = Builder.of(program)
    for coupling in program.couplings:
        builder.pairings.append(_pair(builder, coupling))
    return builder.build(program.name, program.unit_s, program.error_s)


def added_size(program: Program) -> tuple[int, int]:
    """Columns and rows that linearizing adds, without building it."""
    columns = rows = 0
    for coupling in program.couplings:
        left, right, possible = _classes(coupling)
        spared = _spared(coupling, left, right, possible)
        columns += int(possible.sum() - (spared >= 0).sum())
        rows += len(possible) + len(possible.T)
    return columns, rows


def _pair(builder: Builder, coupling: Coupling) -> Pairing:
    left, right, possible = _classes(coupling)
    spared = _spared(coupling, left, right, possible)
    kept = possible.copy()
    kept[spared >= 0, spared[spared >= 0]] = False
    column = np.full(kept.shape, -1, dtype=np.int64)
    a, b = np.nonzero(kept)
    column[a, b] = builder.add_columns(len(a))
    lefts, rights = builder.groups[coupling.left], builder.groups[coupling.right]
    exact, slack = spared < 0, spared >= 0
    left_row = np.empty(len(spared), dtype=np.int64)
    left_row[exact] = builder.add_rows(int(exact.sum()), 0.0, 0.0)
    left_row[slack] = builder.add_rows(int(slack.sum()), -np.inf, 0.0)
    builder.add_entries(left_row[a], column[a, b], 1.0)
    builder.add_entries(left_row[left], lefts, -1.0)
    right_row = builder.add_rows(len(possible.T), 0.0, 0.0)
    builder.add_entries(right_row[b], column[a, b], 1.0)
    builder.add_entries(right_row[right], rights, -1.0)
    # A spared product is what its class has left over: x[a] less the products that have columns.
    rest, member = slack[a], slack[left]
    builder.add_entries(right_row[spared[a[rest]]], column[a[rest], b[rest]], -1.0)
    builder.add_entries(right_row[spared[left[member]]], lefts[member], 1.0)
    # One representative of each pair of classes carries the coefficient.
    is_first = np.isin(coupling.left_member, _first(left)) & np.isin(coupling.right_member, _first(right))
    product = column[left[coupling.left_member], right[coupling.right_member]]
    carried = is_first & (product >= 0)
    builder.add_entries(coupling.row[carried], product[carried], coupling.value[carried])
    return Pairing(coupling.left, coupling.right, left, right, column)


def _spared(coupling: Coupling, left: Array, right: Array, possible: Array) -> Array:
    """For each class of left, one class of right against which it costs nothing, or -1: it needs no column."""
    free = possible.copy()
    free[left[coupling.left_member], right[coupling.right_member]] = False
    return np.where(free.any(axis=1), free.argmax(axis=1), -1)


def _classes(coupling: Coupling) -> tuple[Array, Array, Array]:
    """Classes of left and right members with equal coefficients and partners; which pairs of classes are possible."""
    rows, row = np.unique(coupling.row, return_inverse=True)
    table = np.zeros((len(rows) + 1, *coupling.possible.shape))
    table[0] = coupling.possible
    np.add.at(table, (row + 1, coupling.left_member, coupling.right_member), coupling.value)
    left, right = _equal(table.swapaxes(0, 1)), _equal(table.swapaxes(0, 2))
    return left, right, coupling.possible[np.ix_(_first(left), _first(right))]


def _equal(tables: Array) -> Array:
    """Class of each slice along the first axis; equal slices share a class, numbered by first appearance."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(np.ascontiguousarray(t).tobytes(), len(seen)) for t in tables], dtype=np.int64)


def _first(classes: Array) -> Array:
    """The first member of each class."""
    return np.unique(classes, return_index=True)[1]


RUNG = Rung(
    name="linearize",
    takes=Form.QUADRATIC,
    gives=Form.MILP,
    cost=1.0,
    lower=lambda program, limit_s: Step.same_groups(linearize(program)),
)
