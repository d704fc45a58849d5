"""``uniap report``: a plan as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import Json, command, print_json, read_plan
from .advice import PlanFile
from .progress import progress

if TYPE_CHECKING:
    from ..events import Emit, Incumbent
    from ..plan import Plan

ALTERNATIVES = ("uniform", "recompute=none", "recompute=full", "sharding=none", "sharding=zero3")
"""What a report asks of a plan besides other degrees: what each of these would cost."""


@command
def report(
    plan: PlanFile,
    output: Annotated[str, typer.Option("--output", "-o", help="HTML file to write.", show_default=False)],
    what_if: Annotated[bool, typer.Option(help="Plan alternatives and say what they cost.")] = True,
    json: Json = False,
) -> None:
    """Write a plan as one self-contained page: pictures, proof, what-ifs, and how to reproduce it."""
    from .. import artifact
    from ..advise.why import explain
    from ..gate import doubts
    from ..report.page import page

    subject = read_plan(plan)
    with progress("asking what if", quiet=json) as emit:
        others = _what_ifs(subject, emit) if what_if else []
        again = _solve_again(subject)
    text = page(subject, trajectory=again, reasons=explain(subject).sentences, what_ifs=others, doubts=doubts(subject))
    artifact.write_text(output, text)
    if json:
        return print_json({"report": output, "bytes": len(text.encode())})
    print(f"written to {output}")
    return None


def _what_ifs(plan: Plan, emit: Emit) -> list[str]:
    """What forcing each simple alternative would cost, dearest last; what changes nothing is left out."""
    from ..advise.why import why_not
    from ..events import Progress, silent

    pins = [*ALTERNATIVES, *(f"pp={pp}" for pp in sorted({r.pp for r in plan.proof}) if pp != plan.pp)]
    pins += [f"tp={tp}" for tp in (1, 2, 4, 8) if tp <= plan.cluster.node_size]
    found = []
    for done, pin in enumerate(pins):
        emit(Progress(float("inf"), done, len(pins), pin))
        other = why_not(plan, pin, emit=silent)
        if other.slower is None:
            found.append((float("inf"), f"{pin}: {other.reason}"))
        elif other.slower > 1e-6:
            found.append((other.slower, f"{pin}: {other.slower:.2%} slower ({other.iteration_time_s:.4g} s)"))
        else:
            found.append((0.0, f"{pin}: costs nothing"))
    return [sentence for _, sentence in sorted(found)]


def _solve_again(plan: Plan) -> tuple[Incumbent, ...]:
    """The winning candidate solved once more while its incumbents and bounds are recorded."""
    from ..errors import UniapError
    from ..search import tables_of
    from ..solve.driver import solve
    from ..solve.request import SolveRequest

    try:
        return solve(tables_of(plan).problem, plan.solver, SolveRequest(time_limit_s=60)).trajectory
    except UniapError:
        return ()
