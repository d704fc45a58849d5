"""Cutoff control: incumbents first, then rounds of exact search below rising goals until nothing better can exist."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from importlib import metadata

import msgspec
import numpy as np

from uniap_core.api import Assignment, BadValue, Emit, Incumbent, Problem, RawResult, SolveRequest, Stop

from . import bounds, stages
from .bounds import Cuts, Fronts
from .chain import Chain, build, is_chain
from .options import DpOptions
from .segments import Arena, OutOfLabels, StageTable, strategies, tabulate

Array = np.ndarray


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
        self.margin = request.gap if request.gap > 1e-8 else 1e-12

    @property
    def goal(self) -> float:
        """Only plans at most this long are still of interest."""
        cutoff = math.inf if self.request.cutoff_s is None else self.request.cutoff_s
        return min(self.objective, cutoff) * (1 - self.margin)

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
    arena = Arena(options.max_labels)
    if request.warm_start is not None:
        ledger.offer(request.warm_start)
    if problem.depth > len(problem.layers):
        return _answer(ledger, Stop.INFEASIBLE, "more stages than layers", arena)
    if not is_chain(problem):
        return _answer(ledger, Stop.UNSUPPORTED, "the layers are not a chain", arena)
    try:
        _prove(build(problem), ledger, arena)
    except OutOfTime:
        return _answer(ledger, Stop.TIME_LIMIT, "time limit", arena)
    except OutOfLabels:
        return _answer(ledger, Stop.MEMORY_LIMIT, f"more than {arena.budget} labels", arena)
    except KeyboardInterrupt:
        return _answer(ledger, Stop.INTERRUPTED, "interrupted", arena)
    if ledger.assignment is None or ledger.objective >= (request.cutoff_s or math.inf):
        return _answer(ledger, Stop.INFEASIBLE, "no plan below the cutoff" if request.cutoff_s else "infeasible", arena)
    return _answer(ledger, Stop.OPTIMAL, "optimal", arena)


def _answer(ledger: Ledger, stop: Stop, words: str, arena: Arena) -> RawResult:
    bound: float | None = ledger.bound if 0 < ledger.bound < math.inf else None
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


def _prove(chain: Chain, ledger: Ledger, arena: Arena) -> None:
    """Raise the bound until it meets the goal."""
    weight = chain.problem.micro_batches - 1.0
    cuts = _first_plan(chain, ledger, weight)
    if cuts is None:
        return
    beam = True
    while True:
        goal = ledger.goal
        ahead = bounds.fronts(cuts, cuts.low, weight, goal, backward=False, relax=True)
        behind = bounds.fronts(cuts, cuts.low, weight, goal, backward=True, relax=True)
        bound = bounds.least(ahead, weight, (chain.depth, chain.length)) * (1 - 1e-12) - chain.rounding_s
        ledger.prove(min(goal, bound))
        if bound >= goal:
            return
        found = _round(chain, cuts, goal, ahead, behind, ledger, arena, 6 if beam else 0)
        if beam:
            beam = False
            continue
        ledger.prove(min(goal, found))
        return


def _first_plan(chain: Chain, ledger: Ledger, weight: float) -> Cuts | None:
    """Stage bounds that are enough for every plan of interest, and an incumbent; ``None`` if there is no such plan."""
    least = bounds.least_times(chain)
    total = float(least.sum())
    if not math.isfinite(total):
        return None
    ceiling = float(sum(stage.time.sum() for stage in chain.classes) + chain.reshard.sum()) + 1.0
    limit = min(bounds.first_limit(chain, least), ceiling)
    while True:
        ledger.check()
        cuts = bounds.cut(chain, limit, least)
        found = bounds.fronts(cuts, cuts.high, weight, math.inf, backward=False, relax=False)
        legs = bounds.walk(cuts, found, weight)
        if legs is not None:
            ledger.offer(_assemble(chain, _recipes(chain, cuts, legs)))
        if ledger.goal < math.inf:
            enough = min(bounds.peak_limit(ledger.goal, total, chain.problem.micro_batches), ceiling)
            if enough <= cuts.limit:
                return cuts
            limit = enough if legs is not None or limit * 2 > enough else limit * 2
        elif limit >= ceiling:
            return None
        else:
            limit = min(limit * 1.6, ceiling)


def _recipes(chain: Chain, cuts: Cuts, legs: list[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """Strategies behind ``cuts.high`` for each stage."""
    from .kernels import price_paths

    plan = []
    for i, (a, n) in enumerate(legs):
        wt, wm = cuts.recipe[cuts.base[i, a] + n - 1]
        stage = chain.classes[chain.stage_class[i]]
        widest = int(max(chain.leaves[a : a + n].max(), chain.enters[a : a + n].max()))
        path = np.empty(n, dtype=np.int64)
        scratch = np.zeros((n, widest), dtype=np.int64)
        price_paths(
            a, n, wt, wm, bounds.shape_of(chain), bounds.costs_of(stage), np.empty(n), np.empty(n), scratch, path
        )
        plan.append((n, [int(k) for k in stage.kind[path]]))
    return plan


def _assemble(chain: Chain, plan: Iterable[tuple[int, list[int]]]) -> Assignment:
    stage, strategy = [0] * chain.length, [0] * chain.length
    at = 0
    for i, (_, kinds) in enumerate(plan):
        for k in kinds:
            layer = int(chain.order[at])
            stage[layer], strategy[layer] = i, k
            at += 1
    return Assignment(tuple(stage), tuple(strategy))


def _round(
    chain: Chain, cuts: Cuts, goal: float, ahead: Fronts, behind: Fronts, ledger: Ledger, arena: Arena, width: int
) -> float:
    """Search all plans of at most ``goal`` (with a beam: some); returns a bound on all plans."""
    weight = chain.problem.micro_batches - 1.0
    limits = bounds.stage_limits(cuts, weight, goal, ahead, behind)
    wanted: dict[tuple[int, int], dict[int, tuple[float, float]]] = {}
    uses: list[list[tuple[int, int, tuple[int, int]]]] = []
    for i in range(chain.depth):
        kind = int(chain.stage_class[i])
        use = []
        for a in np.flatnonzero(cuts.count[i]):
            at = cuts.base[i, a]
            alive = np.flatnonzero(limits[at : at + cuts.count[i, a]] >= 0)
            if not len(alive):
                continue
            twin = int(np.flatnonzero(chain.matches[: a + 1, a] > alive[-1])[0])
            ask = wanted.setdefault((kind, twin), {})
            for j in alive.tolist():
                old = ask.get(j, (-1.0, 0.0))
                ask[j] = (max(old[0], float(limits[at + j])), max(old[1], float(cuts.price[at + j])))
                use.append((int(a), j, (kind, twin)))
        uses.append(use)
    tables: dict[tuple[int, int], StageTable] = {}
    prices: dict[tuple[int, int], Array] = {}
    for key, ask in wanted.items():
        ends = np.full(max(ask) + 1, -1.0)
        for j, (limit, _) in ask.items():
            ends[j] = limit
        prices[key] = _prices([price for _, price in ask.values()])
        tables[key] = tabulate(chain, key[0], key[1], ends, prices[key], arena, width, ledger.check)
    choices = [[(a, j, tables[key]) for a, j, key in use] for use in uses]
    found = stages.join(chain, cuts, choices, goal, behind, arena)
    if found is None:
        return goal
    objective, legs = found
    plan = []
    for leg in legs:
        kind = int(chain.stage_class[leg.stage])
        key = next(key for a, j, key in uses[leg.stage] if (a, j) == (leg.first, leg.count - 1))
        plan.append(
            (
                leg.count,
                strategies(chain, kind, leg.first, leg.count, leg.enter, leg.leave, leg.time_s, prices[key], arena),
            )
        )
    ledger.offer(_assemble(chain, plan))
    return objective * (1 - 1e-12) - chain.rounding_s


def _prices(found: list[float]) -> Array:
    """No price, and up to three of those that the duals found."""
    distinct = sorted({price for price in found if price > 0})
    picked = distinct if len(distinct) <= 3 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
    return np.array([0.0, *picked])
