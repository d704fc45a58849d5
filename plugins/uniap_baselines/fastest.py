"""The fastest strategies of every run of layers, memory not considered (Alpa's intra-operator stage)."""

from __future__ import annotations

import math

import numpy as np

from uniap_core.api import Rank

from .clock import Clock
from .line import Array, Choice, Line


class Fastest:
    """Least time of every run of positions a..b-1 on a stage, and how it is attained.

    Parameters
    ----------
    allowed
        Strategy indices of each position that may be used.
    """

    def __init__(self, line: Line, stage: int, allowed: list[Array], clock: Clock) -> None:
        n = len(line)
        self.allowed = allowed
        self.time_s = np.full((n + 1, n + 1), math.inf)
        self.state_bytes, self.stash_bytes = np.zeros((2, n + 1, n + 1))
        self.last: dict[tuple[int, int], int] = {}
        self.back: dict[tuple[int, int], Array] = {}
        moves = [line.between[at][np.ix_(allowed[at], allowed[at + 1])] for at in range(n - 1)]
        times = [layer.time_s[stage, allowed[at]] for at, layer in enumerate(line.layers)]
        states = [layer.state_bytes[allowed[at]] for at, layer in enumerate(line.layers)]
        stashes = [layer.stash_bytes[allowed[at]] for at, layer in enumerate(line.layers)]
        for a in range(n):
            if clock.over():
                return
            reach, state, stash = times[a], states[a], stashes[a]
            for b in range(a + 1, n + 1):
                if b > a + 1:
                    through = reach[:, None] + moves[b - 2]
                    origin = through.argmin(axis=0)
                    self.back[a, b] = origin
                    reach = through.min(axis=0) + times[b - 1]
                    state, stash = state[origin] + states[b - 1], stash[origin] + stashes[b - 1]
                k = int(reach.argmin())
                self.last[a, b] = k
                self.time_s[a, b] = float(reach[k])
                self.state_bytes[a, b], self.stash_bytes[a, b] = float(state[k]), float(stash[k])

    def fitting(self, stage: Rank) -> Array:
        """Times of runs, ``inf`` where the strategies chosen for speed do not fit a stage's memory."""
        needs = self.state_bytes + stage.peak_in_flight[0] * self.stash_bytes
        times: Array = np.where(needs <= stage.budget_bytes, self.time_s, math.inf)
        return times

    def choice(self, a: int, b: int) -> Choice:
        """Strategy indices of the positions of a run, in order."""
        k = self.last[a, b]
        found = [k]
        for end in range(b, a + 1, -1):
            k = int(self.back[a, end][k])
            found.append(k)
        return [int(self.allowed[a + step][k]) for step, k in enumerate(reversed(found))]
