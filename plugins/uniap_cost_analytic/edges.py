"""Time of a tensor between two layers: changing its layout inside a stage, and crossing to the next stage."""

from __future__ import annotations

from functools import lru_cache
from math import lcm
from typing import NamedTuple

import numpy as np

from uniap_core.api import Candidate, Cluster, Flow, Layout, Pipeline, Span, Strategy, precision

from .constants import Constants
from .links import Group, collective_s, stage_group


def edge_tables(
    flow: Flow,
    sequence: int,
    sources: tuple[Strategy, ...],
    targets: tuple[Strategy, ...],
    cluster: Cluster,
    candidate: Candidate,
    constants: Constants,
    *,
    returns: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """``reshard_s`` and ``cross_s`` of an edge, each (K_source, K_target), forward and backward together.

    Without ``returns`` no gradient comes back.

    The consumer fetches in forward what it lacks of its share, the producer in backward. Crossing a boundary sends
    each rank's share to its peer in the next stage, which then changes the layout if it must. Both tables hold for
    all stages and boundaries, the way from the last rank back to the first included where chunks take it, so they take
    the slowest.
    """
    element = precision(candidate.training.precision).element_bytes
    size = flow.elements(candidate.micro_batch, sequence) * element
    leaving, source = _distinct(sources)
    arriving, target = _distinct(targets)
    shape = candidate.pipeline
    reshard = np.array(
        [[_reshard_s(size, a, b, cluster, shape, constants, returns) for b in arriving] for a in leaving]
    )
    inside = reshard[np.ix_(source, target)]
    over = wires(cluster, shape, constants)
    if not over:
        return inside, np.zeros_like(inside)
    cross = np.array([_cross_s(size, a, over, cluster, candidate, constants, returns) for a in leaving])
    return inside, cross[source][:, None] + inside


def _distinct(strategies: tuple[Strategy, ...]) -> tuple[list[Layout], list[int]]:
    """The layouts of some strategies, each once, and which one each strategy has."""
    number: dict[Layout, int] = {}
    which = [number.setdefault(strategy.layout, len(number)) for strategy in strategies]
    return list(number), which


def _reshard_s(
    size: float, a: Layout, b: Layout, cluster: Cluster, shape: Pipeline, constants: Constants, returns: bool
) -> float:
    if a == b:
        return 0.0
    block = min(shape.devices_per_rank(cluster.devices), lcm(a.samples.stride, b.samples.stride))
    if block == 1:
        return 0.0
    group = _slowest_group(block, cluster, shape, constants)
    total = 0.0
    for lacking, share in (_lacking(a, b), _lacking(b, a)) if returns else (_lacking(a, b),):
        if lacking > 0:
            # An all-gather in which each rank ends with what it lacked.
            fetched = lacking * share * size * block / (block - 1)
            total += collective_s("all_gather", fetched, group, constants)
    return total


def _slowest_group(size: int, cluster: Cluster, shape: Pipeline, constants: Constants) -> Group:
    """The slowest group of neighbouring devices of any pipeline rank."""
    alike = cluster.homogeneous and aligned(cluster, shape.devices_per_rank(cluster.devices))
    blocks = (shape.block(i, cluster.devices) for i in range(1 if alike else shape.ranks))
    groups = (stage_group(cluster, block.start, len(block), Span(size, 1), constants) for block in blocks)
    return max(groups, key=lambda g: (g.nodes, -g.bandwidth_Bps))


def aligned(cluster: Cluster, size: int) -> bool:
    """Whether all blocks of so many devices lie alike in the nodes of a homogeneous cluster."""
    return size % cluster.node_size == 0 or cluster.node_size % size == 0


@lru_cache(maxsize=4096)
def _lacking(a: Layout, b: Layout) -> tuple[float, float]:
    """Share of its piece under ``b`` that the worst rank does not hold under ``a``, and that piece's size."""
    ranks = np.arange(lcm(a.grid.ranks, b.grid.ranks))
    low_a, low_b = (cut.place(ranks) / cut.size for cut in (a.samples, b.samples))
    common = np.minimum(low_a + 1 / a.samples.size, low_b + 1 / b.samples.size) - np.maximum(low_a, low_b)
    held = np.clip(common, 0, None) * b.samples.size
    if a.grid.size("cp") == b.grid.size("cp") and a.split == b.split and a.grid.size("tp") == b.grid.size("tp"):
        same: np.ndarray | float = 1.0
    else:
        mine, theirs = rows_held(a, ranks), rows_held(b, ranks)
        both = (np.minimum(x[1], y[1]) - np.maximum(x[0], y[0]) for x in mine for y in theirs)
        same = sum(np.clip(common, 0, None) for common in both) * b.rows.size
    return float(1 - (held * same).min()), 1 / (b.samples.size * b.rows.size)


def rows_held(layout: Layout, ranks: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Beginning and end of the pieces of a sequence of length 1 that ranks hold, two each.

    Of context-parallel ranks the i-th has the i-th piece of ``2 cp`` from the front and the i-th from the back, one
    behind the other; slices of sequence parallelism are cut of that.
    """
    tp, cp = (layout.grid.size(name) if name == "cp" or layout.split else 1 for name in ("tp", "cp"))
    slice_ = layout.grid.span("tp").place(ranks) / tp if tp > 1 else np.zeros(len(ranks))
    if cp == 1:
        return ((slice_, slice_ + 1 / tp),)
    place = layout.grid.span("cp").place(ranks)
    pieces = []
    for number, before in ((place, 0.0), (2 * cp - 1 - place, 0.5)):
        begin, end = (np.clip(at - before, 0, 0.5) for at in (slice_, slice_ + 1 / tp))
        pieces.append(((number + 2 * begin) / (2 * cp), (number + 2 * end) / (2 * cp)))
    return tuple(pieces)


def _cross_s(
    size: float,
    layout: Layout,
    over: tuple[Wire, ...],
    cluster: Cluster,
    candidate: Candidate,
    constants: Constants,
    returns: bool,
) -> float:
    """Both directions of a boundary: point to point, all ranks of a stage at once.

    With ``scatter_gather`` ranks of a tensor-parallel group that hold the same send a part each, which is gathered
    behind the boundary (Narayanan et al. 2021, arXiv 2104.04473, section 4.1).
    """
    tp = layout.grid.size("tp")
    piece, gather = size / layout.grid.span("cp", "dp").size, 0.0
    if layout.split or candidate.training.scatter_gather:
        if tp > 1 and not layout.split:
            group = _slowest_group(tp, cluster, candidate.pipeline, constants)
            gather = collective_s("all_gather", piece, group, constants)
        piece /= tp
    return (1 + returns) * (message_s(piece, over, constants) + gather)


class Wire(NamedTuple):
    """What a message between two devices of neighbouring pipeline ranks goes over."""

    latency_s: float
    bandwidth_Bps: float
    """What the sender gets of it."""


def wires(cluster: Cluster, shape: Pipeline, constants: Constants) -> tuple[Wire, ...]:
    """The different wires that a pipeline's messages take, device k of a rank sending to device k of the next.

    What leaves a node or comes to it over the boundary shares its way out with all that do so with it.
    """
    found: dict[Wire, None] = {}
    node_of = np.array(cluster.node_of)
    for here, there in shape.hops:
        a, b = (node_of[block.start : block.stop] for block in (shape.block(i, cluster.devices) for i in (here, there)))
        for node in np.unique(a[a == b]):
            link = cluster.nodes[node].link
            found[Wire(link.latency_s, link.bandwidth_Bps * constants.link_share)] = None
        if (away := a != b).any():
            sharing = max(int(np.bincount(ends[away]).max()) for ends in (a, b))
            rate = cluster.inter.bandwidth_Bps * constants.inter_share / sharing
            found[Wire(cluster.inter.latency_s, rate)] = None
    return tuple(found)


def message_s(message: float, over: tuple[Wire, ...], constants: Constants) -> float:
    """Seconds of one message per device over the slowest wire, all devices of a rank sending at once."""
    return max(wire.latency_s + message / wire.bandwidth_Bps for wire in over) + constants.message_s
