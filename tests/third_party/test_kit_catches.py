"""The kit fails what is wrong: each of its properties has a plugin, or a lowering, that breaks just that one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, settings

from uniap_core import registry
from uniap_core.api import Form, RawResult, SolverPlugin, Stop
from uniap_core.problem import read
from uniap_core.program.ladder import lower
from uniap_core.testing import LAWS, CostModelSuite, Limits, LoweringSuite, SolverSuite

SIZE = Limits(layers=(1, 3), stages=(1, 2), strategies=(1, 2))


@pytest.fixture(autouse=True)
def failures(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIAP_FAILURES", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def no_shrinking(request):
    """A failure is wanted here, not a small one, and always the same."""
    before = settings.get_current_profile_name()
    settings.register_profile("same", settings.get_profile(before), derandomize=True, database=None)
    settings.register_profile("once", settings.get_profile("same"), phases=[Phase.generate], derandomize=True)
    settings.load_profile("same" if "failures" in request.node.name or "kept" in request.node.name else "once")
    yield
    settings.load_profile(before)


def suite_of(solve, **fields):
    """The suite of a solver that is acme but for its ``solve`` (a function of this module), in this process."""
    acme = registry.load("solver", "acme")
    target = solve if isinstance(solve, str) else f"{__name__}:{solve.__name__}"
    chosen = replace(acme, name="mutant", solve=target, inline=True, **fields)
    return type("Mutant", (SolverSuite,), {"solver": chosen, "limits": SIZE, "examples": 30, "bulk": 40})()


def right(problem, request, emit):
    from acme_solver.branch import solve

    return solve(problem, request, emit)


def fickle(problem, request, emit):
    """Gives up every other time."""
    fickle.calls += 1
    found = right(problem, request, lambda event: None)
    if fickle.calls % 2 and found.assignment is not None:
        return replace(found, stop=Stop.TIME_LIMIT, assignment=None, bound_s=None)
    return found


fickle.calls = 0


def listing_matters(problem, request, emit):
    """Sees only the first two strategies of a layer."""
    layers = tuple(
        replace(x, time_s=np.where(np.arange(x.time_s.shape[1]) < 2, x.time_s, math.inf)) for x in problem.layers
    )
    return right(replace(problem, layers=layers), request, emit)


def chatty(problem, request, emit):
    print("hello")
    return right(problem, request, emit)


def never_stops(problem, request, emit):
    import time

    time.sleep(request.time_limit_s + 2.2)
    return RawResult(stop=Stop.TIME_LIMIT)


def test_a_right_one_passes():
    suite = suite_of(right)
    suite.test_equals_enumeration()
    suite.test_equals_enumeration_in_bulk()
    suite.test_honours_a_cutoff()


@pytest.mark.parametrize("lie", ["smug", "mute"])
def test_a_wrong_answer_is_caught_and_its_problem_kept(lie, failures):
    suite = suite_of(f"acme_broken.lies:{lie}")
    with pytest.raises(AssertionError):
        suite.test_equals_enumeration_in_bulk()
    with pytest.raises(AssertionError) as caught:
        suite.test_equals_enumeration()
    (path,) = failures.glob("*.json")
    assert str(path) in "".join(caught.value.__notes__)
    assert len(read(path).layers) <= 2, "hypothesis shrinks it"
    assert sum(len(layer.strategies) for layer in read(path).layers) <= 4, "hypothesis shrinks it"


def test_an_answer_that_changes_is_caught():
    with pytest.raises(AssertionError):
        suite_of(fickle).test_is_repeatable()


def test_a_law_catches_what_is_too_large_to_enumerate():
    law = next(law for law in LAWS if "relabelling strategies" in law.name)
    suite = suite_of(listing_matters)
    type(suite).law_limits = Limits(layers=(2, 3), stages=(1, 2), strategies=(3, 4))
    type(suite).examples = 200
    with pytest.raises(AssertionError):
        suite.test_obeys(law)


def test_printing_is_caught(tmp_path, capfd):
    with pytest.raises(AssertionError):
        suite_of(chatty).test_prints_nothing_and_logs_to_a_file(tmp_path, capfd)


def test_overrunning_is_caught():
    suite = suite_of(never_stops)
    type(suite).hard_limit_s = 0.1
    with pytest.raises(AssertionError, match="late"):
        suite.test_stops_at_its_time_limit()


def test_a_bad_descriptor_is_caught():
    with pytest.raises(AssertionError):
        suite_of(
            right, takes=Form.MILP, accepts=(Form.INTEGER,)
        ).test_descriptor_is_plain_data_and_its_functions_resolve()
    with pytest.raises(AssertionError):
        suite_of(right, summary="").test_descriptor_is_plain_data_and_its_functions_resolve()
    assert isinstance(registry.load("solver", "acme"), SolverPlugin)


# --- lowerings -----------------------------------------------------------------------------------------------------


def mutant_lowering(change):
    class Mutant(LoweringSuite):
        module = "uniap_core.program.rungs.pose_joint"
        form = Form.MILP
        examples = 60

        def lower(self, problem):
            lowered = lower(problem, self.form)
            return replace(lowered, program=change(lowered.program)) if lowered.program.solvable else lowered

    return Mutant()


def test_a_right_lowering_passes():
    mutant_lowering(lambda program: program).test_says_what_the_problem_says()


@pytest.mark.parametrize(
    "change",
    [
        lambda program: replace(program, cost=program.cost * 1.001),
        lambda program: replace(program, rows=replace(program.rows, upper=program.rows.upper * 0.5)),
        lambda program: replace(program, rows=replace(program.rows, upper=np.full(len(program.rows), np.inf))),
    ],
    ids=["objective", "rows too tight", "rows without limit"],
)
def test_a_wrong_lowering_is_caught(change):
    suite = mutant_lowering(change)
    with pytest.raises(AssertionError):
        suite.test_says_what_the_problem_says()


def test_a_lowering_without_its_statement_is_caught():
    suite = mutant_lowering(lambda program: program)
    type(suite).module = "uniap_core.program.ir"
    with pytest.raises(AssertionError):
        suite.test_docstring_states_the_rewrite()


# --- cost models ---------------------------------------------------------------------------------------------------


def mutant_cost_model(change):
    class Mutant(CostModelSuite):
        cost_model = "analytic"
        cases = CostModelSuite.cases[:2]

        def price(self, case, **changes):
            tables = super().price(case, **changes)
            return replace(tables, layers=tuple(change(layer, changes) for layer in tables.layers))

    return Mutant()


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (lambda x, how: replace(x, iteration_s=x.iteration_s + 1e-3), "test_parts_add_up"),
        (lambda x, how: replace(x, forward_s=x.forward_s * (2 if how.get("cluster") else 1)), "test_a_faster_cluster"),
        (lambda x, how: replace(x, forward_s=x.forward_s / (3 if how.get("space") else 1)), "test_a_narrower_space"),
        (lambda x, how: replace(x, stash_bytes=x.stash_bytes[::-1]), "test_sharding_and_recomputation"),
        (lambda x, how: replace(x, name=x.name + "x"), "test_tables_fit"),
    ],
)
def test_a_wrong_cost_model_is_caught(change, test):
    suite = mutant_cost_model(change)
    (name,) = [name for name in dir(suite) if name.startswith(test)]
    with pytest.raises(AssertionError):
        getattr(suite, name)()
