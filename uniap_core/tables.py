"""The tables of one candidate: ranks, layers, edges, and which of them are alike. The ground floor of the maths.

A *rank* is a pipeline rank: the devices that hold the same part of the pipeline. Each holds one or more *chunks*,
consecutive layers of the flow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

Array = np.ndarray
"""A float64 array; its shape is in the docstring of whoever holds it."""

Moment = tuple[float, ...]
"""Micro-batches in flight at one moment: a count (0 or more, may be fractional) per chunk of a rank."""


@dataclass(frozen=True)
class Rank:
    """Memory of one device of a pipeline rank (bytes), and the moments at which it must hold what is in flight."""

    memory_bytes: float
    reserved_bytes: float
    in_flight: tuple[Moment, ...]

    @classmethod
    def of(cls, memory_bytes: float, reserved_bytes: float, in_flight: float) -> Rank:
        """A rank with one chunk and one moment."""
        return cls(memory_bytes, reserved_bytes, ((float(in_flight),),))

    @property
    def budget_bytes(self) -> float:
        """What layers may use: memory less what is reserved. Negative if nothing fits."""
        return self.memory_bytes - self.reserved_bytes

    def need_bytes(self, held: Sequence[tuple[float, float]]) -> float:
        """Bytes of a device at its fullest moment, the reserve included.

        Parameters
        ----------
        held
            State and stash per micro-batch of each chunk of the rank, bytes.
        """
        needs = (sum(w + f * q for (w, q), f in zip(held, counts, strict=True)) for counts in self.in_flight)
        return self.reserved_bytes + max(needs)

    def fullest(self, held: Sequence[tuple[float, float]]) -> Moment:
        """The moment at which it needs most, the first of equals; ``held`` as in :meth:`need_bytes`."""
        return max(self.in_flight, key=lambda counts: sum(f * q for (_, q), f in zip(held, counts, strict=True)))

    @property
    def peak_in_flight(self) -> Moment:
        """The largest count of each chunk over all moments; with one chunk that moment decides."""
        return tuple(max(counts) for counts in zip(*self.in_flight, strict=True))

    @property
    def least_in_flight(self) -> float:
        """The count of the chunk that holds fewest, on average over all moments.

        The fullest moment needs no less than the average one, so no less than all states with this many stashes each.
        """
        return float(np.mean(self.in_flight, axis=0).min())


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the objective multiplies: ``sum`` of all rank times, ``cross`` of all transfers, ``peak`` of the slowest.

    Plain pipelines have ``(1, 1, c - 1)``; chunks and split backwards shorten the ramp (docs/problem.md).
    """

    sum: float
    cross: float
    peak: float

    def turns(self, ranks: int) -> float:
        """Seconds per iteration that equal ranks pay for a second of each per micro-batch: ``c + P - 1`` if plain.

        What every rank does once per iteration, all at the same time, is charged divided by this, and so paid once.
        """
        return self.sum * ranks + self.peak

    def time_per_iteration(self, rank_s: Iterable[float], cross_s: Iterable[float], link_s: Iterable[float]) -> float:
        """Seconds per iteration from the times of ranks, of boundaries and of links (docs/problem.md)."""
        ranks, links = tuple(rank_s), tuple(link_s)
        terms = (self.sum, math.fsum(ranks)), (self.cross, math.fsum(cross_s)), (self.peak, max(*ranks, *links, 0.0))
        # An impossible strategy makes a time infinite, and 0 * inf is not a number.
        return sum(weight * seconds for weight, seconds in terms if weight)


@dataclass(frozen=True, eq=False)
class LayerTable:
    """The strategies of a layer and what each costs.

    ``time_s`` has shape (ranks, K), ``inf`` where a strategy is not possible on a rank; ``state_bytes`` and
    ``stash_bytes`` have shape (K,).
    """

    name: str
    strategies: tuple[str, ...]
    time_s: Array
    state_bytes: Array
    stash_bytes: Array


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """Data flow between two layers (indices); both tables have shape (K_source, K_target)."""

    source: int
    target: int
    tensor: str
    reshard_s: Array
    cross_s: Array


@dataclass(frozen=True)
class Kinds:
    """Which layers are alike (all tables and strategies equal), and which edges (both tables equal).

    ``layers[u]`` is the kind of layer u, numbered from 0 in the order of first appearance; ``edges[e]`` of edge e.
    """

    layers: tuple[int, ...]
    edges: tuple[int, ...]

    @classmethod
    def found(cls, layers: tuple[LayerTable, ...], edges: tuple[EdgeTable, ...]) -> Kinds:
        """The kinds by content, for tables of which nobody said what is alike."""
        content = Contents()
        return cls(
            numbered((t.strategies, content(t.time_s), content(t.state_bytes), content(t.stash_bytes)) for t in layers),
            numbered((content(e.reshard_s), content(e.cross_s)) for e in edges),
        )


def numbered(keys: Iterable[Hashable]) -> tuple[int, ...]:
    """Equal keys get equal numbers, from 0 in the order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


class Contents:
    """The content of arrays as something to compare by; an array that many share is read once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Array, Hashable]] = {}

    def __call__(self, values: Array) -> Hashable:
        """Equal for arrays of equal shape and entries."""
        if id(values) not in self._known:  # the array is kept beside its text: its id cannot be given away
            rows = values[:1] if values.ndim and values.strides[0] == 0 else values
            self._known[id(values)] = values, (values.shape, rows.tobytes())
        return self._known[id(values)][1]
