"""ZB-H1: 1F1B whose gradients of weights fill what would be idle time (Qi et al. 2023, arXiv 2401.10241, section 2.1).

Gradients of inputs run as backwards do in 1F1B, so that the rank before gets them sooner; rank i starts with gradients
of weights after i of inputs. Every rank holds P micro-batches at most, as the first rank of 1F1B does: P - i to come
back, and i whose inputs the gradients of weights still read. The optimizer step is one that all ranks take together.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import Chunks, Schedule, one_per_rank
from .interleaved_zero_bubble import work


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """``(F + I - W) / (F + I + W)`` of the ramp of 1F1B: ``1/3`` with F = I = W; few micro-batches leave more of it.

    Transfers meet the ramp twice, when they come back before the forwards are over.
    """
    others = len(chunks) - 1
    ramp = max(1 / 3, (2 * others + 1 - micro_batches) / (3 * others)) if others else 1.0
    cross = 1 + min(max(micro_batches - 2, 0), others) / others if others else 1.0
    return Weights(ramp, cross, micro_batches - ramp)


SCHEDULE = Schedule(
    name="zb-h1",
    summary="1F1B, weight gradients fill idle time",
    place=one_per_rank("zb-h1"),
    weights=weights,
    work=work,
)
