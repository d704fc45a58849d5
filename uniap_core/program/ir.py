"""The mathematical program: arrays, a linear objective, one-hot groups as structure, and one ``evaluate``.

A program minimizes ``cost . x`` over columns ``x`` subject to linear or quadratic rows and to one-hot groups
(exactly one member of each group is 1). Everything but the groups is a consequence: once a member is chosen in
each group, product columns and epigraph columns follow (:meth:`Program.complete`). So a *choice*, one member per
group, is all that a warm start or an answer has to carry from rung to rung.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

Array = np.ndarray
"""A numpy array; its shape and type are in the docstring of whoever holds it."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Linear rows ``lower <= A x <= upper``, compressed by rows.

    Attributes
    ----------
    start
        (m + 1,) int; the entries of row r are ``start[r]:start[r + 1]``.
    column, value
        (nonzeros,) int and float.
    lower, upper
        (m,) float.
    """

    start: Array
    column: Array
    value: Array
    lower: Array
    upper: Array

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def row(self) -> Array:
        """Row number of each entry, (nonzeros,) int."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))


@dataclass(frozen=True, eq=False)
class Coupling:
    """Products of members of two one-hot groups: ``value * left * right`` is added to ``row``.

    Attributes
    ----------
    left, right
        Group numbers.
    possible
        (members of left, members of right) bool: pairs that bounds and other rows do not exclude.
    row, left_member, right_member, value
        (terms,) the terms; members are positions within their groups.
    """

    left: int
    right: int
    possible: Array
    row: Array
    left_member: Array
    right_member: Array
    value: Array


@dataclass(frozen=True, eq=False)
class Pairing:
    """What a coupling becomes when linearized: one product column per possible pair of classes of members.

    Attributes
    ----------
    left, right
        Group numbers.
    left_class, right_class
        (members,) int: the class of each member.
    column
        (classes of left, classes of right) int: the product's column, -1 for a pair that needs none (impossible, or
        without cost).
    """

    left: int
    right: int
    left_class: Array
    right_class: Array
    column: Array


@dataclass(frozen=True)
class Size:
    """Columns, rows (groups count as rows), nonzeros and quadratic terms."""

    columns: int
    rows: int
    nonzeros: int
    products: int


@dataclass(frozen=True)
class Activity:
    """A point's objective (in units) and the largest violation of a bound, row, group or integrality."""

    objective: float
    violation: float


@dataclass(frozen=True, eq=False)
class Program:
    """Minimize ``cost . x``; see the module's docstring.

    Attributes
    ----------
    name
        Of the problem that it came from.
    unit_s
        Seconds per unit of objective; a power of two, so that scaling costs no precision.
    error_s
        ``|objective here - objective of the problem|`` is at most this for every choice (rounding to integers);
        0 where coefficients were only scaled.
    lower, upper, cost
        (n,) float.
    integer
        (n,) bool.
    rows
        The linear part of all rows.
    defines
        (m,) int: the column that the row bounds from below, ``column >= expression`` (an epigraph row), or -1.
        Such rows stand in the order in which the columns can be computed.
    group_start, group_column
        One-hot groups, compressed: the members of group g are ``group_column[group_start[g]:group_start[g+1]]``.
    couplings
        Quadratic terms; empty once linearized.
    pairings
        Product columns of linearized couplings.
    start
        (n,) a feasible point to start from, or ``None``.
    """

    name: str
    unit_s: float
    error_s: float
    lower: Array
    upper: Array
    cost: Array
    integer: Array
    rows: Rows
    defines: Array
    group_start: Array
    group_column: Array
    couplings: tuple[Coupling, ...] = ()
    pairings: tuple[Pairing, ...] = ()
    start: Array | None = field(default=None)

    @cached_property
    def groups(self) -> tuple[Array, ...]:
        """Member columns of each one-hot group."""
        return tuple(np.split(self.group_column, self.group_start[1:-1]))

    @property
    def solvable(self) -> bool:
        """False if some group has no member: then no point is feasible, and no solver need be asked."""
        return bool((np.diff(self.group_start) > 0).all())

    @cached_property
    def products(self) -> tuple[Array, Array, Array, Array]:
        """Quadratic terms as flat arrays: row, left column, right column, value."""
        parts = [
            (c.row, self.groups[c.left][c.left_member], self.groups[c.right][c.right_member], c.value)
            for c in self.couplings
        ]
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return none, none, none, np.zeros(0)
        row, left, right, value = (np.concatenate(piece) for piece in zip(*parts, strict=True))
        return row, left, right, value

    @property
    def size(self) -> Size:
        """What a backend will see."""
        nonzeros = len(self.rows.value) + len(self.group_column)
        return Size(len(self.cost), len(self.rows) + len(self.group_start) - 1, nonzeros, len(self.products[0]))

    def constraints(self) -> Rows:
        """All linear rows, with the groups appended as rows ``sum = 1``, for solvers without one-hot groups."""
        rows, groups = self.rows, len(self.group_start) - 1
        return Rows(
            np.concatenate([rows.start, rows.start[-1] + self.group_start[1:]]),
            np.concatenate([rows.column, self.group_column]),
            np.concatenate([rows.value, np.ones(len(self.group_column))]),
            np.concatenate([rows.lower, np.ones(groups)]),
            np.concatenate([rows.upper, np.ones(groups)]),
        )

    def activity(self, point: Array) -> Array:
        """Value of every row at a point, quadratic terms included; (m,) float."""
        rows = self.rows
        total = np.bincount(rows.row, rows.value * point[rows.column], len(rows))
        row, left, right, value = self.products
        return total + np.bincount(row, value * point[left] * point[right], len(rows))

    def evaluate(self, point: Array) -> Activity:
        """Objective and largest violation of a point: the only interpreter of a program.

        Parameters
        ----------
        point
            (n,) float.
        """
        activity = self.activity(point)
        sums = np.array([point[members].sum() for members in self.groups])
        violations = (
            self.lower - point,
            point - self.upper,
            self.rows.lower - activity,
            activity - self.rows.upper,
            np.abs(sums - 1),
            np.abs(point - np.round(point))[self.integer],
        )
        return Activity(float(self.cost @ point), max(0.0, *(float(v.max(initial=0.0)) for v in violations)))

    def choice(self, point: Array) -> Array:
        """The member of each group that a point chooses (its largest one); (groups,) int."""
        return np.array([int(np.argmax(point[members])) for members in self.groups], dtype=np.int64)

    def complete(self, choice: Array) -> Array:
        """The cheapest point of a choice: members, their products, then every epigraph column at its expression.

        Parameters
        ----------
        choice
            (groups,) int: a member of each group.
        """
        point = np.zeros(len(self.cost))
        for members, member in zip(self.groups, choice, strict=True):
            point[members[member]] = 1.0
        for pair in self.pairings:
            column = pair.column[pair.left_class[choice[pair.left]], pair.right_class[choice[pair.right]]]
            if column >= 0:
                point[column] = 1.0
        row, left, right, value = self.products
        quadratic = np.bincount(row, value * point[left] * point[right], len(self.rows))
        rows = self.rows
        for r in np.flatnonzero(self.defines >= 0):
            column, span = self.defines[r], slice(rows.start[r], rows.start[r + 1])
            rest = float(rows.value[span] @ point[rows.column[span]]) + quadratic[r]
            # The row reads 1 * column + rest >= lower, with the column at its value so far.
            point[column] += max(0.0, rows.lower[r] - rest)
        return point


class Builder:
    """Collects columns, rows and couplings, and builds the program once."""

    def __init__(self) -> None:
        self._columns: list[tuple[Array, ...]] = []
        self._entries: list[tuple[Array, Array, Array]] = []
        self._rows: list[tuple[Array, Array, Array]] = []
        self.groups: list[Array] = []
        self.couplings: list[Coupling] = []
        self.pairings: list[Pairing] = []
        self.columns = 0
        self.rows = 0

    @classmethod
    def of(cls, program: Program) -> Builder:
        """A builder that already holds a program's columns, rows and groups, but not its couplings."""
        new, rows = cls(), program.rows
        new._columns.append((program.lower, program.upper, program.cost, program.integer))
        new._entries.append((rows.row, rows.column, rows.value))
        new._rows.append((rows.lower, rows.upper, program.defines))
        new.columns, new.rows = len(program.cost), len(rows)
        new.groups = list(program.groups)
        new.pairings = list(program.pairings)
        return new

    def add_columns(self, count: int, *, upper: float = 1.0, cost: float = 0.0, integer: bool = False) -> Array:
        """Add columns between 0 and ``upper``; returns their numbers."""
        full = np.full
        self._columns.append((full(count, 0.0), full(count, upper), full(count, cost), full(count, integer)))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_group(self, members: Array) -> int:
        """Add a one-hot group; returns its number."""
        self.groups.append(members)
        return len(self.groups) - 1

    def add_row(
        self,
        column: Array | list[int],
        value: Array | list[float] | float,
        lower: float = -np.inf,
        upper: float = np.inf,
        defines: int = -1,
    ) -> int:
        """Add one row; returns its number."""
        row = self.add_rows(1, lower, upper, defines)
        self.add_entries(row, column, value)
        return int(row[0])

    def add_rows(self, count: int, lower: float, upper: float, defines: int = -1) -> Array:
        """Add empty rows; returns their numbers."""
        self._rows.append((np.full(count, lower), np.full(count, upper), np.full(count, defines)))
        self.rows += count
        return np.arange(self.rows - count, self.rows)

    def add_entries(self, row: Array | int, column: Array | list[int], value: Array | list[float] | float) -> None:
        """Add entries to rows; the three are broadcast against each other."""
        row, column, value = np.broadcast_arrays(row, np.asarray(column, dtype=np.int64), np.asarray(value, float))
        self._entries.append((row.ravel(), column.ravel(), value.ravel()))

    def build(self, name: str, unit_s: float, error_s: float = 0.0) -> Program:
        """The program."""
        lower, upper, cost, integer = (np.concatenate(piece) for piece in zip(*self._columns, strict=True))
        row_lower, row_upper, defines = (np.concatenate(piece) for piece in zip(*self._rows, strict=True))
        row, column, value = (np.concatenate(piece) for piece in zip(*self._entries, strict=True))
        # Solvers refuse a column twice in one row; several tensors between two layers give just that.
        place, value = summed(row * np.int64(max(1, self.columns)) + column, value)
        row, column = np.divmod(place, max(1, self.columns))
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=self.rows))]).astype(np.int64)
        members = np.concatenate(self.groups).astype(np.int64) if self.groups else np.zeros(0, dtype=np.int64)
        return Program(
            name,
            unit_s,
            error_s,
            lower,
            upper,
            cost,
            integer,
            Rows(start, column.astype(np.int64), value, row_lower, row_upper),
            defines.astype(np.int64),
            np.concatenate([[0], np.cumsum([len(g) for g in self.groups])]).astype(np.int64),
            members,
            tuple(self.couplings),
            tuple(self.pairings),
        )


def summed(place: Array, value: Array) -> tuple[Array, Array]:
    """Values of equal places added up, in order of place: solvers refuse or drop repeated entries of a row."""
    places, which = np.unique(place, return_inverse=True)
    return places, np.bincount(which, value, len(places))


def with_row(program: Program, column: Array, value: Array | float, upper: float) -> Program:
    """The program with one more row ``sum(value * column) <= upper`` (a cutoff, or a cut)."""
    from dataclasses import replace

    rows, value = program.rows, np.broadcast_to(np.asarray(value, float), column.shape)
    return replace(
        program,
        rows=Rows(
            np.append(rows.start, rows.start[-1] + len(column)),
            np.concatenate([rows.column, column]),
            np.concatenate([rows.value, value]),
            np.append(rows.lower, -np.inf),
            np.append(rows.upper, upper),
        ),
        defines=np.append(program.defines, -1),
    )
