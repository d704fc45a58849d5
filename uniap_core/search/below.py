"""Whether a search has anything faster than what is known, without a plan or its proof."""

from __future__ import annotations

import time

from .attempt import attempt
from .considered import candidates
from .pricing import bounded
from .request import Search


def below(search: Search, cutoff_s: float) -> float | None:
    """The least time per iteration under a cutoff over all candidates, as the solver claims it; ``None`` if none is.

    Candidates are tried by increasing bound until the time limit of the search ends; all that cannot beat the cutoff
    are left alone.
    """
    started = time.perf_counter()
    best = cutoff_s
    for priced in sorted((bounded(search, candidate) for candidate in candidates(search)), key=lambda p: p.bound_s):
        left = None if search.time_limit_s is None else search.time_limit_s - (time.perf_counter() - started)
        if priced.bound_s >= best or (left is not None and left <= 0):
            break
        tried = attempt(search, priced, best, left)
        if tried.interrupted:
            raise KeyboardInterrupt
        if tried.objective_s is not None:
            best = min(best, tried.objective_s)
    return best if best < cutoff_s else None
