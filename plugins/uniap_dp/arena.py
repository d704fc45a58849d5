"""Room for labels, and the end of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Array = np.ndarray


FIRST_ROOM = 1 << 16
"""Labels that there is room for once any are needed."""


class OutOfLabels(Exception):
    """The label budget is spent; what was proven so far stays true."""


class Pairs(NamedTuple):
    """Labels: (time, memory) within a stage, (weighted sum, longest) over stages."""

    first: Array
    second: Array


@dataclass
class Arena:
    """Room for labels, grown on demand up to a budget and used again for every table.

    ``labels`` are kept; ``aside`` is for fronts while they are merged.
    """

    budget: int
    labels: Pairs = field(init=False)
    aside: Pairs = field(init=False)
    most: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        # Short chains need no room here.
        self._take(Pairs(np.empty(16), np.empty(16)))

    def _take(self, labels: Pairs) -> None:
        size = 3 * (len(labels.first) // 2 + 16)
        self.labels, self.aside = labels, Pairs(np.empty(size), np.empty(size))

    def grow(self, used: int) -> None:
        """Double the room at least, keeping the first ``used`` labels.

        Raises
        ------
        OutOfLabels
            If that is over the budget.
        """
        room = len(self.labels.first)
        if room >= self.budget:
            raise OutOfLabels
        size = min(max(2 * room, FIRST_ROOM), self.budget)
        grown = Pairs(np.empty(size), np.empty(size))
        for new, old in zip(grown, self.labels, strict=True):
            new[:used] = old[:used]
        self._take(grown)
