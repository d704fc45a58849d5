"""Cutoff control: incumbents first, then rounds of exact search below rising goals until nothing better can exist."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import cache
from importlib import metadata

import msgspec
import numpy as np

from uniap_core.api import Assignment, BadValue, Emit, Incumbent, Problem, RawResult, SolveRequest, Stop

from . import bounds, stages
from .bounds import Cuts, Fronts
from .codes import TooLarge
from .lattice import Lattice, build
from .options import DpOptions
from .segments import Arena, OutOfLabels, StageTable, priced, strategies, tabulate

Array = np.ndarray
MOST_LAYERS = 12
"""Larger graphs are not worth a depth-first search."""

BEAM = 6
"""Labels per state of a beam."""

HALVINGS = 6
"""Rounds below lower goals when labels run out."""

FEW_NODES = 400_000
"""Nodes of a search that is tried before the lattice is built."""

Key = tuple[int, int]
"""Class of a stage and the first downset of its kind: what a stage table belongs to."""


class OutOfTime(Exception):
    """The time limit is reached."""


class Ledger:
    """What is known so far: the incumbent, the bound, the clock."""

    def __init__(self, problem: Problem, request: SolveRequest, emit: Emit) -> None:
        self.problem, self.request, self.emit = problem, request, emit
        self.began = time.perf_counter()
        self.objective = math.inf
        self.assignment: Assignment | None = None
        self.bound = 0.0
        self.cutoff = math.inf if request.cutoff_s is None else request.cutoff_s
        self.margin = request.gap if request.gap > 1e-8 else 1e-12

    @property
    def goal(self) -> float:
        """Only plans at most this long are still of interest."""
        return min(self.objective, self.cutoff) * (1 - self.margin)

    def offer(self, assignment: Assignment) -> None:
        """Take an assignment if it is feasible and better than the incumbent."""
        value = self.problem.evaluate(assignment)
        if value.feasible and value.objective_s < self.objective:
            self.objective, self.assignment = value.objective_s, assignment
            self._tell()

    def prove(self, bound: float) -> None:
        """Record that no plan is shorter than ``bound``."""
        bound = min(bound, self.objective)
        if bound > self.bound:
            self.bound = bound
            self._tell()

    def check(self) -> None:
        """Raise :class:`OutOfTime` past the limit."""
        limit = self.request.time_limit_s
        if limit is not None and time.perf_counter() - self.began > limit:
            raise OutOfTime

    def _tell(self) -> None:
        objective = self.objective if self.assignment is not None else None
        bound = self.bound if 0 < self.bound < math.inf else None
        self.emit(Incumbent(time.perf_counter() - self.began, objective, bound))


def probe() -> str:
    """Version of the solver; it is always licensed."""
    return f"uniap {_version()}"


@cache
def _version() -> str:
    try:
        return metadata.version("uniap")
    except metadata.PackageNotFoundError:
        return "unknown"


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
        _any_graph(problem, ledger, arena, options)
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
    """Labels take 16 bytes, and half as much again while their room grows; leave as much for everything else."""
    if request.memory_limit_bytes is None:
        return options.max_labels
    return min(options.max_labels, request.memory_limit_bytes // 48)


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


def _any_graph(problem: Problem, ledger: Ledger, arena: Arena, options: DpOptions) -> None:
    """Short chains in one pass, small graphs by depth-first search, others over their lattice."""
    if options.max_steps and _pass(problem, ledger, arena, options):
        return
    small = len(problem.edges) != len(problem.layers) - 1 and len(problem.layers) <= MOST_LAYERS
    if small and _search(problem, ledger, min(FEW_NODES, options.max_nodes)):
        return
    try:
        _prove(build(problem, options.max_states, ledger.check), ledger, arena)
    except TooLarge:
        if not _search(problem, ledger, options.max_nodes):
            raise


def _pass(problem: Problem, ledger: Ledger, arena: Arena, options: DpOptions) -> bool:
    """One pass over a short chain; ``False`` if this is none, or not that short after all."""
    ledger.check()
    from . import chain

    found = chain.search(problem, ledger.goal, arena.budget, options.max_steps)
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
    from . import branch

    try:
        found = branch.search(problem, ledger.goal, most, ledger.check)
    except TooLarge:
        return False
    if found is not None:
        ledger.offer(found)
    ledger.prove(min(ledger.goal, ledger.objective) * (1 - 1e-12))
    return True


def _prove(lattice: Lattice, ledger: Ledger, arena: Arena) -> None:
    """Raise the bound until it meets the goal."""
    weight = lattice.problem.micro_batches - 1.0
    cuts = _first_plan(lattice, ledger, weight)
    if cuts is None:
        return
    if _prune(lattice, cuts, ledger, arena, ledger.goal, BEAM):
        return
    top = goal = ledger.goal
    for _ in range(HALVINGS):
        try:
            if _prune(lattice, cuts, ledger, arena, goal, 0):
                return
        except OutOfLabels:
            # Too many plans are that good. Fewer are better: at least the bound can rise.
            top, goal = goal, 0.5 * (goal + ledger.bound)
        else:
            goal = 0.5 * (top + goal)
    raise OutOfLabels


def _prune(lattice: Lattice, cuts: Cuts, ledger: Ledger, arena: Arena, goal: float, width: int) -> bool:
    """One round: search all plans of at most ``goal`` (with a beam: some); True if nothing is left to prove."""
    weight = lattice.problem.micro_batches - 1.0
    reach = _reach(lattice, goal)
    ahead = bounds.fronts(cuts, cuts.low, weight, reach, backward=False, relax=True)
    behind = bounds.fronts(cuts, cuts.low, weight, reach, backward=True, relax=True)
    bound = bounds.least(ahead, weight, (lattice.depth, lattice.size - 1)) * (1 - 1e-12) - lattice.rounding_s
    ledger.prove(min(goal, bound))
    if ledger.bound >= goal:
        return goal >= ledger.goal
    found = _round(lattice, cuts, reach, ahead, behind, ledger, arena, width)
    if not width:
        ledger.prove(min(goal, found))
    return ledger.bound >= ledger.goal or (not width and found < goal)


def _reach(lattice: Lattice, goal: float) -> float:
    """How far to search so that rounding hides no plan of at most ``goal``."""
    return goal * (1 + 1e-12) + lattice.rounding_s


def _first_plan(lattice: Lattice, ledger: Ledger, weight: float) -> Cuts | None:
    """Stage bounds that are enough for every plan of interest, and an incumbent; ``None`` if there is no such plan."""
    least = bounds.least_times(lattice)
    total = float(least.sum())
    if not math.isfinite(total):
        return None
    ceiling = bounds.longest(lattice)
    limit = min(bounds.first_limit(lattice, least), ceiling)
    while True:
        ledger.check()
        cuts = bounds.cut(lattice, limit, least, ledger.check)
        found = bounds.fronts(cuts, cuts.high, weight, math.inf, backward=False, relax=False)
        legs = bounds.walk(cuts, found, weight)
        if legs is not None:
            ledger.offer(_assemble(lattice, _recipes(lattice, cuts, legs)))
        if ledger.goal < math.inf:
            reach = _reach(lattice, ledger.goal)
            enough = min(bounds.peak_limit(reach, total, lattice.problem.micro_batches), ceiling)
            if enough <= cuts.limit:
                return cuts
            limit = enough if legs is not None or limit * 2 > enough else limit * 2
        elif limit >= ceiling:
            return None
        else:
            limit = min(limit * 1.6, ceiling)


def _recipes(lattice: Lattice, cuts: Cuts, legs: list[tuple[int, int]]) -> list[dict[int, int]]:
    """Strategies behind ``cuts.high`` for each stage."""
    return [
        priced(lattice, int(lattice.stage_class[i]), cuts.roots[node], int(cuts.item[at]), cuts.recipe[at])
        for i, (node, at) in enumerate(legs)
    ]


def _assemble(lattice: Lattice, plan: Iterable[dict[int, int]]) -> Assignment:
    """An assignment from the strategy of every position of every stage."""
    order = lattice.problem.order
    stage, strategy = [0] * len(order), [0] * len(order)
    for i, chosen in enumerate(plan):
        for position, k in chosen.items():
            stage[order[position]], strategy[order[position]] = i, k
    return Assignment(tuple(stage), tuple(strategy))


def _round(
    lattice: Lattice, cuts: Cuts, goal: float, ahead: Fronts, behind: Fronts, ledger: Ledger, arena: Arena, width: int
) -> float:
    """Search all plans of at most ``goal`` (with a beam: some); returns a bound on them."""
    weight = lattice.problem.micro_batches - 1.0
    limits = bounds.stage_limits(cuts, weight, goal, ahead, behind)
    asks: dict[Key, tuple[Array, list[float]]] = {}
    uses: list[list[tuple[int, int, int, Key]]] = []
    for i in range(lattice.depth):
        use = []
        for node in np.flatnonzero(cuts.count[i]).tolist():
            at = np.arange(cuts.base[i, node], cuts.base[i, node] + cuts.count[i, node])
            at = at[limits[at] >= 0]
            if not len(at):
                continue
            root = cuts.roots[node]
            key = (int(lattice.stage_class[i]), root.twin)
            if key not in asks:
                asks[key] = (np.full(len(root.tree.parent), -1.0), [])
            most, met = asks[key]
            most[cuts.item[at]] = np.maximum(most[cuts.item[at]], limits[at])
            met += cuts.price[at].tolist()
            use += [(node, int(cuts.item[x]), int(cuts.target[x]), key) for x in at]
        uses.append(use)
    prices = {key: _prices(met) for key, (_, met) in asks.items()}
    tables: dict[Key, StageTable] = {}
    for key, (most, _) in asks.items():
        root = cuts.roots[key[1]]
        tables[key] = tabulate(lattice, key[0], root, most, prices[key], arena, ledger.check, width)
    choices = [[stages.Choice(node, item, target, tables[key]) for node, item, target, key in use] for use in uses]
    found = stages.join(lattice, cuts, choices, goal, behind, arena)
    if found is None:
        return goal
    objective, legs = found
    plan = []
    for leg in legs:
        root = cuts.roots[leg.node]
        key = (int(lattice.stage_class[leg.stage]), root.twin)
        plan.append(strategies(lattice, root, leg, prices[key], arena, ledger.check))
    ledger.offer(_assemble(lattice, plan))
    return objective * (1 - 1e-12) - lattice.rounding_s


def _prices(found: list[float]) -> Array:
    """No price, and up to three of those that the duals found."""
    distinct = sorted({price for price in found if price > 0})
    picked = distinct if len(distinct) <= 3 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
    return np.array([0.0, *picked])
