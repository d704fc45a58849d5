"""What the compiled loops over a lattice take: named tuples of flat arrays, and their types."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...arena import Pairs
from ...jit import boolean, float64, int64, record
from ...objective import Objective

Array = np.ndarray


class TreeItems(NamedTuple):
    """A tree of downsets: ``parent``, ``type`` of the step from it; states of item ``x`` from ``base[x]`` on."""

    parent: Array
    type: Array
    base: Array


class Arcs(NamedTuple):
    """Arcs into residual ``r`` of step type ``t`` are ``group[first[t] + r] .. group[first[t] + r + 1]``.

    ``residuals`` of each type; ``source`` state and ``cost`` (s) of each arc.
    """

    residuals: Array
    first: Array
    group: Array
    source: Array
    cost: Array


class StageClass(NamedTuple):
    """Entries on one kind of stage; those of step type ``t`` are ``start[t]:start[t + 1]``, sorted by ``leave``.

    ``enter`` (residual state and in-class), ``leave`` (state after), ``time`` (s), ``memory`` (B) and ``kind``
    (strategy index) run parallel. ``cap`` is what layers may use on such a stage, bytes.
    """

    cap: float
    start: Array
    enter: Array
    leave: Array
    time: Array
    memory: Array
    kind: Array


class Border(NamedTuple):
    """Arcs into start state ``f`` of downset ``d`` are ``group[first[d] + f] ..``: ``source`` state, ``cost`` (s)."""

    first: Array
    group: Array
    source: Array
    cost: Array


class Segment(NamedTuple):
    """All ways to run a stage of one class from one first downset."""

    tree: TreeItems
    arcs: Arcs
    costs: StageClass


class PathRoom(NamedTuple):
    """Room for priced paths: two numbers of each residual, and of each state."""

    into: Array
    best: Array


class PathEnds(NamedTuple):
    """Time and memory (2, items) of paths: the last that took too much memory, the last that fits, the newest."""

    left: Array
    right: Array
    newest: Array


class Duals(NamedTuple):
    """Bounds of the stages to each item: whether it may be of use, ``low <= time <= high``, and what is behind them."""

    alive: Array
    low: Array
    high: Array
    price: Array
    recipe: Array


class ToGo(NamedTuple):
    """How far labels are from a useful end, under each of ``prices``; ``spare`` is the least memory to go.

    Of each state, and of each residual (``_in``), those of item ``x`` from ``in_base[x]`` on.
    """

    in_base: Array
    prices: Array
    slack: Array
    slack_in: Array
    spare: Array
    spare_in: Array


class Spots(NamedTuple):
    """Where labels are: ``rows`` start states, and of each state, by row, ``where`` its front begins and how ``many``.

    State ``q`` of item ``x`` in row ``f`` is number ``base[x] * rows + f * states + q``.
    """

    rows: int
    where: Array
    many: Array


class Merge(NamedTuple):
    """``many`` labels from ``begin`` on into which others are merged, and ``out``, where the result goes."""

    begin: int
    many: int
    out: int


class Run(NamedTuple):
    """Labels ``start .. stop``, and what each gains."""

    start: int
    stop: int
    first: float
    second: float


class Test(NamedTuple):
    """What a label of a state must pass: the cap, and what is to go from there."""

    cap: float
    prices: Array
    slack: Array
    state: int
    spare: float


class Stages(NamedTuple):
    """Stages ``i`` from downset ``d`` are numbers ``base[i, d] + j`` with ``j < many[i, d]``.

    Each ends at downset ``target``; ``border[d]`` is the time of a boundary at ``d``.
    """

    base: Array
    many: Array
    target: Array
    border: Array


class Fronts(NamedTuple):
    """Fronts of (weighted sum, longest) at (stages done, layers done), and the origin of each label (forward only)."""

    total: Array
    peak: Array
    origin: Array
    size: Array


class Front(NamedTuple):
    """One of these fronts."""

    total: Array
    peak: Array
    origin: Array


class StageTables(NamedTuple):
    """Tables ``x`` lead from downset ``heads[x]`` to ``ends[x]``, sorted by end.

    Their values, of shape (start states, states), are from ``value[at[x]]`` on.
    """

    heads: Array
    ends: Array
    at: Array
    value: Array


class Frame(NamedTuple):
    """Of each downset: how many start states and states; and the ways over a boundary there."""

    starts: Array
    states: Array
    border: Border


class Tails(NamedTuple):
    """Bounds on what follows a downset, boundary included: ``size[d]`` pairs (weighted sum, longest) of downset ``d``.

    With them a plan must end at ``cutoff`` or below.
    """

    total: Array
    peak: Array
    size: Array
    cutoff: float


class Numbered(NamedTuple):
    """Fronts of the states of a downset ``d``, numbers ``base[d] ..``: where each begins and how many labels it has."""

    base: Array
    at: Array
    many: Array


OBJECTIVE = record(Objective, float64, float64, float64)
PAIRS = record(Pairs, float64[::1], float64[::1])
TREE = record(TreeItems, int64[::1], int64[::1], int64[::1])
ARCS = record(Arcs, int64[::1], int64[::1], int64[::1], int64[::1], float64[::1])
COSTS = record(StageClass, float64, int64[::1], int64[::1], int64[::1], float64[::1], float64[::1], int64[::1])
BORDER = record(Border, int64[::1], int64[::1], int64[::1], float64[::1])
SEGMENT = record(Segment, TREE, ARCS, COSTS)
PATH_ROOM = record(PathRoom, float64[:, ::1], float64[:, ::1])
PATH_ENDS = record(PathEnds, float64[:, ::1], float64[:, ::1], float64[:, ::1])
DUALS = record(Duals, boolean[::1], float64[::1], float64[::1], float64[::1], float64[:, ::1])
TO_GO = record(ToGo, int64[::1], float64[::1], float64[:, ::1], float64[:, ::1], float64[::1], float64[::1])
SPOTS = record(Spots, int64, int64[::1], int64[::1])
MERGE = record(Merge, int64, int64, int64)
RUN = record(Run, int64, int64, float64, float64)
TEST = record(Test, float64, float64[::1], float64[:, ::1], int64, float64)
STAGES = record(Stages, int64[:, ::1], int64[:, ::1], int64[::1], float64[::1])
FRONTS = record(Fronts, float64[:, :, ::1], float64[:, :, ::1], int64[:, :, ::1], int64[:, ::1])
FRONT = record(Front, float64[::1], float64[::1], int64[::1])
TABLES = record(StageTables, int64[::1], int64[::1], int64[::1], float64[::1])
FRAME = record(Frame, int64[::1], int64[::1], BORDER)
TAILS = record(Tails, float64[:, ::1], float64[:, ::1], int64[::1], float64)
NUMBERED = record(Numbered, int64[::1], int64[::1], int64[::1])
