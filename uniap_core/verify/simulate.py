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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import BadValue, UnknownName
from ..tables import Array


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


def simulated(schedule: str) -> bool:
    """Whether the order of a schedule is known here; of others the tables' own moments are held, and no time."""
    return schedule in ("gpipe", "1f1b")


@dataclass(frozen=True, kw_only=True)
class TimedPipeline:
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

    pipeline: TimedPipeline
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


def simulate(pipeline: TimedPipeline) -> Simulation:
    """Run one iteration.

    Raises
    ------
    UnknownName
        If the schedule cannot be simulated.
    """
    return simulate_all([pipeline])[0]


def simulate_all(pipelines: Sequence[TimedPipeline]) -> list[Simulation]:
    """Run one iteration of each of several pipelines of one shape and schedule, side by side.

    Raises
    ------
    UnknownName
        If the schedule cannot be simulated.
    BadValue
        If the pipelines differ in shape or schedule.
    """
    if len({(p.schedule, p.depth, p.micro_batches) for p in pipelines}) != 1:
        raise BadValue("pipelines of different shapes or schedules cannot run side by side", "simulate each alone")
    depth, c = pipelines[0].depth, pipelines[0].micro_batches
    step, offset = levels(pipelines[0].schedule, depth, c)
    turn = offset - depth + 1  # level of the first backward, on the last stage
    count = turn + step * (c - 1) + depth
    end, arrival = np.zeros((count, len(pipelines), depth)), np.zeros((count, len(pipelines), depth))
    free = np.zeros((len(pipelines), depth))
    forward = _Lane(
        np.array([p.forward_s for p in pipelines]),
        np.array([[*p.activation_s, 0.0] for p in pipelines]),
        free,
        end,
        arrival,
    )
    # Backward is forward from the last stage to the first: the same, on arrays seen in reverse.
    backward = _Lane(
        np.array([p.backward_s[::-1] for p in pipelines]),
        np.array([[*p.gradient_s[::-1], 0.0] for p in pipelines]),
        free[:, ::-1],
        end[:, :, ::-1],
        arrival[:, :, ::-1],
    )
    for level in range(count):
        forward.visit(level, _stages(level, step, c, depth))
        backward.visit(level, _stages(level - turn, step, c, depth))
    return [_collect(p, end[:, n], arrival[:, n]) for n, p in enumerate(pipelines)]


class _Lane:
    """One direction of all pipelines; arrays of shape (pipelines, P), ``end`` and ``arrival`` with levels in front."""

    def __init__(self, stage_s: Array, channel_s: Array, free: Array, end: Array, arrival: Array) -> None:
        self.stage_s, self.channel_s = stage_s, channel_s
        self.stage_free, self.channel_free = free, np.zeros_like(stage_s)
        # When what a stage works on next has arrived; the first stage of a lane waits for nothing.
        self.arrived = np.zeros((free.shape[0], free.shape[1] + 1))
        self.end, self.arrival = end, arrival

    def visit(self, level: int, at: slice) -> None:
        """Run one event on each of some stages and send the results on."""
        if at.start >= at.stop:
            return
        end = np.maximum(self.stage_free[:, at], self.arrived[:, at]) + self.stage_s[:, at]
        sent = np.maximum(end, self.channel_free[:, at]) + self.channel_s[:, at]
        self.stage_free[:, at] = self.end[level, :, at] = end
        self.channel_free[:, at] = self.arrival[level, :, at] = sent
        self.arrived[:, at.start + 1 : at.stop + 1 : at.step] = sent


def _stages(level: int, step: int, micro_batches: int, depth: int) -> slice:
    """Stages i with ``step * m + i == level`` for some micro-batch m."""
    return slice(max(level % step, level - step * (micro_batches - 1)), min(depth, level + 1), step)


def _collect(pipeline: TimedPipeline, end: Array, arrival: Array) -> Simulation:
    """Sort what happened at each level (shape (levels, P)) by stage and micro-batch."""
    depth, c = pipeline.depth, pipeline.micro_batches
    step, offset = levels(pipeline.schedule, depth, c)
    stage, m = np.arange(depth)[:, None], np.arange(c)[None, :]
    forward, backward = step * m + stage, step * m + offset - stage
    backward_end = end[backward, stage]
    return Simulation(
        pipeline=pipeline,
        forward_end_s=end[forward, stage],
        backward_end_s=backward_end,
        activation_end_s=arrival[forward, stage][:-1],
        gradient_end_s=arrival[backward, stage][1:],
        makespan_s=float((backward_end[:, -1] + pipeline.iteration_s).max()),
    )


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
