"""Every kind of mutation is rejected, for the right reason; there are far more than thirty."""

from __future__ import annotations

import pytest

from bench.mutations import FILES, FORGERIES, MUTATIONS, table
from tests import synthetic

SUBJECTS = ({}, {"pp": 2, "schedule": "gpipe", "skip": False}, {"pp": 4, "strategy": 3})


@pytest.fixture(scope="module")
def rows():
    subjects = [synthetic.subject(**case) for case in SUBJECTS]
    return table([(synthetic.plan(s), s.tables) for s in subjects], rounds=2)


def test_all_are_caught_for_the_right_reason(rows):
    assert [row for row in rows if not row.tried or row.rightly < row.tried] == []


def test_there_are_many_kinds(rows):
    kinds = {kind.name for kind in MUTATIONS}
    assert len(kinds) == len(MUTATIONS) >= 60
    assert len(rows) == len(MUTATIONS) + len(FORGERIES) + len(FILES)
