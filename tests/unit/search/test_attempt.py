"""One candidate solved: what it proves under a cutoff, a limit, and sets of strategies."""

from __future__ import annotations

import dataclasses
import math

import pytest

from uniap_core.costs import Candidate
from uniap_core.events import Note
from uniap_core.posing import pose
from uniap_core.search import attempt as attempts
from uniap_core.search import candidates, make
from uniap_core.search.attempt import attempt
from uniap_core.search.pricing import bounded
from uniap_core.solve.result import Stop

SMALL = "gpt:layers=6,hidden=512,heads=8,seq=256"


def search(**options):
    return make(SMALL, "8xV100-32G", 32, **options)


def priced(asked, pp=2, micro_batches=4):
    return bounded(asked, (Candidate.of(pp, micro_batches, asked.training),))[0]


def test_a_free_attempt_finds_the_optimum_and_bounds_it():
    asked = search()
    found = attempt(asked, priced(asked), math.inf, None)
    assert found.outcome == "solved"
    assert found.bound_s == pytest.approx(found.objective_s, rel=1e-9)
    value = pose(found.variant.tables).evaluate(found.assignment)
    assert value.feasible
    assert value.objective_s == pytest.approx(found.objective_s, rel=1e-12)


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_nothing_below_the_cutoff_is_a_proof_with_the_cutoff_as_bound(factor):
    asked = search()
    optimum = attempt(asked, priced(asked), math.inf, None).objective_s
    found = attempt(asked, priced(asked), optimum * factor, None)
    assert found.outcome == "pruned"
    assert found.assignment is None
    assert found.bound_s <= optimum * (1 + 1e-9)
    assert found.bound_s >= optimum * factor * (1 - 1e-8)


def test_a_cutoff_above_the_optimum_costs_nothing():
    asked = search()
    free = attempt(asked, priced(asked), math.inf, None)
    found = attempt(asked, priced(asked), free.objective_s * 1.01, None)
    assert found.outcome == "solved"
    assert found.objective_s == pytest.approx(free.objective_s, rel=1e-9)


def test_sets_of_strategies_are_tried_until_none_can_be_better():
    asked = search(pins=("uniform",))
    one = priced(asked)
    assert len(one.variants) > 1
    found = attempt(asked, one, math.inf, None)
    each = [
        attempt(asked, dataclasses.replace(one, variants=(variant,)), math.inf, None).objective_s
        for variant in one.variants
    ]
    assert found.objective_s == pytest.approx(min(t for t in each if t is not None), rel=1e-9)
    assert len({found.variant.tables.layers[u].strategies[k] for u, k in enumerate(found.assignment.strategy)}) == 1


def test_no_time_is_a_limit_with_a_bound_not_a_verdict():
    asked = search(solver="cbc")
    found = attempt(asked, priced(asked), math.inf, 1e-9)
    assert found.outcome in ("limit", "solved")
    if found.outcome == "limit":
        assert found.bound_s is not None
        assert found.note.startswith("cbc:")


def test_what_a_solver_does_not_support_goes_to_another(monkeypatch):
    asked, said, real = search(), [], attempts.solve

    def refusing(problem, name, *rest):
        if name == "dp":
            raw = real(problem, name, *rest)
            return dataclasses.replace(raw, stop=Stop.UNSUPPORTED, assignment=None, objective_s=None, raw_status="no")
        return real(problem, name, *rest)

    monkeypatch.setattr(attempts, "solve", refusing)
    found = attempt(asked, priced(asked), math.inf, None, said.append)
    assert found.outcome == "solved"
    assert found.solver in attempts.FALLBACKS
    assert any("does not support" in event.text for event in said if isinstance(event, Note))


def test_every_candidate_can_be_attempted():
    asked = search()
    for candidate in candidates(asked):
        one = bounded(asked, (candidate,))[0]
        if one.variants:
            found = attempt(asked, one, math.inf, None)
            assert found.outcome in ("solved", "infeasible")
            assert found.bound_s is None or found.bound_s >= one.bound_s * (1 - 1e-9)
