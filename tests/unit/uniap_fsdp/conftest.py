from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from uniap_core.testing import availability

availability.library("torch", "fsdp")

from fsdp_ranks import Ranks  # noqa: E402

MOST_RUNS = 16
"""Runs of a pool: the groups of each leave threads behind, which take a fifth of a core once there are hundreds."""


@pytest.fixture(scope="module")
def world() -> Iterator[Callable[[int], Ranks]]:
    """Pools of forked ranks by size, made when first asked for, after a failure and after many runs."""
    pools: dict[int, Ranks] = {}

    def get(size: int) -> Ranks:
        if size in pools and pools[size].runs >= MOST_RUNS:
            pools[size].close()
        if size not in pools or not pools[size].alive:
            pools[size] = Ranks(size)
        return pools[size]

    yield get
    for pool in pools.values():
        pool.close()
