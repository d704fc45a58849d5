"""Progress of a trace, and its limit in time."""

from __future__ import annotations

import time
from collections import Counter

from uniap_core.api import BadValue, Emit, Progress, silent

QUIET_S = 1.0
"""Nothing is said of what takes less."""

PAUSE_S = 0.5
"""Between two words about progress."""


class TooLong(BadValue):
    """A trace that took longer than it may."""


class Watch:
    """Hears of every operator; tells of progress now and then, and ends what takes longer than it may.

    Parameters
    ----------
    limit_s
        Seconds for all runs of a model together; ``None`` is no limit.
    total
        How many runs there will be.
    """

    def __init__(self, emit: Emit = silent, limit_s: float | None = None, total: int = 1) -> None:
        self.emit, self.limit_s, self.total = emit, limit_s, total
        self.began, self.told, self.run = time.monotonic(), QUIET_S - PAUSE_S, 0
        self.count: Counter[str] = Counter()

    def next(self) -> None:
        """Another run of the model begins."""
        self.run += 1
        self.count.clear()

    def tick(self, path: str) -> None:
        """An operator ran in a module.

        Raises
        ------
        TooLong
            If time is up, naming the module where most operators ran.
        """
        self.count[path] += 1
        spent = time.monotonic() - self.began
        if self.limit_s is not None and spent > self.limit_s:
            module, most = self.count.most_common(1)[0]
            where = f"; {most:,} operators ran in {module}, perhaps a loop over positions" if module else ""
            raise TooLong(
                f"tracing took more than {self.limit_s:g} s and was at run {self.run} of {self.total} in "
                f"{path or 'the model itself'}{where}",
                "give more time (--time-limit), fewer positions (--seq), or install the kernels that spare the loop",
            )
        if spent > self.told + PAUSE_S:
            self.told = spent
            self.emit(Progress(spent, self.run - 1, self.total, f"run {self.run} of {self.total}, {path}"))
