"""The gate before devices and scripts: a plan is judged again, with tables priced afresh, whatever its seal says.

A seal is integrity, not authorship: anybody can compute one. What passes here is a plan that this version could have
made for the model, the cluster and the batch that it names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from . import execute, graph, models, registry
from .errors import BadValue, PluginError, UniapError, Unverified, UsageError
from .events import Emit, silent
from .execute import ExecutorPlugin, Job, RunReport
from .plan import check_seal
from .search import tables_of
from .verify.judge import standing

if TYPE_CHECKING:
    from .plan import Plan
    from .profile import Profile


def admit(plan: Plan, profile: Profile | None = None) -> None:
    """Let a plan through, or say why not: all checks are made again, on tables that are priced now.

    Parameters
    ----------
    plan
        A sealed plan.
    profile
        The measurements it was priced from, if any.

    Raises
    ------
    Unverified
        If the seal, a check, or the model that its source builds says so.
    """
    execute.admit(plan)
    wrong = next(_other_model(plan), "")
    if wrong:
        raise Unverified(f"the plan does not hold: {wrong}", "plan the model that is to be run")
    name = plan.cost_model.partition("/")[0]
    if profile is None and registry.load("cost model", name).needs_profile:
        raise Unverified(
            f"the plan was priced from measurements by {plan.cost_model} and cannot be judged without them",
            "give them: --profile FILE",
        )
    try:
        tables = tables_of(plan, profile)
    except (BadValue, UsageError) as error:
        raise Unverified(f"the plan cannot be priced: {error.cause}", "plan again") from None
    execute.admit(plan, tables)


def _other_model(plan: Plan) -> Iterator[str]:
    """Whether the zoo builds another model of the name that the graph says it is from; names do not matter."""
    source = plan.model.source
    if not source.startswith("zoo:"):
        return
    name = source.removeprefix("zoo:")
    try:
        own = models.load(name)
    except UniapError as error:
        yield f"{source} builds no model: {error.cause}"
        return
    built = [own, graph.at_sequence(own, plan.sequence)]
    with contextlib.suppress(UniapError):  # images have no sequences
        built.append(models.load(name, plan.sequence))
    software = plan.model.architecture.get("kernels")
    if software in get_args(models.Kernels):  # those of the software that was planned for
        built += [models.with_kernels(one, cast("models.Kernels", software)) for one in built]
    if all(msgspec.structs.replace(one, name=plan.model.name) != plan.model for one in built):
        yield f"{source} builds another model than the plan's graph and architecture describe"


def doubts(plan: Plan) -> tuple[str, ...]:
    """What speaks against a plan without pricing it: its seal and the checks that need no tables."""
    found = []
    try:
        check_seal(plan)
    except Unverified as error:
        found.append(error.cause)
    try:
        found += [
            f"{check.name}: {check.evidence}" for check in standing(plan.proposal, plan.proof) if not check.passed
        ]
    except (UniapError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        found.append(f"it cannot even be read: {type(error).__name__}: {error}")
    return tuple(found)


def launch(
    plan: Plan, executor: ExecutorPlugin, job: Job, emit: Emit = silent, profile: Profile | None = None
) -> RunReport:
    """Train under a plan that :func:`admit` lets through; the executor's report is held against the plan.

    Raises
    ------
    Unverified
        If the plan may not run.
    UsageError
        If the executor does not launch.
    PluginError
        If it lacks a library, fails, or reports something else than this run.
    """
    if not executor.launch:
        raise UsageError(
            f"{executor.name} does not launch",
            f"export the plan instead: uniap export PLAN --to {executor.name} -o DIR",
        )
    absent = registry.missing(executor.modules)
    if absent:
        raise PluginError(f"{executor.name} needs {', '.join(absent)}", executor.install)
    admit(plan, profile)
    report = registry.call(executor, "launch", plan, job, emit, returns=RunReport)
    wrong = ""
    if report.plan != plan.seal:
        wrong = "it is of another plan"
    elif not len(report.losses) == len(report.gradient_norms) == len(report.step_s):
        wrong = "it has not one loss, norm and time per step"
    elif len(report.stages) != plan.pp:
        wrong = f"it has {len(report.stages)} stages, and the plan has {plan.pp}"
    if wrong:
        raise PluginError(f"executor {executor.name!r} returned a report that is none: {wrong}", "correct the plugin")
    return report
