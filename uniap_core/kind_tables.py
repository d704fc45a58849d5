"""Device kinds as tables of TOML: those of the catalogue, and those that users write into their cluster files."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

import msgspec

from .errors import BadFile, UnknownName
from .limits import Amount, Degree, Positive
from .precisions import FIGURES

Row = dict[str, Any]
"""A kind as ``catalogue/devices.toml`` has it."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
"""Of a peak, and some of it."""

NEEDED = ("memory_gib", "peak_tflops", "memory_GBps", "generation", "link", "inter")
"""What a kind that is like no other must say."""

USUAL: Row = {"matmul_ceiling": 0.85, "sms": 108, "form": "", "source": "the user's cluster file"}

EXAMPLE = """\
[[kinds]]
name = "GB10"
like = "RTX5090"               # optional: whatever is left out is as there
memory_gib = 119.0
memory_GBps = 273.0
peak_tflops = { bf16 = 62.0, fp16 = 62.0, fp32 = 31.0 }
link = { kind = "pcie", GBps = 25.0, latency_us = 10.0 }
inter = { kind = "ethernet", GBps = 25.0, latency_us = 10.0 }

[[nodes]]
kind = "GB10"
devices = 1
count = 2
"""


class LinkTable(msgspec.Struct, forbid_unknown_fields=True):
    """``link`` (per device, inside a node) or ``inter`` (per node) of a kind; GB/s in one direction."""

    kind: Literal["nvlink", "nvswitch", "pcie", "infiniband", "ethernet", "xgmi"]
    GBps: Positive
    latency_us: Amount = 10.0


class KindTable(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A ``[[kinds]]`` table of a cluster file; ``like`` names a kind that it takes everything else from."""

    name: str
    like: str | None = None
    memory_gib: Positive | None = None
    peak_tflops: dict[Literal["fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4"], Positive] | None = None
    memory_GBps: Positive | None = None
    matmul_ceiling: Share | None = None
    launch_us: Amount | None = None
    sms: Degree | None = None
    generation: str | None = None
    link: LinkTable | None = None
    inter: LinkTable | None = None


@cache
def catalogue() -> dict[str, Row]:
    """The kinds that are shipped, in their order."""
    import tomllib

    return tomllib.loads(resources.files("uniap_core").joinpath("catalogue/devices.toml").read_text())


def own(tables: Sequence[KindTable]) -> dict[str, Row]:
    """The kinds of a file by name, complete: what one leaves out is as in the kind that it is like.

    Raises
    ------
    BadFile
        If a name is taken, a figure lacks or makes no sense.
    UnknownName
        If one is like a kind that is neither in the catalogue nor before it in the file.
    """
    known = dict(catalogue())
    for table in tables:
        title = f"kind {table.name!r}"
        if find(table.name, _aliases(known)) is not None:
            raise BadFile(f"{title} is known already", "choose another name for yours")
        if not re.fullmatch(r"[A-Za-z][\w.+-]*", table.name):
            raise BadFile(f"{title} is no name", "start with a letter; no spaces")
        known[table.name] = _row(table, known, title)
    return {table.name: known[table.name] for table in tables}


def _row(table: KindTable, known: dict[str, Row], title: str) -> Row:
    base: Row = {**USUAL, "chip": table.name.lower()}
    if table.like is not None:
        found = find(table.like, _aliases(known))
        if found is None:
            raise unknown(table.like, _aliases(known), title)
        base = {k: v for k, v in known[found].items() if k not in ("aliases", "price_per_device_hour")}
        base["source"] = f"{USUAL['source']}, like {found}"
    given = msgspec.to_builtins(table)  # its peaks replace all those of the other kind: half of each is no device
    row = {**base, **{key: value for key, value in given.items() if key not in ("name", "like")}}
    missing = [key for key in NEEDED if key not in row]
    if missing:
        raise BadFile(
            f"{title} lacks {', '.join(missing)}", 'give them, or name a kind that it is like (like = "H100-80G")'
        )
    _check(row, title)
    return row


def _check(row: Row, title: str) -> None:
    if not row["peak_tflops"]:
        raise BadFile(f"{title} has no peak_tflops", f"give one of {', '.join(FIGURES)}")
    generations = dict.fromkeys(other["generation"] for other in catalogue().values())
    if row["generation"] not in generations:
        raise BadFile(f"{title} is of generation {row['generation']!r}", f"choose of {', '.join(generations)}")


# --- names ------------------------------------------------------------------------------------------------------


def _aliases(known: Mapping[str, Row]) -> dict[str, Sequence[str]]:
    return {name: row.get("aliases", ()) for name, row in known.items()}


def find(word: str, known: Mapping[str, Sequence[str]]) -> str | None:
    """The name of a kind that a word names, in any case; ``known`` are aliases by name."""
    for name, aliases in known.items():
        if word.lower() in (name.lower(), *(alias.lower() for alias in aliases)):
            return name
    return None


def unknown(word: str, known: Mapping[str, Sequence[str]], title: str) -> UnknownName:
    """The refusal of a word that names no kind: which ones may be meant, and how to describe another.

    A word that begins several names is ambiguous; otherwise the nearest names are listed.
    """
    plain = _plain(word)
    meant = [name for name in known if plain and _plain(name).startswith(plain)]
    describe = "describe yours in a TOML file ([[kinds]], see uniap clusters)"
    if meant:
        return UnknownName(
            f"{title}: {word!r} may be {_either(meant)}", f"write the one you have; if none is, {describe}"
        )
    names = {_plain(name): name for name in known}
    near = [names[n] for n in difflib.get_close_matches(plain, names, n=3, cutoff=0.6)]
    hint = f"did you mean {_either(near)}? " if near else ""
    return UnknownName(
        f"{title}: there is no device kind {word!r}",
        f"{hint}uniap clusters lists the {len(known)} known (A100-40G, H100-80G, ...); or {describe}",
    )


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _either(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
