"""The unified optimization process, the only conductor: it calls pricing, solving and verifying in turn."""

from .ability import able_schedules, best_precision, check_ability, lacks, narrow, refusals, regimes_of
from .below import below
from .considered import Considered, candidates, outside
from .pricing import price, tables_of
from .recheck import check_again, check_properties, verify_plan
from .request import TIE, Search, make, moved
from .sweep import Sweep, sweep, within

__all__ = [
    "Considered",
    "TIE",
    "Search",
    "Sweep",
    "able_schedules",
    "below",
    "best_precision",
    "candidates",
    "check_ability",
    "check_again",
    "check_properties",
    "lacks",
    "make",
    "moved",
    "narrow",
    "outside",
    "price",
    "refusals",
    "regimes_of",
    "sweep",
    "tables_of",
    "verify_plan",
    "within",
]
