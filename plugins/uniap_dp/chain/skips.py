"""Skip edges over a chain: what a partial plan must know of producers whose consumers are not all placed.

Where consecutive layers are joined by edges (*links*), any further edge is a skip edge. Its producer has a digit
(:mod:`uniap_dp.codes`) until the last consumer is placed, and all digits together are the *signature* of a partial
plan. A tensor that goes along a link and a skip edge is carried whole, for a boundary sends it once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from uniap_core.api import Problem

from ..codes import CodeBook, Codes, TooLarge, ways_over
from .arrays import Skips

Array = np.ndarray

MOST_SIGNATURES = 2000
"""Signatures before one layer."""

MOST_ARCS = 200_000
"""Ways over all boundaries."""


def none(layers: int, widest: int) -> Skips:
    """No skip edges: one signature."""
    zero = np.zeros(1, dtype=np.int64)
    first = np.zeros(layers, dtype=np.int64)
    none_s, same = np.zeros((1, widest)), np.zeros((1, widest), dtype=np.int64)
    return Skips(first, none_s, same, np.arange(2), zero, np.zeros(1), 0.0)


def shared(problem: Problem, links: list[int]) -> list[bool]:
    """Whether the tensor of each link (an edge number) goes along a skip edge too."""
    mine = set(links)
    skipping = {e.tensor for number, e in enumerate(problem.edges) if number not in mine}
    return [problem.edges[number].tensor in skipping for number in links]


def least_tolls(problem: Problem) -> Array:
    """At least so many seconds to send all tensors over a boundary before each layer (L,)."""
    at = {layer: position for position, layer in enumerate(problem.order)}
    kinds = problem.kinds.edges
    of_kind = dict(zip(kinds, problem.edges, strict=True))
    cheapest = {kind: float(e.cross_s.min()) for kind, e in of_kind.items()}
    readers: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for kind, e in zip(kinds, problem.edges, strict=True):
        readers.setdefault((e.tensor, at[e.source]), []).append((at[e.target], cheapest[kind]))
    total = [0.0] * len(at)
    for (_, source), targets in readers.items():
        targets.sort(reverse=True)
        most, nearer = 0.0, [target for target, _ in targets[1:]]
        for (target, cross_s), stop in zip(targets, [*nearer, source], strict=True):
            most = max(most, cross_s)
            for u in range(stop + 1, target + 1):
                total[u] += most
    return np.array(total)


def build(problem: Problem, links: list[int], both: list[bool], widest: int) -> Skips:
    """Lay the signatures out; ``links`` are edge numbers, ``both`` as from :func:`shared`.

    Raises
    ------
    TooLarge
        If there are too many.
    """
    book, count = CodeBook(problem), len(problem.layers)
    whole = {problem.edges[number].tensor for number, also in zip(links, both, strict=True) if also}
    link = frozenset(links)
    carried = [
        tuple(e for e in book.leaving[p] if e not in link or book.edges[e].tensor in whole) for p in range(count)
    ]
    live: list[dict[int, tuple[int, ...]]] = [{}]
    for u in range(count):
        here = {**live[-1], u: carried[u]}
        later = {p: tuple(e for e in edges if book.edges[e].target > u) for p, edges in here.items()}
        live.append({p: edges for p, edges in later.items() if edges})
    codes = [{p: book.codes(p, edges, direct=False) for p, edges in here.items()} for here in live]
    layout = _Layout(book, link, widest)
    for u in range(count):
        layout.add(u, live[u], codes[u], codes[u + 1])
    return layout.skips()


class _Layout:
    """Signatures layer by layer; equal blocks are laid out once."""

    def __init__(self, book: CodeBook, link: frozenset[int], widest: int) -> None:
        self.book, self.link, self.widest = book, link, widest
        self.known: dict[Hashable, int] = {}
        self.first: list[int] = []
        self.size = self.arcs = 0
        self.extra: list[Array] = []
        self.after: list[Array] = []
        self.many: list[Array] = []
        self.into: list[Array] = []
        self.toll: list[Array] = []

    def add(self, u: int, live: dict[int, tuple[int, ...]], codes: dict[int, Codes], then: dict[int, Codes]) -> None:
        """The block before layer ``u``."""
        b = self.book
        moves = []
        for p, edges in live.items():
            used, kept = b.split(edges, u)
            moves.append((codes[p], used, kept, then.get(p)))
        key: Hashable = (
            tuple(
                (
                    code.number,
                    tuple((self._reshard(e), kind) for e, kind in used),
                    tuple(kept),
                    None if new is None else new.number,
                )
                for code, used, kept, new in moves
            ),
            then[u].number if u in then else None,
            len(b.layers[u].strategies),
        )
        if key not in self.known:
            self.known[key] = self.size
            self._steps(len(b.layers[u].strategies), moves, then.get(u))
            self._arcs([code for code, *_ in moves])
        self.first.append(self.known[key])

    def _reshard(self, e: int) -> int:
        """Number of the table by which an edge is resharded here; -1 for a link, which is priced apart."""
        return -1 if e in self.link else self.book.resharding[e]

    def _steps(
        self, wide: int, moves: list[tuple[Codes, list[tuple[int, int]], list[int], Codes | None]], own: Codes | None
    ) -> None:
        """``extra`` and ``after``: digits in the order of their producers, the last one fastest."""
        total = math.prod(code.size for code, *_ in moves)
        if total > MOST_SIGNATURES:
            raise TooLarge(f"more than {MOST_SIGNATURES} signatures of skip edges")
        seconds, after = np.zeros((1, wide)), np.zeros(1, dtype=np.int64)
        for code, used, kept, new in moves:
            if used:
                more = self.book.charge(code, used, np.arange(wide), self.link)
                seconds = (seconds[:, None, :] + more).reshape(-1, wide)
            else:
                seconds = seconds.repeat(code.size, axis=0)
            after = after[:, None] * (1 if new is None else new.size)
            after = (after + (np.zeros(code.size, dtype=np.int64) if new is None else code.moved(new, kept))).ravel()
        every = np.zeros((total, self.widest), dtype=np.int64)
        every += after[:, None] * (1 if own is None else own.size)
        if own is not None:
            every[:, :wide] += own.cls
        if wide < self.widest:
            seconds = np.hstack([seconds, np.zeros((total, self.widest - wide))])
        self.extra.append(seconds)
        self.after.append(every)
        self.size += total

    def _arcs(self, codes: list[Codes]) -> None:
        """``arc``, ``into`` and ``toll``: every digit becomes an OUT code."""
        self.arcs += math.prod(len(c.ways[0]) for c in codes)
        if self.arcs > MOST_ARCS:
            raise TooLarge(f"more than {MOST_ARCS} ways of skip edges over boundaries")
        source, into, toll = ways_over(codes)
        if len(codes) > 1:
            by = np.argsort(source, kind="stable")
            into, toll = into[by], toll[by]
        self.many.append(np.bincount(source, minlength=math.prod(c.size for c in codes)))
        self.into.append(into)
        self.toll.append(toll)

    def skips(self) -> Skips:
        """Everything as flat arrays."""
        return Skips(
            np.array(self.first, dtype=np.int64),
            np.concatenate(self.extra),
            np.concatenate(self.after),
            np.concatenate([[0], np.cumsum(np.concatenate(self.many))]).astype(np.int64),
            np.concatenate(self.into).astype(np.int64),
            np.concatenate(self.toll),
            self.book.rounding_s,
        )
