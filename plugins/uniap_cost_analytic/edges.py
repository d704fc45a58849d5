"""Time of a tensor between two layers: changing its layout inside a stage, and crossing to the next stage."""

from __future__ import annotations

from functools import lru_cache
from math import lcm

import numpy as np

from uniap_core.api import Candidate, Cluster, Flow, Layout, Span, Strategy

from .constants import Constants
from .kernels import ELEMENT_BYTES
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
    all stages, so they take the slowest.
    """
    element = ELEMENT_BYTES[candidate.training.precision]
    size = flow.elements(candidate.micro_batch, sequence) * element
    leaving, source = _distinct(sources)
    arriving, target = _distinct(targets)
    reshard = np.array(
        [[_reshard_s(size, a, b, cluster, candidate.pp, constants, returns) for b in arriving] for a in leaving]
    )
    inside = reshard[np.ix_(source, target)]
    if candidate.pp == 1:
        return inside, np.zeros_like(inside)
    cross = np.array([_cross_s(size, a, cluster, candidate, constants, returns) for a in leaving])
    return inside, cross[source][:, None] + inside


def _distinct(strategies: tuple[Strategy, ...]) -> tuple[list[Layout], list[int]]:
    """The layouts of some strategies, each once, and which one each strategy has."""
    number: dict[Layout, int] = {}
    which = [number.setdefault(strategy.layout, len(number)) for strategy in strategies]
    return list(number), which


def _reshard_s(
    size: float, a: Layout, b: Layout, cluster: Cluster, depth: int, constants: Constants, returns: bool
) -> float:
    if a == b:
        return 0.0
    ranks = cluster.devices // depth
    block = min(ranks, lcm(a.samples.stride, b.samples.stride))
    if block == 1:
        return 0.0
    group = _slowest_group(block, cluster, depth, constants)
    total = 0.0
    for lacking, share in (_lacking(a, b), _lacking(b, a)) if returns else (_lacking(a, b),):
        if lacking > 0:
            # An all-gather in which each rank ends with what it lacked.
            fetched = lacking * share * size * block / (block - 1)
            total += collective_s("all_gather", fetched, group, constants)
    return total


def _slowest_group(size: int, cluster: Cluster, depth: int, constants: Constants) -> Group:
    """The slowest group of neighbouring ranks of any stage."""
    ranks = cluster.devices // depth
    groups = (
        stage_group(cluster, i * ranks, ranks, Span(size, 1), constants) for i in _distinct_stages(cluster, depth)
    )
    return max(groups, key=lambda g: (g.nodes, -g.bandwidth_Bps))


def _distinct_stages(cluster: Cluster, depth: int) -> range:
    return range(1) if cluster.homogeneous and aligned(cluster, depth) else range(depth)


def aligned(cluster: Cluster, depth: int) -> bool:
    """Whether all stages of a homogeneous cluster lie alike in its nodes."""
    ranks = cluster.devices // depth
    return ranks % cluster.node_size == 0 or cluster.node_size % ranks == 0


@lru_cache(maxsize=4096)
def _lacking(a: Layout, b: Layout) -> tuple[float, float]:
    """Share of its piece under ``b`` that the worst rank does not hold under ``a``, and that piece's size."""
    ranks = np.arange(lcm(a.grid.ranks, b.grid.ranks))
    held = np.ones(len(ranks))
    piece = 1.0
    for cut_a, cut_b in ((a.samples, b.samples), (a.rows, b.rows)):
        low_a, low_b = cut_a.place(ranks) / cut_a.size, cut_b.place(ranks) / cut_b.size
        common = np.minimum(low_a + 1 / cut_a.size, low_b + 1 / cut_b.size) - np.maximum(low_a, low_b)
        held *= np.clip(common, 0, None) / (1 / cut_b.size)
        piece *= 1 / cut_b.size
    return float(1 - held.min()), piece


def _cross_s(
    size: float, layout: Layout, cluster: Cluster, candidate: Candidate, constants: Constants, returns: bool
) -> float:
    """Both directions of a boundary: point to point, all ranks of a stage at once.

    With ``scatter_gather`` ranks of a tensor-parallel group that hold the same send a part each, which is gathered
    behind the boundary (Narayanan et al. 2021, arXiv 2104.04473, section 4.1).
    """
    tp = layout.grid.size("tp")
    piece, gather = size / layout.grid.span("cp", "dp").size, 0.0
    if layout.split or candidate.training.scatter_gather:
        if tp > 1 and not layout.split:
            gather = collective_s("all_gather", piece, _slowest_group(tp, cluster, candidate.pp, constants), constants)
        piece /= tp
    return (1 + returns) * (message_s(piece, cluster, candidate.pp, constants) + gather)


def message_s(message: float, cluster: Cluster, depth: int, constants: Constants) -> float:
    """Seconds of one message per rank over the slowest boundary, all ranks of a stage sending at once."""
    ranks = cluster.devices // depth
    worst = 0.0
    for i in range(depth - 1):
        a, b = cluster.node_of[(i + 1) * ranks - 1], cluster.node_of[(i + 1) * ranks]
        here, there = cluster.node_of[i * ranks], cluster.node_of[(i + 1) * ranks]
        if a == b and here == there:
            link = cluster.nodes[a].link
            seconds = link.latency_s + message / (link.bandwidth_Bps * constants.link_share)
        else:
            sharing = min(ranks, cluster.nodes[a].devices)
            seconds = cluster.inter.latency_s + message * sharing / (
                cluster.inter.bandwidth_Bps * constants.inter_share
            )
        worst = max(worst, seconds)
    return worst + constants.message_s
