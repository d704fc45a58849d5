"""``uniap solve``, ``compare``, ``verify``, ``timeline``: problems and plans that are files already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..solve.plugin import Form
from . import Json, command, print_json, read_plan, say_interrupted
from .advice import PricedFrom, measured
from .planning import written
from .progress import progress

if TYPE_CHECKING:
    from ..verify.verdict import Verdict

ProblemFile = Annotated[str, typer.Argument(help="A uniap.problem/1 file.", show_default=False)]
TimeLimit = Annotated[float | None, typer.Option("--time-limit", min=0, help="Wall seconds per solve.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the solver.")]
Gap = Annotated[float, typer.Option(min=0, help="Relative gap that counts as optimal.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="Write the result here.")]
FormOption = Annotated[Form | None, typer.Option(help="Force a lower form of the problem.")]


@command
def solve(
    problem: ProblemFile,
    solver: Annotated[str, typer.Option(help="Solver plugin.")] = "dp",
    form: FormOption = None,
    time_limit: TimeLimit = None,
    gap: Gap = 1e-9,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="Random seed of the solver.")] = 0,
    log: Annotated[str | None, typer.Option(help="Write the solver's own log here.")] = None,
    option: Annotated[list[str], typer.Option(help="An option of the solver alone, NAME=VALUE.")] = [],  # noqa: B006
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
    request = SolveRequest(
        time_limit_s=time_limit, gap=gap, threads=threads, seed=seed, log_path=log, options=_options(option)
    )
    with progress(f"solving with {solver}", quiet=json) as emit:
        result = run(posed, solver, request, emit, form=form)
    document = to_file(result, posed)
    if output:
        written(lambda: artifact.write(output, document), document)
    if result.stop == "interrupted":
        if result.objective_s is None:
            raise KeyboardInterrupt
        say_interrupted("this is the best assignment so far")
    if json:
        print_json(document)
    else:
        bound = "none" if result.bound_s is None else f"{result.bound_s:.9g} s"
        objective = "none" if result.objective_s is None else f"{result.objective_s:.9g} s"
        print(f"{solver}: {result.stop}  objective {objective}  bound {bound}  in {result.solve_s:.3f} s")
        if result.objective_s is None and result.raw_status:
            print(f"  {result.raw_status}")
    if result.objective_s is not None and result.stop != "crash":
        return 0
    return 3 if result.stop in ("crash", "license", "numeric", "memory_limit") else 1


def _options(written: list[str]) -> dict[str, bool | int | float | str]:
    """``NAME=VALUE`` as a solver's options: numbers, true and false are what they look like."""
    import msgspec

    from ..errors import UsageError

    found: dict[str, bool | int | float | str] = {}
    for text in written:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--option {text!r} is not NAME=VALUE", "write, for example, --option presolve=off")
        try:
            found[name] = msgspec.json.decode(value, type=bool | int | float)
        except msgspec.DecodeError:
            found[name] = value
    return found


@command
def compare(
    problem: Annotated[list[str], typer.Argument(help="uniap.problem/1 files.", show_default=False)],
    solvers: Annotated[str | None, typer.Option(help="Names, comma-separated (default: all installed).")] = None,
    form: FormOption = None,
    time_limit: TimeLimit = 60.0,
    gap: Gap = 1e-6,
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(help="Random seed of the solvers.")] = 0,
    plot: Annotated[str | None, typer.Option(help="Draw bounds and incumbents (.png, .svg or .html).")] = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Solve the same problems by many solvers, side by side. Exit 3 if two of them contradict each other."""
    from .. import artifact, interrupts
    from .. import compare as comparison
    from .. import problem as problems
    from ..solve.request import SolveRequest

    posed = [problems.read(path) for path in problem]
    names = tuple(filter(None, (solvers or "").split(","))) or comparison.installed()
    request = SolveRequest(time_limit_s=time_limit, gap=gap, threads=threads, seed=seed)
    with progress("comparing", quiet=json) as emit:
        found = comparison.compare(posed, names, request, emit, form=form, strict=False)
    if output:
        written(lambda: artifact.write(output, found), found)
    if found.interrupted:
        done = sum(len(one.entries) for one in found.problems)
        say_interrupted(f"{done} of {len(posed) * len(names)} solves were done or begun")
    elif plot:
        comparison.draw(found, plot)
    if json:
        print_json(found)
    else:
        from rich.console import Console

        console = Console(highlight=False, emoji=False)
        for one in found.problems:
            console.print(comparison.table(one))
    comparison.require_agreement(found)
    return interrupts.exit_code() if found.interrupted else 0


@command
def verify(
    subject: Annotated[
        str | None, typer.Argument(help="A plan file, or a problem file with --result.", show_default=False)
    ] = None,
    result: Annotated[str | None, typer.Option(help="A uniap.result/1 file of that problem.")] = None,
    cross_check: Annotated[str | None, typer.Option(help="Solve again by this solver, to find nothing better.")] = None,
    profile: PricedFrom = None,
    properties: Annotated[
        int | None, typer.Option(min=1, help="Instead: fuzz a cost model and a solver with so many random cases.")
    ] = None,
    cost_model: Annotated[str, typer.Option(help="Cost model to fuzz.")] = "analytic",
    solver: Annotated[str, typer.Option(help="Solver to fuzz.")] = "dp",
    seed: Annotated[int, typer.Option(help="Of the random cases.")] = 0,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Largest difference of formula and simulation (default: by theory).")
    ] = None,
    time_limit: TimeLimit = None,
    json: Json = False,
) -> int:
    """Check a plan or a result by code that is independent of every solver. Exit 1 if it fails."""
    from ..errors import UsageError

    if properties is not None:
        from ..search import check_properties

        with progress("fuzzing", quiet=json) as emit:
            verdict = check_properties(
                properties, cost_model=cost_model, solver=solver, seed=seed, time_limit_s=time_limit, emit=emit
            )
    elif subject is None:
        raise UsageError(
            "there is nothing to verify", "name a plan file, a problem file with --result, or --properties N"
        )
    elif result is not None:
        verdict = _verify_result(subject, result, cross_check, time_limit)
    else:
        verdict = _verify_plan(subject, profile, cross_check, time_limit, tolerance)
    if json:
        print_json(verdict)
    else:
        from ..report.verdict import print_verdict

        print_verdict(verdict)
    return 0 if verdict.passed else 1


def _verify_plan(
    path: str, profile: str | None, cross_check: str | None, time_limit: float | None, tolerance: float | None
) -> Verdict:
    from .. import plan as plans
    from ..errors import Unverified
    from ..search import verify_plan
    from ..verify import with_checks
    from ..verify.verdict import VERIFIER, Check, Verdict

    try:
        plan = plans.read(path)
    except Unverified as error:
        own = Check(name="document", passed=False, evidence=error.cause, fix=error.fix)
        never = Check(name="seal", passed=False, evidence="no such document was ever sealed", fix=error.fix)
        return Verdict(subject="", verifier=VERIFIER, checks=(own, never))
    verdict = verify_plan(
        plan, profile=measured(profile), cross_check_by=cross_check, time_limit_s=time_limit, tolerance=tolerance
    )
    try:
        plans.check_seal(plan)
    except Unverified as error:
        broken = Check(name="seal", passed=False, evidence=error.cause, fix=error.fix)
        return with_checks(verdict, [broken])
    return with_checks(verdict, [Check(name="seal", passed=True, evidence="the file is as it was sealed")])


def _verify_result(problem: str, result: str, cross_check: str | None, time_limit: float | None) -> Verdict:
    import math

    from .. import artifact
    from .. import problem as problems
    from ..search import check_again
    from ..solve.result import ResultFile, from_file
    from ..verify import verify_result, with_checks

    posed = problems.read(problem)
    answer = from_file(artifact.read(result, ResultFile), posed)
    verdict = verify_result(posed, answer)
    if cross_check is None or not verdict.passed:
        return verdict
    objective = math.inf if answer.objective_s is None else answer.objective_s
    return with_checks(verdict, check_again(posed, objective, cross_check, time_limit))


@command
def timeline(
    plan: Annotated[str, typer.Argument(help="A uniap.plan/1 file.", show_default=False)],
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write the trace here.")] = None,
    json: Json = False,
) -> None:
    """Simulate one iteration and write it as a Chrome/Perfetto trace."""
    from .. import artifact
    from ..errors import UsageError
    from ..verify import timeline as simulate

    if output is None and not json:
        raise UsageError("where to?", "give -o trace.json, or --json for stdout")
    trace = simulate(read_plan(plan).proposal)
    if output:
        artifact.write_text(output, artifact.encode(trace))
    if json:
        return print_json(trace)
    print(f"{len(trace['traceEvents'])} events written to {output}; open it in ui.perfetto.dev or chrome://tracing")
    return None
