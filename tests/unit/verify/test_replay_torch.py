"""The verifier's orders against those that torch.distributed.pipelining publishes, pairs included."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from uniap_core.verify.orders import BESIDE, LETTERS, WITH_IT, orders
from uniap_core.verify.orders.step import loop, vee

pytestmark = pytest.mark.torch
published = pytest.importorskip("torch.distributed.pipelining.schedules")

CLASSES = {
    "interleaved": "ScheduleInterleaved1F1B",
    "interleaved-zb": "ScheduleInterleavedZeroBubble",
    "zbv": "ScheduleZBVZeroBubble",
    "dualpipev": "ScheduleDualPipeV",
}


def of_torch(schedule, ranks, v, c):
    stages = [SimpleNamespace(stage_index=j, num_stages=ranks * v, group_size=ranks, group_rank=0) for j in range(v)]
    for stage in stages:
        stage.submod, stage.is_first, stage.is_last, stage.has_backward = None, False, False, False
    order = getattr(published, CLASSES[schedule])(stages, n_microbatches=c).pipeline_order
    return [list(flat(order[rank])) for rank in range(ranks)]


def flat(actions, beside=False):
    for action in actions:
        if action is not None and action.sub_actions:
            yield from flat(action.sub_actions, beside=True)
        elif action is not None:
            yield action.computation_type.value, action.stage_index, action.microbatch_index, beside


@pytest.mark.parametrize(
    ("schedule", "v", "counts"),
    [
        ("interleaved", 2, lambda ranks: (ranks, ranks + 1, 2 * ranks, 5 * ranks)),
        ("interleaved", 4, lambda ranks: (ranks, 2 * ranks, 2 * ranks + 2, 4 * ranks)),
        ("interleaved-zb", 2, lambda ranks: (ranks, ranks + 1, 5 * ranks)),
        ("interleaved-zb", 3, lambda ranks: (ranks, 2 * ranks + 2, 3 * ranks)),
        ("zbv", 2, lambda ranks: (1, ranks, 2 * ranks - 1, 2 * ranks, 3 * ranks + 1)),
        ("dualpipev", 2, lambda ranks: (2 * ranks, 2 * ranks + 1, 5 * ranks)),
    ],
)
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_the_order_is_torchs(schedule, v, counts, ranks):
    chunks = loop(ranks, ranks * v) if schedule.startswith("interleaved") else vee(ranks)
    for c in counts(ranks):
        if c % max(1, c // ranks) and schedule.startswith("interleaved"):
            continue  # torch has groups of one size or none
        own = [
            [(LETTERS[kind], j, m, kind in (BESIDE, WITH_IT)) for kind, j, m in order]
            for order in orders(schedule, chunks, c)
        ]
        assert own == of_torch(schedule, ranks, v, c)
