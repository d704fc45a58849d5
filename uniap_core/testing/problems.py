"""Random problems: one constructor, fed by hypothesis (which shrinks) or by a seeded numpy generator (for bulk).

Problems are built around a witness, an assignment chosen first, so nothing is ever drawn and thrown away: its
strategies are possible, and memory is set from what it uses. All bytes are small integers times a unit, so that an
assignment fits a limit exactly or misses it clearly, and no solver's tolerance decides what is feasible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np
from hypothesis import strategies as st

from uniap_core.pipeline import Pipeline
from uniap_core.problem import Assignment, Problem, plain_weights
from uniap_core.tables import Array, EdgeTable, LayerTable, Moment, Rank, Weights

T = TypeVar("T")

Shape = Literal["chain", "skip", "shared", "dag"]
"""Chain; chain with skip edges; skip edges whose tensors are shared; any DAG, disconnected ones included."""

Memory = Literal["ample", "tight", "exact", "short", "none"]
"""No limit that binds; a little above the witness; exactly the witness; one unit below it; nothing fits."""

Placement = Literal["plain", "weighted", "loop", "vee"]
"""One chunk per rank with UniAP's weights; with any weights and moments; several chunks, laid round or to and fro."""

PLAIN = ("gpipe", "1f1b")
"""Schedules whose number in flight a random plain problem may take."""

SHAPES: tuple[Shape, ...] = get_args(Shape)
MEMORIES: tuple[Memory, ...] = get_args(Memory)
CHUNKED: tuple[Placement, ...] = ("loop", "vee")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Inclusive ranges of what is drawn.

    Attributes
    ----------
    layers, stages, strategies
        Number of layers, of stages (never more than layers unless memory is ``none``), of strategies of a layer.
    ranks, chunks
        Where ranks hold several chunks: number of ranks, and of chunks on each; there are never fewer layers than
        chunks unless memory is ``none``.
    micro_batches
        c.
    grains
        Times are integers from 0 to a grain: a small grain makes ties, a large one makes every sum distinct.
    """

    layers: tuple[int, int] = (1, 6)
    stages: tuple[int, int] = (1, 4)
    ranks: tuple[int, int] = (2, 3)
    chunks: tuple[int, int] = (2, 3)
    strategies: tuple[int, int] = (1, 4)
    micro_batches: tuple[int, int] = (1, 8)
    grains: tuple[int, ...] = (2, 50, 1_000_000)


SMALL = Limits()
"""What the enumeration oracle answers within milliseconds."""

SMALL_CHUNKED = Limits(layers=(4, 8), strategies=(1, 3), micro_batches=(1, 8))
"""The same where ranks hold several chunks."""


class Choices(Protocol):
    """Where numbers come from."""

    def integers(self, low: int, high: int, count: int) -> list[int]:
        """``count`` integers, both ends included."""


class _Drawn:
    """Choices made by hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integers(self, low: int, high: int, count: int) -> list[int]:
        return self._draw(st.lists(st.integers(low, high), min_size=count, max_size=count))


class _Random:
    """Choices made by a numpy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integers(self, low: int, high: int, count: int) -> list[int]:
        return [int(n) for n in self._rng.integers(low, high, size=count, endpoint=True)]


@st.composite
def problems(
    draw: st.DrawFn,
    limits: Limits = SMALL,
    shapes: tuple[Shape, ...] = SHAPES,
    memories: tuple[Memory, ...] = MEMORIES,
    placements: tuple[Placement, ...] = ("plain",),
) -> Problem:
    """Hypothesis strategy for problems.

    Parameters
    ----------
    limits
        Ranges of sizes.
    shapes, memories, placements
        What to choose from; see :data:`Shape`, :data:`Memory` and :data:`Placement`.
    """
    shape, memory = draw(st.sampled_from(shapes)), draw(st.sampled_from(memories))
    return _build(_Drawn(draw), limits, shape, memory, draw(st.sampled_from(placements)))


def random_problem(
    rng: np.random.Generator,
    limits: Limits = SMALL,
    *,
    shape: Shape | None = None,
    memory: Memory | None = None,
    placement: Placement = "plain",
) -> Problem:
    """One random problem; ``None`` draws the shape or the memory limit too.

    The same generator state gives the same problem.
    """
    drawn_shape, drawn_memory = SHAPES[rng.integers(len(SHAPES))], MEMORIES[rng.integers(len(MEMORIES))]
    return _build(_Random(rng), limits, shape or drawn_shape, memory or drawn_memory, placement)


def hard_problem(layers: int = 24, stages: int = 4, strategies: int = 8, seed: int = 0) -> Problem:
    """A DAG of many skip edges with a tight memory limit: more than any solver finishes in a second or two."""
    limits = Limits(
        layers=(layers, layers),
        stages=(stages, stages),
        strategies=(strategies, strategies),
        micro_batches=(8, 8),
        grains=(1_000_000,),
    )
    return random_problem(np.random.default_rng(seed), limits, shape="shared", memory="tight")


# --- construction -----------------------------------------------------------------------------------------------


def _build(choices: Choices, limits: Limits, shape: Shape, memory: Memory, placement: Placement) -> Problem:
    count = _one(choices, *limits.layers)
    if placement in CHUNKED:
        chunks = _chunks(choices, limits, placement, 10**9 if memory == "none" else count)
    else:
        depth = _one(choices, *limits.stages)
        chunks = tuple(range(depth if memory == "none" else min(depth, count)))
    depth = len(chunks)
    micro_batches = _one(choices, *limits.micro_batches)
    ragged, unequal, grain = _one(choices, 0, 1), _one(choices, 0, 1), _pick(choices, limits.grains)
    sizes = choices.integers(*limits.strategies, count) if ragged else [_one(choices, *limits.strategies)] * count
    witness = _witness(choices, sizes, depth)
    position = _permutation(choices, count)  # of each layer of the topological order in the order of listing
    unit = _pick(choices, (1e-3, 1.0, 1e-6))
    times = [
        _times(choices, size, max(chunks) + 1, grain, unequal, chunks[witness.stage[u]], witness.strategy[u])
        for u, size in enumerate(sizes)
    ]
    layers: list[LayerTable] = [
        LayerTable(
            f"layer{u}",
            tuple(f"s{k}" for k in range(size)),
            times[u] * (unit / grain),
            np.array(choices.integers(0, 40, size), dtype=float),
            np.array(choices.integers(0, 20, size), dtype=float),
        )
        for u, size in enumerate(sizes)
    ]
    scale = _pick(choices, (0.1, 1.0, 3.0)) * unit / grain
    edges = [
        EdgeTable(
            position[u],
            position[v],
            f"layer{u}.{tensor}",
            _table(choices, grain, sizes[u], sizes[v]) * scale,
            _table(choices, grain, sizes[u], sizes[v]) * scale,
        )
        for u, v, tensor in _edges(choices, count, shape)
    ]
    weights = plain_weights(micro_batches)
    if placement == "plain":
        moments = _plain_moments(choices, depth, micro_batches)
    else:
        weights = _weights(choices, micro_batches, depth // (max(chunks) + 1))
        moments = _moments(choices, chunks, micro_batches)
    ranks = _ranks(choices, layers, witness, chunks, moments, memory)
    byte = _pick(choices, (1.0, 1e6, 2.0**30))
    listed = sorted(range(count), key=lambda u: position[u])
    return Problem(
        f"{shape}-{memory}" if placement == "plain" else f"{placement}-{shape}-{memory}",
        micro_batches,
        weights,
        tuple(Rank(r.memory_bytes * byte, r.reserved_bytes * byte, r.in_flight) for r in ranks),
        chunks,
        tuple(_in_bytes(layers[u], byte) for u in listed),
        tuple(edges),
    )


def _one(choices: Choices, low: int, high: int) -> int:
    return choices.integers(low, high, 1)[0]


def _pick(choices: Choices, options: tuple[T, ...]) -> T:
    return options[_one(choices, 0, len(options) - 1)]


def _table(choices: Choices, grain: int, rows: int, columns: int) -> Array:
    return np.array(choices.integers(0, grain, rows * columns), dtype=float).reshape(rows, columns)


def _permutation(choices: Choices, count: int) -> list[int]:
    """Often the identity, otherwise any: layers need not be listed in topological order."""
    order = list(range(count))
    if _one(choices, 0, 2) == 2:
        for last in range(count - 1, 0, -1):
            swap = _one(choices, 0, last)
            order[last], order[swap] = order[swap], order[last]
    return order


def _witness(choices: Choices, sizes: list[int], depth: int) -> Assignment:
    """Consecutive, non-empty stages along the topological order (as far as there are layers)."""
    spare = choices.integers(0, depth - 1, max(0, len(sizes) - depth))
    stage = sorted([*range(min(depth, len(sizes))), *spare])
    return Assignment(tuple(stage), tuple(_one(choices, 0, size - 1) for size in sizes))


def _times(choices: Choices, size: int, ranks: int, grain: int, unequal: int, rank: int, strategy: int) -> Array:
    """Shape (ranks, K), equal on all ranks or not, with impossible strategies but for the witness's."""
    rows = _table(choices, grain, ranks if unequal else 1, size)
    if unequal:
        impossible = np.array(choices.integers(0, 3, ranks * size)).reshape(ranks, size) == 3
        impossible[rank, strategy] = False
        rows[impossible] = np.inf
    return np.array(np.broadcast_to(rows, (ranks, size)))


def _edges(choices: Choices, count: int, shape: Shape) -> list[tuple[int, int, int]]:
    """Edges (u, v, tensor of u) along the topological order, at most two tensors per pair."""
    pairs = [(u, v) for u in range(count) for v in range(u + 1, count)]
    dice = choices.integers(0, 3, len(pairs))
    chosen = [
        (u, v)
        for (u, v), die in zip(pairs, dice, strict=True)
        if (v == u + 1 if shape == "chain" else die >= 2 if shape == "dag" else v == u + 1 or die == 3)
    ]
    numbered = [(u, v, v) for u, v in chosen]  # a tensor of its own
    if shape in ("shared", "dag"):
        dice = choices.integers(0, 3, len(chosen))
        numbered = [(u, v, 0 if die < 3 else v) for (u, v), die in zip(chosen, dice, strict=True)]
        numbered += [
            (u, v, v) for (u, v, tensor), die in zip(list(numbered), reversed(dice), strict=True) if die == tensor == 0
        ]
    return numbered


def _chunks(choices: Choices, limits: Limits, placement: Placement, most: int) -> tuple[int, ...]:
    """Pipeline rank of at most ``most`` chunks: the same way round every time, or to and fro."""
    ranks = min(_one(choices, *limits.ranks), most)
    rounds = max(1, min(_one(choices, *limits.chunks), most // ranks))
    forth = tuple(range(ranks))
    return sum((forth[::-1] if placement == "vee" and turn % 2 else forth for turn in range(rounds)), ())


def _weights(choices: Choices, micro_batches: int, rounds: int) -> Weights:
    """Those of a schedule that interleaves or splits backwards, or any, some of them 0."""
    share = _pick(choices, (1 / rounds, 1 / 3, 1 / (3 * rounds)))
    drawn = [part / 4 for part in choices.integers(0, 6, 3)]
    if _one(choices, 0, 2):
        return Weights(share, share, max(0.0, micro_batches - share))
    return Weights(*drawn)


def _plain_moments(choices: Choices, depth: int, micro_batches: int) -> list[tuple[Moment, ...]]:
    kind = _pick(choices, (*PLAIN, "free"))
    if kind == "free":
        return [((float(_one(choices, 0, micro_batches)),),) for _ in range(depth)]
    return list(Pipeline.of(kind, depth).in_flight(micro_batches))


def _moments(choices: Choices, chunks: tuple[int, ...], micro_batches: int) -> list[tuple[Moment, ...]]:
    """One to three moments of each rank; counts are halves, so that sums of bytes are exact."""
    found = []
    for rank in range(max(chunks) + 1):
        held, count = chunks.count(rank), _one(choices, 1, 3)
        halves = choices.integers(0, 2 * micro_batches, held * count)
        found.append(tuple(tuple(n / 2 for n in halves[m * held : (m + 1) * held]) for m in range(count)))
    return found


def _ranks(
    choices: Choices,
    layers: list[LayerTable],
    witness: Assignment,
    chunks: tuple[int, ...],
    moments: list[tuple[Moment, ...]],
    memory: Memory,
) -> list[Rank]:
    """Ranks whose memory, in units, is the witness's use plus what the kind of limit says."""
    reserved = choices.integers(0, 10, len(moments))
    spare = choices.integers(0, 30, len(moments))
    ranks = []
    for i, in_flight in enumerate(moments):
        need = []
        for j in (j for j, rank in enumerate(chunks) if rank == i):
            on = [
                (layers[u], k) for u, (at, k) in enumerate(zip(witness.stage, witness.strategy, strict=True)) if at == j
            ]
            need.append((sum(t.state_bytes.item(k) for t, k in on), sum(t.stash_bytes.item(k) for t, k in on)))
        used = Rank(0.0, float(reserved[i]), in_flight).need_bytes(need)
        most = max(count for moment in in_flight for count in moment)
        everything = reserved[i] + sum(float((t.state_bytes + most * t.stash_bytes).max()) for t in layers)
        limit = {
            "ample": everything,
            "tight": used + spare[i],
            "exact": used,
            "short": max(0.0, used - 1),
            "none": 0.0,
        }[memory]
        ranks.append(Rank(limit, float(reserved[i] + (memory == "none")), in_flight))
    return ranks


def _in_bytes(layer: LayerTable, byte: float) -> LayerTable:
    return LayerTable(layer.name, layer.strategies, layer.time_s, layer.state_bytes * byte, layer.stash_bytes * byte)
