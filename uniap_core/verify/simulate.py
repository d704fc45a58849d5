"""Discrete-event simulation of a pipeline: every forward and backward, and every transfer on a link of its own.

Each rank runs one step at a time, in the order of its schedule (:mod:`.orders`); a step starts when the rank is free
and what it works on has arrived. From rank to rank there is one link each way (full duplex) that carries one tensor set
at a time, in the order they are sent, and never blocks a rank. What is done once per iteration (gradient reduction,
optimizer step) runs on a rank after its last step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import BadValue
from ..tables import Array
from .orders import BESIDE, LETTERS
from .orders.interleaved import group
from .replay import Replay, shortened
from .replay import replay as replayed

SPLIT = 0.5
"""Share of a backward that is the gradient of the weights, where cost tables do not tell the two parts apart: a product
has one of each, of equal size."""


@dataclass(frozen=True, kw_only=True)
class TimedPipeline:
    """What is simulated; all times in seconds.

    Attributes
    ----------
    chunks
        Pipeline rank of each chunk, in the order of the flow; empty where chunk i is on rank i.
    forward_s, backward_s
        One micro-batch through each chunk, shape (J,).
    iteration_s
        After the last step of a rank, by chunk, shape (J,).
    activation_s, gradient_s
        One micro-batch over each boundary, downstream and upstream, shape (J - 1,); nothing is sent where both chunks
        lie on one rank.
    weight_s
        The part of ``backward_s`` that is the gradient of the weights, shape (J,); ``None``: :data:`SPLIT` of it.
    whole
        If these are the first of more micro-batches, how many those are.
    """

    schedule: str
    micro_batches: int
    forward_s: Array
    backward_s: Array
    iteration_s: Array
    activation_s: Array
    gradient_s: Array
    chunks: tuple[int, ...] = ()
    weight_s: Array | None = None
    whole: int = 0

    def __post_init__(self) -> None:
        depth = len(self.forward_s)
        shapes = [len(self.backward_s), len(self.iteration_s), len(self.activation_s) + 1, len(self.gradient_s) + 1]
        shapes += [len(self.placed), depth if self.weight_s is None else len(self.weight_s)]
        if self.micro_batches < 1 or not depth or shapes != [depth] * 6:
            raise BadValue("a pipeline needs a stage, a micro-batch and one time per stage and boundary", "give them")

    @property
    def depth(self) -> int:
        """Number of chunks, J."""
        return len(self.forward_s)

    @property
    def placed(self) -> tuple[int, ...]:
        """Pipeline rank of each chunk."""
        return self.chunks or tuple(range(self.depth))

    @property
    def ranks(self) -> int:
        """Number of pipeline ranks, P."""
        return max(self.placed) + 1

    @property
    def weights_s(self) -> Array:
        """Gradient of the weights, shape (J,)."""
        return self.backward_s * SPLIT if self.weight_s is None else self.weight_s

    @cached_property
    def replay(self) -> Replay:
        """Its events, without times.

        Raises
        ------
        UniapError
            If the verifier does not know the schedule, its chunks lie elsewhere, or it hangs.
        """
        return replayed(self.schedule, self.placed, self.micro_batches, self.whole or self.micro_batches)

    def by_rank(self, seconds: Array) -> Array:
        """The sum over the chunks of each rank, shape (P,)."""
        return np.bincount(self.placed, weights=seconds, minlength=self.ranks)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What happened, when.

    Attributes
    ----------
    pipeline
        With the micro-batches that were simulated.
    forward_end_s, backward_end_s, weight_end_s
        Shape (J, c); the backward is the whole one, or its first part, the gradient of the input; the second part is
        NaN where the backward is whole.
    activation_end_s, gradient_end_s
        Arrival at the other end of each boundary, shape (J - 1, c).
    simulated_s
        End of the last event of all, iteration work included.
    rest, rate_s
        Micro-batches that were not simulated one by one, and what each takes as the last ones did.
    """

    pipeline: TimedPipeline
    forward_end_s: Array
    backward_end_s: Array
    weight_end_s: Array
    activation_end_s: Array
    gradient_end_s: Array
    simulated_s: float
    rest: int = 0
    rate_s: float = 0.0

    @property
    def makespan_s(self) -> float:
        """Seconds of the iteration."""
        return self.simulated_s + self.rest * self.rate_s

    @property
    def busy_s(self) -> Array:
        """Seconds that each rank works, shape (P,)."""
        p = self.pipeline
        c = p.micro_batches + self.rest
        return np.asarray(p.by_rank(c * (p.forward_s + p.backward_s) + p.iteration_s))

    @property
    def bubble_share(self) -> float:
        """Share of all rank seconds that is idle: (P - 1) / (c + P - 1) for a uniform pipeline without transfers."""
        whole = self.pipeline.ranks * self.makespan_s
        return float((whole - self.busy_s.sum()) / whole) if whole else 0.0

    @property
    def last_s(self) -> Array:
        """End of the last step of each rank, shape (P,)."""
        ends = np.fmax(self.backward_end_s[:, -1], np.nan_to_num(self.weight_end_s).max(axis=1))
        latest = np.zeros(self.pipeline.ranks)
        np.maximum.at(latest, list(self.pipeline.placed), ends)
        return latest


def simulate(pipeline: TimedPipeline) -> Simulation:
    """Run one iteration.

    Raises
    ------
    UniapError
        If the verifier does not know the schedule, its chunks lie elsewhere, or it hangs.
    """
    c, ranks, depth = pipeline.micro_batches, pipeline.ranks, pipeline.depth
    few = shortened(ranks, depth, c)
    if few == c:
        return run(pipeline, pipeline.replay)
    fewer = min(shortened(ranks, depth, c, 0.5), few - group(ranks, c))
    parts = [replace(pipeline, micro_batches=n, whole=c) for n in (fewer, few)]
    short, long = (run(part, part.replay) for part in parts)
    return replace(long, rest=c - few, rate_s=(long.simulated_s - short.simulated_s) / (few - fewer))


def run(pipeline: TimedPipeline, replay: Replay) -> Simulation:
    """Price the events of a replay one after the other."""
    depth, c, walk = pipeline.depth, pipeline.micro_batches, replay.walk
    seconds: list[float] = [*_durations(pipeline).ravel().tolist(), 0.0]
    moved: list[float] = [*pipeline.activation_s.tolist(), *pipeline.gradient_s.tolist()]
    end, arrival = [float("nan")] * (3 * depth * c + 1), [0.0] * (3 * depth * c + 1)
    free, link_free = [0.0] * pipeline.ranks, [0.0] * walk.links
    for event, rank, duration, need, link, boundary in zip(
        walk.event, walk.rank, walk.duration, walk.needs, walk.link, walk.boundary, strict=True
    ):
        at = free[rank]
        if need >= 0 and arrival[need] > at:
            at = arrival[need]
        at += seconds[duration]
        free[rank] = end[event] = at
        if link >= 0:
            at = max(at, link_free[link]) + moved[boundary]
            link_free[link] = at
        arrival[event] = at
    ends, arrivals = np.array(end[:-1]).reshape(3, depth, c), np.array(arrival[:-1]).reshape(3, depth, c)
    return Simulation(
        pipeline=pipeline,
        forward_end_s=ends[0],
        backward_end_s=ends[1],
        weight_end_s=ends[2],
        activation_end_s=arrivals[0, :-1],
        gradient_end_s=arrivals[1, 1:],
        simulated_s=float((np.array(free) + pipeline.by_rank(pipeline.iteration_s)).max()),
    )


def _durations(pipeline: TimedPipeline) -> Array:
    """Seconds of each kind of step of each chunk; a pair takes its time as its forward."""
    weights = pipeline.weights_s
    rows = np.zeros((len(LETTERS), pipeline.depth))
    rows[:BESIDE] = pipeline.forward_s, pipeline.backward_s, pipeline.backward_s - weights, weights
    # The backward beside a forward is of the rank's other chunk: pairs are of ranks with two.
    both = pipeline.by_rank(pipeline.backward_s)[list(pipeline.placed)]
    rows[BESIDE] = pipeline.forward_s + both - pipeline.backward_s
    return rows
