"""Candidates waiting to be solved, by their bounds; coarse bounds are made sharp when it is their turn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

from .pricing import PricedCandidate, sharpened
from .request import TIE, Search


class Queue:
    """What is left to solve, least bound first, of equals the first that was given.

    A coarse bound is cheap and low. Where it does not rule a candidate out, the candidate gets the next one and goes
    back to where that belongs, so that candidates are taken in the order of their sharp bounds although most never get
    one.
    """

    def __init__(self, search: Search, priced: Iterable[PricedCandidate]) -> None:
        self._search = search
        self._heap = [(one.bound_s, number, one) for number, one in enumerate(priced) if one.bound_s < math.inf]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def bound_s(self) -> float | None:
        """The least bound that is left, seconds."""
        return self._heap[0][0] if self._heap else None

    def take(self, cutoff_s: float) -> PricedCandidate | None:
        """The next candidate, or ``None`` if there is none.

        Parameters
        ----------
        cutoff_s
            Candidates that reach it need no sharper bound.
        """
        while self._heap:
            bound_s, number, one = heappop(self._heap)
            if not one.raw or bound_s >= cutoff_s * (1 - TIE):
                return one
            sharp = sharpened(self._search, one)
            if math.isinf(sharp.bound_s):
                return sharp
            heappush(self._heap, (sharp.bound_s, number, sharp))
        return None

    def wave(self, size: int, cutoff_s: float) -> Iterator[PricedCandidate]:
        """The next few, at most."""
        for _ in range(size):
            one = self.take(cutoff_s)
            if one is None:
                return
            yield one
