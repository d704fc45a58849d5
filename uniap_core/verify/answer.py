"""``verify_result``: all that can be checked on a solver's bare answer to a problem file."""

from __future__ import annotations

import math
from typing import Protocol

from .. import artifact, problem
from ..problem import Assignment, Problem
from . import numbers, structure
from .judge import placed_once
from .numbers import Placement
from .verdict import VERIFIER, Check, Verdict, conclude


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
    faults = placed_once(names, list(zip(names, found.stage, strict=True)), depth)
    checks = [conclude("layers", faults, f"{len(names)} layers, each placed once", "place every layer once")]
    faults = [
        f"{layer.name}: strategy number {k} on stage {j} does not exist or is not possible"
        for layer, j, k in zip(posed.layers, found.stage, found.strategy, strict=True)
        if not (0 <= k < len(layer.strategies) and 0 <= j < depth and math.isfinite(layer.time_s[posed.chunks[j], k]))
    ]
    checks.append(
        conclude("strategies", faults, "every strategy exists and is possible", "choose among the layer's strategies")
    )
    if not all(check.passed for check in checks):
        return checks
    dag = structure.flow(names, [(names[e.source], names[e.target]) for e in posed.edges])
    checks += structure.checks(dag, dict(zip(names, found.stage, strict=True)), depth)
    placement = Placement(found.stage, found.strategy, depth, posed.chunks)
    objective_s = _objective(posed, placement)
    checks += [_claim(answer, objective_s, gap), numbers.bound(answer.bound_s, objective_s), _peak(posed, placement)]
    return checks


def _objective(posed: Problem, placement: Placement) -> float:
    """Time per iteration by the weights of the problem: ranks, links between ranks, and the slowest of them."""
    own = placement.total(posed.layers, lambda layer, i, k: float(layer.time_s[i, k]))
    rank_s, link_s = [0.0] * len(posed.ranks), dict[tuple[int, int], float]()
    for j, seconds in enumerate(zip(own, placement.resharding(posed.edges), strict=True)):
        rank_s[placement.rank(j)] += math.fsum(seconds)
    for j, crossing in enumerate(placement.crossing(posed.edges)):
        ends = placement.rank(j), placement.rank(j + 1)
        link_s[ends] = link_s.get(ends, 0.0) + crossing
    weights = posed.objective
    total = weights.sum * math.fsum(rank_s) + weights.cross * math.fsum(link_s.values())
    return total + (weights.peak * max(*rank_s, *link_s.values(), 0.0) if weights.peak else 0.0)


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
    for i, stage in enumerate(posed.ranks):
        held = [j for j in range(posed.depth) if placement.rank(j) == i]
        used = max(
            math.fsum((stage.reserved_bytes, *(state[j] + f * stash[j] for j, f in zip(held, moment, strict=True))))
            for moment in stage.in_flight
        )
        if used > stage.memory_bytes * (1 + problem.MEMORY_TOLERANCE):
            faults.append(f"stage {i} needs {used:.6g} B and has {stage.memory_bytes:.6g} B")
    return conclude("memory", faults, "every stage fits its memory", "cross-check with another solver")
