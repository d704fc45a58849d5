"""A plan's simulated iteration as a Chrome trace, for chrome://tracing and ui.perfetto.dev.

Format: "Trace Event Format" (Google, 2016): complete events (``X``) on one thread per pipeline rank and per link,
counters (``C``) of micro-batches in flight. Times are microseconds. A step is named by its kind (F forward, B backward,
or apart I gradient of the input and W of the weights) and its micro-batch, and by its chunk where ranks hold several.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..proposal import Proposal
from .orders import BACKWARD, BESIDE, FORWARD, INPUT, LETTERS, WEIGHT, WITH_IT
from .simulate import Simulation, simulate
from .timing import plan_pipeline

STAGES, CHANNELS = 0, 1
"""Process ids of the trace."""

MICRO = 1e6


def timeline(proposal: Proposal) -> dict[str, Any]:
    """Simulate a plan's iteration and write it down as a trace document.

    Parameters
    ----------
    proposal
        A plan or a proposal; its own stage times are simulated. Of a great many micro-batches only as many as show how
        the others go on (``otherData.micro_batches_simulated``).

    Returns
    -------
    dict
        JSON-ready; ``otherData`` has the makespan, the bubble share and the claimed time per iteration.

    Raises
    ------
    UniapError
        If its schedule cannot be simulated.
    """
    seen = simulate(plan_pipeline(proposal))
    metadata = {
        "model": proposal.model.name,
        "cluster": proposal.cluster.name,
        "schedule": proposal.schedule,
        "simulated_s": seen.makespan_s,
        "predicted_s": proposal.predicted.iteration_time_s,
        "bubble_share": seen.bubble_share,
        "micro_batches_simulated": seen.pipeline.micro_batches,
    }
    events = [*_names(proposal), *_work(seen), *_transfers(proposal, seen), *_in_flight(seen)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": metadata}


class Ran(NamedTuple):
    """A step that ran: a kind of :mod:`.orders`, a chunk, a micro-batch, and when (seconds)."""

    kind: int
    chunk: int
    micro_batch: int
    start_s: float
    seconds: float


STYLES = {FORWARD: "forward", BACKWARD: "backward", INPUT: "input gradient", WEIGHT: "weight gradient"}
"""Categories of steps."""


def steps(seen: Simulation, rank: int) -> Iterator[Ran]:
    """What a rank did, in turn."""
    p = seen.pipeline
    weights = p.weights_s
    spent = {FORWARD: p.forward_s, BACKWARD: p.backward_s, INPUT: p.backward_s - weights, WEIGHT: weights}
    ends = {FORWARD: seen.forward_end_s, BACKWARD: seen.backward_end_s, INPUT: seen.backward_end_s}
    ends[WEIGHT] = seen.weight_end_s
    order = p.replay.orders[rank]
    for n, (kind, j, m) in enumerate(order):
        plain = {BESIDE: FORWARD, WITH_IT: BACKWARD}.get(kind, kind)
        seconds = float(spent[plain][j])
        # Of a pair the forward is shown first; both hand over at the end.
        after = float(p.backward_s[order[n + 1].chunk]) if kind == BESIDE else 0.0
        yield Ran(plain, j, m, float(ends[plain][j, m]) - after - seconds, seconds)


def _names(proposal: Proposal) -> Iterator[dict[str, Any]]:
    for pid, name in ((STAGES, "stages"), (CHANNELS, "transfers")):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    for i, held in enumerate(proposal.held):
        flows = ", ".join(f"{stage.layers[0]} .. {stage.layers[-1]}" for stage in held)
        label = f"stage {i}: ranks {held[0].ranks[0]}-{held[0].ranks[-1]}, {flows}"
        yield {"ph": "M", "pid": STAGES, "tid": i, "name": "thread_name", "args": {"name": label}}
        yield {"ph": "M", "pid": STAGES, "tid": i, "name": "thread_sort_index", "args": {"sort_index": i}}
    for (row, source, target), tid in _links(proposal.chunks).items():
        label = f"{source} -> {target} {('activations', 'gradients')[row]}"
        yield {"ph": "M", "pid": CHANNELS, "tid": tid, "name": "thread_name", "args": {"name": label}}


def _links(chunks: tuple[int, ...]) -> dict[tuple[int, int, int], int]:
    """Threads of what goes between ranks: (0 activations or 1 gradients, from, to)."""
    pairs = pairwise(chunks)
    ends = [end for i, k in pairs if i != k for end in ((0, i, k), (1, k, i))]
    return {end: tid for tid, end in enumerate(dict.fromkeys(ends))}


def _event(pid: int, tid: int, name: str, category: str, end_s: float, seconds: float) -> dict[str, Any]:
    start = (end_s - seconds) * MICRO
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": category, "ts": start, "dur": seconds * MICRO}


def _work(seen: Simulation) -> Iterator[dict[str, Any]]:
    p = seen.pipeline
    once, last = p.by_rank(p.iteration_s).tolist(), seen.last_s.tolist()
    for i in range(p.ranks):
        several = len(p.replay.on(i)) > 1
        for ran in steps(seen, i):
            name = f"{LETTERS[ran.kind]}{ran.micro_batch}" + (f" chunk {ran.chunk}" if several else "")
            event = _event(STAGES, i, name, STYLES[ran.kind], ran.start_s + ran.seconds, ran.seconds)
            yield {**event, "args": {"kind": LETTERS[ran.kind], "chunk": ran.chunk, "micro_batch": ran.micro_batch}}
        if once[i]:
            yield _event(STAGES, i, "gradients, optimizer", "iteration", last[i] + once[i], once[i])


def _transfers(proposal: Proposal, seen: Simulation) -> Iterator[dict[str, Any]]:
    p, threads = seen.pipeline, _links(proposal.chunks)
    for j, (i, k) in enumerate(pairwise(p.placed)):
        if i == k:
            continue
        for row, letter, ends, seconds, arrivals in (
            (0, "F", (i, k), float(p.activation_s[j]), seen.activation_end_s[j]),
            (1, "B", (k, i), float(p.gradient_s[j]), seen.gradient_end_s[j]),
        ):
            if seconds:
                chunk = f" chunk {j + row}" if p.depth > p.ranks else ""
                for m, end in enumerate(arrivals.tolist()):
                    yield _event(CHANNELS, threads[row, *ends], f"{letter}{m}{chunk}", "transfer", end, seconds)


def _in_flight(seen: Simulation) -> Iterator[dict[str, Any]]:
    p = seen.pipeline
    for i in range(p.ranks):
        own = p.replay.on(i)
        ran = list(steps(seen, i))
        starts = [r.start_s for r in ran if r.kind == FORWARD]
        ends = [r.start_s + r.seconds for r in ran if r.kind in (BACKWARD, WEIGHT)]
        when = np.array(starts + ends)
        change = np.repeat([1, -1], len(starts))
        order = np.lexsort((change, when))  # what ends frees before what starts at the same moment
        counts = np.cumsum(change[order]) / len(own)
        for ts, count in zip((when[order] * MICRO).tolist(), counts.tolist(), strict=True):
            yield {
                "ph": "C",
                "pid": STAGES,
                "name": f"in flight on stage {i}",
                "ts": ts,
                "args": {"micro_batches": count},
            }
