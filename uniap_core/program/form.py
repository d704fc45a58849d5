"""The forms that a problem can be given to a solver in."""

from __future__ import annotations

import enum


class Form(enum.StrEnum):
    """The forms of a problem, from its own words down to integers; a plugin takes one, the ladder gives it."""

    PROBLEM = "problem"
    QUADRATIC = "quadratic"
    MILP = "milp"
    INTEGER = "integer"
