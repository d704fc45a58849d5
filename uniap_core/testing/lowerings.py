"""The conformance suite for lowerings: what a lowered problem says must be what the problem says."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uniap_core.problem import Assignment, Problem
from uniap_core.program.ladder import Lowered, lower
from uniap_core.solve.plugin import Form

from .oracle import optimum
from .problems import CHUNKED, Limits, problems

HEADINGS = ("Reformulation", "Accepts", "Produces", "Size", "Exactness", "Reference")
"""Sections of a lowering's docstring, in this order."""


class LoweringSuite:
    """Everything that is asked of a lowering from a problem to a form.

    Attributes
    ----------
    module
        Where the rewrite lives; its docstring states it.
    form, pose
        The rung of the ladder, and the formulation at its top.
    sampled
        Assignments that are tried on each problem.
    tolerance
        Relative to the objective, besides the error that the program states.
    """

    module: ClassVar[str]
    form: ClassVar[Form]
    pose: ClassVar[str | None] = None
    examples: ClassVar[int] = 40
    sampled: ClassVar[int] = 60
    limits: ClassVar[Limits] = Limits(layers=(1, 5), stages=(1, 3), strategies=(1, 3))
    chunked_limits: ClassVar[Limits] = Limits(layers=(4, 6), strategies=(1, 2))
    tolerance: ClassVar[float] = 1e-9

    def problems(self) -> st.SearchStrategy[Problem]:
        """Plain problems, and those of any weights, moments and chunks."""
        return st.one_of(
            problems(self.limits, placements=("plain", "weighted")), problems(self.chunked_limits, placements=CHUNKED)
        )

    def lower(self, problem: Problem) -> Lowered:
        """Lower a problem; override to test a lowering that is not on the ladder."""
        return lower(problem, self.form, self.pose)

    def assignments(self, problem: Problem, seed: int) -> Iterator[Assignment]:
        """Some assignments, feasible or not, the best among them."""
        rng = np.random.default_rng(seed)
        best = optimum(problem).assignment
        if best is not None:
            yield best
        for _ in range(self.sampled):
            stage = rng.integers(problem.depth, size=len(problem.layers))
            if rng.random() < 0.7:  # in order, else hardly any is feasible
                stage[list(problem.order)] = np.sort(stage)
            strategy = [int(rng.integers(len(layer.strategies))) for layer in problem.layers]
            yield Assignment(tuple(stage.tolist()), tuple(strategy))

    def test_docstring_states_the_rewrite(self) -> None:
        """Reformulation, what it accepts and produces, its size, whether it is exact, where it is from."""
        text = importlib.import_module(self.module).__doc__ or ""
        positions = [text.find(f"\n{heading}\n") for heading in HEADINGS]
        assert -1 not in positions, [h for h, at in zip(HEADINGS, positions, strict=True) if at < 0]
        assert positions == sorted(positions)

    def test_says_what_the_problem_says(self) -> None:
        """Feasible assignments have feasible points that come back as no worse ones, of the value they have."""

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(problem=self.problems(), seed=st.integers(0, 2**16))
        def property_(problem: Problem, seed: int) -> None:
            lowered = self.lower(problem)
            if not lowered.program.solvable:
                assert not optimum(problem).feasible
                return
            for assignment in self.assignments(problem, seed):
                self.check(problem, lowered, assignment)

        property_()

    def check(self, problem: Problem, lowered: Lowered, assignment: Assignment) -> None:
        """Hold one assignment against its point, which may stand for another assignment that is no worse."""
        value, program = problem.evaluate(assignment), lowered.program
        try:
            point = lowered.down(assignment)
        except ValueError:
            assert not value.feasible, f"{assignment} is feasible and has no point"
            return
        activity, stands_for = program.evaluate(point), problem.evaluate(lowered.up(point))
        slack_s = program.error_s + self.tolerance * stands_for.objective_s
        if value.feasible:
            assert activity.violation <= 1e-6, f"{assignment} is feasible, its point violates {activity.violation}"
            assert stands_for.objective_s <= value.objective_s + slack_s
        if activity.violation <= 1e-9:
            assert stands_for.feasible, f"the point of {assignment} is feasible: {stands_for.violations}"
            assert abs(activity.objective * program.unit_s - stands_for.objective_s) <= slack_s

    def test_any_point_of_a_choice_is_worth_its_assignment(self) -> None:
        """A feasible point cannot be worth less than the assignment that it comes up as."""

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(problem=self.problems(), seed=st.integers(0, 2**16))
        def property_(problem: Problem, seed: int) -> None:
            lowered = self.lower(problem)
            program, rng = lowered.program, np.random.default_rng(seed)
            if not program.solvable:
                return
            for _ in range(self.sampled):
                point = program.complete(np.array([rng.integers(len(group)) for group in program.groups]))
                activity = program.evaluate(point)
                if activity.violation <= 1e-9:
                    value = problem.evaluate(lowered.up(point))
                    assert value.feasible, value.violations
                    slack_s = program.error_s + self.tolerance * value.objective_s
                    assert activity.objective * program.unit_s >= value.objective_s - slack_s

        property_()

    def test_is_what_the_form_promises(self) -> None:
        """Quadratic terms, integers and sizes as the form says; every row a proper row."""

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(problem=self.problems())
        def property_(problem: Problem) -> None:
            program = self.lower(problem).program
            if not program.solvable:
                return
            rows = program.constraints()
            assert (program.size.columns, program.size.rows) == (len(program.cost), len(rows))
            pairs = np.stack([rows.row, rows.column])
            assert np.unique(pairs, axis=1).shape == pairs.shape, "a column twice in a row"
            assert np.isfinite(rows.value).all()
            assert (rows.lower <= rows.upper).all()
            assert (program.lower <= program.upper).all()
            if self.form is not Form.QUADRATIC:
                assert program.size.products == 0
            if self.form is Form.INTEGER:
                assert program.integer.all()
                for values in (rows.value, rows.lower, rows.upper, program.lower, program.upper, program.cost):
                    whole = values[np.isfinite(values)]
                    assert (whole == np.rint(whole)).all()
                    assert (np.abs(whole) < 2**62).all()

        property_()
