"""Devices, nodes and links: what a plan runs on.

Device kinds come from ``catalogue/devices.toml`` (datasheet figures and measured matmul ceilings, each with its
source). A cluster is a preset ("4x8xH100-80G": nodes x devices x kind) or a TOML file.
"""

from __future__ import annotations

import math
import os
import re
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal

import msgspec

from . import artifact
from .errors import BadFile, BadValue, UnknownName
from .limits import Amount, Degree, Positive, Seconds, check

GIB = 2**30

MOST_DEVICES = 2**20
"""In one cluster; ten times what anybody has built."""


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A link between devices, or between nodes.

    Attributes
    ----------
    kind
        nvlink, nvswitch, pcie, infiniband or ethernet.
    bandwidth_Bps
        Bytes per second, one direction: per device inside a node, per node (all its NICs) between nodes.
    latency_s
        Seconds per message.
    """

    kind: Literal["nvlink", "nvswitch", "pcie", "infiniband", "ethernet", "xgmi"]
    bandwidth_Bps: Positive
    latency_s: Seconds


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One accelerator.

    Attributes
    ----------
    memory_bytes
        Capacity of one device.
    peak_flops
        Dense peak, FLOP/s, by precision (fp32, tf32, fp16, bf16, fp8).
    matmul_ceiling
        Share of the peak that large matrix products reach.
    memory_Bps
        Bandwidth of its memory, bytes/s.
    launch_s
        Time of the smallest kernel, seconds.
    sms
        Multiprocessors (compute units): matrix products run in waves over them.
    generation
        Which calibrated constants of a cost model apply: pascal, volta, turing, ampere, ada, hopper, blackwell, cdna2,
        cdna3 or cdna4.
    source
        Where the figures come from.
    """

    name: str
    memory_bytes: Positive
    peak_flops: dict[str, Positive]
    memory_Bps: Positive
    matmul_ceiling: Positive = 0.85
    launch_s: Seconds = 4e-6
    sms: Degree = 108
    generation: str = ""
    source: str = ""

    def peak(self, precision: str) -> float:
        """FLOP/s of the datasheet in a precision.

        Raises
        ------
        BadValue
            If the device has no figure for that precision.
        """
        if precision not in self.peak_flops:
            raise BadValue(
                f"{self.name} has no {precision} figure", f"choose one of {', '.join(sorted(self.peak_flops))}"
            )
        return self.peak_flops[precision]


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``devices`` equal accelerators joined by ``link``."""

    device: Device
    devices: Degree
    link: Link


class Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, kw_only=True):
    """The document ``uniap.cluster/1``: nodes in rank order and the link between them.

    ``price_per_device_hour`` is in the user's currency, for sweeps over what to rent.
    """

    schema: Literal["uniap.cluster/1"] = "uniap.cluster/1"
    name: str
    nodes: tuple[Node, ...]
    inter: Link
    price_per_device_hour: Amount | None = None

    def __post_init__(self) -> None:
        if not self.nodes:
            raise BadValue(f"cluster {self.name} has no node", "give at least one")
        for node in self.nodes:
            if node.devices < 1:
                raise BadValue(f"a node of {self.name} has {node.devices} devices", "give at least one")
            for value in (node.device.memory_bytes, node.device.memory_Bps, node.link.bandwidth_Bps):
                _positive(value, f"cluster {self.name}")
            check(node.link.latency_s, Seconds, f"the latency of a link of {self.name}")
        _positive(self.inter.bandwidth_Bps, f"cluster {self.name}: inter")
        check(self.inter.latency_s, Seconds, f"the latency between nodes of {self.name}")
        check(self.price_per_device_hour, Amount | None, f"the price of {self.name}")
        if self.devices > MOST_DEVICES:
            raise BadValue(f"cluster {self.name} has {self.devices} devices", f"give at most {MOST_DEVICES}")

    @cached_property
    def devices(self) -> int:
        """Number of devices."""
        return sum(node.devices for node in self.nodes)

    @cached_property
    def homogeneous(self) -> bool:
        """True if all nodes are alike."""
        return all(node == self.nodes[0] for node in self.nodes)

    @cached_property
    def node_size(self) -> int:
        """Devices of a node, or the largest number that divides all nodes: aligned groups of it span no two nodes."""
        return math.gcd(*(node.devices for node in self.nodes))

    @property
    def best_precision(self) -> str:
        """The usual training precision of the devices: bf16, else fp16, else fp32."""
        have = [set(node.device.peak_flops) for node in self.nodes]
        return next((p for p in ("bf16", "fp16") if all(p in flops for flops in have)), "fp32")

    @cached_property
    def node_of(self) -> tuple[int, ...]:
        """Node index of each rank."""
        return tuple(i for i, node in enumerate(self.nodes) for _ in range(node.devices))

    def device(self, rank: int) -> Device:
        """The device of a rank."""
        return self.nodes[self.node_of[rank]].device

    def stage_ranks(self, stage: int, depth: int) -> range:
        """Ranks of a stage: stages take equal, consecutive blocks of ranks."""
        size = self.devices // depth
        return range(stage * size, (stage + 1) * size)

    def stage_nodes(self, stage: int, depth: int) -> tuple[Node, ...]:
        """The nodes that a stage has ranks on."""
        ranks = self.stage_ranks(stage, depth)
        return self.nodes[self.node_of[ranks[0]] : self.node_of[ranks[-1]] + 1]

    @cached_property
    def hash(self) -> str:
        """Content hash."""
        return artifact.digest(self)


def _positive(value: float, title: str) -> None:
    if not 0 < value < float("inf"):
        raise BadValue(f"{title} has the figure {value:g}", "give a positive, finite number")


# --- presets and files ------------------------------------------------------------------------------------------


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device kind of the catalogue with the links it usually comes with.

    ``chip`` and ``form`` (sxm, pcie, ...) are what spellings of its name are matched against. ``domain`` is how many
    devices NVLink joins where it reaches beyond hosts of ``node_size`` (72 in NVL72); ``inter`` is that of one host.
    """

    device: Device
    link: Link
    inter: Link
    chip: str
    form: str
    node_size: int = 8
    domain: int = 0
    aliases: tuple[str, ...] = ()
    price_per_device_hour: float | None = None

    def between(self, devices: int) -> Link:
        """The link between nodes of so many devices, which are several hosts where NVLink joins these."""
        hosts = max(1.0, devices / self.node_size) if self.domain else 1.0
        return msgspec.structs.replace(self.inter, bandwidth_Bps=self.inter.bandwidth_Bps * hosts)


PRESETS = (
    "8xV100-32G",
    "2x4xTITANXp-12G",
    "8xA100-40G",
    "8xA100-80G",
    "4x8xA100-80G",
    "4xRTX3090",
    "8xH100-80G",
    "4x8xH100-80G",
    "64x8xH100-80G",
    "8xH200",
    "8xB200",
)
"""Examples; any ``[NODESx]DEVICESxKIND`` with a kind of the catalogue works."""


@cache
def kinds() -> dict[str, Kind]:
    """The device catalogue, by kind."""
    import tomllib

    text = resources.files("uniap_core").joinpath("catalogue/devices.toml").read_text()
    return {name: _kind(name, dict(row)) for name, row in tomllib.loads(text).items()}


def _kind(name: str, row: dict[str, Any]) -> Kind:
    device = Device(
        name=name,
        memory_bytes=row.pop("memory_gib") * GIB,
        peak_flops={precision: tera * 1e12 for precision, tera in row.pop("peak_tflops").items()},
        memory_Bps=row.pop("memory_GBps") * 1e9,
        matmul_ceiling=row.pop("matmul_ceiling"),
        launch_s=row.pop("launch_us", 4.0) * 1e-6,
        sms=row.pop("sms"),
        generation=row.pop("generation"),
        source=row.pop("source"),
    )
    for end in ("link", "inter"):
        row[end] = Link(row[end]["kind"], row[end]["GBps"] * 1e9, row[end]["latency_us"] * 1e-6)
    return msgspec.convert({"device": device, **row}, Kind)


def preset(name: str) -> Cluster:
    """The cluster that a preset name describes.

    Parameters
    ----------
    name
        ``DEVICESxKIND`` or ``NODESxDEVICESxKIND``.

    Raises
    ------
    UnknownName
        If the name does not parse or the kind is not in the catalogue.
    """
    match = re.fullmatch(r"(?:(\d+)x)?(\d+)x([A-Za-z].*)", name)
    kind = _find_kind(match.group(3)) if match else None
    if match is None or kind is None:
        raise UnknownName(
            f"there is no cluster named {name!r}",
            f"write NODESxDEVICESxKIND with a kind of {', '.join(kinds())}, or name a TOML file",
        )
    nodes, devices = int((match.group(1) or "1")[:12]), int(match.group(2)[:12])
    if nodes * devices > MOST_DEVICES:
        raise BadValue(f"cluster {name[:60]!r} has too many devices", f"give at most {MOST_DEVICES}")
    if nodes * devices == 0:
        raise BadValue(f"cluster {name!r} has no device", "give at least one node and one device")
    node = Node(kind.device, devices, kind.link)
    inter, price = kind.between(devices), kind.price_per_device_hour
    return Cluster(name=name, nodes=(node,) * nodes, inter=inter, price_per_device_hour=price)


def _find_kind(word: str) -> Kind | None:
    for name, kind in kinds().items():
        if word.lower() in (name.lower(), *(alias.lower() for alias in kind.aliases)):
            return kind
    return None


def load(name: str) -> Cluster:
    """A cluster from a preset name, a ``.toml`` file (docs/formats.md) or a ``.json`` document.

    Raises
    ------
    UnknownName, BadFile, BadValue
        If there is no such preset or file, or it has a bad field.
    """
    if name.endswith(".json"):
        return artifact.read(name, Cluster)
    if name.endswith(".toml") or os.sep in name:
        return from_toml(artifact.read_bytes(name).decode(errors="replace"), origin=name)
    return preset(name)


class NodeTable(msgspec.Struct, forbid_unknown_fields=True):
    """A ``[[nodes]]`` table of a cluster file."""

    kind: str
    devices: Degree
    count: Degree = 1
    link_GBps: Positive | None = None
    link_latency_us: Amount | None = None
    memory_gib: Positive | None = None


class ClusterTable(msgspec.Struct, forbid_unknown_fields=True):
    """A cluster file: ``name``, ``[[nodes]]``, and optionally the link between nodes and a price."""

    name: str
    nodes: list[NodeTable]
    inter_GBps: Positive | None = None
    inter_latency_us: Amount | None = None
    price_per_device_hour: Amount | None = None


MOST_TOML = 1_000_000
"""Bytes of a cluster file."""

MOST_PARTS = 64
"""Dots in one key of it: the parser takes memory by their square."""


def from_toml(text: str, origin: str = "cluster file") -> Cluster:
    """The cluster that a TOML text describes.

    Raises
    ------
    BadFile
        If it is not TOML or has an unknown or ill-typed field (with its path).
    UnknownName
        If it names a device kind that the catalogue lacks.
    """
    import tomllib

    if len(text) > MOST_TOML or any(line.partition("=")[0].count(".") > MOST_PARTS for line in text.splitlines()):
        raise BadFile(f"{origin} is too large, or has a key of too many parts", "describe nodes of a kind by count")
    try:
        table = msgspec.convert(tomllib.loads(text), ClusterTable)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise BadFile(f"{origin}: {error}", "correct that field; docs/formats.md lists them") from None
        raise BadFile(f"{origin} is not TOML: {error}", "correct the syntax") from None
    if sum(row.devices * row.count for row in table.nodes) > MOST_DEVICES:
        raise BadValue(f"{origin} has too many devices", f"give at most {MOST_DEVICES}")
    nodes: list[Node] = []
    inter: Link | None = None
    for row in table.nodes:
        kind = _find_kind(row.kind)
        if kind is None:
            raise UnknownName(f"{origin}: there is no device kind {row.kind!r}", f"known: {', '.join(kinds())}")
        inter = inter or _changed(kind.inter, table.inter_GBps, table.inter_latency_us)
        device = kind.device
        if row.memory_gib is not None:
            device = msgspec.structs.replace(device, memory_bytes=row.memory_gib * GIB)
        nodes += [Node(device, row.devices, _changed(kind.link, row.link_GBps, row.link_latency_us))] * row.count
    if inter is None:
        raise BadFile(f"{origin} lists no nodes", "add a [[nodes]] table with kind and devices")
    return Cluster(name=table.name, nodes=tuple(nodes), inter=inter, price_per_device_hour=table.price_per_device_hour)


def _changed(link: Link, gigabytes: float | None, microseconds: float | None) -> Link:
    return Link(
        link.kind,
        link.bandwidth_Bps if gigabytes is None else gigabytes * 1e9,
        link.latency_s if microseconds is None else microseconds * 1e-6,
    )
