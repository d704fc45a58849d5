"""ZB-H1 and interleaved zero bubble: 1F1B whose weight gradients wait (Qi et al. 2023, arXiv 2401.10241, section 2).

The memory of 1F1B's first rank is given to every rank: rank i warms up with ``P - 1 - i`` forwards (and the groups of
its chunks, as interleaved 1F1B does, but one forward more per rank below it instead of two), then does a forward and
an input gradient in turn, and the weight gradient of a pass i passes later. torch runs the same rule as
``ScheduleInterleavedZeroBubble``; with one chunk per rank it is ZB-H1.
"""

from __future__ import annotations

from .interleaved import passes
from .step import FORWARD, INPUT, WEIGHT, Order, Step


def order(rank: int, ranks: int, chunks_per_rank: int, micro_batches: int, size: int) -> Order:
    """The steps of a rank, with groups of a size."""
    flow = passes(chunks_per_rank, micro_batches, size)
    last = (chunks_per_rank - 1) * ranks + rank
    warm = min(len(flow), ranks - 1 - rank + (chunks_per_rank - 1) * size)
    steps = [Step(FORWARD, turn * ranks + rank, m) for turn, m in flow[:warm]]
    for n, (turn, m) in enumerate(flow):
        if warm + n < len(flow):
            ahead, later = flow[warm + n]
            steps.append(Step(FORWARD, ahead * ranks + rank, later))
        steps.append(Step(INPUT, last - turn * ranks, m))
        if n >= rank:
            turn, m = flow[n - rank]
            steps.append(Step(WEIGHT, last - turn * ranks, m))
    return steps + [Step(WEIGHT, last - turn * ranks, m) for turn, m in flow[max(0, len(flow) - rank) :]]
