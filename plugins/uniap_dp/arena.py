"""Room for labels, and the end of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray


FIRST_ROOM = 1 << 16
"""Labels that there is room for once any are needed."""


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
        # Short chains need no room here.
        self.time, self.memory = np.empty(16), np.empty(16)
        self._set_aside()

    def _set_aside(self) -> None:
        size = 3 * (len(self.time) // 2 + 16)
        self.aside_time, self.aside_memory = np.empty(size), np.empty(size)

    def grow(self, used: int) -> None:
        """Double the room at least, keeping the first ``used`` labels.

        Raises
        ------
        OutOfLabels
            If that is over the budget.
        """
        if len(self.time) >= self.budget:
            raise OutOfLabels
        size = min(max(2 * len(self.time), FIRST_ROOM), self.budget)
        for name in ("time", "memory"):
            old = getattr(self, name)
            new = np.empty(size)
            new[:used] = old[:used]
            setattr(self, name, new)
        self._set_aside()
