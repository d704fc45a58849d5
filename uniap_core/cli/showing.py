"""``uniap report``: a plan as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..posing import pose
from . import Json, command, print_json, read_plan
from .advice import PlanFile, PricedFrom, measured
from .progress import progress

if TYPE_CHECKING:
    from ..events import Emit, Incumbent
    from ..plan import Plan
    from ..profile import Profile

ALTERNATIVES = ("uniform", "recompute=none", "recompute=full", "sharding=none", "sharding=zero3")
"""What a report asks of a plan besides other degrees: what each of these would cost."""


@command
def report(
    plan: PlanFile,
    output: Annotated[str, typer.Option("--output", "-o", help="HTML file to write.", show_default=False)],
    what_if: Annotated[bool, typer.Option(help="Plan alternatives and say what they cost.")] = True,
    profile: PricedFrom = None,
    json: Json = False,
) -> None:
    """Write a plan as one self-contained page: pictures, proof, what-ifs, and how to reproduce it."""
    from .. import artifact
    from ..advise.why import explain
    from ..gate import doubts
    from ..report.page import page

    subject = read_plan(plan)
    with progress("asking what if", quiet=json) as emit:
        prices = measured(profile)
        others = _what_ifs(subject, prices, emit) if what_if else []
        again = _solve_again(subject, prices)
    text = page(subject, trajectory=again, reasons=explain(subject).sentences, what_ifs=others, doubts=doubts(subject))
    artifact.write_text(output, text)
    if json:
        return print_json({"report": output, "bytes": len(text.encode())})
    print(f"written to {output}")
    return None


def _what_ifs(plan: Plan, profile: Profile | None, emit: Emit) -> list[str]:
    """What forcing each simple alternative would cost, dearest last, or why nothing can be compared with the plan."""
    from ..advise.why import why_not
    from ..errors import Unverified, UsageError
    from ..events import Progress, silent

    pins = [*ALTERNATIVES, *(f"pp={pp}" for pp in sorted({r.pp for r in plan.proof}) if pp != plan.pp)]
    pins += [f"tp={tp}" for tp in (1, 2, 4, 8) if tp <= plan.cluster.node_size]
    found = []
    for done, pin in enumerate(pins):
        emit(Progress(float("inf"), done, len(pins), pin))
        try:
            other = why_not(plan, pin, emit=silent, profile=profile)
        except (Unverified, UsageError) as error:
            return [f"alternatives were not priced: {error.cause}; {error.fix}"]
        if other.slower is None:
            found.append((float("inf"), f"{pin}: {other.reason}"))
        elif abs(other.slower) > 1e-6:
            word = "slower" if other.slower > 0 else "faster"
            found.append((other.slower, f"{pin}: {abs(other.slower):.2%} {word} ({other.iteration_time_s:.4g} s)"))
        else:
            found.append((0.0, f"{pin}: costs nothing"))
    return [sentence for _, sentence in sorted(found)]


def _solve_again(plan: Plan, profile: Profile | None) -> tuple[Incumbent, ...]:
    """The winning candidate solved once more while its incumbents and bounds are recorded."""
    from ..errors import UniapError
    from ..search import tables_of
    from ..solve.driver import solve
    from ..solve.request import SolveRequest

    try:
        return solve(pose(tables_of(plan, profile)), plan.solver, SolveRequest(time_limit_s=60)).trajectory
    except UniapError:
        return ()
