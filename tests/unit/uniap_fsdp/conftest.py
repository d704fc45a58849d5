from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from uniap_core.testing import availability

availability.library("torch", "fsdp")

from fsdp_ranks import Ranks  # noqa: E402


@pytest.fixture(scope="session")
def world() -> Iterator[Callable[[int], Ranks]]:
    """Pools of forked ranks by size, made when first asked for and again after a failure."""
    pools: dict[int, Ranks] = {}

    def get(size: int) -> Ranks:
        if size not in pools or not pools[size].alive:
            pools[size] = Ranks(size)
        return pools[size]

    yield get
    for pool in pools.values():
        pool.close()
