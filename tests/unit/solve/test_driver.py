"""The door to all solvers: what it refuses, what it passes on, how results are written and read."""

import signal
import sys
import threading
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from uniap_core import artifact, errors, registry
from uniap_core.events import Note
from uniap_core.problem import Assignment
from uniap_core.solve import channel, driver, process
from uniap_core.solve.plugin import Form, SolverPlugin
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import RawResult, ResultFile, Stop, from_file, to_file
from uniap_core.testing import Limits, availability, hard_problem, optimum, random_problem

CHUNKS = Limits(layers=(6, 6), stages=(3, 3), ranks=(2, 2), chunks=(2, 2), strategies=(2, 2))
SIZE = Limits(layers=(4, 4), stages=(2, 2), strategies=(3, 3), micro_batches=(4, 4), grains=(1_000_000,))


@pytest.fixture(scope="module")
def problem():
    return random_problem(np.random.default_rng(3), SIZE, shape="chain", memory="tight")


@pytest.fixture(scope="module")
def highs():
    return availability.plugin("solver", "highs")


# --- a solver in this very file: enumeration --------------------------------------------------------------------


def enumerate_all(subject, request, emit):
    best = optimum(subject)
    if best.assignment is None or (request.cutoff_s is not None and best.objective_s >= request.cutoff_s):
        return RawResult(stop=Stop.INFEASIBLE, bound_s=request.cutoff_s)
    return RawResult(stop=Stop.OPTIMAL, assignment=best.assignment, bound_s=best.objective_s)


def say_nothing():
    return "enumeration"


def fail(subject, request, emit):
    raise RuntimeError("no")


HERE = SolverPlugin(
    name="enumeration", summary="by hand", takes=Form.PROBLEM, inline=True,
    solve=f"{__name__}:enumerate_all", probe=f"{__name__}:say_nothing",
)  # fmt: skip


@pytest.mark.parametrize(
    ("placement", "declared", "words"),
    [
        ("loop", {"weights": True}, "one chunk per pipeline rank"),
        ("vee", {}, "one chunk per pipeline rank"),
        ("weighted", {"chunks": True}, "knows the weights 1, 1, c - 1"),
    ],
)
def test_a_pipeline_that_a_plugin_does_not_declare_is_refused_with_the_reason(placement, declared, words):
    posed = random_problem(np.random.default_rng(1), CHUNKS, memory="ample", placement=placement)
    result = driver.solve(posed, replace(HERE, **declared))
    assert (result.stop, result.objective_s, result.assignment) == (Stop.UNSUPPORTED, None, None)
    assert words in result.raw_status
    knowing = replace(HERE, weights=True, chunks=True)
    assert driver.solve(posed, knowing).objective_s == optimum(posed).objective_s


def test_a_program_says_what_the_plugin_itself_does_not_know(highs):
    posed = random_problem(np.random.default_rng(1), CHUNKS, memory="ample", placement="loop")
    both = replace(highs, takes=Form.PROBLEM, accepts=(Form.PROBLEM, Form.MILP))
    notes = []
    result = driver.solve(posed, both, SolveRequest(time_limit_s=60), notes.append)
    assert (result.stop, result.form) == (Stop.OPTIMAL, "milp")
    assert result.objective_s == pytest.approx(optimum(posed).objective_s, rel=1e-6)
    assert any("one chunk per pipeline rank" in n.text for n in notes if isinstance(n, Note))
    assert driver.solve(posed, both, form="problem").stop is Stop.UNSUPPORTED


def test_a_plugin_in_the_process(problem):
    assert driver.solve(problem, HERE).objective_s == optimum(problem).objective_s
    assert driver.probe(HERE) == "enumeration"
    result = driver.solve(problem, replace(HERE, solve=f"{__name__}:fail"))
    assert result.stop is Stop.CRASH
    assert isinstance(result.failure, errors.SolverCrashed)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"form": "cubic"}, errors.UsageError, "no form"),
        ({"form": "quadratic"}, errors.UsageError, "does not take"),
        ({"pose": "mccormick"}, errors.UsageError, "no formulation"),
        ({"request": SolveRequest(options={"presolve": 3})}, errors.UsageError, "presolve"),
        ({"request": SolveRequest(options={"speed": 3})}, errors.UsageError, "speed"),
        ({"request": SolveRequest(time_limit_s=-1.0)}, errors.BadValue, "time_limit_s"),
        ({"request": SolveRequest(gap=float("nan"))}, errors.BadValue, "gap"),
        ({"request": SolveRequest(threads=0)}, errors.BadValue, "threads"),
        ({"request": SolveRequest(warm_start=Assignment((1, 0, 0, 0), (0,) * 4))}, errors.BadValue, "not feasible"),
    ],
)
def test_requests_that_make_no_sense(problem, highs, arguments, error, words):
    with pytest.raises(error, match=words):
        driver.solve(problem, highs, **arguments)


def test_a_missing_library_is_named_with_its_remedy(problem, highs):
    with pytest.raises(errors.PluginError, match="no_such_library") as caught:
        driver.solve(problem, replace(highs, modules=("no_such_library",)))
    assert caught.value.fix == highs.install
    with pytest.raises(errors.UnknownName, match="highss"):
        driver.solve(problem, "highss")


def test_a_program_without_a_feasible_point_needs_no_solver(highs):
    problem = random_problem(np.random.default_rng(0), SIZE, memory="none")
    result = driver.solve(problem, highs)
    assert (result.stop, result.objective_s, result.bound_s) == (Stop.INFEASIBLE, None, None)


def test_a_result_survives_its_file(problem, highs, tmp_path):
    result = driver.solve(problem, highs)
    artifact.write(tmp_path / "result.json", to_file(result, problem))
    again = from_file(artifact.read(tmp_path / "result.json", ResultFile), problem)
    assert again == result
    other = random_problem(np.random.default_rng(4), SIZE, memory="tight")
    with pytest.raises(errors.BadFile, match="result is of problem"):
        from_file(to_file(result, problem), other)
    document = to_file(result, problem)
    wrong = msgspec.structs.replace(document.assignment[0], strategy="none")
    with pytest.raises(errors.BadFile, match="does not have"):
        from_file(msgspec.structs.replace(document, assignment=[wrong, *document.assignment[1:]]), problem)
    with pytest.raises(errors.BadFile, match="every layer"):
        from_file(msgspec.structs.replace(document, assignment=document.assignment[1:]), problem)


# --- workers -----------------------------------------------------------------------------------------------------


def test_workers_are_kept_warm_and_replaced_when_dead(problem, highs):
    driver.solve(problem, highs)
    (worker,) = process._idle[highs.solve]
    driver.solve(problem, highs)
    assert process._idle[highs.solve] == [worker]
    worker._process.kill()
    worker._process.wait()
    assert driver.solve(problem, highs).stop is Stop.OPTIMAL
    assert worker not in process._idle[highs.solve]


def test_solves_in_several_threads_have_a_worker_each(problem, highs):
    results = []
    threads = [threading.Thread(target=lambda: results.append(driver.solve(problem, highs))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.objective_s for result in results} == {results[0].objective_s}
    assert len(results) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs an alarm signal")
def test_an_interrupt_ends_as_a_result_with_what_was_found(monkeypatch):
    plugin, problem, run = availability.plugin("solver", "scip"), hard_problem(), process.run

    def interrupted(*job):
        """While the solver works, not while the problem is posed, which takes any time on a busy machine."""
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        return run(*job)

    monkeypatch.setattr(process, "run", interrupted)
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        result = driver.solve(problem, plugin, SolveRequest(time_limit_s=60), form="milp")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert result.stop is Stop.INTERRUPTED
    if result.objective_s is not None:
        assert problem.evaluate(result.assignment).feasible


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",  # a pickle
        msgspec.msgpack.encode({"type": "Finished"}),
        msgspec.msgpack.encode({"type": "Nobody"}),
        msgspec.msgpack.encode({"type": "Finished", "stop": "perfect"}),
    ],
)
def test_a_message_is_one_of_a_few_types_or_nothing(payload):
    with pytest.raises(errors.MalformedAnswer):
        channel.decode_reply(payload)


def test_arrays_travel_and_objects_do_not():
    for array in (np.arange(6.0).reshape(2, 3), np.array([True, False]), np.zeros(0, dtype=np.int64)):
        back = channel.unpack(channel.pack(array))
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)
    with pytest.raises(TypeError):
        channel.pack(np.array([object()]))
    with pytest.raises(errors.MalformedAnswer):
        channel.unpack(channel.PackedArray("|O", (1,), b"12345678"))


def test_every_registered_solver_is_in_the_matrix():
    from pathlib import Path

    kits = {path.stem.removeprefix("test_kit_") for path in Path(__file__).parents[2].glob("conformance/test_kit_*.py")}
    assert {row.name for row in registry.listing("solver") if row.distribution == "uniap"} <= kits | INEXACT


INEXACT = {name for name in registry.names("solver") if not registry.load("solver", name).exact}
