"""Which layer each operator belongs to: repeated blocks of the module tree, and what lies between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from uniap_core.api import UnknownName

if TYPE_CHECKING:
    from torch import nn

    from .records import Record, Recording

CONTAINERS = frozenset({"layer", "layers", "block", "blocks", "h", "resblocks"})
"""Names of containers that layer names call ``layers``."""


@dataclass
class Part:
    """A layer to be: its name, the modules it covers, and its records in order."""

    name: str
    module: str
    block: bool
    records: list[Record] = field(default_factory=list)


def partition(module: nn.Module, recording: Recording, pattern: str | None = None) -> list[Part]:
    """Split the records that gradients flow through into layers, in order of execution.

    Blocks are the modules that ``pattern`` matches, or else the repeated ones. What runs between blocks forms
    layers of its own, one for each piece that hangs together by data (an embedding, a merge, a head).

    Parameters
    ----------
    pattern
        Comma-separated module paths in which ``*`` stands for one component: ``model.layers.*``.

    Raises
    ------
    UnknownName
        If the pattern matches no module that ran.
    """
    ran = {prefix for record in recording.records for prefix in prefixes(record.path)}
    blocks = matched(module, pattern, ran) if pattern else repeated(module, recording)
    names = block_names(blocks)
    parts: dict[str, Part] = {}
    owner: dict[int, str] = {}
    loose: list[Record] = []
    epochs: dict[int, int] = {}
    for record in recording.records:
        block = next((p for p in prefixes(record.path) if p in names), None)
        if block is not None:
            parts.setdefault(block, Part(names[block], block, True))
            if record.real or record.op == "dropout":
                parts[block].records.append(record)
                owner[record.index] = block
        elif record.real or record.op == "dropout":
            loose.append(record)
            epochs[record.index] = len(parts)
    read = {p for record in recording.records for p in record.producers}
    for key, records in pieces(loose, epochs, recording).items():
        used = any(r.index in read for r in records) or records[-1] is recording.records[-1]
        if not used and not any(r.parameters or r.op.startswith("nll_loss") for r in records):
            continue  # an output on the side that nothing reads
        own = any(r.parameters for r in records)
        home = next((owner[p] for r in records for p in r.producers if p in owner), None)
        if not own and home is not None and not any(r.op.startswith("nll_loss") for r in records):
            # Work without parameters belongs to the layer whose result it transforms.
            parts[home].records += records
            owner.update((r.index, home) for r in records)
        else:
            parts[f"piece {key}"] = Part("", "", False, records)
            owner.update((r.index, f"piece {key}") for r in records)
    ordered = sorted((p for p in parts.values() if p.records), key=lambda part: min(r.index for r in part.records))
    name_pieces(ordered)
    return ordered


def prefixes(path: str) -> Iterator[str]:
    """The path and its ancestors, innermost first, without the root."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def matched(module: nn.Module, pattern: str, ran: set[str]) -> list[str]:
    """Modules that ran and match one of the patterns, component by component."""
    patterns = [p.strip().split(".") for p in pattern.split(",") if p.strip()]

    def matches(path: str) -> bool:
        parts = path.split(".")
        return any(len(p) == len(parts) and all(map(fnmatchcase, parts, p)) for p in patterns)

    found = [name for name, _ in module.named_modules() if name in ran and matches(name)]
    if not found:
        raise UnknownName(
            f"no module that ran matches --layers {pattern!r}",
            f"write a path like those of the model: {', '.join(sorted(ran, key=len)[:6]) or 'it has no submodules'}",
        )
    return [f for f in found if not any(f.startswith(f"{other}.") for other in found)]


def repeated(module: nn.Module, recording: Recording) -> list[str]:
    """The modules that repeat one after the other, each fed by the one before.

    A Hugging Face model marks them itself (``GradientCheckpointingLayer``); in other models they are the children of
    one class in a list or sequence, if they run as a chain (which experts of a mixture do not). Chains inside the
    blocks of a chain count instead only if they hold most of it (the blocks of a stage) and are no mere products.
    """
    marked = [n for n, m in module.named_modules() if any(c.__name__ == MARK for c in type(m).__mro__)]
    inner = [n for n in marked if not any(other.startswith(f"{n}.") for other in marked)]
    if inner:
        return inner
    found = chains(module, recording, "")
    return found or [n for n, c in module.named_children() if any(True for _ in c.parameters())] or [""]


def chains(module: nn.Module, recording: Recording, path: str) -> list[str]:
    """Paths of the blocks in or below a module."""
    children = [(f"{path}.{key}".strip("."), child) for key, child in module.named_children() if size(child)]
    below = {name: chains(child, recording, name) for name, child in children}
    if type(module).__name__ in ("ModuleList", "Sequential", "ModuleDict"):
        kinds: dict[type, list[str]] = defaultdict(list)
        for name, child in children:
            kinds[type(child)].append(name)
        blocks = max(kinds.values(), key=len, default=[])
        if len(blocks) > 1 and chained(blocks, recording):
            whole = dict(children)
            stages = all(
                sum(size(whole[name].get_submodule(inner[len(name) + 1 :])) for inner in below[name])
                > size(whole[name]) / 2
                and all(
                    any(True for _ in whole[name].get_submodule(i[len(name) + 1 :]).children()) for i in below[name]
                )
                for name in blocks
            )
            if not stages:
                return blocks
    return [inner for name, _ in children for inner in below[name]]


def size(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


MARK = "GradientCheckpointingLayer"


def chained(paths: list[str], recording: Recording) -> bool:
    """Whether each module runs once, in order, and depends on the one before it."""
    place = {path: i for i, path in enumerate(paths)}
    of: dict[int, int] = {}
    reached: dict[int, int] = {}
    fed = [False] * len(paths)
    order: list[int] = []
    for record in recording.records:
        if not record.real:
            continue
        inside = next((place[p] for p in prefixes(record.path) if p in place), None)
        outside = [p for p in record.producers if inside is None or of.get(p) != inside]
        before = max((reached.get(p, -1) for p in outside), default=-1)
        if inside is not None:
            of[record.index] = inside
            if not order or order[-1] != inside:
                order.append(inside)
            fed[inside] |= inside == 0 or before >= inside - 1
            before = inside
        reached[record.index] = before
    return order == list(range(len(paths))) and all(fed)


def block_names(paths: list[str]) -> dict[str, str]:
    """Layer names of blocks: ``layers.3``, or ``encoder.layers.3`` where there are several stacks."""
    stacks = list(dict.fromkeys(path.rpartition(".")[0] for path in paths))
    common = common_path(stacks) if len(stacks) > 1 else ""
    names = {}
    for path in paths:
        stack, _, last = path.rpartition(".")
        parts = stack.split(".") if len(stacks) == 1 else stack[len(common) :].strip(".").split(".")
        parts = ["layers" if p in CONTAINERS else p for p in parts]
        if len(stacks) == 1 and last.isdigit():
            parts = ["layers"]
        if parts[0].isdigit():
            parts.insert(0, "stages")
        names[path] = ".".join([*filter(None, parts), last])
    return names


def common_path(paths: Iterable[str]) -> str:
    """The longest module path that all paths lie in."""
    split = [path.split(".") for path in paths]
    common = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def pieces(loose: list[Record], epochs: dict[int, int], recording: Recording) -> dict[int, list[Record]]:
    """Records outside blocks, grouped by data flow between the same two blocks; keyed by their first record."""
    root = {record.index: record.index for record in loose}

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for record in loose:
        for producer in record.producers:
            if producer in root and epochs[producer] == epochs[record.index]:
                first, second = sorted((find(producer), find(record.index)))
                root[second] = first
    groups: dict[int, list[Record]] = defaultdict(list)
    for record in loose:
        groups[find(record.index)].append(record)
    return groups


def name_pieces(parts: list[Part]) -> None:
    """Name what is not a block: ``embedding``, ``head``, or the path of its module."""
    taken = {part.name for part in parts if part.block}
    loose = [part for part in parts if not part.block]
    stacks = {part.name.partition(".")[0] for part in parts if part.block}
    for part in loose:
        paths = [r.path for r in part.records if r.parameters]
        part.module = ",".join(dict.fromkeys(p for p in paths if p))
        where = common_path(paths or [r.path for r in part.records])
        role = "embedding" if any(r.op == "embedding" for r in part.records) or part is parts[0] else ""
        role = "head" if part is parts[-1] else role
        stack = where.partition(".")[0]
        prefix = f"{stack}." if role == "embedding" and stack in stacks and len(stacks) > 1 else ""
        name = prefix + role if role else where or "glue"
        number = 1
        while name in taken:
            number += 1
            name = f"{name.rstrip('0123456789')}{number}"
        taken.add(name)
        part.name = name
