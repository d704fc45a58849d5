"""GPipe (Huang et al. 2019, arXiv 1811.06965): all forwards, a flush, all backwards."""

from __future__ import annotations

from .step import BACKWARD, FORWARD, Order, Step


def order(rank: int, micro_batches: int) -> Order:
    """The steps of a rank."""
    return [Step(kind, rank, m) for kind in (FORWARD, BACKWARD) for m in range(micro_batches)]
