"""Plans whose ranks hold several chunks, or whose backwards are in two parts: judged by replaying their schedules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from tests import synthetic
from uniap_core.cluster import preset
from uniap_core.costs import Candidate, Training
from uniap_core.pipeline import Pipeline
from uniap_core.posing import pose
from uniap_core.problem import Assignment
from uniap_core.strategy import StrategySpace
from uniap_core.verify import timeline, verify
from uniap_core.verify.numbers import Placement, recompute, schedule_memory
from uniap_core.verify.simulate import simulate
from uniap_core.verify.timing import TOLERANCE, in_doubt, plan_pipeline, resimulated, timing

SHAPES = [
    ("zb-h1", 4, 1),
    ("interleaved", 4, 2),
    ("interleaved", 2, 4),
    ("interleaved-zb", 4, 2),
    ("zbv", 4, 2),
    ("dualpipev", 4, 2),
    ("v-half", 4, 2),
    ("v-min", 4, 2),
]


def subject(schedule="interleaved", ranks=4, v=2, c=8, *, strategy=None, skip=True):
    model, machine, space = synthetic.graph(blocks=14, skip=skip), preset("2x4xA100-80G"), StrategySpace()
    tables = synthetic.price(model, machine, space, Candidate.of(ranks, c, Training(global_batch=64), schedule, v))
    count = len(model.layers)
    choices = len(tables.layers[0].strategies)
    choice = tuple((3 * u) % choices if strategy is None else strategy for u in range(count))
    return synthetic.of(model, machine, space, tables, Assignment(synthetic.even(count, ranks * v), choice))


def judged(proposal, tables):
    return {check.name: check for check in verify(proposal, tables).checks}


@pytest.mark.parametrize(("schedule", "ranks", "v"), SHAPES)
def test_a_valid_proposal_passes(schedule, ranks, v):
    s = subject(schedule, ranks, v)
    verdict = verify(s.proposal, s.tables)
    assert verdict.passed, [check.evidence for check in verdict.failed]
    check = next(check for check in verdict.checks if check.name == "simulation")
    assert check.data["closed_form_s"] == pytest.approx(s.proposal.predicted.iteration_time_s)
    assert check.data["simulated_s"] == pytest.approx(resimulated(s.proposal))
    assert check.data["tolerance"] == TOLERANCE[schedule]
    assert check.data["difference_share"] * check.data["closed_form_s"] == pytest.approx(check.data["difference_s"])
    causes = ("work_once_per_iteration_s", "transfers_s", "unequal_stages_s")
    assert sum(check.data[name] for name in causes) == pytest.approx(check.data["difference_s"])
    off = in_doubt(s.proposal, check.data["simulated_s"])
    assert ("DIFFERS" in check.evidence) == off
    assert ("gradients of weights taken as 50%" in check.evidence) == (schedule != "interleaved")


def test_chunks_on_other_ranks_are_refused():
    s = subject("interleaved", 4, 2)
    vee = Pipeline("interleaved", 4, Pipeline.of("zbv", 4, 2).chunks)
    tables = replace(s.tables, candidate=msgspec.structs.replace(s.tables.candidate, pipeline=vee))
    moved = msgspec.structs.replace(s.proposal, candidate=tables.candidate)
    assert "does not lay its chunks" in judged(moved, tables)["candidate"].evidence
    assert not judged(moved, s.tables)["candidate"].passed


def test_an_unknown_schedule_is_refused_never_passed():
    s = subject("interleaved", 4, 2)
    placement = Placement(s.assignment.stage, s.assignment.strategy, 8, s.proposal.chunks)
    own = replace(recompute(s.tables, placement), schedule="chimera")
    for check in (timing(own), schedule_memory([], [1e12] * 4, own)):
        assert not check.passed
        assert "the verifier does not know the schedule 'chimera'" in check.evidence
    strange = msgspec.structs.replace(s.tables.candidate.pipeline, schedule="chimera")
    odd = msgspec.structs.replace(s.proposal, candidate=msgspec.structs.replace(s.tables.candidate, pipeline=strange))
    assert not judged(odd, s.tables)["candidate"].passed


def test_counts_that_were_priced_too_low_are_refused():
    s = subject("interleaved", 4, 2)
    low = replace(s.tables.ranks[0], in_flight=tuple((a - 1, b) for a, b in s.tables.ranks[0].in_flight))
    tables = replace(s.tables, ranks=(low, *s.tables.ranks[1:]))
    bad = synthetic.of(s.proposal.model, s.proposal.cluster, s.proposal.space, tables, s.assignment)
    checks = judged(bad.proposal, tables)
    assert "rank 0 was priced with" in checks["candidate"].evidence


@pytest.mark.parametrize(("schedule", "ranks", "v"), SHAPES)
def test_a_rank_that_overflows_at_one_event_is_named_with_it(schedule, ranks, v):
    s = subject(schedule, ranks, v, strategy=0)
    own = s.proposal.held[1]
    peak = sum(stage.memory_bytes for stage in own)
    stash = max(stage.memory_parts_bytes["activations"] / stage.in_flight for stage in own if stage.in_flight)
    ranks_ = list(s.tables.ranks)
    ranks_[1] = replace(ranks_[1], memory_bytes=peak - stash / 2)
    tables = replace(s.tables, ranks=tuple(ranks_))
    bad = synthetic.of(s.proposal.model, s.proposal.cluster, s.proposal.space, tables, s.assignment)
    check = judged(bad.proposal, tables)["memory-schedule"]
    assert not check.passed
    assert f"{'rank' if v > 1 else 'stage'} 1 needs" in check.evidence
    assert "of its schedule, with" in check.evidence


def test_claims_of_chunks_are_those_of_the_fullest_moment():
    s = subject("interleaved", 4, 2)
    stages = list(s.proposal.stages)
    first, stash = stages[0], stages[0].memory_parts_bytes["activations"] / stages[0].in_flight
    parts = {**first.memory_parts_bytes, "activations": first.memory_parts_bytes["activations"] - stash}
    stages[0] = msgspec.structs.replace(
        first, in_flight=first.in_flight - 1, memory_bytes=first.memory_bytes - stash, memory_parts_bytes=parts
    )
    checks = judged(msgspec.structs.replace(s.proposal, stages=tuple(stages)), s.tables)
    assert "rank 0" in checks["memory"].evidence
    assert "micro-batches in flight and interleaved holds" in checks["memory-schedule"].evidence


@pytest.mark.parametrize(("schedule", "ranks", "v"), SHAPES)
def test_the_timeline_has_every_step_with_its_chunk(schedule, ranks, v):
    s = subject(schedule, ranks, v)
    trace = timeline(s.proposal)
    msgspec.json.encode(trace)
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    c, chunks = s.proposal.micro_batches, s.proposal.chunks
    split = 0
    for i in range(ranks):
        row = sorted((e for e in events if e["pid"] == 0 and e["tid"] == i), key=lambda e: (e["ts"], e["dur"]))
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-6 for a, b in pairwise(row))
        ran = [tuple(e["args"].values()) for e in row if e["cat"] != "iteration"]
        assert {j for _, j, _ in ran} == {j for j, rank in enumerate(chunks) if rank == i}
        for kinds in ("F", "BI"):
            assert sum(kind in kinds for kind, _, _ in ran) == v * c
        assert sum(kind == "I" for kind, _, _ in ran) == sum(kind == "W" for kind, _, _ in ran)
        split += sum(kind == "W" for kind, _, _ in ran)
    assert (split > 0) == (schedule != "interleaved")
    end = max(e["ts"] + e["dur"] for e in events)
    assert end == pytest.approx(trace["otherData"]["simulated_s"] * 1e6)
    held = [e for e in trace["traceEvents"] if e["ph"] == "C" and e["name"] == "in flight on stage 0"]
    assert held[-1]["args"]["micro_batches"] == 0
    crossings = sum(a != b for a, b in pairwise(chunks))
    assert sum(e["cat"] == "transfer" for e in events) == 2 * crossings * c


def test_transfers_and_unequal_chunks_are_simulated_not_guessed():
    """By hand: 2 ranks, 2 chunks each, one micro-batch: through all chunks and back, transfers between."""
    s = subject("interleaved", 2, 2, c=1)
    p = plan_pipeline(s.proposal)
    around = (p.forward_s + p.backward_s).sum() + (p.activation_s + p.gradient_s).sum()
    assert simulate(p).makespan_s == pytest.approx(around + p.by_rank(p.iteration_s)[0])


def test_the_problem_says_what_the_objective_weighs():
    s = subject("interleaved", 4, 2)
    assert pose(s.tables).objective.sum == pytest.approx(0.5)
    assert s.proposal.predicted.stages_s == pytest.approx(0.5 * sum(stage.time_s for stage in s.proposal.stages))
