"""Plans and proposals edited by hand, as somebody would who does not care where a field lies."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from uniap_core.costs import Candidate, Training
from uniap_core.pipeline import Pipeline
from uniap_core.plan import Plan
from uniap_core.proposal import Proposal

S = TypeVar("S", Plan, Proposal)


def changed(subject: S, **fields: Any) -> S:
    """The same with fields of the plan, its proposal, candidate or training replaced; a seal is left as it was."""
    if isinstance(subject, Plan):
        mine = {name: fields.pop(name) for name in Plan.__struct_fields__ if name in fields}
        return replace(subject, **{"proposal": changed(subject.proposal, **fields), **mine})
    candidate = subject.candidate
    mine = {name: fields.pop(name) for name in Proposal.__struct_fields__ if name in fields}
    trained = {name: fields.pop(name) for name in Training.__struct_fields__ if name in fields}
    depth, schedule = fields.pop("pp", candidate.pp), fields.pop("schedule", candidate.schedule)
    new = Candidate(
        Pipeline(schedule, depth, tuple(range(depth))),
        fields.pop("micro_batches", candidate.micro_batches),
        replace(fields.pop("training", candidate.training), **trained),
    )
    assert not fields, f"no such fields: {fields}"
    return replace(subject, **{"candidate": new, **mine})
