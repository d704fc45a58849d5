"""Plans whose pipeline ranks hold several chunks: what they say is what the problem means, and survives a file."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uniap_cost_analytic.pricing import price

from uniap_core import plan as plans
from uniap_core import proposal_file
from uniap_core.cluster import preset
from uniap_core.costs import Candidate, Training
from uniap_core.errors import Unverified
from uniap_core.models import load
from uniap_core.posing import pose
from uniap_core.problem import Assignment
from uniap_core.proposal import CandidateProof, propose
from uniap_core.strategy import StrategySpace
from uniap_core.verify import verify

GPT = "gpt:layers=6,hidden=64,heads=4,vocab=128,seq=32"


def random_plan(pp, vpp, micro_batches, seed, memory=1.0):
    """Tables, assignment and proposal of a chunked candidate: random cuts and strategies."""
    rng = np.random.default_rng(seed)
    graph, machine, space = load(GPT), preset("4xA100-80G"), StrategySpace()
    candidate = Candidate.of(pp, micro_batches, Training(global_batch=32), "interleaved", vpp)
    tables = price(graph, machine, space, candidate)
    cuts = np.sort(rng.choice(np.arange(1, len(graph.layers)), pp * vpp - 1, replace=False))
    chunk = tuple(int(np.searchsorted(cuts, u, side="right")) for u in range(len(graph.layers)))
    strategy = tuple(int(rng.integers(len(layer.strategies))) for layer in tables.layers)
    assignment = Assignment(chunk, strategy)
    return tables, assignment, propose(graph, machine, space, tables, assignment, solver="hand", bound_s=None)


shapes = st.tuples(
    st.sampled_from([(2, 2), (2, 3), (2, 4), (4, 2)]), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 99)
)


@settings(max_examples=30, deadline=None)
@given(shapes)
def test_a_chunked_proposal_says_what_the_problem_means(shape):
    (pp, vpp), c, seed = shape
    tables, assignment, proposal = random_plan(pp, vpp, c, seed)
    value = pose(tables).evaluate(assignment)
    said = proposal.predicted
    assert said.iteration_time_s == value.objective_s
    assert math.isclose(said.stages_s + said.transfers_s + said.steady_s, value.objective_s, rel_tol=1e-12)
    assert [s.time_s for s in proposal.stages] == pytest.approx(value.chunk_s)
    for rank, held in enumerate(proposal.held):
        assert len(held) == vpp
        assert len({stage.ranks for stage in held}) == 1
        assert math.isclose(sum(s.memory_bytes for s in held), value.memory_bytes[rank], rel_tol=1e-12)
        assert math.isclose(sum(s.time_s for s in held), value.rank_s[rank], rel_tol=1e-12)
        assert tuple(s.in_flight for s in held) in tables.ranks[rank].in_flight
        assert ["reserved" in s.memory_parts_bytes for s in held] == [True] + [False] * (vpp - 1)
    verdict = verify(proposal, tables)
    assert verdict.passed == value.feasible, [check.evidence for check in verdict.failed]
    again = proposal_file.from_file(
        msgspec.json.decode(msgspec.json.encode(proposal_file.to_file(proposal)), type=proposal_file.ProposalFile)
    )
    assert again == proposal
    assert proposal_file.subject(again) == verdict.subject


@settings(max_examples=30, deadline=None)
@given(shapes, st.sampled_from(["time_s", "memory_bytes", "in_flight", "reshard_s"]), st.integers(0, 3))
def test_an_edited_chunk_is_found_out(shape, field, j):
    (pp, vpp), c, seed = shape
    tables, _, proposal = random_plan(pp, vpp, c, seed)
    stage = msgspec.structs.replace(proposal.stages[j], **{field: getattr(proposal.stages[j], field) * 1.01 + 0.01})
    stages = (*proposal.stages[:j], stage, *proposal.stages[j + 1 :])
    assert not verify(msgspec.structs.replace(proposal, stages=stages), tables).passed


def test_chunks_of_one_rank_name_the_same_devices():
    tables, _, proposal = random_plan(2, 2, 4, 0)
    moved = msgspec.structs.replace(proposal.stages[2], ranks=proposal.stages[1].ranks)
    stages = (*proposal.stages[:2], moved, proposal.stages[3])
    failed = verify(msgspec.structs.replace(proposal, stages=stages), tables).failed
    assert "ranks" in {check.name for check in failed}


def sealed(proposal, tables):
    record = CandidateProof(
        schedule="interleaved",
        pp=proposal.pp,
        vpp=proposal.vpp,
        micro_batches=proposal.micro_batches,
        outcome="solved",
        bound_s=0.0,
        objective_s=proposal.predicted.iteration_time_s,
    )
    plain = CandidateProof(pp=1, micro_batches=1, outcome="limit")
    return plans.seal(proposal, (record, plain), verify(proposal, tables))


def test_a_sealed_chunked_plan_survives_its_file(tmp_path):
    tables, _, proposal = random_plan(2, 3, 8, 1)
    plan = sealed(msgspec.structs.replace(proposal, searched=("1f1b", "interleaved")), tables)
    plans.write(tmp_path / "plan.json", plan)
    again = plans.read(tmp_path / "plan.json")
    assert again == plan
    plans.check_seal(again)
    assert (again.vpp, again.chunks, again.schedules) == (3, (0, 1) * 3, ("1f1b", "interleaved"))
    assert [(r.schedule, r.vpp) for r in again.proof] == [("interleaved", 3), ("1f1b", 1)]
    assert "pp2 x vpp3" in again.proposal.title
    text = (tmp_path / "plan.json").read_text()
    for old, new in (('"vpp": 3', '"vpp": 2'), ('"searched": [', '"searched": ["gpipe", ')):
        assert old in text
        (tmp_path / "edited.json").write_text(text.replace(old, new, 1))
        with pytest.raises(Unverified):
            plans.check_seal(plans.read(tmp_path / "edited.json"))


def test_a_schedule_without_such_chunks_is_no_plan(tmp_path):
    _, _, proposal = random_plan(2, 2, 8, 1)
    document = proposal_file.to_file(proposal)
    training = msgspec.structs.replace(document.training, schedule="1f1b")
    with pytest.raises(Unverified, match="one chunk per rank"):
        proposal_file.from_file(msgspec.structs.replace(document, schedule="1f1b", training=training))
