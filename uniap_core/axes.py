"""How the ranks of a stage are arranged: the grids of a strategy, and the groups that follow from them.

The same ranks lie on two grids, each written innermost axis first, so that ranks next to each other work together
most closely: the dense grid tp x cp x dp, and the expert grid etp x ep x edp on which experts are placed (GShard,
Lepikhin et al. 2020; expert tensor and data parallelism as in Megatron-Core's parallel folding, arXiv 2504.14960).
Which ranks form a group, how far apart they are, what is cut over whom and the shapes of device meshes are read from
here; only the verifier has its own account of it (:mod:`uniap_core.verify.layout`).

Plain Python: ``uniap export --to fsdp`` writes this file beside the scripts that it makes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

DENSE = ("tp", "cp", "dp")
"""Axes of the dense grid, innermost first."""

EXPERT = ("etp", "ep", "edp")
"""Axes of the expert grid, innermost first."""

GROUPED = (*DENSE, *EXPERT)
"""Groups that an executor's dry run is held to."""

SHARDED: dict[str, tuple[str, ...]] = {
    "none": (),
    "zero1": ("optimizer",),
    "zero2": ("gradients", "optimizer"),
    "zero3": ("parameters", "gradients", "optimizer"),
}
"""What each sharding cuts over the ranks that hold the same parameters (ZeRO, arXiv 1910.02054)."""

Groups = tuple[tuple[int, ...], ...]


class Span(NamedTuple):
    """Ranks that work together: ``size`` of them, ``stride`` apart."""

    size: int
    stride: int

    def place(self, rank: Any) -> Any:
        """Place of a rank of the stage (or of an array of them) within its group."""
        return rank // self.stride % self.size

    def peers(self, rank: int) -> range:
        """The group of a rank of the stage, itself included."""
        first = rank - self.place(rank) * self.stride
        return range(first, first + self.size * self.stride, self.stride)

    def part(self, rank: int, count: int) -> slice:
        """Which of ``count`` things a rank has that are cut over its group; ``size`` divides them."""
        each = count // self.size
        return slice(self.place(rank) * each, (self.place(rank) + 1) * each)

    def groups(self, ranks: Sequence[int]) -> Groups:
        """Every group among some ranks, whose number ``size * stride`` divides; each rank is in one of them."""
        block = self.size * self.stride
        starts = (base + offset for base in range(0, len(ranks), block) for offset in range(self.stride))
        return tuple(tuple(ranks[start : start + block : self.stride]) for start in starts)

    def split(self, inner: int) -> tuple[Span, Span]:
        """The group as ``inner`` neighbours by the rest; ``inner`` divides its size."""
        return Span(inner, self.stride), Span(self.size // inner, self.stride * inner)


class Grid(NamedTuple):
    """Named axes over a number of ranks, innermost first."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def size(self, name: str) -> int:
        """Size of an axis."""
        return self.sizes[self.names.index(name)]

    @property
    def ranks(self) -> int:
        """Ranks that it arranges."""
        return math.prod(self.sizes)

    def span(self, first: str, *more: str) -> Span:
        """The groups along an axis, or along axes that are neighbours in the grid, taken as one."""
        names = (first, *more)
        at = min(self.names.index(name) for name in names)
        if set(self.names[at : at + len(names)]) != set(names):
            raise ValueError(f"{' and '.join(names)} are no neighbours among {', '.join(self.names)}")
        return Span(math.prod(self.sizes[at : at + len(names)]), math.prod(self.sizes[:at]))

    def beside(self, name: str, size: int, *, inside: str) -> Grid:
        """The grid with one more axis just inside another, which it divides."""
        at = self.names.index(inside)
        sizes = (*self.sizes[:at], size, self.sizes[at] // size, *self.sizes[at + 1 :])
        return Grid((*self.names[:at], name, *self.names[at:]), sizes)

    def piled(self, name: str, size: int) -> Grid:
        """So many grids one after the other, along a new outermost axis: the stages of a pipeline."""
        return Grid((*self.names, name), (*self.sizes, size))

    def mesh(self, *left_out: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape and names of the device mesh, outermost first, without some axes of size 1."""
        rows = [row for row in zip(self.sizes, self.names, strict=True) if row[1] not in left_out]
        if math.prod(size for size, _ in rows) != self.ranks:
            raise ValueError(f"an axis of {', '.join(left_out)} has more than one rank")
        return tuple(size for size, _ in reversed(rows)), tuple(name for _, name in reversed(rows))


class Layout(NamedTuple):
    """How an activation lies on the ranks of a stage.

    ``split`` says that the ranks of a tensor-parallel group hold slices of its rows (sequence parallelism, Korthikanti
    et al. 2022) and not all the same.
    """

    grid: Grid
    split: bool

    @property
    def samples(self) -> Span:
        """Ranks that hold different samples."""
        return self.grid.span("dp")

    @property
    def rows(self) -> Span:
        """Ranks that hold different rows (positions) of the same samples."""
        return self.grid.span("tp", "cp") if self.split else self.grid.span("cp")


@dataclass(frozen=True)
class Grids:
    """The two grids over the ranks of a stage."""

    dense: Grid
    expert: Grid

    @cached_property
    def data(self) -> Span:
        """Ranks that hold the same dense parameters: what context and data parallelism spread samples over."""
        return self.dense.span("cp", "dp")

    @cached_property
    def expert_data(self) -> Span:
        """Ranks that hold the same experts."""
        return self.expert.span("edp")

    def groups(self, ranks: Sequence[int]) -> dict[str, Groups]:
        """The groups of every kind (:data:`GROUPED`) on the ranks of a stage."""
        return {
            kind: (self.dense if kind in self.dense.names else self.expert).span(kind).groups(ranks) for kind in GROUPED
        }


@lru_cache(maxsize=65536)
def arrange(*, tp: int = 1, cp: int = 1, dp: int = 1, ep: int = 1, etp: int | None = None) -> Grids:
    """The grids of some degrees.

    Parameters
    ----------
    etp
        How many ways each expert is cut; ``None`` cuts it by tensor parallelism as all else is.

    Raises
    ------
    ValueError
        If the expert grid cannot hold the same ranks.
    """
    dense, etp = Grid(DENSE, (tp, cp, dp)), etp or tp
    edp, rest = divmod(dense.ranks, etp * ep)
    if rest:
        what = "dp * cp" if etp == tp else f"tp * cp * dp / etp {etp}"
        raise ValueError(f"ep {ep} does not divide {what} = {dense.ranks / etp:g}")
    return Grids(dense, Grid(EXPERT, (etp, ep, edp)))


def shards(data: Span, sharding: str, replicate: int = 1) -> tuple[Span, Span]:
    """The ranks that share a state under a sharding, and those that hold copies of the same share.

    Ranks that share are neighbours; replicas lie beside each other (hybrid sharding, Zhao et al. 2023, arXiv
    2304.11277, section 3.2.2).

    Parameters
    ----------
    data
        Ranks that hold the same parameters: :attr:`Grids.data` or :attr:`Grids.expert_data`.
    replicate
        How many groups that share there are; it divides their number.
    """
    return data.split(data.size // replicate if SHARDED[sharding] else 1)


def cut(state: str, sharding: str, data: Span, replicate: int = 1) -> int:
    """Into how many parts a state (``parameters``, ``gradients``, ``optimizer``) is cut under a sharding."""
    return shards(data, sharding, replicate)[0].size if state in SHARDED[sharding] else 1
