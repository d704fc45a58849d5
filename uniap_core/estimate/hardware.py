"""Clusters as people write them: names of GPUs, mixtures, and bandwidths in their many spellings."""

from __future__ import annotations

import re

from ..cluster import Cluster, Node
from ..devices import GIB, Kind, Link, kinds
from ..errors import BadValue

_FIGURE = re.compile(
    r"(?:(?P<times>\d+)\s*[x*]\s*)?(?P<number>\d+(?:\.\d+)?)\s*-?\s*"
    r"(?P<unit>TB/s|TBps|Tbps|Tb/s|GB/s|GBps|GiB/s|Gbps|Gb/s|Gbit/s|GbE|G(?![a-zA-Z]))(?P<each>\s*(?:/|per\s+)\s*\w+)?"
)
_INFINIBAND = {
    "xdr": 100.0,
    "ndr": 50.0,
    "hdr": 25.0,
    "edr": 12.5,
    "fdr": 6.8,
    "opa": 12.5,
    "omnipath": 12.5,
    "slingshot": 25.0,
}
"""Bytes/s (1e9) of one port by generation, for spellings without a figure."""
_PCIE = {"3": 12.0, "4": 24.0, "5": 50.0, "6": 100.0}
"""Bytes/s (1e9) that an x16 slot delivers by generation."""


_MACHINES = {
    "p3": "V100-16G",
    "p3dn": "V100-32G",
    "p4d": "A100-SXM-40G",
    "p4de": "A100-80G",
    "p5": "H100-80G",
    "p5en?": "H200",
    "g4dn": "T4",
    "g5": "A10G",
    "g6": "L4",
    "g6e": "L40S",
    "a2-highgpu": "A100-SXM-40G",
    "a2-ultragpu": "A100-80G",
    "a3-(high|mega)gpu": "H100-80G",
    "dgx-?1": "V100-32G",
    "dgx-?2h?": "V100-32G",
}
"""Machines by the names that clouds and NVIDIA sell them under, with the kind of their devices."""


def cluster_of(
    gpu: str, devices: int, per_node: int | None, intra: str, inter: str, notes: list[str]
) -> tuple[Cluster, tuple[Kind, ...]]:
    """The cluster that the columns of a row describe.

    A mixture of kinds fills the nodes in the order they are written, in equal parts.

    Parameters
    ----------
    gpu, intra, inter
        Columns as written; an empty bandwidth means the kind's usual link.
    devices, per_node
        Number of devices, and of devices in a full node (``None``: the kind's usual).
    notes
        Gets a sentence for each default used.

    Raises
    ------
    BadValue
        If no kind of the catalogue is meant, or the devices do not split over the kinds.
    """
    kinds = _kinds(gpu, intra)
    if not kinds:
        raise BadValue("gpu is blank", "name a device kind, as in A100-80G")
    if per_node is None:
        per_node = min(kind.node_size for kind in kinds)
        notes.append(f"{per_node} devices per node")
    slowest = min(kinds, key=lambda kind: kind.inter.bandwidth_Bps)
    joined = _joined(kinds, devices, per_node)
    nodes = _nodes(kinds, devices, joined, intra)
    between = _inter(slowest, inter, min(per_node, devices), notes if len(nodes) > 1 else [])
    hosts = joined // per_node
    between = Link(between.kind, between.bandwidth_Bps * hosts, between.latency_s)
    return Cluster(name=f"{devices}x{gpu}", nodes=tuple(nodes), inter=between), kinds


def _kinds(gpu: str, intra: str) -> tuple[Kind, ...]:
    """The kinds of a mixture; a machine may stand for its devices, or the device in parentheses behind it."""
    try:
        return tuple(find_kind(word, intra) for word in split_mixture(gpu))
    except BadValue:
        for prefix, name in _MACHINES.items():
            if re.search(rf"\b{prefix}\b", gpu, re.IGNORECASE):
                return (find_kind(name),)
        inside = re.search(r"\((.*?)\)", gpu)
        if inside is None:
            raise
        return (find_kind(inside[1], intra),)


def _joined(kinds: tuple[Kind, ...], devices: int, per_node: int) -> int:
    """Devices of a node, or of as many of them as NVLink joins, doubled while the cluster divides by them."""
    joined = per_node
    while all(2 * joined <= kind.domain for kind in kinds) and devices % (2 * joined) == 0:
        joined *= 2
    return joined


def _nodes(kinds: tuple[Kind, ...], devices: int, per_node: int, intra: str) -> list[Node]:
    """Whole nodes of one kind each, shared out evenly; where there are fewer nodes than kinds, devices are."""
    whole, rest = divmod(devices, per_node)
    sizes = [per_node] * whole + [rest] * (rest > 0)
    if len(sizes) < len(kinds):
        if devices % len(kinds):
            raise BadValue(f"{devices} devices do not split over {len(kinds)} kinds", "give equal numbers of each kind")
        sizes = [devices // len(kinds)] * len(kinds)
    return [
        Node(kind.device, size, _intra(kind, intra))
        for kind, size in ((kinds[i * len(kinds) // len(sizes)], size) for i, size in enumerate(sizes))
    ]


def split_mixture(gpu: str) -> list[str]:
    """The parts of a mixture (``V100/T4 mix``, ``A+B``), without what is in parentheses."""
    bare = re.sub(r"\(.*?\)", " ", gpu)
    bare = re.sub(r"\b(mix|mixed|heterogeneous|nvidia|amd|geforce|tesla|instinct)\b", " ", bare, flags=re.IGNORECASE)
    return [part.strip() for part in re.split(r"[+/,&]|\band\b", bare) if part.strip()]


def find_kind(word: str, intra: str = "") -> Kind:
    """The kind of the catalogue that a name means: its chip, then memory and form where they are given.

    Raises
    ------
    BadValue
        If no chip of the catalogue is in the name.
    """
    word = re.sub(r"^\s*\d+\s*[xX*]\s*", "", word)  # 8xA100 is eight of them
    text = re.sub(r"[^a-z0-9]+", "-", word.lower())
    chips = {kind.chip for kind in kinds().values()}
    turned = "-".join(reversed(text.split("-")))  # RTX TITAN is the TITAN RTX
    found = [chip for chip in chips if _contains(text, chip)] or [chip for chip in chips if _contains(turned, chip)]
    if not found and re.search(r"(^|-)gh(-|\d|$)", text):
        found = ["gh200"]
    if not found:
        raise BadValue(
            f"no device of the catalogue is called {word!r}", "add its kind to the catalogue, or write its chip"
        )
    chip = max(found, key=len)
    options = [kind for kind in kinds().values() if kind.chip == chip]
    size = re.search(r"(\d{2,3})\s*-?\s*gi?b?\b", word.lower().replace(chip, " "))
    form = next((f for f in ("pcie", "hbm2e", "sxm", "oam") if f in _letters(word + intra)), "sxm")
    gib = float(size.group(1)) if size else 0.0

    def distance(kind: Kind) -> tuple[float, bool]:
        far = abs(kind.device.memory_bytes / GIB - gib) if gib else -kind.device.memory_bytes / GIB
        return round(far, -1) if gib else far, kind.form != form

    if form == "hbm2e":
        options = [kind for kind in options if kind.form == form] or options
    if not gib:
        options = [kind for kind in options if kind.form == form] or options
    return min(options, key=distance)


def _contains(text: str, chip: str) -> bool:
    """Whether a name has this chip and not a longer one (a100 is not in gba1000, t4 is not in rt40)."""
    return re.search(rf"(?<![a-z0-9]){'-?'.join(chip)}(?!\d)|rtx-?{chip}(?!\d)", text) is not None


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def bytes_per_second(text: str, per_node: int) -> float | None:
    """Bytes per second of one node that a spelling means, or ``None`` if it gives no figure.

    ``50 Gbps``, ``4x100G RoCE``, ``800 Gbps/node``, ``400Gbps/GPU RDMA``, ``8x200Gbps HDR IB/node``, ``25GbE``,
    ``200 GB/s``, ``2x HDR``.
    """
    match = _FIGURE.search(text)
    if match:
        unit = match["unit"]
        scale = 125.0 if unit.startswith("Tb") else 1000.0 if unit.startswith("TB") else 1.0
        if unit.startswith("G"):
            scale = 1.0 if unit in ("GB/s", "GBps", "GiB/s") else 1 / 8
        each = _letters(match["each"] or "")
        times = int(match["times"] or 1) * (per_node if each in ("gpu", "pergpu", "device", "perdevice") else 1)
        return float(match["number"]) * scale * times * 1e9
    low = text.lower()
    for name, rate in _INFINIBAND.items():
        if name in low:
            ports = re.search(rf"(\d+)\s*x?\s*{name}", low)
            return rate * (int(ports.group(1)) if ports else 1) * 1e9
    return None


def _intra(kind: Kind, text: str) -> Link:
    low = text.lower()
    if "pcie" in low or "pci-e" in low:
        generation = re.search(r"pci-?e\s*(?:gen)?\s*-?v?([3-6])", low)
        usual = (
            kind.link.bandwidth_Bps / 1e9
            if kind.link.kind == "pcie"
            else {"volta": 12.0, "pascal": 12.0}.get(kind.device.generation, 24.0)
        )
        return Link("pcie", _PCIE[generation.group(1)] * 1e9 if generation else usual * 1e9, 10e-6)
    # A figure that is a simulator's parameter says nothing about the machine.
    figure = None if "parameter" in low else bytes_per_second(text, 1)
    if figure is None:
        return kind.link
    return Link(kind.link.kind if "nvlink" not in low else "nvlink", figure, kind.link.latency_s)


def _inter(kind: Kind, text: str, per_node: int, notes: list[str]) -> Link:
    figure = bytes_per_second(text, per_node)
    low = text.lower()
    ethernet = any(word in low for word in ("ethernet", "gbe", "tcp", "ena", "socket"))
    fabric = any(word in low for word in ("ib", "infiniband", "roce", "rdma", "efa", "omnipath", "slingshot", "dr"))
    if figure is None:
        link = kind.inter
        scale = min(1.0, per_node / kind.node_size) if link.kind == "infiniband" else 1.0
        notes.append(f"{link.bandwidth_Bps * scale * 8 / 1e9:g} Gb/s between nodes")
        return Link(link.kind, link.bandwidth_Bps * scale, link.latency_s)
    if "omnipath" in low or "omni-path" in low:
        # Omni-Path moves data by the host's cores: collectives of devices see a fifth of the line rate (6.8 to 10.6 of
        # 50 GB/s measured, bigscience-workshop/bigscience experiments/bandwidth).
        figure /= 4
    slow = figure / per_node < 2e9 and not fabric
    if ethernet or slow:
        return Link("ethernet", figure, 30e-6)
    return Link("infiniband", figure, 12e-6)
