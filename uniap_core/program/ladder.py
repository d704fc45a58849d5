"""The ladder from a problem's own words down to integers: the cheapest way over the rungs to a form, and back up.

::

    problem --joint, paper--> quadratic --linearize--> milp --integers--> integer

A plugin takes one form; the caller may force a lower one. Warm starts go down as a choice (one member per one-hot
group) completed to a point of whatever form; answers come up the same way. Rungs are files of :mod:`.rungs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import UsageError
from ..problem import Assignment, Problem
from .form import Form
from .ir import Array, Program
from .rungs import Rung, Step, found

FORMS: tuple[Form, ...] = tuple(form for form in Form if form is not Form.PROBLEM)
"""What a problem can be lowered to."""


@dataclass(frozen=True)
class Lowered:
    """A problem lowered to a form: its program, and the steps that lead there with their maps."""

    form: Form
    program: Program
    steps: tuple[Step, ...]

    def choose(self, assignment: Assignment) -> Array:
        """The member of each group that an assignment, or one that is no worse, chooses.

        Raises
        ------
        ValueError
            If the assignment is not feasible.
        """
        choice: Any = assignment
        for step in self.steps:
            choice = step.down(choice)
        return np.asarray(choice)

    def assign(self, choice: Array) -> Assignment:
        """The assignment of a choice of members."""
        above: Any = choice
        for step in reversed(self.steps):
            above = step.up(above)
        assert isinstance(above, Assignment)
        return above

    def down(self, assignment: Assignment) -> Array:
        """The point of a feasible assignment; raises ``ValueError`` if the assignment is not feasible."""
        return self.program.complete(self.choose(assignment))

    def up(self, point: Array) -> Assignment:
        """The assignment of a point: the largest member of each group."""
        return self.assign(self.program.choice(point))

    def started(self, assignment: Assignment) -> Lowered:
        """With that assignment as the point to start from."""
        return replace(self, program=replace(self.program, start=self.down(assignment)))


def lower(problem: Problem, form: Form, pose: str | None = None, limit_s: float = math.inf) -> Lowered:
    """Lower a problem to a form.

    Parameters
    ----------
    problem
        What to lower.
    form
        Any form but ``problem`` itself.
    pose
        One of :func:`poses`; the cheapest by default.
    limit_s
        Only assignments with an objective of at most this are of interest; others may be cut off.

    Raises
    ------
    UsageError
        For an unknown pose, or the form ``problem``, which needs no lowering.
    """
    steps: list[Step] = []
    subject: Problem | Program = problem
    for rung in path(form, pose):
        steps.append(rung.lower(subject, limit_s))
        subject = steps[-1].program
        if not steps[-1].program.solvable:
            break
    return Lowered(form, steps[-1].program, tuple(steps))


def poses() -> tuple[str, ...]:
    """Names of the formulations: the rungs that take a problem."""
    return tuple(rung.name for rung in found() if rung.takes is Form.PROBLEM)


def path(form: Form, pose: str | None = None, rungs: tuple[Rung, ...] | None = None) -> tuple[Rung, ...]:
    """The rungs from a problem to a form of the least total cost.

    Parameters
    ----------
    form
        Where to.
    pose
        The first rung's name, or any.
    rungs
        To choose from; all that there are by default.

    Raises
    ------
    UsageError
        For an unknown pose, or if no rungs lead there.
    """
    offered = found() if rungs is None else rungs
    first = tuple(rung.name for rung in offered if rung.takes is Form.PROBLEM)
    if pose is not None and pose not in first:
        raise UsageError(f"there is no formulation {pose!r}", f"choose one of {', '.join(first)}")
    usable = [rung for rung in offered if pose is None or rung.takes is not Form.PROBLEM or rung.name == pose]
    known: dict[Form, tuple[float, tuple[Rung, ...]]] = {Form.PROBLEM: (0.0, ())}
    for _ in usable:  # a cheapest way takes no rung twice
        for rung in usable:
            cost, before = known.get(rung.takes, (math.inf, ()))
            if cost + rung.cost < known.get(rung.gives, (math.inf, ()))[0]:
                known[rung.gives] = cost + rung.cost, (*before, rung)
    way = known.get(form, (math.inf, ()))[1]
    if not way:
        raise UsageError(f"a problem is not lowered to the form {form}", f"choose one of {', '.join(FORMS)}")
    return way


def next_lower(form: Form, accepted: tuple[Form, ...]) -> Form | None:
    """The highest form below ``form`` that is accepted, or ``None``."""
    order = tuple(Form)
    return next((f for f in order[order.index(form) + 1 :] if f in accepted), None)
