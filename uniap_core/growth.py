"""How numbers of a traced operator grow with the sequence where rows that are linear in it do not say so."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .limits import Amount, Degree

Coefficient = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Of a polynomial in the sequence."""

GrowthField = Literal["rows", "keys", "inner", "outer", "passes", "width"]
"""A number of an operator, or the width of a tensor that it keeps."""


class Growth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A number as a function of the sequence: ``min(most, fixed + linear * p + square * p**2)``.

    Attributes
    ----------
    field
        Which number; several of one field add up.
    chunk
        ``p`` is the sequence, rounded up to a multiple of this.
    most
        A window: never more than that; 0 is no window.
    total
        True where it counts what a sample has altogether; the field is that per row (``passes``: and per ``inner``).
    """

    field: GrowthField
    fixed: Coefficient = 0.0
    linear: Coefficient = 0.0
    square: Coefficient = 0.0
    chunk: Degree = 1
    most: Amount = 0.0
    total: bool = False

    def at(self, sequence: int) -> float:
        """The number at a sequence."""
        p = -(-sequence // self.chunk) * self.chunk
        return max(0.0, min(self.most or inf, self.fixed + self.linear * p + self.square * p * p))


def value_at(growth: tuple[Growth, ...], field: GrowthField, sequence: int, parts: float) -> float | None:
    """A field at a sequence, or ``None`` where no growth of it is known.

    Parameters
    ----------
    parts
        What totals are divided by.
    """
    found = [g.at(sequence) / (max(1.0, parts) if g.total else 1.0) for g in growth if g.field == field]
    return sum(found) if found else None
