"""Every way to spoil a valid plan, and whether the verifier, the gate or the decoder says so, for the right reason.

``python -m bench.mutations`` prints the table; the tests run the same kinds.

Some mutations edit one field and leave the rest. The dishonest ones are harder: the whole proposal is made again
from a bad assignment or from doctored tables, so that all its numbers agree with each other and only the one check
that matters can object.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import numpy as np

from uniap_core import artifact
from uniap_core.cluster import preset
from uniap_core.costs import CostTables, Training
from uniap_core.errors import UniapError
from uniap_core.execute import admit
from uniap_core.pipeline import Pipeline
from uniap_core.plan import Plan, PlanFile, _seal_of, from_file, to_file
from uniap_core.problem import Assignment
from uniap_core.proposal import LayerPlan, Proposal, propose
from uniap_core.proposal_file import subject
from uniap_core.tables import EdgeTable
from uniap_core.verify import verify

Rng = np.random.Generator
edit = msgspec.structs.replace


@dataclass(frozen=True)
class Subject:
    """A valid plan's proposal, its tables and the assignment that it says."""

    proposal: Proposal
    tables: CostTables

    @property
    def assignment(self) -> Assignment:
        """Stage and strategy indices in the order of the tables."""
        rows = {row.name: row for row in self.proposal.layers}
        picked = [(rows[costs.name], costs) for costs in self.tables.layers]
        return Assignment(
            tuple(row.stage for row, _ in picked),
            tuple(costs.strategies.index(row.strategy) for row, costs in picked),
        )

    def again(self, stage: list[int] | None = None, tables: CostTables | None = None) -> Subject:
        """The proposal made again, consistently, from another placement or from doctored tables."""
        p, tables = self.proposal, tables or self.tables
        assignment = Assignment(tuple(stage or self.assignment.stage), self.assignment.strategy)
        made = propose(p.model, p.cluster, p.space, tables, assignment, solver=p.solver, bound_s=None, pins=p.pins)
        return Subject(made, tables)

    def with_proposal(self, **fields: Any) -> Subject:
        """The same with some fields of the proposal replaced."""
        return Subject(edit(self.proposal, **fields), self.tables)

    def with_training(self, **fields: Any) -> Subject:
        """The same with some fields of what is trained replaced."""
        p = self.proposal
        return self.with_proposal(candidate=edit(p.candidate, training=edit(p.training, **fields)))


Change = Callable[[Subject, Rng], Subject | None]
"""Spoils a subject; None if this one has nothing to spoil that way."""


@dataclass(frozen=True)
class Mutation:
    """One kind; at least one of ``reasons`` must be among the checks that fail."""

    name: str
    reasons: tuple[str, ...]
    change: Change


MUTATIONS: list[Mutation] = []


def mutation(name: str, *reasons: str) -> Callable[[Change], Change]:
    """Register a kind of mutation."""

    def register(change: Change) -> Change:
        MUTATIONS.append(Mutation(name, reasons, change))
        return change

    return register


def any_index(rng: Rng, items: Any) -> int:
    """A random index."""
    return int(rng.integers(len(items)))


def set_item(items: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    """The tuple with one item replaced."""
    return (*items[:index], value, *items[index + 1 :])


def edit_layer(s: Subject, rng: Rng, **fields: Any) -> Subject:
    """Edit fields of a random layer."""
    u = any_index(rng, s.proposal.layers)
    return s.with_proposal(layers=set_item(s.proposal.layers, u, edit(s.proposal.layers[u], **fields)))


def edit_strategy(s: Subject, rng: Rng, **fields: Any) -> Subject | None:
    """Edit fields of a random layer's strategy; None if there is no such strategy (files: see ``zero_degree``)."""
    u = any_index(rng, s.proposal.layers)
    layer = s.proposal.layers[u]
    try:
        changed = edit(layer, strategy=edit(layer.strategy, **fields))
    except UniapError:
        return None
    return s.with_proposal(layers=set_item(s.proposal.layers, u, changed))


def edit_stage(s: Subject, i: int, **fields: Any) -> Subject:
    """Edit fields of a stage."""
    return s.with_proposal(stages=set_item(s.proposal.stages, i, edit(s.proposal.stages[i], **fields)))


def off(value: float, rng: Rng) -> float:
    """A number that is a little different: between a millionth and a tenth more, or 1 for 0."""
    return value * (1 + 10 ** rng.uniform(-6, -1)) if value else 1.0


# --- placement --------------------------------------------------------------------------------------------------


@mutation("move a layer in the list of layers only", "stage-lists")
def move_layer(s: Subject, rng: Rng) -> Subject | None:
    u = any_index(rng, s.proposal.layers)
    layer = s.proposal.layers[u]
    others = [i for i in range(s.proposal.pp) if i != layer.stage]
    if not others:
        return None
    moved = edit(layer, stage=others[any_index(rng, others)])
    return s.with_proposal(layers=set_item(s.proposal.layers, u, moved))


@mutation("move a layer in both lists, keeping the numbers", "time", "order", "memory", "transfers", "stages-used")
def move_layer_quietly(s: Subject, rng: Rng) -> Subject | None:
    changed = move_layer(s, rng)
    if changed is None:
        return None
    lists: list[list[str]] = [[] for _ in changed.proposal.stages]
    for layer in changed.proposal.layers:
        lists[layer.stage].append(layer.name)
    pairs = zip(changed.proposal.stages, lists, strict=True)
    stages = tuple(edit(stage, layers=tuple(names)) for stage, names in pairs)
    return changed.with_proposal(stages=stages)


@mutation("dishonest: two stages swapped", "order")
def swap_stages(s: Subject, rng: Rng) -> Subject | None:
    if s.proposal.pp < 2:
        return None
    i = int(rng.integers(s.proposal.pp - 1))
    return s.again([{i: i + 1, i + 1: i}.get(j, j) for j in s.assignment.stage])


@mutation("dishonest: one layer of a stage moved away, so that data comes back", "contiguity")
def leave_and_return(s: Subject, rng: Rng) -> Subject | None:
    stage = list(s.assignment.stage)
    inner = [
        (e.source, e.target)
        for e in s.tables.edges
        if stage[e.source] == stage[e.target] and stage[e.source] + 1 < s.proposal.pp
    ]
    middle = [v for u, v in inner if any(v == source for source, _ in inner)]
    if not middle:
        return None
    v = middle[any_index(rng, middle)]
    stage[v] += 1
    return s.again(stage)


@mutation("dishonest: a stage left empty", "stages-used")
def empty_stage(s: Subject, rng: Rng) -> Subject | None:
    if s.proposal.pp < 2:
        return None
    i = 1 + int(rng.integers(s.proposal.pp - 1))
    return s.again([j - 1 if j == i else j for j in s.assignment.stage])


@mutation("drop a layer", "layers")
def drop_layer(s: Subject, rng: Rng) -> Subject:
    u = any_index(rng, s.proposal.layers)
    name = s.proposal.layers[u].name
    stages = tuple(edit(x, layers=tuple(n for n in x.layers if n != name)) for x in s.proposal.stages)
    return s.with_proposal(layers=s.proposal.layers[:u] + s.proposal.layers[u + 1 :], stages=stages)


@mutation("list a layer twice", "layers")
def repeat_layer(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(layers=(*s.proposal.layers, s.proposal.layers[any_index(rng, s.proposal.layers)]))


@mutation("rename a layer", "layers")
def rename_layer(s: Subject, rng: Rng) -> Subject:
    return edit_layer(s, rng, name="nobody")


@mutation("put a layer on a stage that does not exist", "layers")
def stage_too_high(s: Subject, rng: Rng) -> Subject:
    return edit_layer(s, rng, stage=s.proposal.pp)


@mutation("put a layer on stage -1", "layers")
def stage_negative(s: Subject, rng: Rng) -> Subject:
    return edit_layer(s, rng, stage=-1)


@mutation("truncate the list of stages", "candidate", "stage-lists")
def truncate_stages(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(stages=s.proposal.stages[:-1])


@mutation("truncate the list of layers", "layers")
def truncate_layers(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(layers=s.proposal.layers[: any_index(rng, s.proposal.layers)])


@mutation("list a stage's layers in another order", "stage-lists")
def shuffle_list(s: Subject, rng: Rng) -> Subject | None:
    i = any_index(rng, s.proposal.stages)
    names = s.proposal.stages[i].layers
    return edit_stage(s, i, layers=names[::-1]) if len(names) > 1 else None


# --- strategies -------------------------------------------------------------------------------------------------


@mutation("change a strategy to another of its tables, keeping the numbers", "time", "memory", "transfers")
def other_strategy(s: Subject, rng: Rng) -> Subject | None:
    u = any_index(rng, s.proposal.layers)
    layer = s.proposal.layers[u]
    costs = next(costs for costs in s.tables.layers if costs.name == layer.name)
    k = costs.strategies.index(layer.strategy)
    others = [m for m in range(len(costs.strategies)) if _cost(costs, layer.stage, m) != _cost(costs, layer.stage, k)]
    if not others:
        return None
    other = edit(layer, strategy=costs.strategies[others[any_index(rng, others)]])
    return s.with_proposal(layers=set_item(s.proposal.layers, u, other))


def _cost(costs: Any, i: int, k: int) -> tuple[float, ...]:
    return tuple(float(t[i, k]) for t in (costs.forward_s, costs.backward_s)) + (float(costs.state_bytes[k]),)


@mutation("a degree that does not divide the stage", "strategies", "degrees")
def odd_degree(s: Subject, rng: Rng) -> Subject | None:
    return edit_strategy(s, rng, tp=7)


@mutation("expert parallelism that nobody priced", "strategies")
def foreign_ep(s: Subject, rng: Rng) -> Subject | None:
    return edit_strategy(s, rng, dp=64, ep=64)


@mutation("replicas of shard groups that nobody priced", "strategies")
def foreign_replicas(s: Subject, rng: Rng) -> Subject | None:
    return edit_strategy(s, rng, dp=64, sharding="zero3", replicate=4)


@mutation("flip sequence parallelism", "strategies")
def flip_sequence_parallel(s: Subject, rng: Rng) -> Subject:
    u = any_index(rng, s.proposal.layers)
    layer = s.proposal.layers[u]
    flipped = edit(layer, strategy=edit(layer.strategy, sequence_parallel=not layer.strategy.sequence_parallel))
    return s.with_proposal(layers=set_item(s.proposal.layers, u, flipped))


@mutation("narrow the space so that a used strategy is outside", "strategies")
def narrow_space(s: Subject, rng: Rng) -> Subject:
    used = s.proposal.layers[any_index(rng, s.proposal.layers)]
    kept = tuple(r for r in s.proposal.space.recomputes if r != used.strategy.recompute)
    return s.with_proposal(space=edit(s.proposal.space, recomputes=kept))


@mutation("dishonest: a strategy that is not possible on its stage", "strategies")
def impossible(s: Subject, rng: Rng) -> Subject:
    u = any_index(rng, s.tables.layers)
    costs = s.tables.layers[u]
    forward = np.array(costs.forward_s)
    forward[s.assignment.stage[u], s.assignment.strategy[u]] = math.inf
    doctored = replace(s.tables, layers=set_item(s.tables.layers, u, replace(costs, forward_s=forward)))
    return s.again(tables=doctored)


# --- devices ----------------------------------------------------------------------------------------------------


@mutation("drop a rank", "ranks")
def drop_rank(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    return edit_stage(s, i, ranks=s.proposal.stages[i].ranks[:-1])


@mutation("name a rank twice", "ranks")
def repeat_rank(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    return edit_stage(s, i, ranks=(*s.proposal.stages[i].ranks, s.proposal.stages[0].ranks[0]))


@mutation("name a rank that the cluster lacks", "ranks")
def foreign_rank(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    return edit_stage(s, i, ranks=(*s.proposal.stages[i].ranks[:-1], s.proposal.cluster.devices))


@mutation("swap the ranks of two stages", "ranks")
def swap_ranks(s: Subject, rng: Rng) -> Subject | None:
    if s.proposal.pp < 2:
        return None
    first, second, *rest = s.proposal.stages
    return s.with_proposal(stages=(edit(first, ranks=second.ranks), edit(second, ranks=first.ranks), *rest))


@mutation("permute the ranks of a stage", "ranks")
def permute_ranks(s: Subject, rng: Rng) -> Subject | None:
    i = any_index(rng, s.proposal.stages)
    ranks = s.proposal.stages[i].ranks
    return edit_stage(s, i, ranks=ranks[::-1]) if len(ranks) > 1 else None


@mutation("dishonest: a model whose widths and heads do not divide by tp", "divisibility")
def odd_shapes(s: Subject, rng: Rng) -> Subject | None:
    split = {
        layer.name for layer in s.proposal.model.layers if any(op.split in ("column", "row") for op in layer.operators)
    }
    if not any(layer.strategy.tp > 1 and layer.name in split for layer in s.proposal.layers):
        return None
    layers = tuple(
        edit(layer, operators=tuple(edit(op, inner=op.inner + 1, outer=op.outer + 1) for op in layer.operators))
        for layer in s.proposal.model.layers
    )
    changed = Subject(edit(s.proposal, model=edit(s.proposal.model, layers=layers)), s.tables)
    return changed.again()


# --- time -------------------------------------------------------------------------------------------------------


def edit_prediction(field: str, *reasons: str) -> None:
    """Register the edit of one number of the prediction."""

    @mutation(f"edit predicted.{field}", *reasons)
    def change(s: Subject, rng: Rng) -> Subject:
        said = s.proposal.predicted
        return s.with_proposal(predicted=edit(said, **{field: off(getattr(said, field), rng)}))


for name in ("iteration_time_s", "stages_s", "transfers_s", "steady_s", "samples_per_s", "tokens_per_s"):
    edit_prediction(name, "objective")


def edit_stage_number(field: str, *reasons: str) -> None:
    """Register the edit of one number of a stage."""

    @mutation(f"edit a stage's {field}", *reasons)
    def change(s: Subject, rng: Rng) -> Subject:
        i = any_index(rng, s.proposal.stages)
        return edit_stage(s, i, **{field: off(getattr(s.proposal.stages[i], field), rng)})


for name in ("time_s", "forward_s", "backward_s", "iteration_s", "reshard_s"):
    edit_stage_number(name, "time")
edit_stage_number("memory_bytes", "memory")
edit_stage_number("memory_limit_bytes", "memory-limit")


@mutation("edit a transfer", "transfers")
def edit_transfer(s: Subject, rng: Rng) -> Subject | None:
    cross = s.proposal.predicted.cross_s
    if not cross:
        return None
    j = any_index(rng, cross)
    return s.with_proposal(predicted=edit(s.proposal.predicted, cross_s=set_item(cross, j, off(cross[j], rng))))


@mutation("edit a part of a stage's time", "time")
def edit_time_part(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    parts = dict(s.proposal.stages[i].time_parts_s)
    key = sorted(parts)[any_index(rng, parts)]
    return edit_stage(s, i, time_parts_s={**parts, key: off(parts[key], rng)})


@mutation("a number that is not a number", "time", "objective")
def not_a_number(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(predicted=edit(s.proposal.predicted, iteration_time_s=math.nan))


@mutation("a bound above the objective", "bound")
def bound_above(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(bound_s=off(s.proposal.predicted.iteration_time_s, rng))


@mutation("a bound that is not a finite number", "bound")
def bound_infinite(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(bound_s=[math.nan, math.inf, -1.0][any_index(rng, range(3))])


# --- memory -----------------------------------------------------------------------------------------------------


@mutation("edit a part of a stage's memory", "memory")
def edit_memory_part(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    parts = dict(s.proposal.stages[i].memory_parts_bytes)
    key = sorted(parts)[any_index(rng, parts)]
    return edit_stage(s, i, memory_parts_bytes={**parts, key: off(parts[key], rng)})


@mutation("claim fewer micro-batches in flight", "memory", "memory-schedule")
def fewer_in_flight(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    return edit_stage(s, i, in_flight=s.proposal.stages[i].in_flight - 1)


@mutation("dishonest: tables that count fewer micro-batches in flight", "candidate")
def in_flight_priced_low(s: Subject, rng: Rng) -> Subject:
    ranks = tuple(replace(rank, in_flight=((rank.in_flight[0][0] - 1,),)) for rank in s.tables.ranks)
    return s.again(tables=replace(s.tables, ranks=ranks))


@mutation("dishonest: a plan that exceeds its memory by a byte in a million", "memory-schedule")
def out_of_memory(s: Subject, rng: Rng) -> Subject:
    i = any_index(rng, s.proposal.stages)
    tight = replace(s.tables.ranks[i], memory_bytes=s.proposal.stages[i].memory_bytes * (1 - 1e-6))
    return s.again(tables=replace(s.tables, ranks=set_item(s.tables.ranks, i, tight)))


@mutation("dishonest: tables for more memory than the devices have", "memory-limit")
def more_memory_than_there_is(s: Subject, rng: Rng) -> Subject:
    ranks = tuple(replace(rank, memory_bytes=rank.memory_bytes * 1.5) for rank in s.tables.ranks)
    return s.again(tables=replace(s.tables, ranks=ranks))


# --- what it is about -------------------------------------------------------------------------------------------


@mutation("change pp", "candidate")
def change_pp(s: Subject, rng: Rng) -> Subject:
    deeper = Pipeline.of(s.proposal.schedule, s.proposal.pp * 2)
    return s.with_proposal(candidate=edit(s.proposal.candidate, pipeline=deeper))


@mutation("change micro_batches", "candidate")
def change_micro_batches(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(candidate=edit(s.proposal.candidate, micro_batches=s.proposal.micro_batches * 2))


@mutation("change schedule", "candidate")
def change_schedule(s: Subject, rng: Rng) -> Subject:
    other = {"1f1b": "gpipe", "gpipe": "1f1b"}[s.proposal.schedule]
    return s.with_proposal(candidate=edit(s.proposal.candidate, pipeline=Pipeline.of(other, s.proposal.pp)))


def edit_training(field: str, value: Callable[[Subject], Any]) -> None:
    """Register the edit of one field of what is trained."""

    @mutation(f"change {field}", "candidate")
    def change(s: Subject, rng: Rng) -> Subject:
        return s.with_training(**{field: value(s)})


edit_training("global_batch", lambda s: s.proposal.global_batch * 2)
edit_training("precision", lambda s: "fp8")
edit_training("dropout", lambda s: not s.proposal.training.dropout)


@mutation("change cost_model", "current")
def change_cost_model(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(cost_model=s.proposal.cost_model + ".1")


def edit_hash(field: str) -> None:
    """Register another hash."""

    @mutation(f"another {field}'s hash", "current")
    def change(s: Subject, rng: Rng) -> Subject:
        return s.with_proposal(hashes=edit(s.proposal.hashes, **{field: artifact.digest(int(rng.integers(2**31)))}))


for name in ("graph", "cluster", "tables", "problem"):
    edit_hash(name)


@mutation("another model under the same name", "current")
def other_model(s: Subject, rng: Rng) -> Subject:
    return s.with_proposal(model=edit(s.proposal.model, sequence=s.proposal.model.sequence * 2))


@mutation("another cluster under the same name", "current")
def other_cluster(s: Subject, rng: Rng) -> Subject:
    machine = s.proposal.cluster
    inter = edit(machine.inter, latency_s=machine.inter.latency_s * 2)
    return s.with_proposal(cluster=edit(machine, inter=inter))


@mutation("the cost model's tables have changed since", "current")
def other_tables(s: Subject, rng: Rng) -> Subject:
    u = any_index(rng, s.tables.layers)
    costs = s.tables.layers[u]
    doctored = replace(costs, backward_s=costs.backward_s * (1 + 1e-6))
    return Subject(s.proposal, replace(s.tables, layers=set_item(s.tables.layers, u, doctored)))


@mutation("dishonest: tables without an edge of the model", "layers")
def missing_edge(s: Subject, rng: Rng) -> Subject:
    j = any_index(rng, s.tables.edges)
    return s.again(tables=replace(s.tables, edges=s.tables.edges[:j] + s.tables.edges[j + 1 :]))


@mutation("dishonest: tables with two layers' edges exchanged", "layers")
def exchanged_edge(s: Subject, rng: Rng) -> Subject:
    e = s.tables.edges[0]
    last = len(s.tables.layers) - 1
    wrong = EdgeTable(0, last, "other", e.reshard_s, e.cross_s)
    if wrong.cross_s.shape != (len(s.tables.layers[0].strategies), len(s.tables.layers[last].strategies)):
        wrong = EdgeTable(e.source, e.target, "other", e.reshard_s, e.cross_s)
    return s.again(tables=replace(s.tables, edges=set_item(s.tables.edges, 0, wrong)))


# --- forgeries: sealed plans that the gate must turn back -------------------------------------------------------


Forgery = Callable[[Plan, Rng], Plan | None]
FORGERIES: list[tuple[str, str, Forgery]] = []


def forgery(name: str, reason: str) -> Callable[[Forgery], Forgery]:
    """Register a forgery; the gate's message must contain ``reason``."""

    def register(change: Forgery) -> Forgery:
        FORGERIES.append((name, reason, change))
        return change

    return register


def reseal(plan: Plan, **fields: Any) -> Plan:
    """A plan edited by somebody who knows how seals are made."""
    edited: Plan = edit(plan, **fields)
    verdict = edit(edited.verdict, subject=subject(edited.proposal))
    return edit(edited, verdict=verdict, seal=_seal_of(edited.proposal, edited.proof, verdict))


def reseal_proposal(plan: Plan, **fields: Any) -> Plan:
    """The same with fields of the proposal edited."""
    return reseal(plan, proposal=edit(plan.proposal, **fields))


@forgery("edit a number of a sealed plan", "edited after it was verified")
def edit_sealed(plan: Plan, rng: Rng) -> Plan:
    faster = edit(plan.predicted, iteration_time_s=plan.predicted.iteration_time_s / 2)
    return edit(plan, proposal=edit(plan.proposal, predicted=faster))


@forgery("take the checks out of the verdict", "missing or failed")
def no_checks(plan: Plan, rng: Rng) -> Plan:
    return edit(plan, verdict=edit(plan.verdict, checks=()))


@forgery("a verdict with a failed check", "missing or failed")
def failed_check(plan: Plan, rng: Rng) -> Plan:
    checks = plan.verdict.checks
    return edit(plan, verdict=edit(plan.verdict, checks=set_item(checks, 0, edit(checks[0], passed=False))))


@forgery("edit the evidence of a check", "verdict was edited")
def other_evidence(plan: Plan, rng: Rng) -> Plan:
    checks = plan.verdict.checks
    return edit(plan, verdict=edit(plan.verdict, checks=set_item(checks, 0, edit(checks[0], evidence="fine"))))


@forgery("edit the proof", "proof or verdict was edited")
def edit_proof(plan: Plan, rng: Rng) -> Plan:
    return edit(plan, proof=plan.proof[:-1])


@forgery("reseal with a rank dropped", "ranks")
def reseal_ranks(plan: Plan, rng: Rng) -> Plan:
    return reseal_proposal(plan, stages=set_item(plan.stages, 0, edit(plan.stages[0], ranks=plan.stages[0].ranks[:-1])))


@forgery("reseal with an odd degree", "degrees")
def reseal_degree(plan: Plan, rng: Rng) -> Plan:
    return reseal_proposal(plan, layers=set_item(plan.layers, 0, _wide(plan.layers[0])))


def _wide(layer: LayerPlan) -> LayerPlan:
    return edit(layer, strategy=edit(layer.strategy, tp=7))


@forgery("reseal with another model", "graph")
def reseal_model(plan: Plan, rng: Rng) -> Plan:
    return reseal_proposal(plan, model=edit(plan.model, name="another"))


@forgery("reseal with a record of the proof dropped", "has no record")
def reseal_proof(plan: Plan, rng: Rng) -> Plan:
    return reseal(plan, proof=plan.proof[:-1])


@forgery("reseal with an open candidate below the bound", "claims a bound")
def reseal_open(plan: Plan, rng: Rng) -> Plan | None:
    own = plan.pp, plan.micro_batches
    n = next((n for n, r in enumerate(plan.proof) if (r.pp, r.micro_batches) != own), None)
    if n is None:
        return None
    row = plan.proof[n]
    better = edit(row, outcome="limit", bound_s=1e-9, objective_s=None)
    return reseal(plan, proof=set_item(plan.proof, n, better))


@forgery("a verdict of another version of the verifier", "stale")
def old_verifier(plan: Plan, rng: Rng) -> Plan:
    verdict = edit(plan.verdict, verifier="uniap-verify/0")
    return edit(plan, verdict=verdict, seal=_seal_of(plan.proposal, plan.proof, verdict))


@forgery("prices of another version of the cost model", "stale")
def old_cost_model(plan: Plan, rng: Rng) -> Plan:
    return reseal_proposal(plan, cost_model="analytic/0")


# --- files that must not read -----------------------------------------------------------------------------------


def _other(field: str, more: str) -> Callable[[str, Rng], str]:
    """The text with another value of a field of the plan itself (one space deep), not of what is inside it."""
    return lambda text, rng: re.sub(rf'^( "{field}": "?)', rf"\g<1>{more}", text, flags=re.M)


FILES: list[tuple[str, str, Callable[[str, Rng], str]]] = [
    ("truncate the file", "not a complete JSON", lambda text, rng: text[: int(rng.integers(1, len(text) - 2))]),
    ("add an unknown field", "unknown field", lambda text, rng: text.replace('"pp":', '"depth": 1, "pp":', 1)),
    ("a word for a number", "Expected `int`", lambda text, rng: text.replace('"pp": ', '"pp": "two", "x": ', 1)),
    (
        "replicas of shard groups that there cannot be",
        "replicate",
        lambda text, rng: text.replace('"sharding": "', '"replicate": 4096, "sharding": "', 1),
    ),
    ("another schema", "schema", lambda text, rng: text.replace("uniap.plan/1", "uniap.plan/9", 1)),
    ("a degree of 0", "dp is 0", lambda text, rng: re.sub(r'"dp": \d+,', '"dp": 0,', text, count=1)),
    ("another batch on top", "global_batch is", _other("global_batch", "1")),
    ("another sequence on top", "sequence is", _other("sequence", "1")),
    ("another schedule on top", "schedule is", _other("schedule", "x")),
    ("another precision on top", "precision is", _other("precision", "x")),
    ("null for a number", "got `null`", lambda text, rng: text.replace('"stages_s": ', '"stages_s": null, "x": ', 1)),
]


# --- running them -----------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the table."""

    name: str
    reason: str
    tried: int = 0
    caught: int = 0
    rightly: int = 0


def judge(s: Subject, kind: Mutation, rng: Rng) -> tuple[bool, bool] | None:
    """Whether a mutant was caught, and for a right reason; None if it does not apply."""
    mutant = kind.change(s, rng)
    if mutant is None:
        return None
    failed = {check.name for check in verify(mutant.proposal, mutant.tables).failed}
    return bool(failed), bool(failed & set(kind.reasons))


def refuse(attempt: Callable[[], object], reason: str) -> tuple[bool, bool]:
    """Whether something is refused with one of uniap's errors, and with the right words."""
    try:
        attempt()
    except UniapError as error:
        return True, reason in error.cause
    return False, False


def table(plans: list[tuple[Plan, CostTables]], rounds: int, seed: int = 0) -> list[Row]:
    """Try every kind on every plan, several times."""
    rows = []
    rng = np.random.default_rng(seed)
    for kind in MUTATIONS:
        row = Row(kind.name, " | ".join(kind.reasons))
        for plan, tables in plans * rounds:
            _count(row, judge(Subject(plan.proposal, tables), kind, rng))
        rows.append(row)
    for name, reason, forge in FORGERIES:
        row = Row(f"gate: {name}", reason)
        for plan, _ in plans:
            forged = forge(plan, rng)
            _count(row, None if forged is None else refuse(partial(admit, forged), reason))
        rows.append(row)
    for name, reason, spoil in FILES:
        row = Row(f"file: {name}", reason)
        for plan, _ in plans:
            text = spoil(artifact.pretty(to_file(plan)), rng)
            _count(row, refuse(partial(_read, text), reason))
        rows.append(row)
    return rows


def _count(row: Row, outcome: tuple[bool, bool] | None) -> None:
    if outcome is not None:
        row.tried += 1
        row.caught += outcome[0]
        row.rightly += outcome[1]


def _read(text: str) -> Plan:
    return from_file(artifact.decode(text, PlanFile))


CASES = (
    ("bert-huge", "8xV100-32G", 32, "fp16", ("pp=2", "c>=4")),
    ("t5-large", "2x4xTITANXp-12G", 16, "fp32", ("pp=2", "c>=4")),
    ("llama-7b", "8xA100-40G", 32, "bf16", ("pp=4", "c<=16")),
    ("llama-7b", "2x8xH100-80G", 64, "bf16", ("tp=2",)),
)
"""Model, cluster, batch, precision, pins."""


def real_plans(solver: str) -> list[tuple[Plan, CostTables]]:
    """Plans as users get them, with their tables."""
    from uniap_core import models
    from uniap_core.pins import Pins
    from uniap_core.search import Search, sweep, tables_of

    found = []
    for model, machine, batch, precision, pins in CASES:
        search = Search(
            graph=models.load(model),
            cluster=preset(machine),
            training=Training(global_batch=batch, precision=precision),
            pins=Pins.of(pins),
            solver=solver,
        )
        plan = sweep(search).plan
        found.append((plan, tables_of(plan)))
    return found


def main() -> int:
    """Print the table; exit 1 if anything got through."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times that each kind is tried on each plan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solver", default="dp", help="who finds the plans")
    arguments = parser.parse_args()
    plans = real_plans(arguments.solver)
    started = time.perf_counter()
    rows = table(plans, arguments.rounds, arguments.seed)
    seconds = time.perf_counter() - started
    print(f"{'mutation':<72} {'tried':>5} {'caught':>6} {'for the right reason':>20}")
    for row in rows:
        print(f"{row.name[:72]:<72} {row.tried:>5} {row.caught:>6} {row.rightly:>12} ({row.reason})")
    tried, rightly = sum(row.tried for row in rows), sum(row.rightly for row in rows)
    print(f"{len(rows)} kinds, {tried} mutants of {len(plans)} plans in {seconds:.1f} s")
    print(f"{rightly / tried:.2%} rejected for the right reason")
    return 0 if rightly == tried and all(row.tried for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
