"""Every leaf of a plan file changed, hashes, verdict and seal computed again: what the gate lets through.

``python -m bench.leaves [plan.json]`` prints what was admitted, by where it lies in the document. A plan file holds its
whole model and cluster, so most leaves decide what is launched or what it is promised to take; those that only say
something to a reader are listed in :data:`WORDS`, and everything else that is admitted is a fault.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from uniap_core import artifact
from uniap_core.errors import UniapError
from uniap_core.gate import admit
from uniap_core.plan import Plan, PlanFile, from_file, read, to_file

from .mutations import edit, reseal, reseal_proposal

Path = tuple[str | int, ...]

WORDS = (
    r"model\.name|cluster\.name|solver|model\.layers\.\*\.module|cluster\.price_per_device_hour",
    r"proof\.\*\.(seconds|note|solver|objective_s|bound_s|outcome)|bound_s",
    r"verdict\..*",
)
"""Leaves that nothing is launched or priced from: names, who found it, what the sweep and the verifier said."""


REQUESTS = (
    r"cluster\.(inter|nodes\.\*\.link)\..*|cluster\.nodes\.\*\.device\.(name|source|peak_flops\..*)",
    r"training\.(dropout|flash_version|scatter_gather|tensor_overlap)",
)
"""Leaves of the request. One that changes no price (a link that is not used, a precision that is not) makes a plan that
could have been made for that request, to the last digit; who asked for what, no seal can tell."""


def leaves(document: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of all numbers, texts, flags and blanks."""
    if not isinstance(document, dict | list):
        yield path
        return
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield from leaves(value, (*path, key))


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.25 or 1.0
    return 1.0 if value is None else f"{value}x"


def place(path: Path) -> str:
    """Where a leaf lies, whichever item of a list it is in."""
    return ".".join("*" if isinstance(key, int) else key for key in path)


def forged(document: Any, path: Path) -> Plan:
    """The plan with one leaf changed, by somebody who knows how hashes and seals are made.

    Raises
    ------
    UniapError
        If it does not decode.
    """
    spoiled = json.loads(json.dumps(document))
    inside = spoiled
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = changed(inside[path[-1]])
    plan = read_document(spoiled)
    if path[0] in ("verdict", "seal"):
        return plan if path[0] == "seal" else reseal(plan, verdict=plan.verdict)
    return reseal(plan) if path[0] == "hashes" else rehash(plan)


def read_document(document: Any) -> Plan:
    """The plan of a document that was edited."""
    return from_file(artifact.decode(json.dumps(document), PlanFile))


def rehash(plan: Plan) -> Plan:
    """The plan with hashes of its model and cluster, subject and seal computed again."""
    hashes = edit(plan.hashes, graph=artifact.digest(plan.model), cluster=artifact.digest(plan.cluster))
    return reseal_proposal(plan, hashes=hashes)


def admitted(plan: Plan, most: int, seed: int = 0) -> tuple[int, Counter[str]]:
    """How many leaves were tried, and how many got through, by place.

    Parameters
    ----------
    most
        Leaves tried of each place, drawn at random.
    """
    document = json.loads(artifact.encode(to_file(plan)))
    places: dict[str, list[Path]] = {}
    for path in leaves(document):
        places.setdefault(place(path), []).append(path)
    rng = np.random.default_rng(seed)
    tried, through = 0, Counter[str]()
    for name, paths in places.items():
        for number in rng.permutation(len(paths))[:most]:
            tried += 1
            try:
                admit(forged(document, paths[number]))
            except (UniapError, msgspec.ValidationError):
                continue
            through[name] += 1
    return tried, through


def faults(through: Counter[str]) -> dict[str, int]:
    """What got through and is neither words nor a request of the same price."""
    return {name: count for name, count in through.items() if not re.fullmatch("|".join(WORDS + REQUESTS), name)}


def main() -> int:
    """Print what was admitted; exit 1 if any of it matters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", nargs="*", help="plan files (default: the plans of bench.mutations)")
    parser.add_argument("--most", type=int, default=1_000_000, help="leaves of each place that are tried")
    arguments = parser.parse_args()
    if arguments.plan:
        plans = [read(path) for path in arguments.plan]
    else:
        from .mutations import real_plans

        plans = [plan for plan, _ in real_plans("dp")]
    bad = 0
    for plan in plans:
        tried, through = admitted(plan, arguments.most)
        wrong = faults(through)
        bad += sum(wrong.values())
        print(f"{plan.model.name} on {plan.cluster.name}: {tried} leaves, {through.total()} admitted")
        for name, count in sorted(through.items()):
            print(f"  {count:>5}  {name}{'   FAULT' if name in wrong else ''}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
