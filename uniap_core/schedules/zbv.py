"""ZBV: two chunks per rank, there and back, gradients of weights apart (Qi et al. 2023, arXiv 2401.10241, section 6).

The order is torch's (distributed.pipelining, ScheduleZBVZeroBubble). Every rank holds P micro-batches, as the first
rank of 1F1B does. Made for F = I = W, and for an optimizer step that ranks take apart; where they take it together
(any clipping by the norm of all gradients), half a forward of each other rank stays idle.
"""

from __future__ import annotations

from ..tables import Weights
from .contract import FORWARD, INPUT, WEIGHT, Chunks, Schedule, Shape, Work, vee


def weights(chunks: Chunks, micro_batches: int) -> Weights:
    """``1/6`` of the ramp of 1F1B with F = I = W; few micro-batches leave more of it.

    Of the ``4 (P - 1)`` transfers of a micro-batch, it meets ``5 P - 7``, and each once with few micro-batches.
    """
    ranks = max(chunks) + 1
    ramp = max(1 / 6, (2 * ranks - 1 - micro_batches) / (3 * (ranks - 1)))
    cross = (5 * ranks - 7) / (4 * (ranks - 1)) if micro_batches >= 2 * ranks - 1 else 1.0
    return Weights(ramp, cross, micro_batches - ramp)


def work(rank: int, shape: Shape) -> Work:
    """Fill both chunks, then forward, input and weight gradient of one and the other, then what is left.

    With fewer than ``2 P - 1`` micro-batches it is the order for so many, without those that there are not.
    """
    filled = 2 * shape.ranks - 1
    c = max(filled, shape.micro_batches)
    there, back = [(FORWARD, 0)], [(FORWARD, 1)]
    gradient_0, gradient_1 = [(INPUT, 0), (WEIGHT, 0)], [(INPUT, 1), (WEIGHT, 1)]
    both = shape.ranks - rank
    done = there * (2 * both - 1) + (back + there) * rank + (back + gradient_1) * both
    turn = gradient_0 + back + gradient_1
    ahead = c - (filled - rank)
    done += (there + turn) * ahead + turn * (c - shape.ranks - ahead)
    done += [(INPUT, 0), (INPUT, 1)] * rank + gradient_0 * both
    done += [(WEIGHT, 1)] * rank + [(WEIGHT, 0)] * rank
    return done if c == shape.micro_batches else _first(done, shape.micro_batches)


def _first(work: Work, micro_batches: int) -> Work:
    """Without what concerns later micro-batches."""
    done = dict.fromkeys(work, 0)
    kept: Work = []
    for step in work:
        if done[step] < micro_batches:
            kept.append(step)
        done[step] += 1
    return kept


SCHEDULE = Schedule(
    name="zbv",
    summary="two chunks there and back, weight gradients fill idle time",
    place=vee,
    weights=weights,
    work=work,
)
