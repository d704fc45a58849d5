"""In-flight micro-batches of the schedules."""

from __future__ import annotations

import pytest

from uniap_core.errors import UnknownName
from uniap_core.schedule import in_flight


def test_gpipe_keeps_all():
    assert [in_flight("gpipe", i, 4, 8) for i in range(4)] == [8, 8, 8, 8]


def test_1f1b_keeps_what_the_warm_up_needs():
    assert [in_flight("1f1b", i, 4, 8) for i in range(4)] == [4, 3, 2, 1]
    assert [in_flight("1f1b", i, 4, 2) for i in range(4)] == [2, 2, 2, 1]


def test_an_unknown_schedule_lists_the_known():
    with pytest.raises(UnknownName) as caught:
        in_flight("zigzag", 0, 1, 1)
    assert "1f1b" in caught.value.fix
