"""Why a search has no plan: what the closest candidate lacks, or which reasons rule out how many candidates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from .. import diagnose
from ..errors import BadValue, Infeasible, UniapError
from .attempt import Attempt
from .considered import listing
from .pricing import price
from .request import Search

SHOWN = 4
"""How many reasons are listed."""

LAYER = re.compile(r"^layer \S+ has no strategy: ")


def refusal(search: Search, attempts: Sequence[Attempt]) -> UniapError:
    """The error of a search whose every candidate is out.

    Returns
    -------
    UniapError
        ``Infeasible`` with the least shortage of memory if some candidate is out for that alone; ``BadValue`` with the
        distinct reasons, each with the number of its candidates, if none can be priced.
    """
    title = f"{search.graph.name} on {search.cluster.name} with batch {search.training.global_batch}"
    short = [tried.shortage for tried in attempts if tried.shortage is not None]
    if short:
        closest = min(short, key=lambda shortage: shortage.factor)
        tried = next(each for each in attempts if each.shortage is closest)
        tables = price(search, tried.priced.candidate)
        helps = "; or ".join(diagnose.remedies(tables, closest))
        return Infeasible(f"{title}: no plan fits the memory; {closest.sentence()}", helps)
    reasons = [_reasons(search, tried) for tried in attempts]
    counts = Counter(reason for each in reasons for reason in each)
    if all(tried.outcome == "impossible" for tried in attempts):
        return _impossible(search, title, counts, reasons)
    return Infeasible(f"{title}: no plan fits: {_listed(counts, len(reasons))}", "more memory, devices, or fewer pins")


def _impossible(search: Search, title: str, counts: Counter[str], reasons: Sequence[set[str]]) -> BadValue:
    texts = search.pins.texts
    pinned = {reason for reason in counts if any(pin in reason for pin in texts)}
    cause = f"{title}: no candidate is possible: {_listed(counts, len(reasons), pinned)}"
    if texts and not pinned:
        cause += f"; with the pins {', '.join(texts)}; considered are {listing(search)}"
    fix = "loosen the pin" if all(each & pinned for each in reasons) else "change the batch, the devices or the pins"
    return BadValue(cause, fix)


def _listed(counts: Counter[str], total: int, pinned: AbstractSet[str] = frozenset()) -> str:
    """The most frequent reasons, each with how many candidates it rules out; one about a pin leads."""
    order = sorted(counts, key=lambda reason: -counts[reason])
    leading = [reason for reason in order if reason in pinned][:1]
    order = list(dict.fromkeys([*leading, *order]))
    if len(order) == 1:
        return order[0]
    said = [f"{reason} ({counts[reason]} of {total} candidates)" for reason in order[:SHOWN]]
    return "; ".join(said) + (f"; and {len(order) - SHOWN} more reasons" if len(order) > SHOWN else "")


def _reasons(search: Search, tried: Attempt) -> set[str]:
    """The reasons in a note, without the candidate and the layer that it is of, so that equal ones are one."""
    note = tried.note.replace(f" for {tried.priced.candidate.name} on {search.cluster.name}", "")
    return {reason for part in note.split("; ") if (reason := LAYER.sub("", part))}
