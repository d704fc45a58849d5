"""Discrete-event simulation of a pipeline: forward and backward apart, transfers on links of their own.

Events are the forward and the backward of each micro-batch on each stage, and the transfer of its activations and
gradients over each boundary. A stage runs one event at a time, in the order of its schedule. A boundary has one
channel in each direction (full duplex) that carries one tensor set at a time and never blocks a stage. What is done
once per iteration (gradient reduction, optimizer step) runs on a stage after its last backward.

Events are visited level by level: forward of micro-batch m on stage i at level ``step * m + i``, backward at
``step * m + offset - i``. An event then depends on events of earlier levels alone, and all events of one level are
priced by one numpy operation. 64 stages x 1024 micro-batches take about 2 * (1024 + 64) levels, not 130 000 events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import BadValue, UnknownName
from ..problem import Array


class Levels(NamedTuple):
    """Where the events of a schedule lie: forward at ``step * m + i``, backward at ``step * m + offset - i``."""

    step: int
    offset: int


def levels(schedule: str, depth: int, micro_batches: int) -> Levels:
    """The levels of a schedule, derived here anew and not from the in-flight formula of the planner.

    - gpipe (Huang et al. 2019, arXiv 1811.06965): all forwards, a flush, all backwards.
    - 1f1b (PipeDream-flush, Narayanan et al. 2021, arXiv 2104.04473): stage i runs P - i forwards, then one backward
      and one forward in turn.

    Raises
    ------
    UnknownName
        If the verifier has no such schedule.
    """
    if schedule == "gpipe":
        return Levels(1, micro_batches + 2 * depth - 2)
    if schedule == "1f1b":
        return Levels(2, 2 * depth - 1)
    raise UnknownName(f"the verifier cannot simulate the schedule {schedule!r}", "known: gpipe, 1f1b")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is simulated; all times in seconds.

    Attributes
    ----------
    forward_s, backward_s
        One micro-batch on each stage, shape (P,).
    iteration_s
        After the last backward of each stage, shape (P,).
    activation_s, gradient_s
        One micro-batch over each boundary, downstream and upstream, shape (P - 1,).
    """

    schedule: str
    micro_batches: int
    forward_s: Array
    backward_s: Array
    iteration_s: Array
    activation_s: Array
    gradient_s: Array

    def __post_init__(self) -> None:
        depth = len(self.forward_s)
        shapes = [len(self.backward_s), len(self.iteration_s), len(self.activation_s) + 1, len(self.gradient_s) + 1]
        if self.micro_batches < 1 or not depth or shapes != [depth] * 4:
            raise BadValue("a pipeline needs a stage, a micro-batch and one time per stage and boundary", "give them")

    @property
    def depth(self) -> int:
        """Number of stages, P."""
        return len(self.forward_s)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What happened, when.

    Attributes
    ----------
    forward_end_s, backward_end_s
        Shape (P, c).
    activation_end_s, gradient_end_s
        Arrival at the other end of each boundary, shape (P - 1, c).
    makespan_s
        End of the last event of all, iteration work included.
    """

    pipeline: Pipeline
    forward_end_s: Array
    backward_end_s: Array
    activation_end_s: Array
    gradient_end_s: Array
    makespan_s: float

    @property
    def busy_s(self) -> Array:
        """Seconds that each stage works, shape (P,)."""
        p = self.pipeline
        return np.asarray(p.micro_batches * (p.forward_s + p.backward_s) + p.iteration_s)

    @property
    def bubble_share(self) -> float:
        """Share of all stage seconds that is idle: (P - 1) / (c + P - 1) for a uniform pipeline without transfers."""
        whole = self.pipeline.depth * self.makespan_s
        return float((whole - self.busy_s.sum()) / whole) if whole else 0.0


def simulate(pipeline: Pipeline) -> Simulation:
    """Run one iteration.

    Raises
    ------
    UnknownName
        If the schedule cannot be simulated.
    """
    depth, c = pipeline.depth, pipeline.micro_batches
    forward_end, backward_end = np.zeros((depth, c)), np.zeros((depth, c))
    # One row more at either end, so that the outermost stages wait for arrivals at time zero.
    activation, gradient = np.zeros((depth + 1, c)), np.zeros((depth + 1, c))
    into, back = np.append(pipeline.activation_s, 0.0), np.append(0.0, pipeline.gradient_s)
    free = np.zeros(depth)
    down, up = np.zeros(depth), np.zeros(depth)  # when the channel below / above each stage is free
    for forwards, micro_batch, direction in _visits(pipeline):
        i = np.arange(forwards.start, forwards.stop, forwards.step)
        m = micro_batch[: len(i)]
        if direction > 0:
            end = np.maximum(free[forwards], activation[i, m]) + pipeline.forward_s[forwards]
            forward_end[i, m] = end
            arrival = np.maximum(end, down[forwards]) + into[forwards]
            activation[i + 1, m] = down[forwards] = arrival
        else:
            ready = np.maximum(gradient[i + 1, m], forward_end[i, m])
            end = np.maximum(free[forwards], ready) + pipeline.backward_s[forwards]
            backward_end[i, m] = end
            arrival = np.maximum(end, up[forwards]) + back[forwards]
            gradient[i, m] = up[forwards] = arrival
        free[forwards] = end
    makespan = float((free + pipeline.iteration_s).max())
    return Simulation(
        pipeline=pipeline,
        forward_end_s=forward_end,
        backward_end_s=backward_end,
        activation_end_s=activation[1:depth],
        gradient_end_s=gradient[1:depth],
        makespan_s=makespan,
    )


def _visits(pipeline: Pipeline) -> Iterator[tuple[slice, Array, int]]:
    """Stages (a slice), their micro-batches and the direction (1 forward, -1 backward) in the order of levels."""
    depth, c = pipeline.depth, pipeline.micro_batches
    step, offset = levels(pipeline.schedule, depth, c)
    for level in range(step * (c - 1) + offset + 1):
        first = max(level % step, level - step * (c - 1))
        last = min(depth - 1, level)
        if first <= last:
            yield slice(first, last + 1, step), (level - np.arange(first, last + 1, step)) // step, 1
        # Stages i of the backward have step * m = level - offset + i.
        first = max(offset - level, (offset - level) % step)
        last = min(depth - 1, offset - level + step * (c - 1))
        if first <= last:
            yield slice(first, last + 1, step), (level - offset + np.arange(first, last + 1, step)) // step, -1


def live(schedule: str, depth: int, micro_batches: int) -> Array:
    """Micro-batches that each stage holds during each of its events, in order: shape (P, 2 c).

    A forward holds its own micro-batch from its start, a backward until its end.
    """
    step, offset = levels(schedule, depth, micro_batches)
    stage, m = np.arange(depth)[:, None], np.arange(micro_batches)[None, :]
    when = np.concatenate([step * m + stage, step * m + offset - stage], axis=1)
    forward = np.argsort(when, axis=1) < micro_batches
    finished: Array = np.cumsum(~forward, axis=1) - ~forward
    return np.asarray(np.cumsum(forward, axis=1) - finished)
