"""A plan judged again, by name: its tables are priced afresh, and another solver may try to beat it."""

from __future__ import annotations

from ..plan import Plan
from ..profile import Profile
from ..verify import verify
from ..verify.verdict import Verdict
from .pricing import tables_of


def verify_plan(plan: Plan, *, profile: Profile | None = None, cross_check: str | None = None) -> Verdict:
    """Judge a plan against freshly priced tables.

    Parameters
    ----------
    plan
        The plan; its own verdict and seal are not believed.
    profile
        The measurements it was priced from, if any.
    cross_check
        A solver that must not find anything better.
    """
    return verify(plan, tables_of(plan, profile))
