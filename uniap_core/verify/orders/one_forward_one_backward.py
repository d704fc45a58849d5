"""1F1B (PipeDream-flush, Narayanan et al. 2021, arXiv 2104.04473, section 2.2): P - i forwards, then in turn."""

from __future__ import annotations

from .step import BACKWARD, FORWARD, Order, Step


def order(rank: int, ranks: int, micro_batches: int) -> Order:
    """The steps of a rank."""
    warm = min(micro_batches, ranks - rank)
    steps = [Step(FORWARD, rank, m) for m in range(warm)]
    for m in range(micro_batches):
        steps.append(Step(BACKWARD, rank, m))
        if warm + m < micro_batches:
            steps.append(Step(FORWARD, rank, warm + m))
    return steps
