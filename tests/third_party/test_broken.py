"""A plugin may be wrong in many ways: each is caught, each has an error of its own, and nobody else suffers."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from uniap_core import errors, registry
from uniap_core.compare import compare, require_agreement, table
from uniap_core.problem import read
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.testing import Limits, optimum, random_problem

SIZE = Limits(layers=(3, 3), stages=(2, 2), strategies=(2, 2), micro_batches=(4, 4), grains=(1_000_000,))


@pytest.fixture(scope="module")
def problem():
    return random_problem(np.random.default_rng(0), SIZE, shape="chain", memory="ample")


@pytest.mark.parametrize(
    ("solver", "error", "words"),
    [
        ("broken-infeasible", errors.InfeasibleAnswer, "infeasible assignment: order"),
        ("broken-objective", errors.WrongObjective, "says its assignment takes"),
        ("broken-bound", errors.WrongBound, "no assignment takes less than"),
        ("broken-optimal", errors.UnprovenOptimum, "no lower bound"),
        ("broken-loose", errors.UnprovenOptimum, "unproven"),
        ("broken-pessimist", errors.FalseInfeasible, "infeasible, but one takes"),
        ("broken-mistyped", errors.PluginError, "takes is 'problems'"),
        ("broken-no-descriptor", errors.PluginError, "not a dict"),
        ("broken-import", errors.PluginError, "no_such_module"),
        ("broken-library", errors.PluginError, "no_such_library"),
    ],
)
def test_a_false_claim_is_refused(problem, solver, error, words):
    with pytest.raises(error, match=words) as caught:
        driver.solve(problem, solver, SolveRequest(time_limit_s=60))
    assert type(caught.value) is error
    assert caught.value.exit_code == 3
    assert caught.value.fix


@pytest.mark.parametrize(
    ("solver", "stop", "failure", "words", "limit_s"),
    [
        ("broken-crash", Stop.CRASH, errors.SolverCrashed, "the well is dry", 60),
        ("broken-death", Stop.CRASH, errors.SolverCrashed, "SIGABRT", 60),
        ("broken-malformed", Stop.CRASH, errors.MalformedAnswer, "dict", 60),
        ("broken-garbled", Stop.CRASH, errors.MalformedAnswer, "bound_s", 60),
        ("broken-hang", Stop.TIME_LIMIT, errors.SolverHung, "killed", 2.5),
    ],
)
def test_a_failure_ends_as_a_result_with_what_was_found(problem, solver, stop, failure, words, limit_s):
    # The one that hangs never returns: that there is a result is the proof that it was stopped.
    result = driver.solve(problem, solver, SolveRequest(time_limit_s=limit_s))
    assert (result.stop, type(result.failure)) == (stop, failure)
    assert words in str(result.failure)
    if solver in ("broken-death", "broken-hang"):
        assert problem.evaluate(result.assignment).objective_s == result.objective_s


def test_a_hungry_solver_meets_its_memory_cap(problem):
    result = driver.solve(problem, "broken-hungry", SolveRequest(time_limit_s=60, memory_limit_bytes=2**28))
    assert (result.stop, type(result.failure)) == (Stop.MEMORY_LIMIT, errors.SolverOutOfMemory)


def test_every_error_of_a_solver_has_a_name_of_its_own():
    found = [errors.SolverFailed, *_below(errors.SolverFailed)]
    assert len({e.code for e in found}) == len(found) == 11


def _below(kind):
    return [e for child in kind.__subclasses__() for e in (child, *_below(child))]


def test_what_a_solver_prints_stays_out_of_the_callers_output(problem, capfd):
    result = driver.solve(problem, "broken-printer", SolveRequest(time_limit_s=60))
    assert result.objective_s == pytest.approx(optimum(problem).objective_s)
    assert capfd.readouterr() == ("", "")


def test_broken_plugins_do_not_disturb_the_others(problem):
    listed = registry.names("solver")
    assert {"acme", "broken-import", "highs"} <= set(listed)
    assert driver.solve(problem, "acme").stop is Stop.OPTIMAL


def test_two_distributions_of_one_name_are_refused_and_named(tmp_path, monkeypatch):
    info = tmp_path / "other_acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: other-acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[uniap.solvers]\nacme = other_acme:SOLVER\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.load.cache_clear()
    with pytest.raises(errors.PluginError, match="acme-solver, other-acme"):
        registry.load("solver", "acme")
    assert "acme" not in registry.names("solver")


# --- a lie that only another solver can tell ---------------------------------------------------------------------


def test_a_comparison_names_the_pair_and_keeps_the_problem(problem, tmp_path):
    events = []
    compared = compare([problem], ["acme", "broken-smug"], SolveRequest(), events.append, keep=tmp_path, strict=False)
    (compared_problem,) = compared.problems
    (contradiction,) = compared_problem.contradictions
    assert (contradiction.claims, contradiction.refutes) == ("broken-smug", "acme")
    assert contradiction.objective_s == pytest.approx(optimum(problem).objective_s)
    assert read(compared_problem.file).hash == problem.hash
    assert {compared_problem.agreement(e) for e in compared_problem.entries} == {
        "contradicts broken-smug",
        "contradicts acme",
    }
    assert table(compared_problem).row_count == 2
    assert events
    with pytest.raises(errors.Disagreement, match="broken-smug and acme disagree") as caught:
        require_agreement(compared)
    assert compared_problem.file in caught.value.fix
    assert caught.value.exit_code == 3


def test_a_comparison_that_disagrees_raises_once_all_is_done(problem, tmp_path):
    other = replace(problem, name="other")
    with pytest.raises(errors.Disagreement):
        compare([problem, other], ["acme", "broken-smug"], keep=tmp_path)
    assert len(list(tmp_path.glob("disagreement-*.json"))) == 2


def test_a_false_infeasible_is_a_disagreement_too(tmp_path):
    """A solver that finds nothing on the way cannot be caught by the driver, but by its neighbor."""
    problem = random_problem(np.random.default_rng(2), SIZE, shape="chain", memory="ample")
    mute = replace(registry.load("solver", "broken-pessimist"), name="mute", solve="acme_broken.lies:mute")
    with pytest.raises(errors.Disagreement, match="mute claims that nothing is feasible"):
        compare([problem], [mute, "acme"], keep=tmp_path)


def test_failures_are_rows_of_a_comparison(problem, tmp_path):
    compared = compare([problem], ["acme", "broken-crash", "broken-bound"], keep=tmp_path)
    entries = {e.solver: e for e in compared.problems[0].entries}
    assert entries["acme"].stop is Stop.OPTIMAL
    assert entries["broken-crash"].error == "solver-crashed"
    assert (entries["broken-bound"].stop, entries["broken-bound"].error) == (None, "solver-lied-bound")
    assert not list(tmp_path.iterdir())


def test_listing_by_the_command_line_survives_all_of_them():
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", "from uniap_core.cli import main; main()", "plugins", "--json"],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "broken-no-descriptor" in json.dumps(json.loads(done.stdout))
