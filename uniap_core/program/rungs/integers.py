"""Linear rows with float coefficients -> linear rows with integers, with a stated error.

Reformulation
    The objective's weights are multiplied by their common denominator (interleaved schedules have ``1 / v`` and
    ``c - 1 / v``), or rounded after ``WEIGHT_BITS`` bits where they have no small one. Epigraph columns (times) are
    counted in ticks, a power of two of the program's unit, such that the largest value the objective can take is
    about 2**44 (rounded weights: 2**60); coefficients in their rows are rounded to whole ticks, and the columns
    become integer. Rows of pure 0-1 columns (memory, cutoffs aside) are scaled to a right-hand side of
    about 2**50 and rounded outwards. Product columns become 0-1: one-hot groups force them to 0 or 1 anyway.
Accepts
    Programs without couplings whose continuous columns are 0-1 in some optimum, or defined by epigraph rows.
Produces
    The same columns and rows with integer coefficients and bounds, all columns integer.
Size
    Unchanged.
Exactness
    Every feasible choice stays feasible. ``error_s`` bounds the change of any choice's objective: rounding errors
    of a row, with one member per group, add up along the epigraph rows, those of weights with the largest values of
    their columns. A bound b on the integer program is the
    bound ``unit_s * b - error_s`` on the problem.
Reference
    Standard fixed-point scaling; compare MPSolver's and CP-SAT's own scaling of float objectives, which state no
    error for constraints.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..form import Form
from ..ir import Array, Program, Rows
from .contract import Rung, Step

OBJECTIVE_BITS = 44
ROW_BITS = 50

DENOMINATOR = 1024
"""Weights with a common denominator up to this one are exact."""

WEIGHT_BITS = 26
"""Bits after the point of weights that have none; the objective then has 60 bits, and columns what is left."""


def to_integers(program: Program) -> Program:
    """Round a linear program to integers; the module's docstring states how, and what it costs."""
    timed = _timed(program)
    factor, bits = _denominator(program.cost)
    cost = np.rint(program.cost * factor)
    largest = float(cost @ np.where(timed, program.upper, 0.0))
    scale = 2.0 ** (bits - math.ceil(math.log2(largest))) if largest > 0 else 1.0
    rows = program.rows
    row, is_timed = rows.row, timed[rows.column]
    epigraph = np.zeros(len(rows), dtype=bool)
    epigraph[row[is_timed]] = True
    row_scale = np.where(epigraph, scale, _row_scales(rows))
    # A time column already counts ticks, so its own coefficient is not scaled.
    exact = rows.value * np.where(is_timed, 1.0, row_scale[row])
    value = np.where(epigraph[row], np.rint(exact), np.floor(exact))
    rounding = np.where(epigraph[row], np.abs(value - exact), 0.0)
    upper = np.where(timed, np.ceil(program.upper * scale) + len(rows.value), program.upper)
    unit_s = program.unit_s / scale / factor
    # A tick of weight that was rounded away, for every tick that its column can count.
    reweighed = float(np.abs(cost - program.cost * factor) @ np.where(timed, upper, 0.0))
    return replace(
        program,
        unit_s=unit_s,
        error_s=(_error(program, rounding, timed) * factor + reweighed) * unit_s,
        cost=cost,
        lower=np.ceil(program.lower),
        upper=upper,
        integer=np.ones(len(program.cost), dtype=bool),
        rows=Rows(
            rows.start,
            rows.column,
            value,
            _outwards(rows.lower * row_scale, np.floor, -np.inf),
            _outwards(rows.upper * row_scale, np.ceil, np.inf),
        ),
    )


def _denominator(cost: Array) -> tuple[float, int]:
    """What makes whole numbers of all weights, and the bits that the objective may then have."""
    for factor in range(1, DENOMINATOR + 1):
        whole = cost * factor
        if (np.abs(whole - np.rint(whole)) <= 1e-12 * factor).all():
            return float(factor), OBJECTIVE_BITS
    return 2.0**WEIGHT_BITS, OBJECTIVE_BITS + 16


def _timed(program: Program) -> Array:
    """Columns that count time: those in the objective, and those that bound them from below."""
    rows, defined = program.rows, program.defines
    timed: Array = program.cost != 0
    for r in reversed(np.flatnonzero(defined >= 0)):
        if timed[defined[r]]:
            column = rows.column[rows.start[r] : rows.start[r + 1]]
            timed[column[np.isin(column, defined)]] = True
    return timed


def _row_scales(rows: Rows) -> Array:
    """Powers of two for rows of 0-1 columns; 1 where all coefficients are integers already."""
    scales = np.ones(len(rows))
    for r in range(len(rows)):
        values = rows.value[rows.start[r] : rows.start[r + 1]]
        if (values != np.rint(values)).any():
            ends = [abs(float(end[r])) for end in (rows.lower, rows.upper) if math.isfinite(end[r])]
            total = max(float(np.abs(values).sum()), *ends)
            scales[r] = 2.0 ** (ROW_BITS - math.ceil(math.log2(total)))
    return scales


def _outwards(bound: Array, rounded: np.ufunc, infinite: float) -> Array:
    return np.where(np.isinf(bound), infinite, rounded(np.where(np.isinf(bound), 0.0, bound)))


def _error(program: Program, rounding: Array, timed: Array) -> float:
    """Largest change of the objective, in ticks: errors of rows, one member per group, along epigraph rows."""
    rows = program.rows
    block = _blocks(program)
    error = np.zeros(len(program.cost))
    of_row: dict[int, list[float]] = {}
    for r in np.flatnonzero(program.defines >= 0):
        span = slice(rows.start[r], rows.start[r + 1])
        column, defined = rows.column[span], program.defines[r]
        if not timed[defined]:
            continue
        worst: dict[int, float] = {}
        for c, e in zip(column.tolist(), rounding[span].tolist(), strict=True):
            worst[int(block[c])] = max(worst.get(int(block[c]), 0.0), e)
        inherited = sum(error[c] for c in column if timed[c] and c != defined)
        of_row.setdefault(int(defined), []).append(math.fsum(worst.values()) + inherited)
        error[defined] = max(of_row[int(defined)])
    return float(program.cost @ error)


def _blocks(program: Program) -> Array:
    """Number of the set, at most one member of which is 1, that each column belongs to (group or pairing)."""
    block = np.arange(len(program.cost))
    for g, members in enumerate(program.groups):
        block[members] = len(program.cost) + g
    for p, pair in enumerate(program.pairings):
        block[pair.column[pair.column >= 0]] = len(program.cost) + len(program.groups) + p
    return block


RUNG = Rung(
    name="integers",
    takes=Form.MILP,
    gives=Form.INTEGER,
    cost=1.0,
    lower=lambda program, limit_s: Step.same_groups(to_integers(program)),
)
