"""Plans of different schedules are ranked by simulation where the closed form of the best is in doubt."""

from __future__ import annotations

import msgspec
import pytest

from tests import synthetic
from uniap_core.cluster import preset
from uniap_core.costs import Candidate, Training
from uniap_core.events import Note, Progress, progress_of
from uniap_core.problem import Assignment
from uniap_core.report.words import proof_line
from uniap_core.search import make, ranking, sweep
from uniap_core.search.ranking import ranked
from uniap_core.strategy import StrategySpace
from uniap_core.verify.timing import resimulated


def proposal(schedule, v, claimed=1.0):
    """An even plan that claims a multiple of its simulated time."""
    model, machine, space = synthetic.graph(blocks=14), preset("2x4xA100-80G"), StrategySpace()
    tables = synthetic.price(model, machine, space, Candidate.of(4, 8, Training(global_batch=64), schedule, v))
    count = len(model.layers)
    made = synthetic.of(model, machine, space, tables, Assignment(synthetic.even(count, 4 * v), (0,) * count)).proposal
    predicted = msgspec.structs.replace(made.predicted, iteration_time_s=claimed * resimulated(made))
    return msgspec.structs.replace(made, predicted=predicted)


def test_a_best_plan_within_its_tolerance_stays():
    plans = [proposal("1f1b", 1, 1.0), proposal("interleaved", 2, 3.0)]
    assert resimulated(plans[1]) < resimulated(plans[0])
    assert ranked(plans).order == (0, 1)
    assert not ranked(plans).simulated_s


def test_a_best_plan_in_doubt_is_compared_by_simulation():
    plans = [proposal("1f1b", 1, 0.9), proposal("interleaved", 2, 3.0)]
    assert ranked(plans).order == (1, 0)
    assert ranked(plans).changed
    assert ranked(plans).simulated_s == tuple(map(resimulated, plans))
    right = [proposal("interleaved", 2, 0.9), proposal("1f1b", 1, 1.0)]
    assert ranked(right).order == (0, 1)
    assert not ranked(right).changed


def test_plans_of_one_schedule_with_other_chunks_are_compared():
    plans = [proposal("interleaved", 4, 0.9), proposal("interleaved", 2, 3.0)]
    seconds = tuple(map(resimulated, plans))
    assert ranked(plans).simulated_s == seconds
    assert ranked(plans).order == ((0, 1) if seconds[0] <= seconds[1] else (1, 0))


def test_plans_of_one_schedule_stay_as_they_are():
    plans = [proposal("1f1b", 1, 0.5), proposal("1f1b", 1, 0.9)]
    assert ranked(plans).order == (0, 1)
    assert ranked([]).order == ()


@pytest.mark.parametrize("doubted", [False, True])
def test_a_sweep_says_that_simulation_decided(monkeypatch, doubted):
    """Forced: every plan is in doubt, and the better its formula, the longer it takes."""
    search = make("gpt2", "1x4xA100-80G", batch=8, seq=128, schedule="any", top=2)
    plain = sweep(search)
    schedules = {record.schedule for record in plain.proof if record.objective_s is not None}
    assert len(schedules) > 1
    monkeypatch.setattr(ranking, "in_doubt", lambda plan, seconds: doubted)
    monkeypatch.setattr(ranking, "resimulated", lambda plan: 1 / plan.predicted.iteration_time_s)
    told = []
    swept = sweep(search, told.append)
    least = min(record.objective_s for record in swept.proof if record.objective_s is not None)
    line = proof_line(swept.proof, swept.plan.bound_s, swept.plan.predicted.iteration_time_s)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert swept.plan.verdict.passed
    if doubted:
        assert swept.plan.predicted.iteration_time_s > least
        assert any("by simulation" in text for text in notes)
        assert sum("by simulation" in record.note for record in swept.proof) >= 2
        assert line.startswith("best by simulation")
    else:
        assert swept.plan.predicted.iteration_time_s == least
        assert line.startswith("optimal over")


def test_what_a_doubted_formula_ruled_out_is_solved_and_simulated(monkeypatch):
    """Forced: the schedule of the best takes ten times what its formula says, and others what theirs say."""
    search = make("gpt:layers=4,hidden=64,heads=4,vocab=128,seq=32", "4xA100-80G", 8, schedule="auto", pins=("pp=2",))
    plain = sweep(search)
    first = plain.plan.schedule
    assert all(record.outcome != "solved" for record in plain.proof if record.schedule != first)

    def resimulated(plan):
        return plan.predicted.iteration_time_s * (10 if plan.schedule == first else 1)

    monkeypatch.setattr(ranking, "in_doubt", lambda plan, seconds: True)
    monkeypatch.setattr(ranking, "resimulated", resimulated)
    swept = sweep(search)
    assert swept.plan.schedule != first
    assert swept.plan.verdict.passed
    chosen = next(r for r in swept.proof if r.objective_s == swept.plan.predicted.iteration_time_s)
    assert "by simulation" in chosen.note
    assert chosen.objective_s < 10 * plain.plan.predicted.iteration_time_s


def test_sweeps_on_the_side_tell_of_their_progress_alone():
    told = []
    tell = progress_of(told.append)
    tell(Note(0.0, "another plan is faster"))
    tell(Progress(0.0, 1, 2))
    assert told == [Progress(0.0, 1, 2)]
