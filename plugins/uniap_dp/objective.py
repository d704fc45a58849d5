"""What the objective multiplies, as compiled loops take it."""

from __future__ import annotations

from typing import NamedTuple

from uniap_core.api import Problem


class Objective(NamedTuple):
    """Weights of the stage times (all together), of the boundary times (all together), and of the longest of both."""

    sum: float
    cross: float
    peak: float

    @classmethod
    def of(cls, problem: Problem) -> Objective:
        """The weights of a problem."""
        weights = problem.objective
        return cls(float(weights.sum), float(weights.cross), float(weights.peak))
