"""Whether a search has anything faster than what is known, without a plan or its proof."""

from __future__ import annotations

import math
import time

from .attempt import attempt
from .considered import candidates
from .pricing import bounded, families
from .queue import Queue
from .request import Search


def below(search: Search, cutoff_s: float) -> float | None:
    """The least time per iteration under a cutoff over all candidates, as the solver claims it; ``None`` if none is.

    Candidates are tried by increasing bound until the time limit of the search ends; all that cannot beat the cutoff
    are left alone.
    """
    started = time.perf_counter()
    best = cutoff_s
    queue = Queue(search, (one for family in families(search, candidates(search)) for one in bounded(search, family)))
    while (priced := queue.take(best)) is not None:
        left = None if search.time_limit_s is None else search.time_limit_s - (time.perf_counter() - started)
        if best <= priced.bound_s < math.inf or (left is not None and left <= 0):
            break
        if math.isinf(priced.bound_s):
            continue
        tried = attempt(search, priced, best, left)
        if tried.interrupted:
            raise KeyboardInterrupt
        if tried.objective_s is not None:
            best = min(best, tried.objective_s)
    return best if best < cutoff_s else None
