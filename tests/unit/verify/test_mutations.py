"""Every kind of mutation is rejected, for the right reason; there are far more than thirty."""

from __future__ import annotations

import msgspec
import pytest

from bench.mutations import FILES, FORGERIES, MUTATIONS, table
from tests import synthetic
from uniap_core.errors import UniapError
from uniap_core.proposal_file import ProposalFile, from_file, to_file
from uniap_core.verify import verify

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


# --- every leaf of the document ---------------------------------------------------------------------------------

FREE = ("solver", "space", "pins", "bound_s", "schema")
"""What a plan may say otherwise and still be right: who found it, a wider space, a weaker bound."""


def leaves(value, path=()):
    """Path of every number, word and truth value of a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    elif value is not None:
        yield path


def replaced(value, path):
    """The document with one leaf changed."""
    if not path:
        if isinstance(value, bool):
            return not value
        return value + "x" if isinstance(value, str) else value * 1.001 + 1 if isinstance(value, float) else value + 1
    head, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[head] = replaced(value[head], rest)
    return copy


def test_no_leaf_of_the_document_can_be_changed():
    s = synthetic.subject(pp=2, batch=16, micro_batches=4)
    document = msgspec.json.decode(msgspec.json.encode(to_file(s.proposal)))
    through, tried = [], 0
    for path in leaves(document):
        if path[0] in FREE:
            continue
        try:
            changed = from_file(msgspec.convert(replaced(document, path), ProposalFile))
        except (msgspec.ValidationError, UniapError):
            continue  # does not decode, or contradicts itself
        tried += 1
        if verify(changed, s.tables).passed:
            through.append(path)
    assert tried > 200
    assert through == []
