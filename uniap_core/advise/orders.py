"""The order of unequal nodes: stages take nodes as they are listed, so another order may be faster."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, permutations

import msgspec

from ..cluster import Cluster, Node
from ..errors import BadValue, NotEnoughTime, UsageError
from ..events import Emit, Progress, silent
from ..search import Search, Sweep, below, moved, within

MOST = 12
"""How many other orders are tried. Of more, those that keep equal nodes together."""

WORTH = 0.005
"""A smaller gain is not worth a word."""


class NodeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of the nodes that is faster than the one given.

    Attributes
    ----------
    order
        Nodes as numbered in the cluster, from 0.
    tried
        How many other orders were tried.
    """

    order: tuple[int, ...]
    iteration_time_s: float
    given_s: float
    tried: int

    @property
    def faster(self) -> float:
        """Share of the time that it saves."""
        return 1 - self.iteration_time_s / self.given_s

    @property
    def text(self) -> str:
        """The order as the option has it."""
        return ",".join(map(str, self.order))

    def sentence(self) -> str:
        """What it gains, and how to get it."""
        return f"another order of the nodes would be {self.faster:.1%} faster: --node-order {self.text}"


def orders(cluster: Cluster, most: int = MOST) -> tuple[tuple[int, ...], ...]:
    """Other orders of a cluster's nodes, no two of them alike: all if they are few, else equal nodes together."""
    different: list[Node] = []
    for node in cluster.nodes:
        if node not in different:
            different.append(node)
    labels = tuple(different.index(node) for node in cluster.nodes)
    counts = Counter(labels)
    number = math.factorial(len(labels)) // math.prod(map(math.factorial, counts.values()))
    together = ([kind for kind in kinds for _ in range(counts[kind])] for kinds in permutations(range(len(different))))
    every = _arranged(counts) if number <= most + 1 else together
    found = (_numbers(labels, tuple(arranged)) for arranged in every if tuple(arranged) != labels)
    return tuple(islice(found, most))


def _arranged(counts: Counter[int]) -> Iterator[list[int]]:
    """Every different arrangement of labels that occur so often."""
    if not counts.total():
        yield []
    for label in sorted(counts):
        if counts[label]:
            yield from ([label, *rest] for rest in _arranged(counts - Counter([label])))


def _numbers(labels: tuple[int, ...], arranged: tuple[int, ...]) -> tuple[int, ...]:
    """The nodes of an arrangement, those of a label in the order that they had."""
    waiting = {label: [i for i, own in enumerate(labels) if own == label] for label in set(labels)}
    return tuple(waiting[label].pop(0) for label in arranged)


def better_order(search: Search, found: Sweep, emit: Emit = silent, began: float | None = None) -> NodeOrder | None:
    """The fastest other order of a search's nodes, or ``None`` if no other that was tried is worth a word.

    An interrupt or the search's time limit ends it with the best by then.

    Parameters
    ----------
    search, found
        A search and its outcome in the order given.
    began
        When the search's time limit began, on the performance counter; ``None``: now.
    """
    began = time.perf_counter() if began is None else began
    given = found.plan.predicted.iteration_time_s
    todo = orders(search.cluster)
    best: NodeOrder | None = None
    with contextlib.suppress(NotEnoughTime, KeyboardInterrupt):
        for done, order in enumerate(todo, 1):
            cutoff = best.iteration_time_s if best else given * (1 - WORTH)
            with contextlib.suppress(BadValue, UsageError):
                turned = moved(search, search.cluster.reordered(order), search.training)
                seconds = below(within(turned, began), cutoff)
                if seconds is not None:
                    best = NodeOrder(order=order, iteration_time_s=seconds, given_s=given, tried=len(todo))
            emit(Progress(time.perf_counter() - began, done, len(todo), f"order of nodes {done} of {len(todo)}"))
    return best
