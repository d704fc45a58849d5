"""The closed form against the simulation: by how much they differ, why, and whether theory allows it.

The closed form of a schedule weighs all rank times, all transfers and the slowest rank (docs/problem.md); of plain
pipelines ``T = sum p + sum o + (c - 1) max(p, o)``. It treats a micro-batch as one job that visits stages and
boundaries in turn. A schedule runs forward and backward apart, holds a limited number of micro-batches, and does the
work of an iteration once. The difference is split into three named causes by switching them off one after the other:

1. work done once per iteration: the schedule runs it after the last backward of each stage, and is over when the
   slowest has; the closed form charges a weighted mean of the stages' work, which is the same if all have as much;
2. transfers: 1f1b keeps P - i micro-batches in flight, too few to hide transfers completely;
3. unequal stages: a stage that is fast waits for none of the downstream bubble that the closed form charges, or its
   forward and its backward are held up by different stages.

Without them (uniform stages, free transfers) both are equal: the bubble share is (P - 1) / (c + P - 1).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..errors import UniapError
from ..proposal import Proposal
from ..tables import Array
from .numbers import PLAIN, Recomputed
from .orders import SPLITTING
from .simulate import SPLIT, Simulation, TimedPipeline, simulate
from .verdict import Check, conclude

TOLERANCE = {
    "gpipe": 0.02,
    "1f1b": 0.02,
    "interleaved": 0.04,
    "zb-h1": 0.03,
    "interleaved-zb": 0.03,
    "zbv": 0.03,
    "dualpipev": 0.05,
    "v-half": 0.06,
    "v-min": 0.06,
}
"""Relative difference up to which closed form and simulation of a schedule are said to agree: what nearly all pipelines
stay within whose chunks differ by a tenth and whose transfers take some percent of a rank's time (docs/verifier.md)."""

ROUNDING = 1e-9
"""Relative rounding error of sums of a few thousand floats."""


def pipeline_of(own: Recomputed) -> TimedPipeline:
    """What to simulate: tables give resharding and transfers for both directions together, half to each."""
    half_reshard, half_cross = np.array(own.reshard_s) / 2, np.array(own.cross_s) / 2
    return TimedPipeline(
        schedule=own.schedule,
        micro_batches=own.micro_batches,
        forward_s=np.array(own.forward_s) + half_reshard,
        backward_s=np.array(own.backward_s) + half_reshard,
        iteration_s=np.array(own.iteration_s),
        activation_s=half_cross,
        gradient_s=half_cross,
        chunks=own.placed,
    )


def plan_pipeline(proposal: Proposal) -> TimedPipeline:
    """What to simulate of a plan, from its own times of stages and boundaries."""
    half_reshard = np.array([stage.reshard_s for stage in proposal.stages]) / 2
    half_cross = np.array(proposal.predicted.cross_s) / 2
    return TimedPipeline(
        schedule=proposal.schedule,
        micro_batches=proposal.micro_batches,
        forward_s=np.array([stage.forward_s for stage in proposal.stages]) + half_reshard,
        backward_s=np.array([stage.backward_s for stage in proposal.stages]) + half_reshard,
        iteration_s=np.array([stage.iteration_s for stage in proposal.stages]),
        activation_s=half_cross,
        gradient_s=half_cross,
        chunks=proposal.chunks,
    )


def resimulated(proposal: Proposal) -> float:
    """Seconds per iteration of a plan by simulation of its schedule, to rank plans whose closed forms are in doubt.

    Raises
    ------
    UniapError
        If its schedule cannot be simulated.
    """
    return simulate(plan_pipeline(proposal)).makespan_s


def in_doubt(proposal: Proposal, seconds: float) -> bool:
    """Whether simulated seconds are further from a plan's closed form than its schedule's tolerance."""
    claimed = proposal.predicted.iteration_time_s
    return abs(seconds - claimed) > TOLERANCE[proposal.schedule] * claimed


def timing(own: Recomputed, tolerance: float | None = None) -> Check:
    """Simulate the schedule and hold the closed form against it.

    A difference that the schedule explains is no fault of the plan: the check states it, and whether it is within the
    tolerance of the schedule. It fails if the schedule hangs, or takes a time that no order of its steps could take.

    Parameters
    ----------
    tolerance
        Relative difference that fails; ``None`` accepts what lies between the bounds of :func:`bracket`.
    """
    full = pipeline_of(own)
    try:
        seen, steady, bare = map(simulate, (full, *_without(full)))
    except UniapError as error:
        return conclude("simulation", [error.cause], "", error.fix)
    claimed, simulated = own.objective_s, seen.makespan_s
    difference = simulated - claimed
    share = difference / claimed if claimed else 0.0
    causes = {
        "work once per iteration": difference - _excess(own, steady),
        "transfers": _excess(own, steady) - _excess(own, bare),
        "unequal stages": _excess(own, bare),
    }
    low, high = bracket(seen.pipeline)
    faults = []
    if not low * (1 - ROUNDING) <= seen.simulated_s <= high * (1 + ROUNDING):
        faults.append(
            f"the simulated {seen.simulated_s:.6g} s lie outside what {own.schedule} can take, {low:.6g} to {high:.6g} "
            "s"
        )
    if tolerance is not None and abs(share) > tolerance:
        faults.append(f"the simulation differs by {share:+.1%} from the closed form, tolerated are {tolerance:.1%}")
    why = ", ".join(f"{name} {s / claimed:+.1%}" for name, s in causes.items() if abs(s) > 5e-4 * claimed)
    word = "agrees with" if abs(share) <= TOLERANCE[own.schedule] else "DIFFERS from"
    evidence = (
        f"simulated {simulated:.6g} s {word} the closed form's {claimed:.6g} s ({share:+.1%}"
        + (f": {why}" if why else "")
        + f"), bubble {seen.bubble_share:.1%}"
        + (f"; gradients of weights taken as {SPLIT:.0%} of backwards" if own.schedule in SPLITTING else "")
        + (f"; {seen.pipeline.micro_batches} micro-batches simulated, the rest at their rate" if seen.rest else "")
    )
    faults = [f"{fault} ({why})" if why else fault for fault in faults]
    data: dict[str, float | int | str] = {
        "closed_form_s": claimed,
        "simulated_s": simulated,
        "difference_s": difference,
        "difference_share": share,
        "tolerance": TOLERANCE[own.schedule],
        "bubble_share": seen.bubble_share,
        "lower_s": low,
        "upper_s": high,
        "micro_batches_simulated": seen.pipeline.micro_batches,
        **{f"{name.replace(' ', '_')}_s": seconds for name, seconds in causes.items()},
    }
    fix = "use fewer stages, a schedule that hides transfers (gpipe), or more even stages; or tolerate the difference"
    return conclude("simulation", faults, evidence, fix, data)


def _without(full: TimedPipeline) -> tuple[TimedPipeline, TimedPipeline]:
    """The pipeline without work once per iteration, and without transfers besides."""
    steady = replace(full, iteration_s=np.zeros_like(full.iteration_s))
    free = np.zeros_like(full.activation_s)
    return steady, replace(steady, activation_s=free, gradient_s=free)


def _excess(own: Recomputed, seen: Simulation) -> float:
    """Simulated less closed-form seconds."""
    p = seen.pipeline
    stage_s = p.forward_s + p.backward_s + p.iteration_s / own.turns
    cross_s = p.activation_s + p.gradient_s
    return seen.makespan_s - math.fsum(own.parts(stage_s.tolist(), cross_s.tolist()))


def bracket(pipeline: TimedPipeline) -> tuple[float, float]:
    """Bounds on the makespan that need no simulation (derived in docs/verifier.md).

    Lower: one micro-batch passes every stage and boundary twice; and a stage can neither start before the first
    micro-batch has arrived nor be ready before the last one has left upstream. Upper: a longest path visits stages
    0..j and back, and winds round cycles of the schedule, of which none takes longer per micro-batch than its period;
    of schedules with chunks or split backwards, all steps and transfers one after the other.
    """
    if pipeline.schedule not in PLAIN:
        return _loose_bracket(pipeline)
    c, depth = pipeline.micro_batches, pipeline.depth
    stage = pipeline.forward_s + pipeline.backward_s
    cross = pipeline.activation_s + pipeline.gradient_s
    before = np.concatenate([[0.0], np.cumsum(stage[:-1] + cross)])  # upstream of each stage, both directions
    fill = np.concatenate([[0.0], np.cumsum(pipeline.forward_s[:-1] + pipeline.activation_s)])
    once = pipeline.iteration_s
    low = max(
        float(before[-1] + stage[-1] + once[0]),
        float((before + c * stage).max()),
        float((fill + c * stage + once).max()),
    )
    if pipeline.schedule == "gpipe":
        forward = _flow_shop(pipeline.forward_s, pipeline.activation_s, c)
        exact = forward + _flow_shop(pipeline.backward_s, pipeline.gradient_s, c)
        return max(low, exact), exact + float(once.max())
    turn = before + stage  # down to stage j and back
    rounds = c - 1 + np.arange(depth)[::-1]
    return low, float((turn + rounds * period(pipeline)).max() + once.max())


def _loose_bracket(pipeline: TimedPipeline) -> tuple[float, float]:
    c, once = pipeline.micro_batches, pipeline.by_rank(pipeline.iteration_s)
    split = pipeline.weights_s if pipeline.schedule in SPLITTING else 0.0
    there = np.concatenate([[0.0], np.cumsum(pipeline.forward_s[:-1] + pipeline.activation_s)])
    back = float((pipeline.backward_s - split).sum() + pipeline.gradient_s.sum())
    work = pipeline.by_rank(c * (pipeline.forward_s + pipeline.backward_s))
    first = [pipeline.placed.index(i) for i in range(pipeline.ranks)]
    around = float(there[-1] + pipeline.forward_s[-1]) + back + float(once[0])
    low = max(around, float((there[first] + work + once).max()))
    moved = pipeline.activation_s.sum() + pipeline.gradient_s.sum()
    return low, float(work.sum() + c * moved + once.max())


def _flow_shop(stage_s: Array, cross_s: Array, micro_batches: int) -> float:
    """Makespan of equal jobs over machines in series: once through, and the slowest for each further job."""
    times: list[float] = [*stage_s.tolist(), *cross_s.tolist()]
    return math.fsum(times) + (micro_batches - 1) * max(times)


def period(pipeline: TimedPipeline) -> float:
    """Seconds per micro-batch that 1f1b takes in its steady state: the greatest cycle mean of its events.

    A cycle goes down from stage i to stage j and back; meanwhile stage i advances by j - i + 1 micro-batches. So the
    period is the greatest mean of a window of stages, each with the boundaries inside the window, or a channel.
    """
    stage = pipeline.forward_s + pipeline.backward_s
    cross = pipeline.activation_s + pipeline.gradient_s
    sums = np.concatenate([[0.0], np.cumsum(stage)])
    gaps = np.concatenate([[0.0], np.cumsum(cross)])
    depth = pipeline.depth
    longest = 0.0
    for width in range(1, depth + 1):
        window = sums[width:] - sums[:-width] + gaps[width - 1 :] - gaps[: depth - width + 1]
        longest = max(longest, float(window.max()) / width)
    channels: list[float] = [*pipeline.activation_s.tolist(), *pipeline.gradient_s.tolist()]
    return max([longest, *channels])
