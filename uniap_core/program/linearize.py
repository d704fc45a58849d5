"""Quadratic rows -> linear rows: each pair of coupled one-hot groups by row and column sums of product columns.

Reformulation
    For groups g, h with members a, b and product columns y[a][b]::

        sum_b y[a][b] = x[a]     sum_a y[a][b] = x[b]     0 <= y,  y[a][b] = 0 for impossible pairs

    and every term ``value * x[a] * x[b]`` becomes ``value * y[a][b]``. Members that have the same coefficients
    against every member of the other group, in every row, form one class; y is over pairs of classes and the sums
    over classes. That loses nothing: any y over classes splits proportionally over members.
Accepts
    Programs whose couplings join one-hot groups (all of :mod:`~uniap_core.program.ir`).
Produces
    The same program without couplings, with continuous product columns.
Size
    Per coupling of classes m x n: at most m n columns and m + n rows (:func:`added_size` counts them exactly).
Exactness
    Exact for one-hot x: y is then forced to the product. The relaxation is the convex hull of each pair.
Reference
    The local polytope of pairwise models (the same rows as eqs. e-g of Alpa's ILP). Against McCormick rows on a
    12-layer chain: 188 rows instead of 2124 and no gap instead of 25 %.
"""

from __future__ import annotations

import numpy as np

from .ir import Array, Builder, Coupling, Pairing, Program


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
        columns += int(possible[np.ix_(_first(left), _first(right))].sum())
        rows += int(left.max() + right.max()) + 2
    return columns, rows


def _pair(builder: Builder, coupling: Coupling) -> Pairing:
    left, right, possible = _classes(coupling)
    first_left, first_right = _first(left), _first(right)
    allowed = possible[np.ix_(first_left, first_right)]
    column = np.full(allowed.shape, -1, dtype=np.int64)
    a, b = np.nonzero(allowed)
    column[a, b] = builder.add_columns(len(a))
    for members, classes, of_column, count in (
        (builder.groups[coupling.left], left, a, len(first_left)),
        (builder.groups[coupling.right], right, b, len(first_right)),
    ):
        rows = builder.add_rows(count, 0.0, 0.0)
        builder.add_entries(rows[of_column], column[a, b], 1.0)
        builder.add_entries(rows[classes], members, -1.0)
    # One representative of each pair of classes carries the coefficient.
    is_first = np.isin(coupling.left_member, first_left) & np.isin(coupling.right_member, first_right)
    pair = left[coupling.left_member[is_first]], right[coupling.right_member[is_first]]
    builder.add_entries(coupling.row[is_first], column[pair], coupling.value[is_first])
    return Pairing(coupling.left, coupling.right, left, right, column)


def _classes(coupling: Coupling) -> tuple[Array, Array, Array]:
    """Classes of left and right members with equal coefficients and equal possible partners."""
    rows, row = np.unique(coupling.row, return_inverse=True)
    table = np.zeros((len(rows) + 1, *coupling.possible.shape))
    table[0] = coupling.possible
    np.add.at(table, (row + 1, coupling.left_member, coupling.right_member), coupling.value)
    return _equal(table.swapaxes(0, 1)), _equal(table.swapaxes(0, 2)), coupling.possible


def _equal(tables: Array) -> Array:
    """Class of each slice along the first axis; equal slices share a class, numbered by first appearance."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(np.ascontiguousarray(t).tobytes(), len(seen)) for t in tables], dtype=np.int64)


def _first(classes: Array) -> Array:
    """The first member of each class."""
    return np.unique(classes, return_index=True)[1]
