"""V-Half: two chunks per rank, there and back, with about half the activations and half the ramp of 1F1B.

The settled order is the pattern of Qi et al. 2024 (Pipeline Parallelism with Controllable Memory, arXiv 2405.15362) as
sail-sg/zero-bubble-pipeline-parallelism states it: of a micro-batch, each rank runs four steps at fixed ticks, the next
micro-batch does so six ticks later, and gradients of weights take the two ticks that are left. Made for F = I = W.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..tables import Weights
from .contract import FORWARD, INPUT, WEIGHT, Chunks, Schedule, Shape, Work, at_least, vee

STEPS = (FORWARD, 0), (FORWARD, 1), (INPUT, 1), (INPUT, 0)
"""Of a micro-batch on one rank, in their order."""


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """``1/2`` of the ramp of 1F1B; an odd number of ranks fits the pattern better, by half a forward.

    Transfers meet the ramp one and a half times.
    """
    ranks = max(chunks) + 1
    ramp = 1 / 2 - ranks % 2 / (6 * (ranks - 1))
    return Weights(ramp, 1.5, micro_batches - ramp)


def work(rank: int, shape: Shape) -> Work:
    """The pattern; after the last forward of the first chunk, input gradients go before weight gradients."""
    ranks = shape.ranks
    late = 0 if ranks % 2 else 3
    first = 2 * rank, 3 * ranks - rank - 2, 3 * ranks + late + 2 * rank - 1, 6 * ranks + late - rank - 2
    done = six_apart(first, shape.micro_batches)
    end = len(done) - done[::-1].index((FORWARD, 0))
    for at in range(end, len(done) - 2):
        if done[at : at + 3] == [(INPUT, 1), (WEIGHT, 1), (INPUT, 0)]:
            done[at + 1], done[at + 2] = done[at + 2], done[at + 1]
    return done


def six_apart(first: Sequence[int], micro_batches: int) -> Work:
    """The work of a rank that runs :data:`STEPS` of the first micro-batch at ticks ``first``, each next six later.

    Gradients of weights, oldest first, take the ticks between.
    """
    ticks = sorted((tick + 6 * m, step) for tick, step in zip(first, STEPS, strict=True) for m in range(micro_batches))
    done: Work = []
    waiting: Work = []
    now = first[0]
    for tick, step in ticks:
        done += waiting[: tick - now]
        del waiting[: tick - now]
        done.append(step)
        now = tick + 1
        if step[0] == INPUT:
            waiting.append((WEIGHT, step[1]))
    return done + waiting


SCHEDULE = Schedule(
    name="v-half",
    summary="two chunks there and back, half the activations of 1F1B",
    place=vee,
    weights=weights,
    work=work,
    legal=at_least(lambda ranks: ranks, "v-half needs one per rank"),
)
