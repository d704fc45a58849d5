"""DualPipeV (DeepSeek-AI, github.com/deepseek-ai/DualPipe; torch's ``ScheduleDualPipeV``): DualPipe cut in half.

Two chunks per rank on a V; in steady state the forward of one chunk runs beside the backward of the other: both wait
for what the two need, and end together after the sum of their times. What their overlap gains is a matter of prices.
"""

from __future__ import annotations

from collections import deque

from .step import BACKWARD, BESIDE, FORWARD, INPUT, WEIGHT, WITH_IT, Order, Step


def order(rank: int, ranks: int, micro_batches: int) -> Order:
    """The steps of a rank; there are at least 2 P micro-batches."""
    return _Rank(rank, ranks, micro_batches).steps


class _Rank:
    """The eight phases of a rank."""

    def __init__(self, rank: int, ranks: int, micro_batches: int) -> None:
        self.steps: Order = []
        self.down, self.up = rank, 2 * ranks - 1 - rank
        self.forwards, self.backwards = {self.down: 0, self.up: 0}, {self.down: 0, self.up: 0}
        self.waiting: deque[Step] = deque()
        after = ranks - 1 - rank
        for _ in range(2 * after):
            self.forward(self.down)
        for _ in range(rank + 1):
            self.forward(self.down)
            self.forward(self.up)
        for _ in range(after):
            self.backward(self.up, split=True)
            self.weight()
            self.forward(self.up)
        for n in range(micro_batches - 2 * ranks + rank + 1):
            if after or n:
                self.beside(self.down, self.up)
            else:  # the first backward of all need not wait for a forward
                self.forward(self.down)
                self.backward(self.up)
            self.beside(self.up, self.down)
        for _ in range(after):
            self.backward(self.up)
            self.beside(self.up, self.down)
        self.drain(rank, after)

    def drain(self, rank: int, after: int) -> None:
        """What follows the last forward; from the middle on, weight gradients wait."""
        for n in range(2 * (rank + 1)):
            self.backward((self.up, self.down)[n % 2], split=n >= rank + 1)
        for _ in range(after):
            self.weight()
            self.backward(self.down, split=True)
        while self.waiting:
            self.weight()

    def beside(self, ahead: int, back: int) -> None:
        self.forward(ahead, BESIDE)
        self.steps.append(Step(WITH_IT, back, self.backwards[back]))
        self.backwards[back] += 1

    def forward(self, chunk: int, kind: int = FORWARD) -> None:
        self.steps.append(Step(kind, chunk, self.forwards[chunk]))
        self.forwards[chunk] += 1

    def backward(self, chunk: int, split: bool = False) -> None:
        m = self.backwards[chunk]
        self.backwards[chunk] += 1
        self.steps.append(Step(INPUT if split else BACKWARD, chunk, m))
        if split:
            self.waiting.append(Step(WEIGHT, chunk, m))

    def weight(self) -> None:
        if self.waiting:
            self.steps.append(self.waiting.popleft())
