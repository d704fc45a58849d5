"""Room for labels, and the end of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


class OutOfLabels(Exception):
    """The label budget is spent; what was proven so far stays true."""


@dataclass
class Arena:
    """Room for labels, grown on demand up to a budget and used again for every table.

    ``time`` and ``memory`` hold labels; ``aside_time`` and ``aside_memory`` are for fronts while they are merged.
    """

    budget: int
    time: Array = field(init=False)
    memory: Array = field(init=False)
    aside_time: Array = field(init=False)
    aside_memory: Array = field(init=False)
    most: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        size = max(16, min(self.budget, 1 << 16))
        self.time, self.memory = np.empty(size), np.empty(size)
        self._set_aside()

    def _set_aside(self) -> None:
        size = 3 * (len(self.time) // 2 + 16)
        self.aside_time, self.aside_memory = np.empty(size), np.empty(size)

    def grow(self, used: int) -> None:
        """Double the room, keeping the first ``used`` labels.

        Raises
        ------
        OutOfLabels
            If that is over the budget.
        """
        if len(self.time) >= self.budget:
            raise OutOfLabels
        size = min(2 * len(self.time), self.budget)
        for name in ("time", "memory"):
            old = getattr(self, name)
            new = np.empty(size)
            new[:used] = old[:used]
            setattr(self, name, new)
        self._set_aside()
