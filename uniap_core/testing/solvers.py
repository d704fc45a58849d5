"""The conformance suite for solvers: subclass it, name the solver, run pytest."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uniap_core import registry
from uniap_core.errors import UsageError
from uniap_core.events import Emit, Incumbent, silent
from uniap_core.problem import Problem
from uniap_core.solve import driver
from uniap_core.solve.plugin import Form, SolverPlugin
from uniap_core.solve.request import SolveRequest
from uniap_core.solve.result import Result, Stop

from . import availability, corpus
from .laws import LAWS, Law
from .oracle import optimum
from .problems import (
    CHUNKED,
    MEMORIES,
    SHAPES,
    SMALL,
    SMALL_CHUNKED,
    Limits,
    Placement,
    hard_problem,
    problems,
    random_problem,
)


class SolverSuite:
    """Everything that is asked of a solver plugin.

    Attributes
    ----------
    solver
        The name of the entry point, or the descriptor itself.
    examples
        Problems drawn by hypothesis, which shrinks what fails, and held against enumeration; the other properties take
        a fraction of it.
    bulk
        Problems of fixed seeds, evenly of every shape and memory limit, held against enumeration.
    chunked_bulk
        The same of the pipelines that it knows besides plain ones (its descriptor's ``weights`` and ``chunks``).
    limits, chunked_limits, law_limits
        Sizes of those problems, and of the larger ones on which only laws are checked.
    tolerance
        Relative, on objectives and bounds.
    hard
        A problem that takes longer than ``hard_limit_s`` seconds to solve.
    cases
        A folder of cases of your own, replayed besides those of the kit.
    """

    solver: ClassVar[str | SolverPlugin]
    examples: ClassVar[int] = 60
    bulk: ClassVar[int] = 100
    chunked_bulk: ClassVar[int] = int(os.environ.get("UNIAP_CHUNKED_BULK", "12"))
    limits: ClassVar[Limits] = SMALL
    chunked_limits: ClassVar[Limits] = SMALL_CHUNKED
    law_limits: ClassVar[Limits] = Limits(layers=(2, 8), strategies=(1, 4), stages=(1, 3))
    tolerance: ClassVar[float] = 1e-6
    hard: ClassVar[Callable[[], Problem]] = hard_problem
    hard_limit_s: ClassVar[float] = 1.5
    cases: ClassVar[Path | None] = None

    # --- what subclasses may use ------------------------------------------------------------------------------

    @property
    def plugin(self) -> SolverPlugin:
        """The descriptor; skips or fails the test if its library is not installed."""
        found: SolverPlugin = availability.plugin("solver", self.solver)
        return found

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The pipelines that it declares to know, besides plain ones."""
        plugin = self.plugin
        program = plugin.takes is not Form.PROBLEM
        return (*(("weighted",) if program or plugin.weights else ()), *(CHUNKED if program or plugin.chunks else ()))

    def solve(self, problem: Problem, emit: Emit = silent, form: Form | None = None, **request: object) -> Result:
        """Solve by the driver, with a time limit that only a hang can meet."""
        asked = SolveRequest(**{"time_limit_s": 120.0, **request})  # type: ignore[arg-type]
        return driver.solve(problem, self.plugin, asked, emit, form)

    def check(self, problem: Problem, expected_s: float, result: Result) -> None:
        """Hold a result against the optimum (``inf``: infeasible); leaves the problem in a file if it fails."""
        with self.keeping(problem):
            if self.plugin.refusal(problem, Form(result.form)):
                assert (result.stop, result.objective_s, result.bound_s) == (Stop.UNSUPPORTED, None, None)
                assert result.raw_status, "say why"
                return
            if result.objective_s is not None:
                assert result.assignment is not None
                value = problem.evaluate(result.assignment)
                assert value.feasible, value.violations
                assert value.objective_s == pytest.approx(result.objective_s, rel=1e-12)
                assert not self.below(result.objective_s, expected_s), "the objective is below the optimum"
            if result.bound_s is not None:
                assert not self.below(expected_s, result.bound_s), "the bound is above the optimum"
            if self.plugin.exact:
                assert result.stop is (Stop.INFEASIBLE if math.isinf(expected_s) else Stop.OPTIMAL), result.raw_status
                assert self.value(result) == pytest.approx(expected_s, rel=self.tolerance, abs=1e-15)

    def below(self, value: float, other: float) -> bool:
        """Whether a value is below another by more than the tolerance."""
        return value < other - self.tolerance * (other if math.isfinite(other) else 0.0)

    def value(self, result: Result) -> float:
        """The objective, ``inf`` if infeasible."""
        return math.inf if result.objective_s is None else result.objective_s

    @contextmanager
    def keeping(self, *kept: Problem) -> Iterator[None]:
        """Save the problems if the block fails, and say where."""
        try:
            yield
        except Exception as error:
            for number, problem in enumerate(kept):
                path = corpus.save_failure(problem, f"{self.plugin.name}-{type(self).__name__}-{number}")
                error.add_note(f"the problem is in {path}; python -m uniap_core.testing makes a case of it")
            raise

    def for_all(self, share: float = 1.0) -> Callable[[Callable[..., None]], None]:
        """A decorator that runs a property at once, on that share of the examples."""
        chosen = settings(
            max_examples=max(3, round(self.examples * share)),
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
        )

        def run(property_: Callable[..., None]) -> None:
            chosen(property_)()

        return run

    # --- the descriptor ---------------------------------------------------------------------------------------

    def test_descriptor_is_plain_data_and_its_functions_resolve(self) -> None:
        """Its strings lead to functions, and its forms are forms."""
        plugin = self.plugin
        assert isinstance(plugin, SolverPlugin)
        assert plugin.takes in plugin.forms
        assert all(isinstance(form, Form) for form in plugin.forms)
        for target in filter(None, (plugin.solve, plugin.probe, plugin.options)):
            assert callable(registry.resolve(target)), target
        assert plugin.summary
        assert plugin.install or not plugin.modules, "say how to install what it needs"

    def test_loading_the_descriptor_imports_no_solver_library(self) -> None:
        """Listing plugins must stay instant."""
        if not isinstance(self.solver, str):
            pytest.skip("not registered by an entry point")
        code = (
            "import sys, uniap_core.api; from uniap_core import registry; before = set(sys.modules); "
            f"plugin = registry.load('solver', {self.solver!r}); "
            "heavy = {'torch', 'numba', *plugin.modules} & (set(sys.modules) - before); assert not heavy, heavy"
        )
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)

    def test_probe_says_what_it_is(self) -> None:
        """Version and licence in one line."""
        assert driver.probe(self.plugin).strip()

    # --- answers ----------------------------------------------------------------------------------------------

    def test_equals_enumeration(self) -> None:
        """The optimum, or infeasible when it is, on problems of all kinds."""

        @self.for_all()
        @given(problem=problems(self.limits))
        def property_(problem: Problem) -> None:
            with self.keeping(problem):
                result = self.solve(problem)
            self.check(problem, optimum(problem).objective_s, result)

    def test_equals_enumeration_in_bulk(self) -> None:
        """The same on problems that are the same for everybody."""
        kinds = itertools.cycle(itertools.product(SHAPES, MEMORIES))
        for seed, (shape, memory) in zip(range(self.bulk), kinds, strict=False):
            problem = random_problem(np.random.default_rng(seed), self.limits, shape=shape, memory=memory)
            with self.keeping(problem):
                result = self.solve(problem)
            self.check(problem, optimum(problem).objective_s, result)

    def test_equals_enumeration_on_the_pipelines_that_it_declares(self) -> None:
        """Any weights, several chunks per rank, several moments: what is declared is right, the rest is refused."""
        kinds = itertools.cycle(itertools.product(MEMORIES, ("weighted", *CHUNKED)))
        for seed, (memory, placement) in zip(range(self.chunked_bulk), kinds, strict=False):
            rng = np.random.default_rng(seed)
            problem = random_problem(rng, self.chunked_limits, memory=memory, placement=placement)
            with self.keeping(problem):
                result = self.solve(problem)
            if placement in self.placements:
                assert result.stop is not Stop.UNSUPPORTED, result.raw_status
            self.check(problem, optimum(problem).objective_s, result)

    @pytest.mark.parametrize("name", [name for name, _ in corpus.cases()])
    def test_replays(self, name: str) -> None:
        """Corner cases, and whatever any solver ever got wrong."""
        case = dict(corpus.cases())[name]
        self.check(corpus.decoded(case), case.optimum_s, self.solve(corpus.decoded(case)))

    def test_replays_cases_of_its_own(self) -> None:
        """The plugin's own corpus."""
        for _, case in corpus.cases(self.cases) if self.cases else ():
            self.check(corpus.decoded(case), case.optimum_s, self.solve(corpus.decoded(case)))

    def test_equals_enumeration_in_every_form(self) -> None:
        """A form that is forced gives the same answer."""
        for form in self.plugin.forms[1:]:

            @self.for_all(0.15)
            @given(problem=problems(self.limits), form=st.just(form))
            def property_(problem: Problem, form: Form) -> None:
                with self.keeping(problem):
                    result = self.solve(problem, form=form)
                assert result.form == form
                self.check(problem, optimum(problem).objective_s, result)

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
    def test_obeys(self, law: Law) -> None:
        """Changes whose effect is known, on problems too large to enumerate."""
        if not self.plugin.exact:
            pytest.skip("laws are about optima")

        @self.for_all(0.1)
        @given(problem=problems(self.law_limits), seed=st.integers(0, 2**16))
        def property_(problem: Problem, seed: int) -> None:
            if law.applies(problem):
                changed = law.change(problem, np.random.default_rng(seed))
                with self.keeping(problem, changed):
                    before, after = self.value(self.solve(problem)), self.value(self.solve(changed))
                    assert law.holds(before, after, self.tolerance), (before, after)

    # --- the request ------------------------------------------------------------------------------------------

    def test_honours_a_cutoff(self) -> None:
        """Below the optimum: infeasible, with the cutoff as bound. Above it: the optimum."""

        @self.for_all(0.2)
        @given(problem=problems(self.limits, memories=("ample", "tight")))
        def property_(problem: Problem) -> None:
            best_s = optimum(problem).objective_s
            if best_s == 0:
                return
            with self.keeping(problem):
                above = self.solve(problem, cutoff_s=best_s * 1.01)
                below = self.solve(problem, cutoff_s=best_s * 0.99)
                assert below.objective_s is None
                if self.plugin.exact:
                    assert below.stop is Stop.INFEASIBLE
                    assert below.bound_s == pytest.approx(best_s * 0.99)
                    assert self.value(above) == pytest.approx(best_s, rel=self.tolerance)

    def test_honours_a_gap(self) -> None:
        """What it calls optimal is within the gap, and its bound holds."""

        @self.for_all(0.15)
        @given(problem=problems(self.limits, memories=("ample", "tight")))
        def property_(problem: Problem) -> None:
            best_s = optimum(problem).objective_s
            with self.keeping(problem):
                result = self.solve(problem, gap=0.2)
                assert not self.below(self.value(result), best_s)
                if self.plugin.exact:
                    assert result.stop is Stop.OPTIMAL
                    assert result.gap is not None
                    assert result.gap <= 0.2 + self.tolerance
                    assert self.value(result) <= best_s / (1 - 0.2) * (1 + self.tolerance)

    def test_takes_a_warm_start(self) -> None:
        """A start, the best one or any, changes nothing but the time."""

        @self.for_all(0.15)
        @given(problem=problems(self.limits, memories=("ample", "exact")))
        def property_(problem: Problem) -> None:
            best = optimum(problem)
            self.check(problem, best.objective_s, self.solve(problem, warm_start=best.assignment))

    def test_stops_at_its_time_limit(self) -> None:
        """Within two seconds of the limit, and a limit is never called optimal."""
        problem = type(self).hard()
        for attempt in range(3):  # a busy machine may hold a process up, but not every time
            began = time.perf_counter()
            result = self.solve(problem, time_limit_s=self.hard_limit_s)
            late_s = time.perf_counter() - began - self.hard_limit_s
            assert result.stop is not Stop.CRASH, result.raw_status
            if late_s <= 2.0:
                break
            assert attempt < 2, f"{late_s:.1f} s late"
        if result.stop is Stop.OPTIMAL:
            assert result.gap is not None
            assert result.gap <= self.tolerance
        elif result.bound_s is not None and result.objective_s is not None:
            assert result.bound_s <= result.objective_s

    def test_reports_incumbents_and_bounds_that_hold(self) -> None:
        """What it says on the way: objectives fall, bounds rise, the optimum stays between them."""
        rng = np.random.default_rng(7)
        for _ in range(5):
            problem = random_problem(rng, self.limits, memory="tight")
            heard: list[Incumbent] = []

            def hear(event: object, heard: list[Incumbent] = heard) -> None:
                if isinstance(event, Incumbent):
                    heard.append(event)

            best_s = optimum(problem).objective_s
            with self.keeping(problem):
                result = self.solve(problem, emit=hear)
                found = [e.objective_s for e in heard if e.objective_s is not None]
                bounds = [e.bound_s for e in heard if e.bound_s is not None]
                assert found == sorted(found, reverse=True)
                assert not any(self.below(value, best_s) for value in found)
                assert not any(self.below(best_s, bound) for bound in bounds)
                assert [e.t_s for e in heard] == sorted(e.t_s for e in heard)
                assert result.trajectory

    def test_is_repeatable(self) -> None:
        """One thread and one seed give one assignment."""
        rng = np.random.default_rng(11)
        for _ in range(3):
            problem = random_problem(rng, self.limits, memory="ample")
            assert self.solve(problem, seed=5).assignment == self.solve(problem, seed=5).assignment

    def test_refuses_an_option_that_it_does_not_have(self) -> None:
        """Options are decoded strictly, by name."""
        problem = random_problem(np.random.default_rng(0), memory="ample")
        with pytest.raises(UsageError, match="option"):
            self.solve(problem, options={"no_such_option": 1})

    def test_prints_nothing_and_logs_to_a_file(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Standard output belongs to the caller."""
        problem = random_problem(np.random.default_rng(1), memory="ample")
        self.solve(problem)
        self.check(problem, optimum(problem).objective_s, self.solve(problem, log_path=str(tmp_path / "solver.log")))
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err == ""
