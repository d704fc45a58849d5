"""Orders of steps that torch.distributed.pipelining publishes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

CLASSES = {
    "interleaved": "ScheduleInterleaved1F1B",
    "interleaved-zb": "ScheduleInterleavedZeroBubble",
    "zbv": "ScheduleZBVZeroBubble",
    "dualpipev": "ScheduleDualPipeV",
}

Action = tuple[str, int, int, bool]
"""Kind, chunk, micro-batch, and whether it overlaps with another."""


def published(schedule: str, ranks: int, v: int, c: int) -> list[list[Action]]:
    """Torch's order per rank, without waiting, what overlaps one after the other."""
    from torch.distributed.pipelining import schedules

    kept = {"submod": None, "is_first": False, "is_last": False, "has_backward": False}
    stages = [
        SimpleNamespace(stage_index=j, num_stages=ranks * v, group_size=ranks, group_rank=0, **kept) for j in range(v)
    ]
    order = getattr(schedules, CLASSES[schedule])(stages, n_microbatches=c).pipeline_order
    return [list(_flat(order[rank])) for rank in range(ranks)]


def _flat(actions: Any, beside: bool = False) -> Iterator[Action]:
    for action in actions:
        if action is not None and action.sub_actions:
            yield from _flat(action.sub_actions, beside=True)
        elif action is not None:
            yield action.computation_type.value, action.stage_index, action.microbatch_index, beside
