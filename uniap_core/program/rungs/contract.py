"""What a rung of the ladder has to say: from which form to which, at what cost, and how answers come back up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..form import Form
from ..ir import Program


@dataclass(frozen=True, eq=False)
class Step:
    """A program that a rung made, with its two maps.

    What is mapped is a choice: an :class:`~uniap_core.problem.Assignment` above the first rung, below it one member
    per group (an int array), whose first entries are the layers' in the problem's order.

    Attributes
    ----------
    program
        What was made.
    down
        The choice here of a choice above, or one that is no worse; raises ``ValueError`` for one that is not feasible.
    up
        The choice above of a choice here.
    """

    program: Program
    down: Callable[[Any], Any]
    up: Callable[[Any], Any]

    @classmethod
    def same_groups(cls, program: Program) -> Step:
        """The step of a rung that leaves the groups as they are."""
        return cls(program, _same, _same)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rewrite. A file of this package each.

    Attributes
    ----------
    name
        What the caller may ask for by name where several lead from one form to another.
    takes, gives
        The forms that it joins.
    cost
        Of the ways to a form the cheapest sum is taken; 1 is the cost of a rewrite that nothing speaks against.
    lower
        ``lower(subject, limit_s)``: the subject is a problem for rungs that take the form ``problem``, else a
        program; assignments with an objective above ``limit_s`` are of no interest and may be cut off.
    """

    name: str
    takes: Form
    gives: Form
    cost: float
    lower: Callable[[Any, float], Step]


def _same(choice: Any) -> Any:
    return choice
