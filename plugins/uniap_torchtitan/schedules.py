"""The pipeline schedules that torchtitan has by name, and what they ask of a plan."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import Plan

NAMES = {
    "1f1b": "1F1B",
    "gpipe": "GPipe",
    "interleaved": "Interleaved1F1B",
    "zb-h1": "InterleavedZeroBubble",  # with one stage per rank
    "interleaved-zb": "InterleavedZeroBubble",
    "zbv": "ZBVZeroBubble",
    "dualpipev": "DualPipeV",
}
"""Names of torch.distributed.pipelining.schedules, ``get_schedule_class``."""

VEE = ("zbv", "dualpipev")
"""Rank r has stages r and 2 pp - 1 - r (torchtitan.distributed.pipeline_parallel)."""

ROUNDS = ("interleaved", "zb-h1", "interleaved-zb")
"""Run in equal rounds of a micro-batch for each rank, or of a few more."""

SPLIT = ("zb-h1", "interleaved-zb", "zbv", "dualpipev")
"""Gradients of inputs and of weights are computed apart, and recomputation would be done for both."""


def able(schedule: str, pp: int, micro_batches: int) -> bool:
    """Whether torch runs a schedule with so many micro-batches."""
    if schedule in ROUNDS:
        return micro_batches % max(1, micro_batches // pp) == 0
    return micro_batches >= {"1f1b": pp, "dualpipev": 2 * pp}.get(schedule, 1)


def objections(plan: Plan) -> Iterator[str]:
    """What is wrong with the schedule of a pipeline."""
    pipeline, schedule, pp = plan.candidate.pipeline, plan.schedule, plan.pp
    if schedule not in NAMES:
        yield f"torchtitan has no schedule {schedule}"
        return
    loop = tuple(range(pp)) * pipeline.chunks_per_rank
    if pipeline.chunks != ((*range(pp), *reversed(range(pp))) if schedule in VEE else loop):
        yield f"torchtitan's {NAMES[schedule]} does not lay chunks on ranks {pipeline.chunks}"
    if able(schedule, pp, plan.micro_batches):
        return
    if schedule in ROUNDS:
        count = plan.micro_batches
        yield f"torch's {schedule} takes {count // pp} equal rounds on {pp} ranks, not {count} micro-batches"
    else:
        needed = f"a micro-batch for each of {len(pipeline.chunks)} stages"
        yield f"torch's {schedule} needs {needed}, and the plan has {plan.micro_batches}"
