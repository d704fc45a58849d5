"""What each MIP backend does with a request, told by its solver's own statistics and log."""

import importlib
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from uniap_core.events import Incumbent, Note
from uniap_core.program.form import Form
from uniap_core.solve import driver
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Stop
from uniap_core.testing import Limits, availability, hard_problem, optimum, random_problem

BACKENDS = ("highs", "scip", "cbc", "cpsat", "gurobi")
MEDIUM = Limits(layers=(6, 6), stages=(2, 2), strategies=(4, 4), micro_batches=(4, 4), grains=(1_000_000,))


@pytest.fixture(params=BACKENDS)
def solver(request):
    return availability.plugin("solver", request.param)


@pytest.fixture(scope="module")
def problem():
    return random_problem(np.random.default_rng(5), MEDIUM, shape="chain", memory="tight")


# --- stop reasons: one table per backend, held against the installed library ---------------------------------------


def backend(name, module="backend"):
    availability.plugin("solver", name)
    return importlib.import_module(f"uniap_{name}.{module}")


def test_highs_table_covers_the_enum():
    from highspy import HighsModelStatus

    known = {getattr(HighsModelStatus, name) for name in dir(HighsModelStatus) if name.startswith("k")}
    assert set(backend("highs").STOPS) == known


def test_scip_table_covers_the_enum():
    stops = backend("scip").STOPS
    from pyscipopt import SCIP_STATUS

    names = {name.lower() for name in dir(SCIP_STATUS) if not name.startswith("_")}
    # Model.getStatus spells one of them differently, and knows more than the exported enum in some versions.
    assert names <= set(stops)


def test_gurobi_table_covers_the_enum():
    from gurobipy import GRB

    known = {getattr(GRB.Status, name) for name in dir(GRB.Status) if name.isupper()}
    stops = backend("gurobi").STOPS
    assert known <= set(stops)
    assert set(stops) - known <= {18, 19}  # older versions know two less


def test_cpsat_table_covers_the_enum():
    from ortools.sat.python import cp_model

    status = cp_model.CpSolver().solve(cp_model.CpModel())
    assert set(backend("cpsat").STOPS) == set(type(status).__members__)


def test_cbc_table_is_made_of_what_the_binary_can_print():
    import pulp

    stops = backend("cbc").STOPS
    binary = Path(pulp.PULP_CBC_CMD.pulp_cbc_path).read_bytes()
    for status in stops:
        for piece in re.split(r"(?<=Stopped on )| (?=\(within)", status):
            assert piece.encode() in binary, piece


def test_newer_cbc_table_covers_the_enum():
    stops = backend("cbc", "newer").STOPS
    from ortools.linear_solver import pywraplp

    names = ("OPTIMAL", "FEASIBLE", "INFEASIBLE", "UNBOUNDED", "ABNORMAL", "MODEL_INVALID", "NOT_SOLVED")
    assert set(stops) == {getattr(pywraplp.Solver, name) for name in names}


def test_only_proofs_are_proofs():
    for name in BACKENDS:
        stops = backend(name).STOPS
        assert Stop.OPTIMAL in stops.values()
        assert Stop.TIME_LIMIT in stops.values()
        assert Stop.UNSUPPORTED not in stops.values()


# --- the request ---------------------------------------------------------------------------------------------------

START_WORDS = {
    "highs": r"MIP start solution is feasible",
    "scip": r"1/1 feasible solution given by solution candidate storage|feasible solution",
    "cbc": r"MIPStart provided solution with cost",
    "cpsat": r"hint is complete and is feasible",
    "gurobi": r"(Loaded|User) (user )?MIP start|MIP start produced solution",
}


def test_a_warm_start_reaches_the_solver(solver, problem, tmp_path):
    best, log = optimum(problem), tmp_path / "log"
    request = SolveRequest(warm_start=best.assignment, log_path=str(log), time_limit_s=60)
    result = driver.solve(problem, solver, request)
    assert result.objective_s == pytest.approx(best.objective_s, rel=1e-9)
    assert re.search(START_WORDS[solver.name], log.read_text()), log.read_text()[:3000]


def test_the_log_is_the_solvers_own(solver, problem, tmp_path):
    log = tmp_path / "log"
    driver.solve(problem, solver, SolveRequest(log_path=str(log), time_limit_s=60))
    words = {"highs": "HiGHS", "scip": "presolving", "cbc": "CBC MILP", "cpsat": "CP-SAT", "gurobi": "Gurobi"}
    assert words[solver.name] in log.read_text()


def test_two_threads_after_one_in_the_same_process(solver, problem):
    best_s = optimum(problem).objective_s
    for threads in (1, 2, 1):
        result = driver.solve(problem, solver, SolveRequest(threads=threads, time_limit_s=60))
        assert result.objective_s == pytest.approx(best_s, rel=1e-6)


def test_a_small_memory_cap_ends_as_a_result(solver):
    request = SolveRequest(memory_limit_bytes=40 * 2**20, time_limit_s=20)
    result = driver.solve(hard_problem(), solver, request)
    assert result.stop in (Stop.MEMORY_LIMIT, Stop.LICENSE), (result.stop, result.raw_status, result.failure)
    after = driver.solve(random_problem(np.random.default_rng(0), memory="ample"), solver)
    assert after.stop is Stop.OPTIMAL


def test_the_trajectory_ends_where_the_result_does():
    plugin = availability.plugin("solver", "scip")
    events = []
    result = driver.solve(hard_problem(), plugin, SolveRequest(time_limit_s=2.0), events.append, form="milp")
    assert result.stop is Stop.TIME_LIMIT
    found = [e for e in events if isinstance(e, Incumbent)]
    assert [e.t_s for e in found] == sorted(e.t_s for e in found)
    assert result.trajectory[-1].objective_s == result.objective_s
    assert result.trajectory[-1].bound_s == result.bound_s


def test_paper_and_joint_formulations_agree(solver, problem):
    form = Form.MILP if Form.MILP in solver.forms else None
    best_s = optimum(problem).objective_s
    result = driver.solve(problem, solver, SolveRequest(time_limit_s=60), form=form, pose="paper")
    assert result.stop is Stop.OPTIMAL
    assert result.objective_s == pytest.approx(best_s, rel=1e-6)


def test_gurobi_falls_to_the_form_that_its_licence_allows():
    plugin = availability.plugin("solver", "gurobi")
    if "size-limited" not in driver.probe(plugin):
        pytest.skip("a full licence is installed")
    sizes = Limits(layers=(18, 18), stages=(2, 2), strategies=(8, 8), micro_batches=(4, 4), grains=(1_000_000,))
    problem = random_problem(np.random.default_rng(1), sizes, shape="chain", memory="ample")
    events = []
    request = SolveRequest(time_limit_s=30)
    forced = driver.solve(problem, plugin, request, form="quadratic")
    assert (forced.stop, forced.form) == (Stop.LICENSE, "quadratic")
    assert forced.objective_s == forced.statistics["start_s"]  # found before the solver was asked
    result = driver.solve(problem, plugin, request, events.append)
    notes = [e.text for e in events if isinstance(e, Note)]
    assert result.form == "milp"
    assert len(notes) == 1
    assert "milp form instead" in notes[0]
    assert "licen" in str(result.statistics["fallback"])


def test_cbc_says_time_limit_where_pulp_says_optimal():
    plugin = availability.plugin("solver", "cbc")
    result = driver.solve(hard_problem(), plugin, SolveRequest(time_limit_s=3.0))
    assert result.stop is Stop.TIME_LIMIT
    assert result.bound_s is None or result.objective_s is None or result.bound_s < result.objective_s


def test_the_newer_cbc_agrees_and_has_a_bound(problem):
    availability.plugin("solver", "cpsat")
    plugin = availability.plugin("solver", "cbc")
    request = SolveRequest(options={"library": "ortools"}, time_limit_s=60)
    result = driver.solve(problem, plugin, request)
    assert result.stop is Stop.OPTIMAL
    assert "OR-Tools" in result.version
    assert result.objective_s == pytest.approx(optimum(problem).objective_s, rel=1e-6)


def test_solvers_that_cannot_share_a_process_do_not(problem):
    """highspy and ortools in turn, from one driver."""
    for name in ("highs", "cpsat", "highs"):
        assert driver.solve(problem, availability.plugin("solver", name)).stop is Stop.OPTIMAL


def test_the_core_imports_no_solver():
    import subprocess
    import sys

    code = (
        "import sys, uniap_core.solve.driver, uniap_core.program.ladder; "
        "print({'highspy', 'pyscipopt', 'gurobipy', 'ortools', 'pulp', 'torch', 'numba', 'scipy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "set()"


def test_a_time_limit_counts_the_start_of_the_process(problem, monkeypatch):
    """The deadline that a worker gets is counted from before its process was asked for."""
    from uniap_core.solve import process

    asked, deadlines, hire, run = [], [], process.hire, process.run

    def hired(target):
        asked.append(time.monotonic())
        return hire(target)

    def ran(worker, job, report):
        deadlines.append(job.deadline)
        return run(worker, job, report)

    monkeypatch.setattr(process, "hire", hired)
    monkeypatch.setattr(process, "run", ran)
    process.dismiss()
    plugin = availability.plugin("solver", "cpsat")
    began = time.monotonic()
    result = driver.solve(problem, plugin, SolveRequest(time_limit_s=0.05))
    assert began + 0.05 <= deadlines[0] <= asked[0] + 0.05
    assert result.stop in (Stop.TIME_LIMIT, Stop.OPTIMAL)


def test_a_job_that_comes_too_late_is_not_started(problem):
    """What the process's start used up is not given to the solver."""
    from uniap_core.solve import process
    from uniap_core.solve.channel import SolverJob

    plugin = availability.plugin("solver", "cpsat")
    job = SolverJob(target=plugin.solve, request=SolveRequest(), deadline=time.monotonic() - 0.01)
    answer = process.run(process.hire(plugin.solve), job, lambda report: None)
    stopped = answer.stop  # by the worker itself, or by the driver if it was slow to say so
    assert stopped is Stop.TIME_LIMIT
