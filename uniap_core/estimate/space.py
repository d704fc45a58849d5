"""Whether the default search of ``uniap plan`` considers a stated plan, and what keeps it out if not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from ..modules import MODULES, own
from ..pipeline import searched
from ..search import Search, outside
from ..search.software import space_of
from ..searched import SEARCHED
from ..system import Stack
from .plan import NAMED, NO, Plan
from .prediction import Prediction

UNPLANNED = {
    "frozen": "freezing as this column states it",
    "offload": "offloading activations",
    "expert_overlap": "experts' exchange behind another micro-batch",
}
"""Columns that state what no plan says."""

KINDS = ("", "p2p", "ring")
"""How keys and values get to context-parallel ranks where a ring can run."""


def kept_out(row: Mapping[str, str], plan: Plan, prediction: Prediction, notes: list[str]) -> str:
    """The first thing that keeps a row's plan out of the default search, or an empty string.

    Parameters
    ----------
    notes
        What was assumed in pricing the row.
    """
    return next(_reasons(row, plan, prediction, notes), "")


def _reasons(row: Mapping[str, str], plan: Plan, prediction: Prediction, notes: list[str]) -> Iterator[str]:
    told = {name: (value or "").strip() for name, value in row.items() if name and isinstance(value, str | None)}
    for column, what in UNPLANNED.items():
        if told.get(column, "").lower() not in NO:
            yield f"{what} ({column} {told[column]}) is not searched"
    yield from (f"priced with {note}" for note in notes if " in place of " in note)
    modules = (
        set(re.findall(r"[a-z]\w*", told.get("recompute", "").lower()))
        if "selective" in told.get("recompute", "")
        else set()
    )
    if odd := modules - {*MODULES, *NAMED}:
        yield f"recomputing {', '.join(sorted(odd))} is not searched"
    if any(s.cp > 1 for s in prediction.strategies) and told.get("cp_kind", "").lower() not in KINDS:
        yield f"context parallelism by {told['cp_kind']} is not searched where a ring can run"
    training = plan.candidate.training
    space = space_of(plan.graph, plan.cluster, Stack(training.system), training.precision)
    search = Search(
        graph=plan.graph,
        cluster=plan.cluster,
        training=training,
        schedules=searched(SEARCHED),
        space=space,
        free_space=space,
    )
    # What a set says of modules that a layer has not means nothing to it.
    chosen = [
        replace(s, recompute=own(layer.operators, s.recompute))
        for layer, s in zip(plan.graph.layers, prediction.strategies, strict=True)
    ]
    if reason := outside(search, plan.candidate, chosen):
        yield reason
