"""Groups of ranks, the links they span, and the alpha-beta time of collectives on them.

Ring and tree algorithms as NCCL runs them (NVIDIA nccl-tests, PERFORMANCE.md; Thakur, Rabenseifner and Gropp 2005):
a ring moves ``2 (n-1)/n`` of an all-reduced tensor in ``2 (n-1)`` hops, a double tree moves ``2`` in ``2 log2 n``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from uniap_core.api import Cluster, Collective, Span

from .constants import Constants


class Group(NamedTuple):
    """``size`` ranks over ``nodes`` nodes, with the bandwidth and latency that one rank sees.

    Attributes
    ----------
    bandwidth_Bps
        Bytes per second of a ring through the group, per rank: the slowest link on the way, shared by the groups
        that run side by side.
    latency_s
        Seconds per hop of the ring; ``tree_s`` per level of a tree, which crosses nodes only between nodes.
    measured
        Collectives that were measured on such a group: alpha (seconds) and beta (seconds per byte) of each.
    """

    size: int
    nodes: int
    bandwidth_Bps: float
    latency_s: float
    tree_s: float
    pair_Bps: float
    measured: tuple[tuple[Collective, float, float], ...] = ()


PAIR = 0.85
"""Share of the rate of eight devices on a switch that two alone reach (A100: 197 of 229 GB/s on 1 GiB, vTrain)."""

ALONE = Group(1, 1, math.inf, 0.0, 0.0, math.inf)


def stage_group(cluster: Cluster, first: int, count: int, span: Span, constants: Constants) -> Group:
    """The slowest of the groups that a span forms among the ranks ``first`` to ``first + count``."""
    if span.size == 1:
        return ALONE
    width = cluster.node_size
    if cluster.homogeneous and (first % width == 0 or (width % count == 0 and first % count == 0)):
        members = _aligned(width, span)
        if members is not None:
            nodes = -(-span.size // members)
            return _group(cluster, span.size, nodes, members, cluster.node_of[first], constants)
    return _enumerated(cluster, first, count, span, constants)


def _aligned(width: int, span: Span) -> int | None:
    """Members of a group per node where all groups lie alike in nodes of ``width``, else None."""
    size, stride = span
    block = stride * size
    if block <= width:
        return size if width % block == 0 else None
    if block % width == 0 and ((stride >= width and stride % width == 0) or width % stride == 0):
        return max(1, width // stride)
    return None


def _enumerated(cluster: Cluster, first: int, count: int, span: Span, constants: Constants) -> Group:
    worst = ALONE
    for ranks in span.groups(range(first, first + count)):
        nodes = [cluster.node_of[rank] for rank in ranks]
        members = max(nodes.count(node) for node in set(nodes))
        slowest = min(set(nodes), key=lambda node: cluster.nodes[node].link.bandwidth_Bps)
        group = _group(cluster, span.size, len(set(nodes)), members, slowest, constants)
        if worst is ALONE or group.bandwidth_Bps < worst.bandwidth_Bps:
            worst = group
    return worst


def _group(cluster: Cluster, size: int, nodes: int, members: int, node: int, constants: Constants) -> Group:
    home = cluster.nodes[node]
    intra, inter = home.link, cluster.inter
    inside = intra.bandwidth_Bps * constants.link_share * _reach(intra.kind, members, home.devices)
    if nodes == 1:
        return Group(size, 1, inside, intra.latency_s, intra.latency_s, inside)
    # Every group of the node leaves through the same NICs at the same time.
    sharing = max(1, home.devices // members)
    outside = inter.bandwidth_Bps * constants.inter_share
    ring = min(inside, outside / sharing) if members > 1 else outside / sharing
    hops = (intra.latency_s * (size - nodes) + inter.latency_s * nodes) / size
    pair = outside / home.devices
    return Group(size, nodes, ring, hops, inter.latency_s, pair)


def _reach(kind: str, members: int, devices: int) -> float:
    """Share of a device's links that lead to the other members of its group.

    A switch serves any group at full rate, but two devices alone reach :data:`PAIR` of it. Links that join devices
    directly are split over at most four neighbours (DGX-1's cube mesh; boards of four joined all to all): a pair has a
    fourth or a third of them.
    """
    if kind == "nvswitch" and members == 2:
        return PAIR
    if kind not in ("nvlink", "xgmi") or members < 2:
        return 1.0
    neighbors = min(devices, 5 if kind == "nvlink" else 8) - 1
    return min(1.0, (members - 1) / max(1, neighbors))


@lru_cache(maxsize=65536)
def collective_s(operation: Collective, size_bytes: float, group: Group, constants: Constants) -> float:
    """Seconds of a collective.

    Parameters
    ----------
    size_bytes
        The full tensor: what each rank holds before an all-reduce or reduce-scatter and after an all-gather; for an
        all-to-all what each rank sends in total, its own part included; for p2p the message.

    Notes
    -----
    ``unshard`` and ``reduce_gradients`` of a sharded layer are an all-gather and a reduce-scatter where nothing else
    was measured.
    """
    n = group.size
    if n == 1 or size_bytes <= 0:
        return 0.0
    for name, alpha, beta in group.measured:
        if name == operation:
            return alpha + size_bytes * beta
    share = (n - 1) / n * size_bytes / group.bandwidth_Bps
    if operation == "all_reduce":
        ring = 2 * (n - 1) * group.latency_s + 2 * share
        tree = 2 * math.log2(n) * group.tree_s + 2 * size_bytes / group.bandwidth_Bps
        return constants.collective_s + min(ring, tree)
    if operation == "all_to_all":
        local = 1 / group.nodes
        remote = (1 - local) * size_bytes / group.pair_Bps if group.nodes > 1 else 0.0
        return constants.collective_s + group.latency_s + max(share, remote)
    if operation == "p2p":
        return constants.collective_s + group.latency_s + size_bytes / group.pair_Bps
    return constants.collective_s + (n - 1) * group.latency_s + share


def exposed_s(communication_s: float, compute_s: float, constants: Constants) -> float:
    """What communication adds to compute that runs beside it.

    Only the share ``overlap`` can hide; while both run, both are slower by ``contention``, so a hidden second still
    costs ``contention - 1`` (Hetu-Galvatron, cost_model: max + (k - 1) min).
    """
    hidden = min(communication_s * constants.overlap, compute_s)
    return communication_s - hidden + (constants.contention - 1) * hidden
