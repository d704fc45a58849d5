"""V-Min: two chunks per rank, there and back, with about a third of the activations and two thirds of the ramp of 1F1B.

The settled order is the pattern of Qi et al. 2024 (arXiv 2405.15362), as :mod:`.v_half`. It has no tick to spare: where
F, I and W differ, or transfers take time, every micro-batch waits.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import Chunks, Schedule, Shape, Work, at_least, vee
from .v_half import six_apart


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """``2/3`` of the ramp of 1F1B, and half a forward more (three divides P, where the pattern waits) or less.

    Transfers meet every micro-batch.
    """
    ranks = max(chunks) + 1
    ramp = 2 / 3 - (1 if ranks % 3 else -1) / (6 * (ranks - 1))
    cross = 3 * micro_batches / (2 * ranks) + (ranks - 2) / (ranks - 1)
    return Weights(ramp, cross, micro_batches - ramp)


def work(rank: int, shape: Shape) -> Work:
    """The pattern."""
    ranks = shape.ranks
    late = 0 if ranks % 3 else 2
    first = rank, 2 * ranks - rank - 1, 2 * ranks + late + rank, 4 * ranks + late - rank - 1
    return six_apart(first, shape.micro_batches)


SCHEDULE = Schedule(
    name="v-min",
    summary="two chunks there and back, a third of the activations of 1F1B",
    place=vee,
    weights=weights,
    work=work,
    legal=at_least(lambda ranks: ranks, "v-min needs one per rank"),
)
