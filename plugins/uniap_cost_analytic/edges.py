"""Time of a tensor between two layers: changing its layout inside a stage, and crossing to the next stage."""

from __future__ import annotations

from functools import lru_cache
from math import lcm

import numpy as np

from uniap_core.api import Candidate, Cluster, Flow, Strategy

from .constants import Constants
from .kernels import ELEMENT_BYTES
from .links import Group, collective_s, stage_group

Layout = tuple[int, int, int, bool]


def edge_tables(
    flow: Flow,
    sequence: int,
    sources: tuple[Strategy, ...],
    targets: tuple[Strategy, ...],
    cluster: Cluster,
    candidate: Candidate,
    constants: Constants,
) -> tuple[np.ndarray, np.ndarray]:
    """``reshard_s`` and ``cross_s`` of an edge, each (K_source, K_target), forward and backward together.

    The consumer fetches in forward what it lacks of its share, the producer in backward. Crossing a boundary sends
    each rank's share to its peer in the next stage, which then changes the layout if it must. Both tables hold for
    all stages, so they take the slowest.
    """
    element = ELEMENT_BYTES[candidate.training.precision]
    size = flow.elements(candidate.micro_batch, sequence) * element
    reshard: dict[tuple[Layout, Layout], float] = {}
    cross: dict[Layout, float] = {}
    for a in {s.layout for s in sources}:
        cross[a] = _cross_s(size, a, cluster, candidate, constants) if candidate.pp > 1 else 0.0
        for b in {s.layout for s in targets}:
            reshard[a, b] = _reshard_s(size, a, b, cluster, candidate.pp, constants)
    inside = np.array([[reshard[a.layout, b.layout] for b in targets] for a in sources])
    over = np.array([[cross[a.layout] for _ in targets] for a in sources])
    return inside, over + inside if candidate.pp > 1 else np.zeros_like(inside)


def _reshard_s(size: float, a: Layout, b: Layout, cluster: Cluster, depth: int, constants: Constants) -> float:
    if a == b:
        return 0.0
    ranks = cluster.devices // depth
    block = min(ranks, lcm(a[0] * a[2], b[0] * b[2]))
    if block == 1:
        return 0.0
    group = _slowest_group(block, cluster, depth, constants)
    total = 0.0
    for lacking, share in (_lacking(a, b), _lacking(b, a)):
        if lacking > 0:
            # An all-gather in which each rank ends with what it lacked.
            fetched = lacking * share * size * block / (block - 1)
            total += collective_s("all_gather", fetched, group, constants)
    return total


def _slowest_group(size: int, cluster: Cluster, depth: int, constants: Constants) -> Group:
    """The slowest group of neighbouring ranks of any stage."""
    ranks = cluster.devices // depth
    groups = (stage_group(cluster, i * ranks, ranks, 1, size, constants) for i in _distinct_stages(cluster, depth))
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
    ranks = np.arange(lcm(a[0] * a[1] * a[2], b[0] * b[1] * b[2]))
    held = np.ones(len(ranks))
    piece = 1.0
    for dimension in (0, 1):
        low_a, length_a = _interval(ranks, a, dimension)
        low_b, length_b = _interval(ranks, b, dimension)
        common = np.minimum(low_a + length_a, low_b + length_b) - np.maximum(low_a, low_b)
        held *= np.clip(common, 0, None) / length_b
        piece *= length_b
    return float(1 - held.min()), piece


def _interval(ranks: np.ndarray, layout: Layout, dimension: int) -> tuple[np.ndarray, float]:
    """Where each rank's piece begins, in samples (0) or in the sequence (1), and how long it is (whole = 1)."""
    tp, dp, cp, spread = layout
    if dimension == 0:
        return ranks // (tp * cp) % dp / dp, 1 / dp
    inner = tp if spread else 1
    position = ranks // tp % cp * inner + (ranks % tp if spread else 0)
    return position / (cp * inner), 1 / (cp * inner)


def _cross_s(size: float, layout: Layout, cluster: Cluster, candidate: Candidate, constants: Constants) -> float:
    """Both directions of a boundary: point to point, all ranks of a stage at once.

    With ``scatter_gather`` ranks of a tensor-parallel group that hold the same send a part each, which is gathered
    behind the boundary (Narayanan et al. 2021, arXiv 2104.04473, section 4.1).
    """
    tp, dp, cp, spread = layout
    piece, gather = size / (dp * cp), 0.0
    if spread or candidate.training.scatter_gather:
        if tp > 1 and not spread:
            gather = collective_s("all_gather", piece, _slowest_group(tp, cluster, candidate.pp, constants), constants)
        piece /= tp
    return 2 * (message_s(piece, cluster, candidate.pp, constants) + gather)


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
