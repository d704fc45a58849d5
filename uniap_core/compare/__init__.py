"""The same problems through many solvers, side by side: one comparison, three renderings."""

from .plot import curves, draw, page
from .run import Comparison, Contradiction, Entry, ProblemComparison, compare, installed, require_agreement
from .table import table

__all__ = [
    "Comparison",
    "Contradiction",
    "Entry",
    "ProblemComparison",
    "compare",
    "curves",
    "draw",
    "installed",
    "page",
    "require_agreement",
    "table",
]
