"""The unified optimization process, the only conductor: it calls pricing, solving and verifying in turn."""

from .again import check_again, check_properties, verify_plan
from .pricing import price, tables_of
from .request import TIE, Search, candidates, make, narrow
from .sweep import Sweep, sweep, within

__all__ = [
    "TIE",
    "Search",
    "Sweep",
    "candidates",
    "check_again",
    "check_properties",
    "make",
    "narrow",
    "price",
    "sweep",
    "tables_of",
    "verify_plan",
    "within",
]
