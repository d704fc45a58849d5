"""Devices and links, and the catalogue of device kinds.

Kinds come from ``catalogue/devices.toml`` (datasheet figures and measured matmul ceilings, each with its source) and
from the ``[[kinds]]`` of a user's file.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec

from . import kind_tables
from .errors import BadValue
from .limits import Degree, Positive, Seconds
from .precisions import PRECISIONS, precision

GIB = 2**30


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
        Dense peak, FLOP/s, by what its units multiply (:data:`uniap_core.precisions.FIGURES`); what it has none of, its
        units do not.
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

    def runs(self, name: str) -> bool:
        """Whether the device has what a precision recipe needs: units with a figure, and kernels for its generation."""
        known = PRECISIONS.get(name)
        if known is None or known.figure not in self.peak_flops:
            return False
        return not known.made or not self.generation or self.generation in known.made

    def peak(self, name: str) -> float:
        """FLOP/s of the datasheet in linear layers under a precision recipe.

        Raises
        ------
        BadValue
            If there is no such recipe, or the device has no units or no kernels for it.
        """
        known = precision(name)
        if not self.runs(name):
            why = f"no {known.figure} figure"
            if known.figure in self.peak_flops:
                made = " or ".join(known.made)
                why = f"no kernels for {name}: it is of generation {self.generation}, and they are of {made}"
            raise BadValue(
                f"{self.name} has {why}", f"choose one of {', '.join(name for name in PRECISIONS if self.runs(name))}"
            )
        return self.peak_flops[known.figure]


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


@cache
def kinds() -> dict[str, Kind]:
    """The device catalogue, by kind."""
    return {name: kind_of(name, row) for name, row in kind_tables.catalogue().items()}


def kind_of(name: str, row: kind_tables.Row) -> Kind:
    """The kind that a table describes."""
    row = dict(row)
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
    ends = {end: Link(row[end]["kind"], row[end]["GBps"] * 1e9, row[end]["latency_us"] * 1e-6) for end in LINKS}
    return msgspec.convert({"device": device, **row, **ends}, Kind)


LINKS = ("link", "inter")


def named(word: str, known: dict[str, Kind], title: str) -> Kind:
    """The kind of a name or an alias, in any case.

    Raises
    ------
    UnknownName
        If there is none, with those that may be meant.
    """
    aliases = {name: kind.aliases for name, kind in known.items()}
    found = kind_tables.find(word, aliases)
    if found is None:
        raise kind_tables.unknown(word, aliases, title)
    return known[found]
