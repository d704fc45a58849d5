"""Pipelines whose ranks hold several chunks: bounds and plans in turn until they meet, small problems to the end."""

from __future__ import annotations

import math

import numpy as np

from ..ledger import Ledger, OutOfNodes
from . import counts
from .arrays import Posed, pose
from .close import close
from .relax import Climb, Dual, Point
from .repair import balanced, even, polish, refit, spread

Array = np.ndarray

MOVES = 200_000
"""Tries of one polish."""

SMALL, MEDIUM = 12, 24
"""Layers of a problem that is searched to its end after a short climb, and after a long one."""

FEW_LABELS, MOST_LABELS = 24, 1600
"""Labels of a front of the bound on equal layers, at first and at last."""

EARLY, MOST_ROUNDS = 40, 3000
"""Steps of the dual before a small problem is searched, and in all."""

MOST_CUTS = 10**9
"""Ways to cut a chain; of more not even those that may beat a goal are few."""

FIRST_STEP = 0.01
"""How much the first goal is above the bound when a chain is cut in every way."""

FIRST_NODES = 400_000
"""Nodes of the first search of a small problem."""


def can_cut(posed: Posed) -> bool:
    """Whether a problem is a chain without other edges, with few ways to cut it, and its longest rank matters."""
    count, depth = len(posed.flow.time), len(posed.flow.rank)
    plain = posed.flow.linked and not posed.others and posed.objective.peak > 0
    return plain and math.comb(count - 1, depth - 1) <= MOST_CUTS


def prove(ledger: Ledger, most_nodes: int) -> int:
    """Raise the bound and improve the plan until they meet the goal; returns the nodes of depth-first search.

    Raises
    ------
    OutOfNodes
        If they did not meet within the budgets.
    OutOfTime
        Past the time limit.
    """
    posed = pose(ledger.problem)
    if (posed.flow.cap < 0).any():
        ledger.prove(math.inf)
        return 0
    climb = Climb(posed)
    if _met(ledger, climb) or _counted(ledger, posed, climb.best.dual, FEW_LABELS):
        return 0
    if ledger.cutoff == math.inf:  # below a cutoff there may be no plan at all: bounds first
        dual = _repair(ledger, posed, climb.best, even(posed))
        climb = max(climb, Climb(posed, start=dual), key=lambda c: c.best.bound)
    small, searchable = (len(posed.flow.time) <= most for most in (SMALL, MEDIUM))
    nodes, budget, room = 0, min(FIRST_NODES, most_nodes), FEW_LABELS
    cuttable = can_cut(posed) and not small
    fitting: Climb | None = None
    while not _met(ledger, climb):
        ledger.check()
        _climb(ledger, climb, EARLY)
        if _met(ledger, climb) or (climb.rounds == EARLY and _counted(ledger, posed, climb.best.dual, room)):
            break
        _repair(ledger, posed, climb.best, spread(climb.cuts(), len(posed.flow.time)))
        if ledger.assignment is None:
            fitting = fitting or Climb(posed, 0.0)
            if _unfit(ledger, fitting):
                ledger.prove(math.inf)
                break
        room = min(4 * room, MOST_LABELS)
        if _counted(ledger, posed, climb.best.dual, room):
            break
        stuck = climb.expected < (1e-6 if searchable else 1e-4) * climb.scale
        if cuttable and most_nodes:
            cuttable = False
            if _cut(ledger, posed, climb.best, most_nodes):
                break
        if (small or (stuck and searchable)) and nodes < most_nodes:
            points = [(climb.best, 1.0)] + ([(fitting.best, 0.0)] if fitting else [])
            nodes += budget
            if _searched(ledger, posed, points, budget):
                break
            budget = min(8 * budget, most_nodes)
        elif stuck or climb.rounds > MOST_ROUNDS:
            _last(ledger, posed, climb)
            break
    return nodes


def _cut(ledger: Ledger, posed: Posed, point: Point, most: int) -> bool:
    """Every way to cut the chain, below goals that rise from the bound; True if the last goal is met."""
    from .whole import try_cuts  # its loops are compiled only when they are needed

    step = FIRST_STEP
    while True:
        goal = min(ledger.goal, ledger.bound * (1 + step) if step < 1 else math.inf)
        paths, ended = try_cuts(posed, point, goal, most, ledger.check)
        for path in paths:
            ledger.offer(posed.assignment(path))
        if not ended:
            return False
        ledger.prove(min(goal, ledger.objective) * (1 - 1e-12))
        if paths or goal >= ledger.goal:
            return True
        step *= 2


def _last(ledger: Ledger, posed: Posed, climb: Climb) -> None:
    """What more moves give; raises OutOfNodes if bound and plan do not meet.

    Under a cutoff somebody has a plan already, and the moves made so far did not come below it: more hardly ever do.
    """
    starts = (even(posed), spread(climb.cuts(), len(posed.flow.time))) if ledger.cutoff == math.inf else ()
    for start in starts:
        ledger.check()
        _repair(ledger, posed, climb.best, start, 10 * MOVES)
    if not _met(ledger, climb) and not _counted(ledger, posed, climb.best.dual, MOST_LABELS):
        raise OutOfNodes


def _counted(ledger: Ledger, posed: Posed, dual: Dual, room: int) -> bool:
    """Whether the bound on equal layers meets the goal; if not, offers what comes of the numbers that it has."""
    found = counts.count(posed, dual, ledger.goal, room)
    ledger.prove(found.bound)
    if found.path is not None:
        ledger.offer(posed.assignment(polish(posed, found.path, MOVES)))
    return ledger.bound >= ledger.goal * (1 - 2e-12)


def _met(ledger: Ledger, climb: Climb) -> bool:
    ledger.prove(min(climb.best.bound, ledger.goal))
    return climb.best.bound >= ledger.goal


def _climb(ledger: Ledger, climb: Climb, rounds: int) -> None:
    for _ in range(rounds):
        ledger.check()
        climb.round()
        if climb.best.bound >= ledger.goal:
            break


def _repair(ledger: Ledger, posed: Posed, point: Point, start: Array, moves: int = MOVES) -> Dual:
    """Offer what comes of cuts; returns the dual at which its memory fits."""
    path = point.path.copy()
    path[:, 0] = balanced(posed, point.dual, start)
    fitted, dual = refit(posed, point.dual, path)
    ledger.offer(posed.assignment(fitted))
    ledger.offer(posed.assignment(polish(posed, fitted, moves)))
    return dual


def _unfit(ledger: Ledger, fitting: Climb) -> bool:
    """Whether prices of memory alone show that nothing fits."""
    for _ in range(EARLY):
        ledger.check()
        fitting.round()
        if fitting.best.bound > 0:
            return True
    return False


def _searched(ledger: Ledger, posed: Posed, points: list[tuple[Point, float]], most: int) -> bool:
    """Depth-first search; True if it came to its end."""
    path, ended = close(posed, points, ledger.goal, most, ledger.check)
    if path is not None:
        ledger.offer(posed.assignment(path))
    if ended:
        ledger.prove(min(ledger.goal, ledger.objective) * (1 - 1e-12))
    return ended
