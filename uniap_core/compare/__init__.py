"""The same problems through many solvers, side by side: one comparison, three renderings."""

from .plot import curves, draw, page
from .run import Comparison, Contradiction, Entry, ProblemComparison, compare, require_agreement
from .table import table

__all__ = [
    "Comparison",
    "Contradiction",
    "Entry",
    "ProblemComparison",
    "compare",
    "curves",
    "draw",
    "page",
    "require_agreement",
    "table",
]
