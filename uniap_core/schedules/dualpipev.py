"""DualPipeV: two chunks per rank, there and back; forward of one and backward of the other run as one.

The order is that of deepseek-ai/DualPipe as torch runs it (distributed.pipelining, ScheduleDualPipeV). Every rank holds
P + 1/2 micro-batches. Forward and backward together are priced at their sum: what overlapping them hides of transfers
between experts is not the schedule's to say.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import BACKWARD, FORWARD, INPUT, WEIGHT, Chunks, Schedule, Shape, Work, at_least, vee


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """Idle are (P - 1)(F&B + B - 3 W) of chunks, with F = I = W and F&B = F + B: ``1/3`` of the ramp of 1F1B.

    What runs as one waits for the inputs of both and hands over at its end, so that the settled order waits, too:
    for ``2 (P - 1)`` transfers every P micro-batches, beside ``4 P - 6`` of the ramp.
    """
    ranks = max(chunks) + 1
    cross = micro_batches / (2 * ranks) + (2 * ranks - 3) / (2 * (ranks - 1))
    return Weights(1 / 3, cross, micro_batches - 1 / 3)


def work(rank: int, shape: Shape) -> Work:
    """The eight parts of the published order, on rank ``rank``, with ``later`` ranks after it."""
    later = shape.ranks - rank - 1
    there, back = [(FORWARD, 0)], [(FORWARD, 1)]
    done = there * (2 * later) + (there + back) * (rank + 1) + [(INPUT, 1), (WEIGHT, 1), (FORWARD, 1)] * later
    done += [(FORWARD, 0), (BACKWARD, 1), (FORWARD, 1), (BACKWARD, 0)] * (shape.micro_batches - shape.ranks - later)
    done += [(BACKWARD, 1), (FORWARD, 1), (BACKWARD, 0)] * later
    # The second half of the last backwards are of the input alone; the weights' wait, first come, first served.
    left = [1, 0] * (rank + 1)
    split = rank + 1
    done += [(BACKWARD, chunk) for chunk in left[:split]] + [(INPUT, chunk) for chunk in left[split:]]
    waiting = left[split:] + [0] * later
    for weight in waiting[:later]:
        done += [(WEIGHT, weight), (INPUT, 0)]
    return done + [(WEIGHT, chunk) for chunk in waiting[later:]]


SCHEDULE = Schedule(
    name="dualpipev",
    summary="two chunks there and back, forward and backward of two micro-batches as one",
    place=vee,
    weights=weights,
    work=work,
    legal=at_least(lambda ranks: 2 * ranks, "dualpipev needs one per chunk"),
    paired=True,
)
