"""One problem solved: short chains in one pass, any graph over its lattice, and why it ended."""

from __future__ import annotations

import math
from functools import cache
from importlib import metadata

import msgspec

from uniap_core.api import BadValue, Emit, Problem, RawResult, SolveRequest, Stop

from .arena import Arena, OutOfLabels
from .codes import TooLarge
from .ledger import Ledger, OutOfNodes, OutOfTime
from .options import DpOptions

MOST_LAYERS = 12
"""Larger graphs are not worth a depth-first search."""

FEW_NODES = 400_000
"""Nodes of a search that is tried before the lattice is built."""

FEW_STATES = 20_000
"""States of a lattice that is built for a bound alone."""


def probe() -> str:
    """Version of the solver; it is always licensed."""
    return f"uniap {_version()}"


@cache
def _version() -> str:
    try:
        return metadata.version("uniap")
    except metadata.PackageNotFoundError:
        return "unknown"


def lower_bound(problem: Problem) -> float:
    """A certified lower bound on the time per iteration, in milliseconds of work; ``inf`` if proven infeasible.

    Parameters
    ----------
    problem
        Any candidate; where the lattice of a graph is too large the bound is the weaker one of layer times alone.
    """
    if problem.depth > len(problem.layers):
        return math.inf
    if not problem.plain_placement:
        from .chunks.arrays import pose
        from .chunks.relax import first_bound

        return max(_bound_of_layers(problem), first_bound(pose(problem)))
    from .chain.search import search

    found = search(problem, math.inf, 2, 0)
    if found is not None:
        return found.bound_s * (1 - 1e-12)
    _load_lattice()
    from .lattice.cuts import lattice_bound
    from .lattice.downsets import build

    try:
        return lattice_bound(build(problem, FEW_STATES))[0]
    except TooLarge:
        return _bound_of_layers(problem)


def _bound_of_layers(problem: Problem) -> float:
    """A bound from the least time of every layer alone, for any pipeline."""
    least_s = [float(layer.time_s.min()) for layer in problem.layers]
    total = math.fsum(least_s)
    if total == math.inf:
        return math.inf
    longest = max(total / len(problem.ranks), *least_s)
    return (problem.objective.sum * total + problem.objective.peak * longest) * (1 - 1e-12)


def solve(problem: Problem, request: SolveRequest, emit: Emit) -> RawResult:
    """Solve one candidate to proven optimality.

    Parameters
    ----------
    problem
        Any candidate; graphs whose lattice of downsets is too large end as ``unsupported``.
    request
        Limits and hints; all fields are honoured.
    emit
        Called with an :class:`Incumbent` whenever incumbent or bound improve.

    Raises
    ------
    BadValue
        For an unknown option.
    """
    try:
        options = msgspec.convert(request.options, DpOptions)
    except msgspec.ValidationError as error:
        raise BadValue(f"option of solver dp: {error}", "see uniap_dp/README.md for its options") from error
    ledger = Ledger(problem, request, emit)
    arena = Arena(_label_budget(request, options))
    if request.warm_start is not None:
        ledger.offer(request.warm_start)
    if problem.depth > len(problem.layers):
        return _answer(ledger, Stop.INFEASIBLE, "more stages than layers", arena)
    try:
        if problem.plain_placement:
            _any_graph(problem, ledger, arena, options)
        else:
            _chunks(ledger, options)
    except OutOfNodes:
        return _answer(ledger, Stop.NODE_LIMIT, f"more than {options.max_nodes} nodes", arena)
    except TooLarge as error:
        return _answer(ledger, Stop.UNSUPPORTED, f"lattice of downsets too large: {error}", arena)
    except OutOfTime:
        return _answer(ledger, Stop.TIME_LIMIT, "time limit", arena)
    except OutOfLabels:
        return _answer(ledger, Stop.MEMORY_LIMIT, f"more than {arena.budget} labels", arena)
    except KeyboardInterrupt:
        return _answer(ledger, Stop.INTERRUPTED, "interrupted", arena)
    if ledger.assignment is None or ledger.objective >= ledger.cutoff:
        words = "infeasible" if ledger.cutoff == math.inf else "no plan below the cutoff"
        return _answer(ledger, Stop.INFEASIBLE, words, arena)
    return _answer(ledger, Stop.OPTIMAL, "optimal", arena)


def _label_budget(request: SolveRequest, options: DpOptions) -> int:
    """Labels take 16 bytes, half as much again while their room grows, and 24 aside; leave 24 for everything else."""
    if request.memory_limit_bytes is None:
        return options.max_labels
    return min(options.max_labels, request.memory_limit_bytes // 72)


def _answer(ledger: Ledger, stop: Stop, words: str, arena: Arena) -> RawResult:
    bound: float | None = ledger.bound
    if stop is Stop.INFEASIBLE:
        bound = ledger.request.cutoff_s
    return RawResult(
        stop=stop,
        assignment=None if stop is Stop.INFEASIBLE else ledger.assignment,
        bound_s=bound,
        raw_status=words,
        version=_version(),
        statistics={"labels": arena.total, "peak_labels": arena.most},
    )


# Each way loads its own compiled loops, and only when it is taken.


def _any_graph(problem: Problem, ledger: Ledger, arena: Arena, options: DpOptions) -> None:
    """Short chains in one pass, small graphs by depth-first search, others over their lattice."""
    if options.max_steps and _pass(problem, ledger, arena, options):
        return
    small = len(problem.edges) != len(problem.layers) - 1 and len(problem.layers) <= MOST_LAYERS
    if small and _search(problem, ledger, min(FEW_NODES, options.max_nodes)):
        return
    _load_lattice()
    from .lattice.downsets import build
    from .lattice.rounds import prove

    try:
        prove(build(problem, options.max_states, ledger.check), ledger, arena)
    except TooLarge:
        if not _search(problem, ledger, options.max_nodes):
            raise


def _pass(problem: Problem, ledger: Ledger, arena: Arena, options: DpOptions) -> bool:
    """One pass over a short chain; ``False`` if this is none, or not that short after all."""
    ledger.check()
    from .chain.search import search

    found = search(problem, ledger.goal, arena.budget, options.max_steps)
    if found is None:
        return False
    arena.total, arena.most = arena.total + found.labels, max(arena.most, found.labels)
    if found.assignment is not None:
        ledger.offer(found.assignment)
        if ledger.assignment is not found.assignment:  # rounding made it feasible
            return False
    ledger.prove(found.bound_s * (1 - 1e-12))
    return found.done


def _search(problem: Problem, ledger: Ledger, most: int) -> bool:
    """Depth-first search; ``False`` if it is not over after ``most`` nodes."""
    if len(problem.layers) > MOST_LAYERS or not most:
        return False
    from .branch.search import search

    try:
        found = search(problem, ledger.goal, most, ledger.check)
    except TooLarge:
        return False
    if found is not None:
        ledger.offer(found)
    ledger.prove(min(ledger.goal, ledger.objective) * (1 - 1e-12))
    return True


def _chunks(ledger: Ledger, options: DpOptions) -> None:
    """Ranks that hold several chunks: a Lagrangian bound, repaired plans, and a search between them."""
    from .chunks.search import prove

    ledger.prove(_bound_of_layers(ledger.problem))
    if ledger.bound < math.inf:
        prove(ledger, options.max_nodes)


def _load_lattice() -> None:
    from . import jit

    here, there = ("stage_paths", "cut_fronts"), ("stage_labels", "plan_labels")
    jit.load(*([f"lattice.kernels.{name}" for name in names] for names in (here, there)))
