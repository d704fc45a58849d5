"""The corpus: what it says is so, and a failure finds its way into it."""

import math

import numpy as np
import pytest

from uniap_core.errors import BadFile, UsageError
from uniap_core.problem import Assignment, read
from uniap_core.testing import corpus
from uniap_core.testing.oracle import optimum
from uniap_core.testing.problems import random_problem

CASES = dict(corpus.cases())


@pytest.mark.parametrize("name", CASES)
def test_the_recorded_optimum_is_the_optimum(name):
    case = CASES[name]
    assert optimum(corpus.decoded(case)).objective_s == pytest.approx(case.optimum_s, rel=1e-12)
    assert case.why


def test_the_traps_are_traps():
    """Assignments that a wrong semantics would prefer are really cheaper there."""
    for name, cheat in {
        "contiguous-is-not-ordered": Assignment((1, 1, 0, 0, 0, 0), (0,) * 6),
        "two-disconnected-chains": Assignment((0, 1, 1, 0), (0,) * 4),
    }.items():
        value = corpus.decoded(CASES[name]).evaluate(cheat)
        assert value.objective_s < CASES[name].optimum_s
        assert all(v.startswith("order") for v in value.violations)
        assert value.violations
    assert CASES["shared-tensor-crosses-once"].optimum_s < CASES["own-tensors-cross-each"].optimum_s


def test_a_failure_is_saved_and_becomes_a_case(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNIAP_FAILURES", str(tmp_path / "failed"))
    problem = random_problem(np.random.default_rng(3))
    path = corpus.save_failure(problem, "acme: test_equals [1]")
    assert path.name == "acme-test_equals-1-.json"
    assert read(path).hash == problem.hash

    corpus.main([str(path), "--why", "acme lost a bound", "--name", "lost-bound", "--folder", str(tmp_path)])
    assert capsys.readouterr().out.strip().endswith("lost-bound.json")
    ((name, case),) = corpus.cases(tmp_path)
    assert (name, case.why) == ("lost-bound", "acme lost a bound")
    assert case.optimum_s == optimum(problem).objective_s

    with pytest.raises(UsageError, match="already"):
        corpus.main([str(path), "--why", "again", "--name", "lost-bound", "--folder", str(tmp_path)])


def test_an_infeasible_case_has_no_objective():
    infeasible = [case for case in CASES.values() if case.objective_s is None]
    assert infeasible
    assert all(math.isinf(case.optimum_s) for case in infeasible)


def test_a_broken_case_names_its_field(tmp_path):
    (tmp_path / "x.json").write_text('{"schema": "uniap.case/1", "why": "", "objective_s": "1"}')
    with pytest.raises(BadFile, match="objective_s"):
        list(corpus.cases(tmp_path))
