"""Devices, nodes and links: what a plan runs on.

A cluster is a preset ("4x8xH100-80G": nodes x devices x kind of :mod:`uniap_core.devices`) or a TOML file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from . import artifact, kind_tables
from .devices import GIB, Device, Kind, Link, kind_of, kinds, named
from .errors import BadFile, BadValue, UnknownName
from .limits import Amount, Degree, Positive, Seconds, check

MOST_DEVICES = 2**20
"""In one cluster; ten times what anybody has built."""


class Bank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``devices`` equal accelerators of a node that has several kinds."""

    device: Device
    devices: Degree


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``devices`` accelerators joined by ``link``: the first of them ``device``, then those of ``others``.

    ``others`` is left out of files where all are equal, as it was before there were nodes of several kinds.
    """

    device: Device
    devices: Degree
    link: Link
    others: tuple[Bank, ...] | UnsetType = UNSET

    @property
    def banks(self) -> tuple[Bank, ...]:
        """Its devices in rank order, those that are equal and neighbours together."""
        others = self.others or ()
        return Bank(self.device, self.devices - sum(bank.devices for bank in others)), *others

    def with_devices(self, change: Callable[[Device], Device]) -> Node:
        """The same node of changed devices."""
        others = self.others and tuple(Bank(change(bank.device), bank.devices) for bank in self.others)
        return msgspec.structs.replace(self, device=change(self.device), others=others or UNSET)


class Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True, kw_only=True):
    """The document ``uniap.cluster/1``: nodes in rank order and the link between them.

    ``price_per_device_hour`` is in the user's currency, for sweeps over what to rent. ``nvlink_nodes`` is how many
    neighbouring nodes, which are equal then, one NVLink joins (18 in NVL72); one, where it is not given.
    """

    schema: Literal["uniap.cluster/1"] = "uniap.cluster/1"
    name: str
    nodes: tuple[Node, ...]
    inter: Link
    price_per_device_hour: Amount | None = None
    nvlink_nodes: Degree | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not self.nodes:
            raise BadValue(f"cluster {self.name} has no node", "give at least one")
        for node in self.nodes:
            if node.devices < 1:
                raise BadValue(f"a node of {self.name} has {node.devices} devices", "give at least one")
            if any(bank.devices < 1 for bank in node.banks):
                raise BadValue(f"a node of {self.name} has other devices than it counts", "let the counts add up")
            figures = [f for bank in node.banks for f in (bank.device.memory_bytes, bank.device.memory_Bps)]
            for value in (*figures, node.link.bandwidth_Bps):
                _positive(value, f"cluster {self.name}")
            check(node.link.latency_s, Seconds, f"the latency of a link of {self.name}")
        _positive(self.inter.bandwidth_Bps, f"cluster {self.name}: inter")
        check(self.inter.latency_s, Seconds, f"the latency between nodes of {self.name}")
        check(self.price_per_device_hour, Amount | None, f"the price of {self.name}")
        if self.nvlink_nodes is not UNSET:
            check(self.nvlink_nodes, Degree, f"nvlink_nodes of {self.name}")
            if not self.homogeneous:
                raise BadValue(f"NVLink joins nodes of {self.name} that are unlike", "leave nvlink_nodes out")
        if self.devices > MOST_DEVICES:
            raise BadValue(f"cluster {self.name} has {self.devices} devices", f"give at most {MOST_DEVICES}")

    @cached_property
    def devices(self) -> int:
        """Number of devices."""
        return sum(node.devices for node in self.nodes)

    @cached_property
    def homogeneous(self) -> bool:
        """True if all devices and all nodes are alike."""
        return not self.nodes[0].others and all(node == self.nodes[0] for node in self.nodes)

    @cached_property
    def fabric(self) -> Cluster:
        """The same devices as their links see them: hosts that one NVLink joins are one node.

        Their network cards are all used at once by what leaves them.
        """
        hosts = min(self.nvlink_nodes or 1, len(self.nodes))
        if hosts == 1:
            return self
        whole, rest = divmod(len(self.nodes), hosts)
        host = self.nodes[0]
        nodes = tuple(
            msgspec.structs.replace(host, devices=host.devices * count)
            for count in [hosts] * whole + [rest] * (rest > 0)
        )
        inter = msgspec.structs.replace(self.inter, bandwidth_Bps=self.inter.bandwidth_Bps * hosts)
        return msgspec.structs.replace(self, nodes=nodes, inter=inter, nvlink_nodes=UNSET)

    @cached_property
    def node_size(self) -> int:
        """Devices of a node, or the largest number that divides all nodes: aligned groups of it span no two nodes."""
        return math.gcd(*(node.devices for node in self.nodes))

    @property
    def best_precision(self) -> str:
        """The usual training precision of the devices: bf16, else fp16, else fp32."""
        have = [set(device.peak_flops) for device in self.device_kinds]
        return next((p for p in ("bf16", "fp16") if all(p in flops for flops in have)), "fp32")

    @cached_property
    def node_of(self) -> tuple[int, ...]:
        """Node index of each rank."""
        return tuple(i for i, node in enumerate(self.nodes) for _ in range(node.devices))

    @cached_property
    def device_of(self) -> tuple[Device, ...]:
        """Device of each rank."""
        return tuple(bank.device for node in self.nodes for bank in node.banks for _ in range(bank.devices))

    @cached_property
    def device_kinds(self) -> tuple[Device, ...]:
        """The different devices, in rank order."""
        found: list[Device] = []
        for node in self.nodes:
            found += [bank.device for bank in node.banks if bank.device not in found]
        return tuple(found)

    def device(self, rank: int) -> Device:
        """The device of a rank."""
        return self.device_of[rank]

    def devices_among(self, ranks: range) -> tuple[Device, ...]:
        """The devices of consecutive ranks; equal ones of a node once."""
        return tuple({id(device): device for device in self.device_of[ranks.start : ranks.stop]}.values())

    def reordered(self, order: Sequence[int]) -> Cluster:
        """The same machines with their nodes in another order, which its name then says.

        Raises
        ------
        BadValue
            If the order does not name every node once, from 0.
        """
        if sorted(order) != list(range(len(self.nodes))):
            raise BadValue(
                f"the order {','.join(map(str, order))} does not name each of the {len(self.nodes)} nodes once",
                f"write the numbers 0 to {len(self.nodes) - 1} with commas, each once",
            )
        nodes = tuple(self.nodes[i] for i in order)
        if nodes == self.nodes:
            return self
        name = f"{self.name} (nodes {','.join(map(str, order))})"
        return msgspec.structs.replace(self, name=name, nodes=nodes)

    @cached_property
    def hash(self) -> str:
        """Content hash."""
        return artifact.digest(self)


def _positive(value: float, title: str) -> None:
    if not 0 < value < float("inf"):
        raise BadValue(f"{title} has the figure {value:g}", "give a positive, finite number")


# --- presets and files ------------------------------------------------------------------------------------------


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
    if match is None:
        raise UnknownName(
            f"there is no cluster named {name!r}",
            "write NODESxDEVICESxKIND like 2x8xA100-40G with a kind of uniap clusters, or name a TOML file",
        )
    kind = named(match.group(3), kinds(), f"cluster {name[:60]!r}")
    nodes, devices = int((match.group(1) or "1")[:12]), int(match.group(2)[:12])
    if nodes * devices > MOST_DEVICES:
        raise BadValue(f"cluster {name[:60]!r} has too many devices", f"give at most {MOST_DEVICES}")
    if nodes * devices == 0:
        raise BadValue(f"cluster {name!r} has no device", "give at least one node and one device")
    node = Node(kind.device, devices, kind.link)
    inter, price = kind.between(devices), kind.price_per_device_hour
    return Cluster(
        name=name,
        nodes=(node,) * nodes,
        inter=inter,
        price_per_device_hour=price,
        nvlink_nodes=_joined(kind, nodes, devices),
    )


def _joined(kind: Kind, nodes: int, devices: int) -> int | UnsetType:
    """How many nodes of so many devices NVLink joins: the most that it reaches and that all of them divide by."""
    reach = max(1, kind.domain // devices)
    hosts = max(count for count in range(1, min(reach, nodes) + 1) if nodes % count == 0)
    return hosts if hosts > 1 else UNSET


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


class DeviceTable(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of ``devices`` in a ``[[nodes]]`` table whose devices are of several kinds."""

    kind: str
    count: Degree = 1
    memory_gib: Positive | None = None


class NodeTable(msgspec.Struct, forbid_unknown_fields=True):
    """A ``[[nodes]]`` table of a cluster file: ``kind`` and how many, or a list of those."""

    devices: Degree | list[DeviceTable]
    kind: str | None = None
    count: Degree = 1
    link_GBps: Positive | None = None
    link_latency_us: Amount | None = None
    memory_gib: Positive | None = None

    def entries(self) -> list[DeviceTable]:
        """Its devices by kind, in rank order.

        Raises
        ------
        BadValue
            If it gives a kind twice or none.
        """
        several = isinstance(self.devices, list)
        if several == (self.kind is not None) or not self.devices:
            raise BadValue(
                "a [[nodes]] table gives the kinds of its devices twice, or none",
                'write kind = "A100-80G", devices = 8, or devices = [{kind = "A100-80G", count = 1}, ...]',
            )
        if isinstance(self.devices, list):
            return [msgspec.structs.replace(e, memory_gib=e.memory_gib or self.memory_gib) for e in self.devices]
        return [DeviceTable(self.kind or "", self.devices, self.memory_gib)]


class ClusterTable(msgspec.Struct, forbid_unknown_fields=True):
    """A cluster file: ``name``, ``[[nodes]]``, and optionally own ``[[kinds]]``, the link between nodes and a price."""

    name: str
    nodes: list[NodeTable]
    kinds: list[kind_tables.KindTable] = []
    inter_GBps: Positive | None = None
    inter_latency_us: Amount | None = None
    price_per_device_hour: Amount | None = None
    nvlink_nodes: Degree | None = None


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
    if sum(entry.count * row.count for row in table.nodes for entry in row.entries()) > MOST_DEVICES:
        raise BadValue(f"{origin} has too many devices", f"give at most {MOST_DEVICES}")
    known = {**kinds(), **{name: kind_of(name, row) for name, row in kind_tables.own(table.kinds).items()}}
    nodes: list[Node] = []
    inters: list[Link] = []
    for row in table.nodes:
        node, found = _node(row, known, origin)
        nodes += [node] * row.count
        inters += found
    if not inters:
        raise BadFile(f"{origin} lists no nodes", "add a [[nodes]] table with kind and devices")
    # What joins unequal nodes is as fast as the slowest of them.
    inter = _changed(_slowest(inters), table.inter_GBps, table.inter_latency_us)
    joined: int | UnsetType = UNSET if table.nvlink_nodes in (None, 1) else table.nvlink_nodes
    if table.nvlink_nodes is None and len(table.nodes) == 1 and table.nodes[0].kind is not None:
        joined = _joined(named(table.nodes[0].kind, known, origin), len(nodes), nodes[0].devices)
    price = table.price_per_device_hour
    return Cluster(name=table.name, nodes=tuple(nodes), inter=inter, price_per_device_hour=price, nvlink_nodes=joined)


def _node(row: NodeTable, known: dict[str, Kind], origin: str) -> tuple[Node, list[Link]]:
    """A node, and the links that its kinds usually have to other nodes."""
    banks, links, inters = [], [], []
    for entry in row.entries():
        kind = named(entry.kind, known, origin)
        device = kind.device
        if entry.memory_gib is not None:
            device = msgspec.structs.replace(device, memory_bytes=entry.memory_gib * GIB)
        banks.append(Bank(device, entry.count))
        links.append(kind.link)
        inters.append(kind.inter)
    link = _changed(_slowest(links), row.link_GBps, row.link_latency_us)
    node = Node(banks[0].device, sum(bank.devices for bank in banks), link, tuple(banks[1:]) or UNSET)
    return node, inters


def _slowest(links: Sequence[Link]) -> Link:
    return min(links, key=lambda link: (link.bandwidth_Bps, -link.latency_s))


def _changed(link: Link, gigabytes: float | None, microseconds: float | None) -> Link:
    return Link(
        link.kind,
        link.bandwidth_Bps if gigabytes is None else gigabytes * 1e9,
        link.latency_s if microseconds is None else microseconds * 1e-6,
    )
