"""Plugins of all four kinds that do what no plugin should: a named error, exit code 3, and the others work on."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.planned import planned
from uniap_core import errors, execute, export, gate, models, registry
from uniap_core.cluster import preset
from uniap_core.cost_models import price
from uniap_core.costs import Candidate, Training
from uniap_core.execute import Job
from uniap_core.search import make, sweep
from uniap_core.search.recheck import check_properties
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.strategy import StrategySpace
from uniap_core.testing import Limits, random_problem

SIZE = Limits(layers=(3, 3), stages=(2, 2), strategies=(2, 2), micro_batches=(4, 4), grains=(1_000_000,))
SMALL = "gpt:layers=4,hidden=256,heads=8,vocab=1000,seq=128"


@pytest.fixture(scope="module")
def problem():
    return random_problem(np.random.default_rng(0), SIZE, shape="chain", memory="ample")


def refused(error, words):
    """The context in which an error of that kind, with a remedy and exit code 3, must come."""
    return _Refused(error, words)


class _Refused:
    def __init__(self, error, words):
        self.error, self.raises = error, pytest.raises(error, match=words)

    def __enter__(self):
        self.caught = self.raises.__enter__()

    def __exit__(self, *exception):
        done = self.raises.__exit__(*exception)
        assert type(self.caught.value) is self.error
        assert self.caught.value.exit_code == 3
        assert self.caught.value.fix
        return done


# --- solvers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "failure", "words"),
    [
        ("hostile-exit", errors.SolverCrashed, "SystemExit"),
        ("hostile-inline", errors.SolverCrashed, "sys.exit"),
        ("hostile-junk", errors.MalformedAnswer, "no message"),
        ("hostile-long", errors.MalformedAnswer, "1152921504606846976 bytes"),
        ("hostile-close", errors.SolverCrashed, "closed its pipe"),
        ("hostile-short-incumbent", errors.MalformedAnswer, "places 1 layers"),
        ("hostile-words", errors.MalformedAnswer, "array of numbers"),
    ],
)
def test_a_solver_that_misbehaves_ends_as_a_result(problem, solver, failure, words):
    result = driver.solve(problem, solver, SolveRequest(time_limit_s=60))
    assert (result.stop, type(result.failure)) == (Stop.CRASH, failure)
    assert words in str(result.failure)
    assert result.failure.exit_code == 3


def test_a_message_that_never_ends_meets_the_deadline(problem):
    result = driver.solve(problem, "hostile-endless", SolveRequest(time_limit_s=2.5))
    assert (result.stop, type(result.failure)) == (Stop.TIME_LIMIT, errors.SolverHung)


def test_an_answer_of_the_wrong_length_is_the_solvers_fault(problem):
    with refused(errors.MalformedAnswer, "hostile-short returned no assignment.*places 1 layers"):
        driver.solve(problem, "hostile-short", SolveRequest(time_limit_s=60))


def test_options_that_are_none_are_the_plugins_fault(problem):
    with refused(errors.PluginError, "options are no msgspec struct"):
        driver.solve(problem, "hostile-options", SolveRequest(time_limit_s=60, options={"depth": 3}))


@pytest.mark.parametrize(
    ("solver", "error", "words"),
    [
        ("hostile-bound", errors.WrongBound, "takes no less than"),
        ("hostile-bound-crash", errors.PluginError, "bound raised ZeroDivisionError: the well is dry"),
        ("hostile-bound-nan", errors.PluginError, "not a number"),
    ],
)
def test_a_bound_that_is_none_ends_a_sweep_with_its_name(solver, error, words):
    search = make(SMALL, "1x2xA100-80G", 4, solver=solver)
    with refused(error, words):
        sweep(search)


# --- cost models ----------------------------------------------------------------------------------------------------

COST_MODELS = [
    ("hostile-crash", "price raised ZeroDivisionError: the well is dry"),
    ("hostile-exit", r"price called sys\.exit"),
    ("hostile-exit-at-import", r"called sys\.exit"),
    ("hostile-lists", "price raised AttributeError"),
    ("hostile-nan", "forward_s has an entry that is negative or not a number"),
    ("hostile-nothing", "price returned None, not CostTables"),
    ("hostile-number", "descriptor's version is 1: not a str"),
    ("hostile-objects", "forward_s is not an array"),
    ("hostile-other", "its layers are not those of the model"),
    ("hostile-zero", "no time at all"),
]


@pytest.mark.parametrize(("name", "words"), COST_MODELS)
def test_tables_that_are_none_are_refused(name, words):
    candidate = Candidate.of(2, 2, Training(global_batch=4))
    with refused(errors.PluginError, words):
        price(name, models.load(SMALL), preset("1x2xA100-80G"), StrategySpace(), candidate)
    with refused(errors.PluginError, words):
        sweep(make(SMALL, "1x2xA100-80G", 4, cost_model=name))
    with refused(errors.PluginError, words):
        check_properties(1, cost_model=name)


@pytest.mark.parametrize(("name", "words"), COST_MODELS)
def test_an_estimate_does_not_hide_the_plugins_fault_in_a_note(name, words):
    from uniap_core.estimate import estimate

    row = {
        "model": "gpt2",
        "num_gpus": "2",
        "gpu": "A100-80G",
        "seq": "1024",
        "global_batch": "4",
        "tp": "1",
        "pp": "1",
    }
    assert estimate([row])[0]["pred_iter_time_s"]
    with refused(errors.PluginError, words):
        estimate([row], name)


# --- executors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan():
    return planned("gpt", "tp1-dp8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hostile-crash", "raised ZeroDivisionError"),
        ("hostile-exit", r"called sys\.exit"),
        ("hostile-exit-at-import", r"called sys\.exit"),
        ("hostile-nothing", "returned None"),
        ("hostile-number", "capability is 7"),
        ("hostile-other", "of another plan"),
        ("hostile-words", "is none: Expected `float`, got `str`"),
    ],
)
def test_an_executor_that_misbehaves_is_named(plan, name, words, tmp_path):
    def load(name):
        return registry.load("executor", name)

    with refused(errors.PluginError, words):
        gate.launch(plan, load(name), Job(steps=1, device="cpu"))
    if "other" in name or "words" in name:
        return
    with refused(errors.PluginError, words):
        execute.dry_run(plan, load(name))
    with refused(errors.PluginError, words):
        export.export(plan, name, tmp_path)
    with refused(errors.PluginError, words):
        export.export(plan, replace(load(name), express=""), tmp_path)


def test_files_that_are_not_there_were_not_written(plan, tmp_path):
    with refused(errors.PluginError, r"launch\.sh, which is not there"):
        export.export(plan, "hostile-forgets", tmp_path)


# --- sources of models ----------------------------------------------------------------------------------------------


def test_broken_sources_of_models_hide_no_other():
    said = []
    rows = models.rows(said.append)
    assert {"gpt2", "loud"} <= {row.name for row in rows}
    assert models.load("gpt2").name == "gpt2"
    text = " ".join(note.text for note in said)
    for words in (
        "hostile-crash': names raised ZeroDivisionError",
        "hostile-exit-at-import'",
        "names is 7",
        "build returned None, not ModelGraph",
    ):
        assert words in text, text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hostile-model", "build returned None, not ModelGraph"),
        ("words:x", "ModelGraph that is none: Expected `int`, got `str`"),
    ],
)
def test_a_graph_that_is_none_is_refused(model, words):
    with refused(errors.PluginError, words):
        models.load(model)


def test_an_unknown_model_says_who_could_not_be_asked():
    with pytest.raises(errors.UnknownName) as caught:
        models.load("no-such-model")
    assert "the well is dry" in caught.value.fix


# --- the command line -----------------------------------------------------------------------------------------------


def uniap(*arguments, timeout=120):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    command = [sys.executable, "-c", "from uniap_core.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)


def test_what_a_plugin_prints_leaves_one_document_on_standard_output():
    for arguments in (
        ["models", "--json"],
        ["plan", SMALL, "-c", "1x2xA100-80G", "-b", "4", "--cost-model", "hostile-prints", "--json"],
        ["plan", "loud", "-c", "1x1xA100-80G", "-b", "4", "--solver", "hostile-prints", "--json"],
    ):
        done = uniap(*arguments)
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
        assert "hello from C" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", SMALL, "-c", "1x2xA100-80G", "-b", "4", "--cost-model", "hostile-exit-at-import"], "sys.exit"),
        (["plan", SMALL, "-c", "1x2xA100-80G", "-b", "4", "--solver", "hostile-exit-at-import"], "sys.exit"),
        (["plan", SMALL, "-c", "1x2xA100-80G", "-b", "4", "--solver", "hostile-bound"], "takes no less than"),
        (["plan", SMALL, "-c", "1x2xA100-80G", "-b", "4", "--executor", "hostile-exit-at-import"], "sys.exit"),
    ],
)
def test_the_command_ends_with_a_named_error_and_code_3(arguments, words):
    done = uniap(*arguments)
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_default_comparison_leaves_broken_solvers_out(tmp_path, monkeypatch):
    path, broken = tmp_path / "problem.json", {"hostile-exit-at-import", "broken-import", "broken-mistyped"}
    arguments = ["-c", "1x2xA100-80G", "-b", "4", "--pp", "2", "--micro-batches", "2", "-o", str(path)]
    assert uniap("candidate", SMALL, *arguments).returncode == 0
    others = {name for name in registry.names("solver") if name.partition("-")[0] in ("broken", "hostile")} - broken
    monkeypatch.setenv("UNIAP_DISABLE", ",".join(others))
    done = uniap("compare", str(path), "--json")
    assert done.returncode == 0, done.stderr
    (compared,) = json.loads(done.stdout)["problems"]
    asked = {entry["solver"] for entry in compared["entries"]}
    assert {"dp", "acme"} <= asked
    assert not broken & asked
