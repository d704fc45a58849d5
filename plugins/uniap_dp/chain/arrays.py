"""What the compiled loops over a chain take, by ``L`` layers, ``P`` stages, ``K`` strategies and ``R`` prices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..jit import float64, int64, record
from ..objective import Objective

Array = np.ndarray


class Tables(NamedTuple):
    """What layers and links cost.

    ``own`` (L, P, K, 2): seconds and bytes of a strategy. ``link`` (2, L - 1, K, K): resharding and crossing.
    ``border`` (L,): the least of a boundary before each layer. ``cap`` (P,): bytes that layers may use.
    """

    own: Array
    link: Array
    border: Array
    cap: Array


class Rows(NamedTuple):
    """Strategies of a layer with equal rows in both tables of the link behind it are one row.

    ``row`` (L, K) of each strategy, ``first`` (L, K) strategy of each row, ``many`` rows of each layer (L,).
    """

    row: Array
    first: Array
    many: Array


class Priced(NamedTuple):
    """Prices of memory: ``price`` (P, R), of which ``used`` (P,) count, and what is to go under each.

    ``to_go[i, u, q, b]``, of shape (P, L, rows, L, R + 1), is the least of the layers ``u + 1 .. b`` on stage ``i``
    behind row ``q``: seconds and priced bytes above the cap, and last bytes alone, a rounding less.
    """

    price: Array
    used: Array
    to_go: Array


class Fronts(NamedTuple):
    """All behind the boundary before a layer, that one included, from a stage on: at least so much.

    ``front`` (P + 1, L + 1, corners, 2) holds weighted sum and longest, ``size`` (P + 1, L + 1) how many are used.
    """

    front: Array
    size: Array


class Skips(NamedTuple):
    """Signatures of skip edges as flat arrays; those before layer ``u`` are numbers ``first[u] ..``.

    Attributes
    ----------
    first
        Number of the first signature before each layer (L,).
    extra, after
        Seconds that strategy ``k`` of the layer adds under a signature, ``inf`` where a promise forbids it; and the
        signature then, counted from the first one before the next layer. Both (S, K).
    arc, into, toll
        Ways over a boundary before the layer from signature ``s`` are ``arc[s] .. arc[s + 1]``: to which signature,
        counted from ``first[u]``, and the seconds.
    rounding_s
        Most that the objective can be off through the grid of the tables, seconds.
    """

    first: Array
    extra: Array
    after: Array
    arc: Array
    into: Array
    toll: Array
    rounding_s: float


class Chain(NamedTuple):
    """A chain and what bounds it."""

    tables: Tables
    rows: Rows
    priced: Priced
    fronts: Fronts
    skips: Skips


class Goal(NamedTuple):
    """Plans shorter than ``below``, by the weights of the objective."""

    below: float
    objective: Objective


class Labels(NamedTuple):
    """Partial plans: ``label`` (N, 4), and ``trail`` (N, 4): label before, stage, strategy, signature.

    The first is the empty plan. Their four numbers are those of :class:`Partial`.
    """

    label: Array
    trail: Array


class Partial(NamedTuple):
    """A partial plan.

    Weighted seconds of all that is placed, seconds of the longest closed stage or boundary; seconds and bytes of the
    open stage.
    """

    total: float
    peak: float
    time: float
    memory: float


class Step(NamedTuple):
    """Labels ``start .. stop`` extended by strategy ``k`` of layer ``u`` on stage ``i``, which it may open.

    ``link_s`` is the resharding or the crossing before it, ``own_s`` and ``own_b`` its own seconds and bytes.
    """

    start: int
    stop: int
    u: int
    i: int
    k: int
    opens: int
    link_s: float
    own_s: float
    own_b: float


class Ahead(NamedTuple):
    """:class:`Priced` and :class:`Fronts` as seen from a stage and a row.

    ``nearest`` is the nearest layer that can be the last of the stage.
    """

    cap: float
    price: Array
    used: int
    nearest: int
    to_go: Array
    front: Array
    size: Array


OBJECTIVE = record(Objective, float64, float64, float64)
TABLES = record(Tables, float64[:, :, :, ::1], float64[:, :, :, ::1], float64[::1], float64[::1])
ROWS = record(Rows, int64[:, ::1], int64[:, ::1], int64[::1])
PRICED = record(Priced, float64[:, ::1], int64[::1], float64[:, :, :, :, ::1])
FRONTS = record(Fronts, float64[:, :, :, ::1], int64[:, ::1])
SKIPS = record(
    Skips, int64[::1], float64[:, ::1], int64[:, ::1], int64[::1], int64[::1], float64[::1], float64
)  # fmt: skip
CHAIN = record(Chain, TABLES, ROWS, PRICED, FRONTS, SKIPS)
GOAL = record(Goal, float64, OBJECTIVE)
LABELS = record(Labels, float64[:, ::1], int64[:, ::1])
PARTIAL = record(Partial, float64, float64, float64, float64)
STEP = record(Step, int64, int64, int64, int64, int64, int64, float64, float64, float64)
AHEAD = record(
    Ahead, float64, float64[::1], int64, int64, float64[:, ::1], float64[:, :, ::1], int64[::1]
)  # fmt: skip
