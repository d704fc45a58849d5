"""Options of solvers: whatever a solver does not have, cannot read or refuses is refused by name, before it runs."""

import json

import msgspec
import numpy as np
import pytest

from uniap_core import registry
from uniap_core.cli import main
from uniap_core.errors import UsageError
from uniap_core.problem import write
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.testing import availability, random_problem

SOLVERS = sorted(registry.names("solver"))

WRONG_TYPE = {
    "highs": {"presolve": 1, "heuristic_effort": "much"},
    "scip": {"emphasis": True, "factor_terms": 2.5, "nodes": "ten"},
    "cbc": {"library": 2, "nodes": "ten"},
    "cpsat": {"linearization": 1.5, "deterministic_limit": "long"},
    "gurobi": {"mip_focus": "proof", "work_limit": "long"},
    "dp": {"max_labels": "many", "max_steps": 1.5},
}

REFUSED = {
    "dp": ({"max_labels": -1}, {"max_steps": -5}),
    "highs": ({"presolve": "banana"}, {"heuristic_effort": 1.5}, {"heuristic_effort": -0.1}),
    "scip": ({"emphasis": "haste"}, {"factor_terms": 0}, {"nodes": -2}),
    "cbc": ({"library": "mine"}, {"nodes": -1}, {"nodes": 5, "library": "ortools"}),
    "cpsat": ({"linearization": 3}, {"linearization": -1}, {"deterministic_limit": -1.0}),
    "gurobi": ({"mip_focus": 4}, {"work_limit": -1.0}),
}


@pytest.fixture(scope="module")
def problem():
    return random_problem(np.random.default_rng(0), memory="ample")


def refused(problem, solver, options, words):
    plugin = availability.plugin("solver", solver)
    with pytest.raises(UsageError, match=words) as caught:
        driver.solve(problem, plugin, SolveRequest(options=options, time_limit_s=60))
    assert caught.value.exit_code == 2
    assert caught.value.fix
    assert solver in str(caught.value)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_unknown_option(problem, solver):
    refused(problem, solver, {"no_such_option": 1}, "no_such_option|no options of its own")


@pytest.mark.parametrize(("solver", "name"), [(s, name) for s in WRONG_TYPE for name in WRONG_TYPE[s]])
def test_an_option_of_the_wrong_type(problem, solver, name):
    refused(problem, solver, {name: WRONG_TYPE[solver][name]}, name)


@pytest.mark.parametrize(("solver", "options"), [(s, options) for s in REFUSED for options in REFUSED[s]])
def test_a_value_that_the_solver_refuses(problem, solver, options):
    refused(problem, solver, options, next(iter(options)))


def test_every_solver_with_options_has_its_wrong_ones_here():
    with_options = {name for name in SOLVERS if registry.load("solver", name).options}
    assert with_options & set(registry.names("solver")) == set(WRONG_TYPE)
    for name in with_options:
        kind = registry.resolve(registry.load("solver", name).options)
        assert set(WRONG_TYPE[name]) <= set(kind.__struct_fields__)


def test_what_only_the_library_can_refuse_is_refused_from_the_worker(problem, monkeypatch):
    """HiGHS takes no negative seed; its refusal is a sentence, and the next solve works."""
    plugin = availability.plugin("solver", "highs")
    monkeypatch.setattr(driver.limits, "check", lambda value, kind, name: value)  # it refuses before the worker does
    with pytest.raises(UsageError, match="random_seed = -1"):
        driver.solve(problem, plugin, SolveRequest(seed=-1, time_limit_s=60))
    assert driver.solve(problem, plugin, SolveRequest(time_limit_s=60)).stop.proven


def test_the_defaults_are_what_the_libraries_take(problem):
    """Every option stated at its default changes nothing."""
    for name in REFUSED:
        plugin = availability.plugin("solver", name)
        stated = msgspec.to_builtins(registry.resolve(plugin.options)())
        result = driver.solve(problem, plugin, SolveRequest(options=stated, time_limit_s=60))
        assert result.stop.proven, (name, result.raw_status)


def solved(problem, folder, monkeypatch, capsys, *options):
    """Exit code and document of ``uniap solve`` with HiGHS."""
    availability.plugin("solver", "highs")
    write(folder / "p.json", problem)
    monkeypatch.setattr("sys.argv", ["uniap", "solve", str(folder / "p.json"), "--solver", "highs", "--json", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("option", "words"),
    [("presolve=banana", "presolve"), ("heuristic_effort=true", "heuristic_effort"), ("presolve", "NAME=VALUE")],
)
def test_the_command_line_says_no_with_exit_2(problem, tmp_path, monkeypatch, capsys, option, words):
    code, said = solved(problem, tmp_path, monkeypatch, capsys, "--option", option)
    assert code == 2
    assert words in said["cause"]


def test_the_command_line_passes_options_on(problem, tmp_path, monkeypatch, capsys):
    options = ("--option", "presolve=off", "--option", "heuristic_effort=0.2")
    code, said = solved(problem, tmp_path, monkeypatch, capsys, *options)
    assert (code, said["stop"]) == (0, "optimal")
