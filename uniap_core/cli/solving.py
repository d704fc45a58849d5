"""``uniap solve``, ``compare``, ``verify``, ``timeline``: problems and plans that are files already."""

from __future__ import annotations

from typing import Annotated

import typer

from ..solve.plugin import Form
from . import Json, command, print_json
from .progress import progress

ProblemFile = Annotated[str, typer.Argument(help="A uniap.problem/1 file.", show_default=False)]
TimeLimit = Annotated[float | None, typer.Option("--time-limit", min=0, help="Wall seconds per solve.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the solver.")]
Gap = Annotated[float, typer.Option(min=0, help="Relative gap that counts as optimal.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Write the result here.")]


@command
def solve(
    problem: ProblemFile,
    solver: Annotated[str, typer.Option(help="Solver plugin.")] = "dp",
    form: Annotated[Form | None, typer.Option(help="Force a lower form of the problem.")] = None,
    time_limit: TimeLimit = None,
    gap: Gap = 1e-9,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="Random seed of the solver.")] = 0,
    log: Annotated[str | None, typer.Option(help="Write the solver's own log here.")] = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Solve one problem file. Exit 0 if an assignment was found, 1 if there is none."""
    from .. import artifact
    from .. import problem as problems
    from ..solve.driver import solve as run
    from ..solve.request import SolveRequest
    from ..solve.result import to_file

    posed = problems.read(problem)
    request = SolveRequest(time_limit_s=time_limit, gap=gap, threads=threads, seed=seed, log_path=log)
    with progress(f"solving with {solver}", quiet=json) as emit:
        result = run(posed, solver, request, emit, form=form)
    document = to_file(result, posed)
    if output:
        artifact.write(output, document)
    if json:
        print_json(document)
    else:
        bound = "none" if result.bound_s is None else f"{result.bound_s:.9g} s"
        objective = "none" if result.objective_s is None else f"{result.objective_s:.9g} s"
        print(f"{solver}: {result.stop}  objective {objective}  bound {bound}  in {result.solve_s:.3f} s")
        if result.objective_s is None and result.raw_status:
            print(f"  {result.raw_status}")
    if result.objective_s is not None:
        return 0
    return 3 if result.stop in ("crash", "license", "numeric", "memory_limit") else 1


@command
def verify(
    subject: Annotated[str, typer.Argument(help="A plan file, or a problem file with --result.", show_default=False)],
    result: Annotated[str | None, typer.Option(help="A uniap.result/1 file of that problem.")] = None,
    cross_check: Annotated[str | None, typer.Option(help="Solve again by this solver, to find nothing better.")] = None,
    profile: Annotated[str | None, typer.Option(help="The profile that the plan was priced from.")] = None,
    json: Json = False,
) -> int:
    """Check a plan or a result by code that is independent of every solver. Exit 1 if it fails."""
    from .. import artifact
    from .. import verify as verifier

    if result is not None:
        from .. import problem as problems
        from ..solve.result import ResultFile, from_file

        posed = problems.read(subject)
        verdict = verifier.verify_result(posed, from_file(artifact.read(result, ResultFile), posed))
    else:
        from .. import plan as plans
        from ..profile import Profile
        from ..search import verify_plan

        measured = None if profile is None else artifact.read(profile, Profile)
        verdict = verify_plan(plans.read(subject), profile=measured, cross_check=cross_check)
    if json:
        print_json(verdict)
    else:
        from ..report.verdict import print_verdict

        print_verdict(verdict)
    return 0 if verdict.passed else 1
