"""The ladder from a problem's own words down to integers: each rung a lowering, with its maps down and up.

::

    problem --pose--> quadratic --linearize--> milp --to_integers--> integer

A plugin takes one rung; the caller may force a lower one. Warm starts go down as a choice (one member per one-hot
group) completed to a point of whatever rung; answers come up the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..problem import Assignment, Problem
from .form import Form
from .integers import to_integers
from .ir import Array, Program
from .linearize import linearize
from .pose_joint import pose_joint
from .pose_paper import pose_paper
from .terms import Posed

POSES: dict[str, Callable[[Problem, float], Posed]] = {"joint": pose_joint, "paper": pose_paper}
"""Formulations of a problem as quadratic rows: the project's own, and the paper's for comparison."""

RUNGS: tuple[Form, ...] = (Form.QUADRATIC, Form.MILP, Form.INTEGER)


@dataclass(frozen=True)
class Lowered:
    """A problem lowered to a form, with the maps between assignments and points of its program."""

    form: Form
    program: Program
    posed: Posed

    def down(self, assignment: Assignment) -> Array:
        """The point of a feasible assignment; raises ``ValueError`` if the assignment is not feasible."""
        return self.program.complete(self.posed.choose(assignment))

    def up(self, point: Array) -> Assignment:
        """The assignment of a point: the largest member of each group."""
        return self.posed.assign(self.program.choice(point))

    def started(self, assignment: Assignment) -> Lowered:
        """With that assignment as the point to start from."""
        return replace(self, program=replace(self.program, start=self.down(assignment)))


def lower(problem: Problem, form: Form, pose: str = "joint", limit_s: float = math.inf) -> Lowered:
    """Lower a problem to a form.

    Parameters
    ----------
    problem
        What to lower.
    form
        Any form but ``problem`` itself.
    pose
        A name of :data:`POSES`.
    limit_s
        Only assignments with an objective of at most this are of interest; others may be cut off.

    Raises
    ------
    UsageError
        For an unknown pose, or the form ``problem``, which needs no lowering.
    """
    if form not in RUNGS:
        raise UsageError(f"a problem is not lowered to the form {form}", f"choose one of {', '.join(RUNGS)}")
    if pose not in POSES:
        raise UsageError(f"there is no formulation {pose!r}", f"choose one of {', '.join(POSES)}")
    posed = POSES[pose](problem, limit_s)
    program = posed.program
    if program.solvable and form in (Form.MILP, Form.INTEGER):
        program = linearize(program)
    if program.solvable and form is Form.INTEGER:
        program = to_integers(program)
    return Lowered(form, program, posed)


def next_lower(form: Form, accepted: tuple[Form, ...]) -> Form | None:
    """The highest form below ``form`` that is accepted, or ``None``."""
    order = (Form.PROBLEM, *RUNGS)
    return next((f for f in order[order.index(form) + 1 :] if f in accepted), None)
