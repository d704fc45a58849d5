"""A problem's linear program as an MPS or LP file, so that any solver can be tried on it.

Columns ``x<u>_c<j>_k<k>`` say "layer u is on chunk j with strategy k"; a comment at the top names layers and
strategies, and says how many seconds one unit of the objective is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..artifact import write_text
from ..errors import Infeasible, UsageError
from ..problem import Problem
from .form import Form
from .ir import Program
from .ladder import Lowered, lower

PER_LINE = 6
"""Terms on a line of an LP file, whose readers limit the length of lines."""


def write(path: str | os.PathLike[str], problem: Problem) -> Program:
    """Write the program of a problem's ``milp`` form; the suffix ``.mps`` or ``.lp`` says in which format.

    Returns
    -------
    The program that was written.

    Raises
    ------
    UsageError
        For another suffix.
    Infeasible
        If some layer fits nowhere, so that there is no program.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise UsageError(f"{os.fspath(path)} is neither .mps nor .lp", "the suffix says in which format to write")
    lowered = lower(problem, Form.MILP)
    if not lowered.program.solvable:
        raise Infeasible(f"{problem.name}: some layer fits on no stage with any strategy", "give it more memory")
    write_text(path, "".join(f"{line}\n" for line in FORMATS[suffix](problem, lowered)))
    return lowered.program


def _names(problem: Problem, lowered: Lowered) -> list[str]:
    """A name per column: members of layers by what they say, the others by number."""
    program = lowered.program
    names = [f"y{c}" for c in range(len(program.cost))]
    first = np.zeros(len(program.groups), dtype=np.int64)
    for u in range(len(problem.layers)):
        for member, column in enumerate(program.groups[u]):
            choice = first.copy()
            choice[u] = member
            said = lowered.assign(choice)
            names[column] = f"x{u}_c{said.stage[u]}_k{said.strategy[u]}"
    return names


def _comments(problem: Problem, program: Program) -> Iterator[str]:
    yield f"{problem.name}: time per iteration in units of {program.unit_s!r} s"
    yield f"x<u>_c<j>_k<k> = 1: layer u on chunk j (of {problem.depth}) with strategy k"
    for u, layer in enumerate(problem.layers):
        yield f"layer {u} is {layer.name}: " + ", ".join(f"k{k} {name}" for k, name in enumerate(layer.strategies))


def _mps(problem: Problem, lowered: Lowered) -> Iterator[str]:
    program, names = lowered.program, _names(problem, lowered)
    rows = program.constraints()
    yield from (f"* {line}" for line in _comments(problem, program))
    yield "NAME uniap"
    yield "ROWS"
    yield " N TPI"
    kinds = np.where(rows.lower == rows.upper, "E", np.where(np.isfinite(rows.upper), "L", "G"))
    yield from (f" {kind} r{r}" for r, kind in enumerate(kinds))
    yield "COLUMNS"
    entries: list[list[str]] = [[f"TPI {cost!r}"] if cost else [] for cost in program.cost.tolist()]
    for r, c, value in zip(rows.row.tolist(), rows.column.tolist(), rows.value.tolist(), strict=True):
        entries[c].append(f"r{r} {value!r}")
    for integer in (True, False):
        if integer:
            yield " M1 'MARKER' 'INTORG'"
        for c in np.flatnonzero(program.integer == integer).tolist():
            # A column without entries is stated all the same: readers know columns from this section alone.
            yield from (f" {names[c]} {entry}" for entry in entries[c] or ["TPI 0.0"])
        if integer:
            yield " M2 'MARKER' 'INTEND'"
    ends = np.where(np.isfinite(rows.upper), rows.upper, rows.lower).tolist()
    yield "RHS"
    yield from (f" RHS r{r} {end!r}" for r, end in enumerate(ends) if end)
    both = (rows.lower != rows.upper) & np.isfinite(rows.lower) & np.isfinite(rows.upper)
    if both.any():
        yield "RANGES"
        yield from (f" RNG r{r} {float(rows.upper[r] - rows.lower[r])!r}" for r in np.flatnonzero(both))
    yield "BOUNDS"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        yield f" LO BND {name} {low!r}"
        yield f" UP BND {name} {high!r}" if np.isfinite(high) else f" PL BND {name}"
    yield "ENDATA"


def _lp(problem: Problem, lowered: Lowered) -> Iterator[str]:
    program, names = lowered.program, _names(problem, lowered)
    rows = program.constraints()
    yield from (f"\\ {line}" for line in _comments(problem, program))
    yield "Minimize"
    priced = np.flatnonzero(program.cost)
    yield from _sum("TPI", [names[c] for c in priced], program.cost[priced].tolist(), names[0])
    yield "Subject To"
    for r, (low, high) in enumerate(zip(rows.lower.tolist(), rows.upper.tolist(), strict=True)):
        span = slice(rows.start[r], rows.start[r + 1])
        chosen, values = [names[c] for c in rows.column[span]], rows.value[span].tolist()
        ends = [("=", low)] if low == high else [(">=", low), ("<=", high)]
        for number, (sense, end) in enumerate(pair for pair in ends if np.isfinite(pair[1])):
            yield from _sum(f"r{r}" + "b" * number, chosen, values, names[0])
            yield f" {sense} {end!r}"
    yield "Bounds"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        yield f" {low!r} <= {name} <= {high!r}" if np.isfinite(high) else f" {name} >= {low!r}"
    yield "Generals"
    yield from (f" {names[c]}" for c in np.flatnonzero(program.integer))
    yield "End"


def _sum(title: str, names: list[str], values: list[float], nothing: str) -> Iterator[str]:
    terms = [f"{'+' if v >= 0 else '-'} {abs(v)!r} {name}" for name, v in zip(names, values, strict=True)]
    terms = terms or [f"0 {nothing}"]
    for at in range(0, len(terms), PER_LINE):
        yield (f" {title}: " if not at else "   ") + " ".join(terms[at : at + PER_LINE])


FORMATS: dict[str, Callable[[Problem, Lowered], Iterator[str]]] = {".mps": _mps, ".lp": _lp}
"""What writes each suffix."""
