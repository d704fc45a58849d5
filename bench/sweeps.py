"""What it costs to search chunks besides plain pipelines, and what it brings, each as a ratio.

``python -m bench sweeps [NAME ...]``, by default all of :data:`JOBS`. A small one is swept before each, so that the
loading of compiled loops, which is the same for all, is in none.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from uniap_core.search import Sweep, make, sweep

JOBS = {
    "small": ("bert-huge", "8xA100-40G", 64),
    "node": ("llama-7b", "8xA100-40G", 32),
    "large": ("llama2-70b", "64x8xH100-80G", 1024),
    "larger": ("llama3-405b", "128x8xH100-80G", 2048),
}
"""Model, cluster and batch by name."""


def swept(job: tuple[str, str, int], schedule: str) -> tuple[Sweep, float]:
    """A sweep and its processor seconds, pricing included."""
    model, cluster, batch = job
    search = make(model, cluster, batch, schedule=schedule)
    began = time.process_time()
    found = sweep(search)
    return found, time.process_time() - began


def main() -> None:
    """Print a line for each job."""
    for name in sys.argv[1:] or JOBS:
        for schedule in ("1f1b", "auto"):  # loads the loops of both
            swept(JOBS["small"], schedule)
        plain, plain_s = swept(JOBS[name], "1f1b")
        both, both_s = swept(JOBS[name], "auto")
        before, after = (found.plan.predicted.iteration_time_s for found in (plain, both))
        bound = both.plan.bound_s or 0.0
        counts = ", ".join(f"{n} {outcome}" for outcome, n in Counter(r.outcome for r in both.proof).items())
        print(
            f"{name:<8} sweep {both_s:6.2f} s, {both_s / plain_s:5.2f} of plain; iteration {after / before:.3f} of "
            f"plain, within {1 - bound / after:.2%}; {len(both.proof)} candidates: {counts}",
            flush=True,
        )


if __name__ == "__main__":
    main()
