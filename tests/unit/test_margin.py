"""What a device keeps free: the margin that is asked for, and what the reserve holds."""

from __future__ import annotations

import msgspec
import pytest

import uniap
from tests.planned import planned
from uniap_core import artifact, plan
from uniap_core.advise.why import explain
from uniap_core.costs import MARGIN, Training
from uniap_core.errors import BadValue
from uniap_core.report.words import unusual
from uniap_core.search import make, price, sweep
from uniap_core.verify.judge import verify

TINY = "llama:layers=4,hidden=256,heads=8,kv_heads=4,ffn=512,vocab=1000,seq=64"


@pytest.mark.parametrize("value", [-0.01, 1.0, float("nan")])
def test_a_margin_is_a_share(value):
    with pytest.raises(BadValue, match="margin"):
        Training(global_batch=1, margin=value)


@pytest.mark.parametrize(("schedule", "pins"), [("1f1b", ("pp=1",)), ("interleaved", ("pp=2", "vpp=2"))])
def test_a_stage_says_what_its_reserve_holds(schedule, pins):
    found = uniap.plan(TINY, "2xA100-40G", 8, schedule=schedule, pins=pins, margin=0.1).plan
    assert found.training.margin == 0.1
    for stage in found.by_rank:
        parts = stage.reserved_parts_bytes
        assert set(parts) == {"context", "nccl", "workspace", "fragmentation", "margin"}
        assert sum(parts.values()) == pytest.approx(stage.memory_parts_bytes["reserved"])
        assert parts["margin"] == pytest.approx(0.1 * stage.memory_limit_bytes)
    first = {stage.ranks: stage for stage in reversed(found.stages)}.values()
    assert all((s.reserved_parts_bytes is not msgspec.UNSET) == any(s is f for f in first) for s in found.stages)
    assert any("are reserved: context 0.5, nccl 1.0" in sentence for sentence in explain(found).sentences)
    assert unusual(found.training) == {"margin": "0.1"}


def test_a_smaller_margin_leaves_more_to_layers():
    usual, none = (uniap.plan(TINY, "1xA100-40G", 8, margin=share).plan.stages[0] for share in (MARGIN, 0.0))
    assert usual.memory_bytes - none.memory_bytes == pytest.approx(MARGIN * usual.memory_limit_bytes)


def test_the_usual_margin_is_left_out_of_files_and_another_is_not(tmp_path):
    written = msgspec.json.decode(artifact.encode(plan.to_file(planned(TINY, "tp1-dp8"))))
    assert "margin" not in written["training"]
    made = planned(TINY, "tp1-dp8", margin=0.02)
    plan.write(tmp_path / "plan.json", made)
    assert plan.read(tmp_path / "plan.json") == made


def test_an_edited_part_of_the_reserve_is_found():
    search = make(TINY, "2xA100-40G", 8, pins=["pp=1"])
    found = sweep(search).plan
    stage = found.stages[0]
    wrong = msgspec.structs.replace(stage, reserved_parts_bytes={**stage.reserved_parts_bytes, "nccl": 0.0})
    edited = msgspec.structs.replace(found.proposal, stages=(wrong,))
    verdict = verify(edited, price(search, found.proposal.candidate), found.proof)
    assert [check.name for check in verdict.checks if not check.passed] == ["memory"]
