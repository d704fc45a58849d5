"""What ``import uniap`` gives: the same options as the functions behind it, one version, nothing loaded early."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import uniap
from uniap_core.cli import register
from uniap_core.search import make, verify_plan
from uniap_core.solve.request import SolveRequest

VERSION = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["version"]


def options(function):
    """Keyword parameters with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_a_plan_has_every_option_of_a_search_and_its_default():
    assert options(uniap.plan) == options(make) | {"emit": None}


def test_a_problem_has_those_that_matter_to_one_candidate():
    own = options(uniap.problem)
    assert {own.pop("pp"), own.pop("micro_batches")} == {inspect.Parameter.empty}
    assert own.pop("vpp") == 1
    behind = options(make)
    assert own == {name: behind[name] for name in own}
    assert set(behind) - set(own) == {"solver", "top", "time_limit", "gap", "workers", "emit"}


@pytest.mark.parametrize("function", [uniap.solve, uniap.compare])
def test_solving_has_the_fields_of_a_request(function):
    request = SolveRequest()
    defaults = {name: getattr(request, name) for name in SolveRequest.__struct_fields__}
    own = {name: {} if name == "options" else value for name, value in options(function).items()}
    assert own == {name: defaults[name] for name in own}
    if function is uniap.solve:
        assert set(own) == set(defaults)


def test_verifying_has_every_option_of_the_verifier():
    assert options(uniap.verify) == options(verify_plan)


def test_problems_are_solved_compared_and_read_from_files(tmp_path):
    from uniap_core.problem import write

    posed = uniap.problem("gpt:layers=4,hidden=256,heads=8,seq=128", "8xA100-40G", 16, pp=2, micro_batches=4)
    write(tmp_path / "posed.json", posed)
    found = uniap.solve(str(tmp_path / "posed.json"))
    assert found.objective_s == uniap.solve(posed, seed=1).objective_s
    for problems in (posed, [posed], (str(tmp_path / "posed.json"),)):
        compared = uniap.compare(problems, ["dp", "uniform"])
        assert len(compared.problems) == 1


def test_the_version_is_said_once():
    assert uniap.__version__ == VERSION
    done = CliRunner().invoke(register(), ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"uniap {VERSION}\n")


def test_nothing_else_is_an_attribute():
    with pytest.raises(AttributeError, match="no attribute 'plans'"):
        uniap.plans  # noqa: B018


def test_importing_loads_nothing_else():
    code = "import sys, __future__; before = set(sys.modules); import uniap; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "uniap\n"
