"""``verify``: all checks on a proposal; ``verify_result``: all that can be checked on a solver's bare answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from .. import artifact, problem
from ..costs import CostTables
from ..errors import UniapError
from ..problem import Assignment, Problem
from ..proposal import Proposal, subject
from . import devices, numbers, structure
from .numbers import Placement
from .simulate import live
from .timing import timing
from .verdict import VERIFIER, Check, Verdict, conclude


def verify(proposal: Proposal, tables: CostTables, *, tolerance: float | None = None) -> Verdict:
    """Judge a proposal against the tables of its candidate.

    Parameters
    ----------
    proposal
        A proposal or a plan.
    tables
        The tables of its candidate, restricted by its pins, as the cost model gives them now.
    tolerance
        Relative difference between the closed form and the simulation beyond which the plan fails; ``None`` allows
        what the theory of the schedule explains (docs/verifier.md).

    Returns
    -------
    Verdict
        With every check that could be made: one that needs a placement is left out while the placement is broken.
    """
    checks = [current(proposal, tables), candidate(proposal, tables)]
    placed = layers(proposal, tables), stage_lists(proposal), strategies(proposal, tables)
    checks += placed
    if all(check.passed for check in (checks[1], *placed)):
        stage = {layer.name: layer.stage for layer in proposal.layers}
        checks += structure.checks(proposal.model.network, stage, proposal.pp)
        checks += devices.checks(proposal)
        own = numbers.recompute(tables, _placement(proposal, tables))
        checks += numbers.checks(proposal, tables, own)
        if all(map(math.isfinite, own.stage_s)):
            checks.append(timing(own, tolerance))
    return Verdict(subject=subject(proposal), verifier=VERIFIER, checks=tuple(checks))


def standing(proposal: Proposal) -> list[Check]:
    """What can be checked without tables: for executors that have no cost model at hand."""
    placed = stage_lists(proposal)
    known = {layer.name for layer in proposal.model.layers}
    names = [layer.name for layer in proposal.layers]
    if len(names) != len(known) or set(names) != known:
        return [conclude("layers", ["the plan's layers are not those of its model"], "", "plan again")]
    if not placed.passed:
        return [placed]
    stage = {layer.name: layer.stage for layer in proposal.layers}
    return [placed, *structure.checks(proposal.model.network, stage, proposal.pp), *devices.checks(proposal)]


# --- is it about these tables, and complete? --------------------------------------------------------------------


def current(proposal: Proposal, tables: CostTables) -> Check:
    """The hashes of graph, cluster, tables and problem are those of what is at hand now."""
    document = problem.to_file(tables.problem)
    now = {
        "graph": artifact.digest(proposal.model),
        "cluster": artifact.digest(proposal.cluster),
        "tables": artifact.digest([tables.model, document]),
        "problem": artifact.digest(document),
    }
    faults = [
        f"the {name} is not the one that was planned with ({getattr(proposal.hashes, name)[:15]}... is now "
        f"{digest[:15]}...)"
        for name, digest in now.items()
        if getattr(proposal.hashes, name) != digest
    ]
    if proposal.cost_model != tables.model:
        faults.insert(0, f"it was priced by {proposal.cost_model}, and the tables are by {tables.model}")
    evidence = "graph, cluster, tables and problem are those that the plan was made from"
    return conclude("current", faults, evidence, "plan again with what you have now")


def candidate(proposal: Proposal, tables: CostTables) -> Check:
    """Stages, micro-batches and training say the same everywhere."""
    priced, training = tables.candidate, proposal.training
    pairs = {
        "number of stages": (proposal.pp, priced.pp),
        "length of the list of stages": (len(proposal.stages), priced.pp),
        "number of micro-batches": (proposal.micro_batches, priced.micro_batches),
        "training": (training, priced.training),
        "global batch": (proposal.global_batch, training.global_batch),
        "precision": (proposal.precision, training.precision),
        "schedule": (proposal.schedule, training.schedule),
        "sequence": (proposal.sequence, proposal.model.sequence),
        "number of priced stages": (len(tables.stages), priced.pp),
    }
    faults = [f"the {name} is {said}, and {own} was priced" for name, (said, own) in pairs.items() if said != own]
    if not faults:
        try:
            peaks = live(priced.training.schedule, priced.pp, priced.micro_batches).max(axis=1)
        except UniapError as error:
            faults.append(error.cause)
        else:
            faults = [
                f"stage {i} was priced with {stage.in_flight} micro-batches in flight, and the schedule holds {peak}"
                for i, (stage, peak) in enumerate(zip(tables.stages, peaks.tolist(), strict=True))
                if stage.in_flight != peak
            ]
    evidence = f"{priced.name}, batch {proposal.global_batch}, {proposal.schedule}, {proposal.precision}"
    return conclude("candidate", faults, evidence, "plan again")


def layers(proposal: Proposal, tables: CostTables) -> Check:
    """Every layer of the graph is placed once, on a stage that exists, and priced; edges are those of the graph."""
    known = [layer.name for layer in proposal.model.layers]
    faults = _placed_once(known, [(layer.name, layer.stage) for layer in proposal.layers], proposal.pp)
    priced = [layer.name for layer in tables.layers]
    if sorted(priced) != sorted(known):
        faults.append("the tables price other layers than the graph has")
    else:
        flows = {(e.source, e.target, e.tensor) for e in proposal.model.edges}
        tabled = {(priced[e.source], priced[e.target], e.tensor) for e in tables.edges}
        if flows != tabled:
            faults.append(f"the tables price other edges than the graph has ({sorted(flows ^ tabled)[0]})")
    return conclude("layers", faults, f"{len(known)} layers, each placed once", "place every layer of the model once")


def _placed_once(known: Sequence[str], placed: Sequence[tuple[str, int]], depth: int) -> list[str]:
    count = dict.fromkeys(known, 0)
    faults = []
    for name, stage in placed:
        if name not in count:
            faults.append(f"the model has no layer {name!r}")
            continue
        count[name] += 1
        if not 0 <= stage < depth:
            faults.append(f"{name} is on stage {stage}, and stages are 0 to {depth - 1}")
    faults += [f"{name} is not placed" for name, times in count.items() if not times]
    faults += [f"{name} is placed {times} times" for name, times in count.items() if times > 1]
    return faults


def stage_lists(proposal: Proposal) -> Check:
    """The list of layers and the lists of the stages agree."""
    expected: dict[int, list[str]] = {i: [] for i in range(len(proposal.stages))}
    faults = []
    for layer in proposal.layers:
        if layer.stage in expected:
            expected[layer.stage].append(layer.name)
        else:
            faults.append(f"{layer.name} is on stage {layer.stage}, which is not in the list of stages")
    if len(proposal.stages) != proposal.pp:
        faults.append(f"{len(proposal.stages)} stages are listed, and pp is {proposal.pp}")
    for i, stage in enumerate(proposal.stages):
        if list(stage.layers) != expected[i]:
            odd = sorted(set(stage.layers) ^ set(expected[i])) or ["another order"]
            faults.append(f"stage {i} lists other layers than those placed on it ({odd[0]})")
    return conclude("stage-lists", faults, "stages list exactly the layers placed on them", "list each layer once")


def strategies(proposal: Proposal, tables: CostTables) -> Check:
    """Each layer uses a strategy of its tables, possible on its stage, and of the space."""
    priced = {layer.name: layer for layer in tables.layers}
    space, faults = proposal.space, []
    size = proposal.cluster.devices // max(1, proposal.pp)
    allowed = set(space.strategies(size, proposal.cluster.node_size)) if size else set()
    used = set()
    for layer in proposal.layers:
        try:
            strategy = layer.strategy
        except UniapError as error:
            faults.append(f"{layer.name}: {error.cause}")
            continue
        used.add(strategy)
        costs = priced.get(layer.name)
        if strategy not in allowed:
            faults.append(f"{layer.name}: {strategy.name} is not in the space of the plan")
        elif costs is None or strategy not in costs.strategies:
            faults.append(f"{layer.name}: {strategy.name} is not in its tables (indivisible, or pinned away)")
        elif 0 <= layer.stage < len(tables.stages):
            k, i = costs.strategies.index(strategy), layer.stage
            if not math.isfinite(costs.forward_s[i, k] + costs.backward_s[i, k] + costs.iteration_s[i, k]):
                faults.append(f"{layer.name}: {strategy.name} is not possible on stage {i}")
    if space.uniform and len(used) > 1:
        faults.append(f"the space is uniform and {len(used)} strategies are used")
    evidence = f"{len(used)} strategies, each in the tables and in the space"
    return conclude("strategies", faults, evidence, "choose among the strategies of the layer, or widen the space")


def _placement(proposal: Proposal, tables: CostTables) -> Placement:
    by_name = {layer.name: layer for layer in proposal.layers}
    rows = [(by_name[costs.name], costs) for costs in tables.layers]
    return Placement(
        [layer.stage for layer, _ in rows],
        [costs.strategies.index(layer.strategy) for layer, costs in rows],
        proposal.pp,
    )


# --- a solver's bare answer -------------------------------------------------------------------------------------


class Answer(Protocol):
    """What :func:`verify_result` reads of a result: :class:`uniap_core.solve.result.Result` has all of it."""

    @property
    def problem(self) -> str:
        """Hash of the problem that was solved."""

    @property
    def stop(self) -> str:
        """Why the solver stopped."""

    @property
    def objective_s(self) -> float | None:
        """Claimed objective."""

    @property
    def bound_s(self) -> float | None:
        """Claimed lower bound."""

    @property
    def gap(self) -> float | None:
        """Claimed relative gap."""

    @property
    def assignment(self) -> Assignment | None:
        """Stage and strategy of each layer."""


def verify_result(posed: Problem, answer: Answer, *, gap: float = 1e-6) -> Verdict:
    """Judge a solver's answer to a problem file.

    Parameters
    ----------
    posed
        The problem.
    answer
        What the solver said.
    gap
        Relative gap up to which ``optimal`` may be claimed.
    """
    digest = artifact.digest(problem.to_file(posed))
    faults = [] if answer.problem == digest else [f"the answer is for problem {answer.problem[:15]}..., not this one"]
    checks = [conclude("current", faults, "the answer is for this problem", "solve this problem")]
    if answer.assignment is None:
        checks.append(_no_answer(answer))
    else:
        checks += _assignment(posed, answer.assignment, answer, gap)
    said = [str(answer.stop), answer.objective_s, answer.bound_s, answer.assignment]
    return Verdict(subject=artifact.digest([digest, *said]), verifier=VERIFIER, checks=tuple(checks))


def _no_answer(answer: Answer) -> Check:
    faults = []
    if answer.objective_s is not None:
        faults.append("an objective is claimed without an assignment")
    if str(answer.stop) == "optimal":
        faults.append("an optimum is claimed without an assignment")
    evidence = f"no assignment is claimed (stop: {answer.stop}); use --cross-check to test that"
    return conclude("claim", faults, evidence, "ask the solver for its assignment")


def _assignment(posed: Problem, found: Assignment, answer: Answer, gap: float) -> list[Check]:
    names, depth = [layer.name for layer in posed.layers], posed.depth
    if len(found.stage) != len(names) or len(found.strategy) != len(names):
        faults = [f"{len(found.stage)} layers are placed, and the problem has {len(names)}"]
        return [conclude("layers", faults, "", "place every layer once")]
    faults = _placed_once(names, list(zip(names, found.stage, strict=True)), depth)
    checks = [conclude("layers", faults, f"{len(names)} layers, each placed once", "place every layer once")]
    faults = [
        f"{layer.name}: strategy number {k} on stage {i} does not exist or is not possible"
        for layer, i, k in zip(posed.layers, found.stage, found.strategy, strict=True)
        if not (0 <= k < len(layer.strategies) and 0 <= i < depth and math.isfinite(layer.time_s[i, k]))
    ]
    checks.append(
        conclude("strategies", faults, "every strategy exists and is possible", "choose among the layer's strategies")
    )
    if not all(check.passed for check in checks):
        return checks
    dag = structure.flow(names, [(names[e.source], names[e.target]) for e in posed.edges])
    checks += structure.checks(dag, dict(zip(names, found.stage, strict=True)), depth)
    placement = Placement(found.stage, found.strategy, depth)
    stage_s = [
        math.fsum((time_s, reshard_s))
        for time_s, reshard_s in zip(
            placement.total(posed.layers, lambda layer, i, k: float(layer.time_s[i, k])),
            placement.resharding(posed.edges),
            strict=True,
        )
    ]
    objective_s = numbers.closed_form(stage_s, placement.crossing(posed.edges), posed.micro_batches)
    checks += [_claim(answer, objective_s, gap), numbers.bound(answer.bound_s, objective_s), _peak(posed, placement)]
    return checks


def _claim(answer: Answer, objective_s: float, gap: float) -> Check:
    faults = []
    if answer.objective_s is None or not numbers.close(answer.objective_s, objective_s):
        faults.append(f"the objective is claimed as {answer.objective_s} s and comes to {objective_s:.9g} s")
    if str(answer.stop) == "infeasible":
        faults.append("the problem is called infeasible, and here is an assignment")
    bound_s = answer.bound_s
    own = None if bound_s is None else max(0.0, objective_s - bound_s) / objective_s if objective_s else 0.0
    if own is not None and answer.gap is not None and not math.isclose(answer.gap, own, rel_tol=1e-6, abs_tol=1e-9):
        faults.append(f"the gap is claimed as {answer.gap:g} and comes to {own:g}")
    if str(answer.stop) == "optimal" and (own is None or own > gap):
        faults.append(f"the optimum is claimed with a gap of {'unknown size' if own is None else f'{own:g}'}")
    data: dict[str, float | int | str] = {"computed_s": objective_s}
    return conclude("objective", faults, f"{objective_s:.9g} s, as claimed", "cross-check with another solver", data)


def _peak(posed: Problem, placement: Placement) -> Check:
    state = placement.total(posed.layers, lambda layer, _, k: float(layer.state_bytes[k]))
    stash = placement.total(posed.layers, lambda layer, _, k: float(layer.stash_bytes[k]))
    faults = []
    for i, stage in enumerate(posed.stages):
        used = math.fsum((stage.reserved_bytes, state[i], stage.in_flight * stash[i]))
        if used > stage.memory_bytes * (1 + problem.MEMORY_TOLERANCE):
            faults.append(f"stage {i} needs {used:.6g} B and has {stage.memory_bytes:.6g} B")
    return conclude("memory", faults, "every stage fits its memory", "cross-check with another solver")
