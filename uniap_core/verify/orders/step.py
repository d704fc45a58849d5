"""One step of a rank, and where chunks lie."""

from __future__ import annotations

from typing import NamedTuple

FORWARD, BACKWARD, INPUT, WEIGHT, BESIDE, WITH_IT = range(6)
"""Kinds of steps: a forward; a whole backward, or its two parts, the gradient of the input and that of the weights; and
a forward that runs beside the whole backward that follows it: they wait for each other's inputs and end together."""

LETTERS = "FBIWFB"
"""What the kinds are called."""


class Step(NamedTuple):
    """What a rank does next: a kind, the index of a chunk in the order of the flow, and a micro-batch."""

    kind: int
    chunk: int
    micro_batch: int


Order = list[Step]
"""What one rank does, in turn."""


def loop(ranks: int, chunks: int) -> tuple[int, ...]:
    """Chunks laid round the ranks: chunk j on rank ``j mod P``."""
    return tuple(j % ranks for j in range(chunks))


def vee(ranks: int) -> tuple[int, ...]:
    """Two chunks per rank, down the ranks and up again."""
    return (*range(ranks), *reversed(range(ranks)))
