"""Every lowering against the one interpreter: same choice, same objective, same feasibility, in every form."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniap_core.problem import Assignment, Problem
from uniap_core.program import ladder
from uniap_core.program.form import Form
from uniap_core.program.ir import Builder
from uniap_core.program.ladder import lower
from uniap_core.program.rungs.linearize import added_size
from uniap_core.program.rungs.pose_paper import add_contiguity
from uniap_core.tables import EdgeTable, LayerTable, Rank
from uniap_core.testing import Limits, optimum, problems, random_problem

SIZES = Limits(layers=(1, 6), strategies=(1, 4), stages=(1, 4))
FORMS = [(form, pose) for form in ladder.FORMS for pose in ladder.poses()]


def some_assignment(problem: Problem, rng: np.random.Generator) -> Assignment:
    stage = rng.integers(0, problem.depth, len(problem.layers))
    if rng.random() < 0.8:
        stage[list(problem.order)] = np.sort(stage)
    return Assignment(
        tuple(int(i) for i in stage), tuple(int(rng.integers(len(layer.strategies))) for layer in problem.layers)
    )


@pytest.mark.parametrize(("form", "pose"), FORMS)
@settings(max_examples=40, deadline=None)
@given(problem=problems(SIZES), seed=st.integers(0, 2**16))
def test_a_program_says_of_every_assignment_what_the_problem_says(form, pose, problem, seed):
    lowered = lower(problem, form, pose)
    program, rng = lowered.program, np.random.default_rng(seed)
    for _ in range(20):
        assignment = some_assignment(problem, rng)
        value = problem.evaluate(assignment)
        try:
            point = lowered.down(assignment)
        except ValueError:
            assert not value.feasible
            continue
        # A dominated strategy is swapped for one that is no worse.
        swapped = lowered.up(point)
        better = problem.evaluate(swapped)
        assert better.objective_s <= value.objective_s * (1 + 1e-12)
        activity = program.evaluate(point)
        seconds = activity.objective * program.unit_s
        if better.feasible:
            assert activity.violation <= 1e-7
            assert abs(seconds - better.objective_s) <= program.error_s + 1e-12 * better.objective_s
        else:
            assert activity.violation > 1e-7


@pytest.mark.parametrize("pose", ladder.poses())
@settings(max_examples=40, deadline=None)
@given(problem=problems(SIZES))
def test_the_optimum_survives_every_reduction(pose, problem):
    best = optimum(problem)
    for limit_s in (math.inf, best.objective_s):
        lowered = lower(problem, Form.MILP, pose, limit_s)
        if best.feasible:
            assert lowered.program.evaluate(lowered.down(best.assignment)).violation <= 1e-7
            assert problem.evaluate(lowered.up(lowered.down(best.assignment))).objective_s == pytest.approx(
                best.objective_s, rel=1e-12
            )


@settings(max_examples=40, deadline=None)
@given(problem=problems(SIZES))
def test_linearizing_adds_the_size_it_says(problem):
    quadratic, linear = lower(problem, Form.QUADRATIC).program, lower(problem, Form.MILP).program
    if quadratic.solvable:
        columns, rows = added_size(quadratic)
        assert linear.size.columns == quadratic.size.columns + columns
        assert linear.size.rows == quadratic.size.rows + rows
        assert linear.size.products == 0
        assert sum(int((pair.column >= 0).sum()) for pair in linear.pairings) == columns


@settings(max_examples=40, deadline=None)
@given(problem=problems(SIZES))
def test_the_joint_pose_has_the_size_it_says(problem):
    from uniap_core.program.domains import domains

    program, reduced = lower(problem, Form.QUADRATIC).program, domains(problem)
    if program.solvable:
        placement = sum(int(member.sum()) for member in reduced.member)
        times = problem.depth + (problem.micro_batches > 1)
        boundaries = tensors = 0
        for j in range(problem.depth - 1):
            crossing = [
                edge.tensor
                for edge in problem.edges
                if edge.cross_s.any()
                and reduced.member[edge.source][: j + 1].any()
                and reduced.member[edge.target][j + 1 :].any()
            ]
            boundaries += bool(crossing)
            tensors += sum(crossing.count(tensor) > 1 for tensor in set(crossing))
        assert program.size.columns == placement + times + boundaries + tensors


@settings(max_examples=40, deadline=None)
@given(problem=problems(SIZES))
def test_integers_are_integers_and_fit_their_registers(problem):
    program = lower(problem, Form.INTEGER).program
    if program.solvable:
        for values in (program.rows.value, program.cost, program.lower, program.upper):
            assert (values == np.rint(values)).all()
        for ends in (program.rows.lower, program.rows.upper):
            finite = ends[np.isfinite(ends)]
            assert (finite == np.rint(finite)).all()
        reach = np.bincount(
            program.rows.row, np.abs(program.rows.value) * program.upper[program.rows.column], len(program.rows)
        )
        assert reach.max(initial=0) < 2**62
        assert program.integer.all()


def chain(layers: int, strategies: int, seed: int) -> Problem:
    rng, names, nothing = np.random.default_rng(seed), tuple("abcdefgh"[:strategies]), np.zeros(strategies)
    table = [LayerTable(f"u{u}", names, rng.random((1, strategies)), nothing, nothing) for u in range(layers)]
    edges = [
        EdgeTable(u, u + 1, f"t{u}", rng.random((strategies, strategies)), np.zeros((strategies, strategies)))
        for u in range(layers - 1)
    ]
    return Problem.plain("chain", 1, (Rank.of(1.0, 0.0, 1),), tuple(table), tuple(edges))


def test_linearized_pairs_are_tight_where_mccormick_is_not():
    """The relaxation of a chain without memory is integral: no branching, its value the shortest path."""
    highspy = pytest.importorskip("highspy")
    problem = chain(12, 8, 0)
    program = lower(problem, Form.MILP).program
    best = problem.layers[0].time_s[0]
    for layer, edge in zip(problem.layers[1:], problem.edges, strict=True):
        best = (best[:, None] + edge.reshard_s).min(axis=0) + layer.time_s[0]
    rows, model = program.constraints(), highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), len(rows)
    model.col_cost_, model.col_lower_, model.col_upper_ = program.cost, program.lower, program.upper
    model.row_lower_, model.row_upper_ = rows.lower, rows.upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = rows.start, rows.column, rows.value
    solver = highspy.Highs()
    solver.silent()
    solver.passModel(model)
    solver.run()
    assert solver.getInfo().objective_function_value * program.unit_s == pytest.approx(best.min(), rel=1e-9)
    assert program.size.rows == 11 * 16 + 12 + 2  # one filled stage, one epigraph; McCormick: 3 * 11 * 64


def test_equal_strategies_share_their_products():
    problem = chain(3, 4, 1)
    flat = [
        EdgeTable(e.source, e.target, e.tensor, np.array([[0.0, 0, 1, 1]] * 2 + [[1.0, 1, 0, 0]] * 2), e.cross_s)
        for e in problem.edges
    ]
    problem = Problem.plain("classes", 1, problem.ranks, problem.layers, tuple(flat))
    program = lower(problem, Form.MILP).program
    assert [pair.column.shape for pair in program.pairings] == [(2, 2), (2, 2)]
    assert sum(int((pair.column >= 0).sum()) for pair in program.pairings) == 4  # the free ones need no column


def test_contiguity_alone_does_not_order_stages():
    """The paper's Z rows are exactly "every stage is contiguous": 60 placements of a 6-layer chain, 10 in order."""
    problem = chain(6, 1, 0)
    problem = Problem.plain("z", 1, problem.ranks * 3, tuple(
        LayerTable(t.name, t.strategies, np.ones((3, 1)), t.state_bytes, t.stash_bytes) for t in problem.layers
    ), problem.edges)  # fmt: skip
    builder = Builder()
    stage = []
    for _ in problem.layers:
        stage.append(builder.add_columns(3, integer=True))
        builder.add_group(stage[-1])
    add_contiguity(builder, problem, stage, tuple((e.source, e.target) for e in problem.edges))
    program = builder.build("z", 1.0)
    admitted = [
        choice
        for choice in itertools.product(range(3), repeat=6)
        if len(set(choice)) == 3 and program.evaluate(program.complete(np.array(choice))).violation == 0
    ]
    assert len(admitted) == 60
    assert sum(list(choice) == sorted(choice) for choice in admitted) == 10


def test_a_stage_that_ancestors_cannot_fill_is_not_offered():
    problem = chain(4, 2, 3)
    four = np.array([4.0, 4.0])
    layers = [LayerTable(t.name, t.strategies, np.ones((2, 2)), four, np.zeros(2)) for t in problem.layers]
    two = Problem.plain("two", 2, (Rank.of(10.0, 0.0, 1),) * 2, tuple(layers), problem.edges)
    lowered = lower(two, Form.QUADRATIC)
    # Two layers fit a stage: the cut is forced, and each layer has one stage left.
    assert [len(set(s.tolist())) for s in (lowered.program.groups)] == [2, 2, 2, 2]
    assert optimum(two).assignment.stage == (0, 0, 1, 1)


def test_no_lowering_to_the_problems_own_words():
    from uniap_core.errors import UsageError

    problem = random_problem(np.random.default_rng(0))
    with pytest.raises(UsageError, match="not lowered"):
        lower(problem, Form.PROBLEM)
    with pytest.raises(UsageError, match="no formulation"):
        lower(problem, Form.MILP, "mccormick")
