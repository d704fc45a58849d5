"""A plan's simulated iteration as a Chrome trace, for chrome://tracing and ui.perfetto.dev.

Format: "Trace Event Format" (Google, 2016): complete events (``X``) on one thread per stage and per channel,
counters (``C``) of micro-batches in flight. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..proposal import Proposal
from .simulate import Simulation, TimedPipeline, simulate

STAGES, CHANNELS = 0, 1
"""Process ids of the trace."""

MICRO = 1e6


def timeline(proposal: Proposal) -> dict[str, Any]:
    """Simulate a plan's iteration and write it down as a trace document.

    Parameters
    ----------
    proposal
        A plan or a proposal; its own stage times are simulated.

    Returns
    -------
    dict
        JSON-ready; ``otherData`` has the makespan, the bubble share and the claimed time per iteration.

    Raises
    ------
    UnknownName
        If its schedule cannot be simulated.
    """
    seen = simulate(pipeline_of(proposal))
    metadata = {
        "model": proposal.model.name,
        "cluster": proposal.cluster.name,
        "schedule": proposal.schedule,
        "simulated_s": seen.makespan_s,
        "predicted_s": proposal.predicted.iteration_time_s,
        "bubble_share": seen.bubble_share,
    }
    events = [*_names(proposal), *_work(seen), *_transfers(seen), *_in_flight(seen)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": metadata}


def pipeline_of(proposal: Proposal) -> TimedPipeline:
    """What to simulate of a plan; resharding and transfers are for both directions together, half to each."""
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
    )


def _names(proposal: Proposal) -> Iterator[dict[str, Any]]:
    for pid, name in ((STAGES, "stages"), (CHANNELS, "transfers")):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    for i, stage in enumerate(proposal.stages):
        label = f"stage {i}: ranks {stage.ranks[0]}-{stage.ranks[-1]}, {stage.layers[0]} .. {stage.layers[-1]}"
        yield {"ph": "M", "pid": STAGES, "tid": i, "name": "thread_name", "args": {"name": label}}
        yield {"ph": "M", "pid": STAGES, "tid": i, "name": "thread_sort_index", "args": {"sort_index": i}}
    for j in range(len(proposal.stages) - 1):
        for tid, label in ((2 * j, f"{j} -> {j + 1} activations"), (2 * j + 1, f"{j + 1} -> {j} gradients")):
            yield {"ph": "M", "pid": CHANNELS, "tid": tid, "name": "thread_name", "args": {"name": label}}


def _event(pid: int, tid: int, name: str, category: str, end_s: float, seconds: float) -> dict[str, Any]:
    start = (end_s - seconds) * MICRO
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": category, "ts": start, "dur": seconds * MICRO}


def _work(seen: Simulation) -> Iterator[dict[str, Any]]:
    p = seen.pipeline
    for i in range(p.depth):
        forward, backward, once = float(p.forward_s[i]), float(p.backward_s[i]), float(p.iteration_s[i])
        for m, end in enumerate(seen.forward_end_s[i].tolist()):
            yield _event(STAGES, i, f"F{m}", "forward", end, forward)
        for m, end in enumerate(seen.backward_end_s[i].tolist()):
            yield _event(STAGES, i, f"B{m}", "backward", end, backward)
        if once:
            last = float(seen.backward_end_s[i, -1])
            yield _event(STAGES, i, "gradients, optimizer", "iteration", last + once, once)


def _transfers(seen: Simulation) -> Iterator[dict[str, Any]]:
    p = seen.pipeline
    for j in range(p.depth - 1):
        for tid, letter, seconds, ends in (
            (2 * j, "F", float(p.activation_s[j]), seen.activation_end_s[j]),
            (2 * j + 1, "B", float(p.gradient_s[j]), seen.gradient_end_s[j]),
        ):
            if seconds:
                for m, end in enumerate(ends.tolist()):
                    yield _event(CHANNELS, tid, f"{letter}{m}", "transfer", end, seconds)


def _in_flight(seen: Simulation) -> Iterator[dict[str, Any]]:
    p = seen.pipeline
    for i in range(p.depth):
        starts = seen.forward_end_s[i] - p.forward_s[i]
        when = np.concatenate([starts, seen.backward_end_s[i]])
        change = np.repeat([1, -1], p.micro_batches)
        order = np.lexsort((change, when))  # what ends frees before what starts at the same moment
        for ts, count in zip((when[order] * MICRO).tolist(), np.cumsum(change[order]).tolist(), strict=True):
            yield {
                "ph": "C",
                "pid": STAGES,
                "name": f"in flight on stage {i}",
                "ts": ts,
                "args": {"micro_batches": count},
            }
