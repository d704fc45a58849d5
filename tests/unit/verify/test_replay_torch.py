"""The verifier's orders against those that torch.distributed.pipelining publishes, pairs included."""

from __future__ import annotations

import pytest

from tests.torch_orders import published
from uniap_core.verify.orders import BESIDE, LETTERS, WITH_IT, orders
from uniap_core.verify.orders.step import loop, vee

pytestmark = pytest.mark.torch
pytest.importorskip("torch.distributed.pipelining.schedules")


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
        assert own == published(schedule, ranks, v, c)
