"""The ladder: the cheapest way to a form, a rung is a file, and a program survives as a file that others read."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from uniap_core import problem as problems
from uniap_core.cli import main
from uniap_core.errors import Infeasible, UsageError
from uniap_core.program import files, ladder, rungs
from uniap_core.program.form import Form
from uniap_core.program.rungs import Rung, Step
from uniap_core.testing import availability, corpus, optimum, random_problem
from uniap_core.testing.problems import SHAPES, SMALL_CHUNKED, Limits

SIZE = Limits(layers=(4, 6), stages=(2, 3), strategies=(2, 3))


# --- the way -------------------------------------------------------------------------------------------------------


def test_every_file_of_the_package_is_a_rung():
    modules = {path.stem for path in Path(rungs.__path__[0]).glob("*.py")} - {"__init__", "contract"}
    assert len(rungs.found()) == len(modules) == len({rung.name for rung in rungs.found()})
    assert all(isinstance(rung, Rung) for rung in rungs.found())


@pytest.mark.parametrize(
    ("form", "pose", "names"),
    [
        (Form.QUADRATIC, None, ["joint"]),
        (Form.QUADRATIC, "paper", ["paper"]),
        (Form.MILP, None, ["joint", "linearize"]),
        (Form.INTEGER, "paper", ["paper", "linearize", "integers"]),
    ],
)
def test_the_way_to_a_form(form, pose, names):
    assert [rung.name for rung in ladder.path(form, pose)] == names


def rung(name, takes, gives, cost):
    return Rung(
        name=name, takes=takes, gives=gives, cost=cost, lower=lambda subject, limit_s: Step.same_groups(subject)
    )


def test_a_new_rung_is_taken_where_it_is_the_cheaper_way():
    known = rungs.found()
    direct = rung("direct", Form.PROBLEM, Form.MILP, 1.5)
    assert [r.name for r in ladder.path(Form.MILP, rungs=(*known, direct))] == ["direct"]
    assert [r.name for r in ladder.path(Form.INTEGER, rungs=(*known, direct))] == ["direct", "integers"]
    dear = rung("dear", Form.PROBLEM, Form.INTEGER, 9.0)
    assert [r.name for r in ladder.path(Form.INTEGER, rungs=(*known, dear))] == ["joint", "linearize", "integers"]
    assert [r.name for r in ladder.path(Form.INTEGER, "dear", (*known, dear))] == ["dear"]


def test_rungs_that_lead_round_do_not_lead_on():
    back = rung("back", Form.MILP, Form.QUADRATIC, 0.0)
    assert [r.name for r in ladder.path(Form.INTEGER, rungs=(*rungs.found(), back))] == [
        "joint", "linearize", "integers",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="not lowered"):
        ladder.path(Form.INTEGER, rungs=(rung("only", Form.PROBLEM, Form.MILP, 1.0),))


@pytest.mark.parametrize("form", ladder.FORMS)
@pytest.mark.parametrize("pose", ladder.poses())
def test_what_goes_down_comes_up(form, pose):
    """The optimum, or one that is worth as much, comes back through all maps."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        placement = ("plain", "weighted", "loop", "vee")[seed % 4]
        limits = SIZE if seed % 4 < 2 else SMALL_CHUNKED
        problem = random_problem(rng, limits, memory="tight", placement=placement)
        best, lowered = optimum(problem), ladder.lower(problem, form, pose)
        back = lowered.assign(lowered.choose(best.assignment))
        assert problem.evaluate(back).objective_s == pytest.approx(best.objective_s, rel=1e-12)


# --- files ---------------------------------------------------------------------------------------------------------


def solved_by_highs(path):
    highspy = pytest.importorskip("highspy")
    highs = highspy.Highs()
    highs.silent()
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    for name, value in {"mip_rel_gap": 1e-9, "mip_abs_gap": 0.0, "mip_feasibility_tolerance": 1e-9}.items():
        highs.setOptionValue(name, value)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return math.inf, {}
    values = dict(zip(highs.getLp().col_names_, highs.getSolution().col_value, strict=True))
    return highs.getInfo().objective_function_value, values


def solved_by_scip(path):
    pyscipopt = pytest.importorskip("pyscipopt")
    model = pyscipopt.Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.setParam("limits/gap", 1e-9)
    model.optimize()
    if model.getStatus() != "optimal":
        return math.inf, {}
    return model.getObjVal(), {column.name: model.getVal(column) for column in model.getVars()}


READERS = {"highs": solved_by_highs, "scip": solved_by_scip}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("suffix", [".mps", ".lp"])
def test_an_outside_solver_reads_the_file_and_finds_the_optimum(reader, suffix, tmp_path):
    availability.plugin("solver", reader)
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        placement = ("plain", "plain", "loop", "vee")[seed % 4]
        limits = SIZE if placement == "plain" else SMALL_CHUNKED
        memory = "short" if seed == 5 else "tight"
        problem = random_problem(rng, limits, shape=SHAPES[seed % 4], memory=memory, placement=placement)
        best, path = optimum(problem), tmp_path / f"p{seed}{suffix}"
        try:
            program = files.write(path, problem)
        except Infeasible:
            assert not best.feasible
            continue
        objective, values = READERS[reader](path)
        assert objective * program.unit_s == pytest.approx(best.objective_s, rel=1e-6)
        if best.feasible:
            # The columns' names alone give the assignment back.
            chosen = sorted(
                tuple(int(part[1:]) for part in name.split("_"))
                for name, value in values.items() if name[0] == "x" and value > 0.5
            )  # fmt: skip
            assert [u for u, *_ in chosen] == list(range(len(problem.layers)))
            found = problems.Assignment(tuple(j for _, j, _ in chosen), tuple(k for *_, k in chosen))
            assert problem.evaluate(found).feasible
            assert problem.evaluate(found).objective_s == pytest.approx(best.objective_s, rel=1e-6)


def test_the_file_says_what_its_columns_mean(tmp_path):
    problem = corpus.decoded(dict(corpus.cases())["ragged"])
    for suffix, mark in ((".mps", "* "), (".lp", "\\ ")):
        files.write(tmp_path / f"p{suffix}", problem)
        comments = [line for line in (tmp_path / f"p{suffix}").read_text().splitlines() if line.startswith(mark)]
        for u, layer in enumerate(problem.layers):
            assert any(f"layer {u} is {layer.name}: k0 {layer.strategies[0]}" in line for line in comments)


def test_what_has_no_program_or_no_format_is_refused(tmp_path):
    problem = random_problem(np.random.default_rng(0), memory="none")
    with pytest.raises(Infeasible, match="fits on no stage"):
        files.write(tmp_path / "p.mps", problem)
    with pytest.raises(UsageError, match="neither"):
        files.write(tmp_path / "p.nl", problem)
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_it(tmp_path, monkeypatch, capsys):
    lp, problem = tmp_path / "p.lp", tmp_path / "p.json"
    model = "gpt:layers=2,hidden=256,heads=4"
    words = [model, "-c", "2xA100-40G", "-b", "4", "--pp", "2", "--micro-batches", "2", "--seq", "128", "--json"]
    monkeypatch.setattr("sys.argv", ["uniap", "candidate", *words, "-o", str(problem), "--write-mps", str(lp)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert json.loads(capsys.readouterr().out)["schema"] == "uniap.problem/1"
    posed = problems.read(problem)
    program = ladder.lower(posed, Form.MILP).program
    objective, _ = solved_by_highs(lp)
    from uniap_core.solve import driver

    expected_s = driver.solve(posed, "dp").objective_s
    assert objective * program.unit_s == pytest.approx(expected_s, rel=1e-6)
