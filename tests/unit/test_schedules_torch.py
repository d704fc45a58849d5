"""Orders against those that torch.distributed.pipelining publishes."""

from __future__ import annotations

import pytest

from tests.torch_orders import published
from uniap_core.pipeline import Pipeline

pytestmark = pytest.mark.torch
pytest.importorskip("torch.distributed.pipelining.schedules")


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
        theirs = [[step[:3] for step in steps] for steps in published(schedule, ranks, v, c)]
        assert [list(map(tuple, steps)) for steps in shape.order(c)] == theirs
