"""Which ranks work together, as the plan says and as Megatron-LM will group them."""

from __future__ import annotations

from uniap_core.api import Inexpressible, Plan, RankLayout, rank_layout

from .expressible import express


def layout(plan: Plan) -> RankLayout:
    """The groups of every layer, from the plan alone (no Megatron-LM needed).

    Megatron-LM's default order ``tp-cp-ep-dp-pp``, innermost first and with stages of consecutive ranks, is a plan's
    own.

    Raises
    ------
    Inexpressible
        If Megatron-LM cannot run the plan.
    """
    reasons = express(plan)
    if reasons:
        raise Inexpressible("; ".join(reasons), "uniap plan ... --executor megatron finds a plan that it can run")
    return rank_layout(plan)
