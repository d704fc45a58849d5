"""Orders against those that torch.distributed.pipelining publishes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from uniap_core.pipeline import Pipeline

pytestmark = pytest.mark.torch
schedules = pytest.importorskip("torch.distributed.pipelining.schedules")

CLASSES = {
    "interleaved": "ScheduleInterleaved1F1B",
    "interleaved-zb": "ScheduleInterleavedZeroBubble",
    "zbv": "ScheduleZBVZeroBubble",
    "dualpipev": "ScheduleDualPipeV",
}


def published(schedule, ranks, v, c):
    """Torch's order per rank, as (kind, chunk, micro-batch)."""
    stages = [
        SimpleNamespace(
            stage_index=j,
            num_stages=ranks * v,
            group_size=ranks,
            group_rank=0,
            submod=None,
        )
        for j in range(v)
    ]
    order = getattr(schedules, CLASSES[schedule])(stages, n_microbatches=c).pipeline_order
    return [list(flat(order[rank])) for rank in range(ranks)]


def flat(actions):
    """Actions without waiting, those that overlap one after the other."""
    for action in actions:
        if action is None:
            continue
        if action.sub_actions:
            yield from flat(action.sub_actions)
        else:
            yield action.computation_type.value, action.stage_index, action.microbatch_index


@pytest.mark.parametrize(
    ("schedule", "v", "counts"),
    [
        # Torch's groups are of one size or none; others follow Megatron-LM.
        ("interleaved", 2, lambda ranks: (1, ranks - 1, ranks, ranks + 1, 2 * ranks - 1, 2 * ranks, 5 * ranks)),
        ("interleaved", 4, lambda ranks: (1, ranks, ranks + 1, 2 * ranks, 2 * ranks + 2, 4 * ranks + 4)),
        ("interleaved-zb", 2, lambda ranks: (ranks, ranks + 1, 2 * ranks - 1, 2 * ranks, 5 * ranks)),
        ("interleaved-zb", 3, lambda ranks: (ranks, 2 * ranks + 2, 3 * ranks)),
        ("zbv", 2, lambda ranks: (1, ranks, 2 * ranks - 1, 2 * ranks, 3 * ranks + 1)),
        ("dualpipev", 2, lambda ranks: (2 * ranks, 2 * ranks + 1, 5 * ranks)),
    ],
)
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_the_order_is_the_one_that_torch_publishes(schedule, v, counts, ranks):
    shape = Pipeline.of(schedule, ranks, v)
    for c in counts(ranks):
        if schedule.startswith("interleaved") and c % max(1, c // ranks):
            with pytest.raises(ValueError, match="multiple of the number of rounds"):
                published(schedule, ranks, v, c)
            continue
        assert [list(map(tuple, steps)) for steps in shape.order(c)] == published(schedule, ranks, v, c)
