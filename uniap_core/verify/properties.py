"""Properties that any cost model and any exact solver must have, tried on random models, clusters and spaces.

What ``uniap verify --properties N`` runs. Cases are drawn by a seeded generator, so every counterexample has a number
under which it comes back; nothing but numpy is needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

import msgspec
import numpy as np

from .. import artifact, cluster, problem
from ..cluster import Cluster, Node
from ..costs import Candidate, CostTables, Price, Training
from ..devices import Link
from ..errors import BadValue
from ..events import Emit, Progress, silent
from ..graph import TOKENS, Flow, Layer, ModelGraph, Operator, Saved
from ..posing import pose
from ..problem import Problem
from ..proposal import propose
from ..strategy import RECOMPUTES, SHARDINGS, StrategySpace, divisors
from .answer import Answer
from .crosscheck import by_exhaustion
from .judge import verify
from .verdict import VERIFIER, Check, Verdict, conclude

T = TypeVar("T")

KINDS = ("V100-32G", "A100-40G", "H100-80G", "TITANXp-12G", "RTX3090")
TOLERANCE = 1e-6
"""Relative: an optimum is worse than another only by more than this."""

STEPS = 30_000
"""Budget of the exhaustive search per case; larger cases are not exhausted."""

Solve = Callable[[Problem], Answer]
"""Solve a problem to optimality."""


@dataclass(frozen=True)
class Case:
    """What one plan is searched for."""

    graph: ModelGraph
    cluster: Cluster
    space: StrategySpace
    candidate: Candidate


@dataclass
class Tally:
    """Cases in which a property applied, and those in which it failed."""

    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def count(self, number: int, fault: str) -> None:
        """Count one case; an empty fault is a success."""
        self.tried += 1
        if fault:
            self.faults.append(f"case {number}: {fault}")


# --- random cases -----------------------------------------------------------------------------------------------


def random_case(rng: np.random.Generator) -> Case:
    """A small model on a small cluster with a random space and a candidate that divides both."""
    machine = random_cluster(rng)
    graph = random_graph(rng)
    depth = _pick(rng, [d for d in divisors(machine.devices) if d <= len(graph.layers)])
    batch = int(2 ** rng.integers(2, 6)) * _pick(rng, [1, 3])
    micro_batches = _pick(rng, [c for c in divisors(batch) if c <= 8])
    precision = "bf16" if all("bf16" in device.peak_flops for device in machine.device_kinds) else "fp16"
    training = Training(global_batch=batch, precision=precision)
    candidate = Candidate.of(depth, micro_batches, training, _pick(rng, ["1f1b", "gpipe"]))
    return Case(graph, machine, random_space(rng), candidate)


def random_graph(rng: np.random.Generator) -> ModelGraph:
    """An embedding, one to four blocks of random shapes, a head; sometimes a tensor that skips blocks."""
    heads = int(2 ** rng.integers(1, 4))
    hidden = heads * int(2 ** rng.integers(4, 8))
    vocabulary, count = int(rng.integers(100, 60_000)), int(rng.integers(1, 5))
    layers = [Layer("embedding", "embedding", (_lookup(vocabulary, hidden),))]
    layers += [Layer(f"block{n}", "decoder", _block(rng, hidden, heads)) for n in range(count)]
    layers.append(Layer("head", "head", _head(vocabulary, hidden)))
    names = [layer.name for layer in layers]
    edges = [Flow(u, v, f"{u}.out", TOKENS, hidden) for u, v in pairwise(names)]
    if count > 1 and rng.random() < 0.4:
        tensor = _pick(rng, ["embedding.out", "embedding.memory"])  # the same tensor, or one more
        edges.append(Flow("embedding", names[-2], tensor, TOKENS, hidden))
    sequence = int(2 ** rng.integers(6, 12))
    return ModelGraph(name="random", family="traced", sequence=sequence, layers=tuple(layers), edges=tuple(edges))


def _lookup(vocabulary: int, hidden: int) -> Operator:
    return Operator(
        name="tokens",
        kind="embedding",
        rows=TOKENS,
        inner=vocabulary,
        outer=hidden,
        split="vocab",
        parameters=vocabulary * hidden,
    )


def _gemm(name: str, inner: int, outer: int, split: str, *, entry: bool = False) -> Operator:
    fields = {"name": name, "kind": "gemm", "rows": TOKENS, "split": split}
    saved = (Saved(inner, split=split == "row"),)
    return msgspec.convert(
        {**fields, "inner": inner, "outer": outer, "entry": entry, "parameters": inner * outer, "saved": saved},
        Operator,
    )


def _block(rng: np.random.Generator, hidden: int, heads: int) -> tuple[Operator, ...]:
    ffn = hidden * int(rng.integers(1, 6))
    size = hidden // heads
    attention = Operator(
        name="attention",
        kind="attention",
        rows=TOKENS,
        keys=TOKENS,
        inner=size,
        heads=heads,
        kv_heads=heads,
        causal=True,
        split="heads",
        saved=(Saved(3 * hidden, split=True, selective=True),),
    )
    norm = Operator(
        name="norm", kind="norm", rows=TOKENS, inner=hidden, parameters=hidden, saved=(Saved(hidden, selective=True),)
    )
    return (
        norm,
        _gemm("qkv", hidden, 3 * hidden, "column", entry=True),
        attention,
        _gemm("out", hidden, hidden, "row"),
        _gemm("up", hidden, ffn, "column", entry=True),
        _gemm("down", ffn, hidden, "row"),
    )


def _head(vocabulary: int, hidden: int) -> tuple[Operator, ...]:
    loss = Operator(name="loss", kind="loss", rows=TOKENS, inner=vocabulary, split="vocab")
    return _gemm("project", hidden, vocabulary, "vocab", entry=True), loss


def random_cluster(rng: np.random.Generator) -> Cluster:
    """One to four nodes of catalogue kinds, equal or not, with random memory and links."""
    sizes = _pick(rng, [(1,), (2,), (4,), (1, 1), (2, 2), (4, 4), (2, 2, 2, 2), (3, 3), (6, 6), (4, 2)])
    base = cluster.preset(f"1x1x{_pick(rng, list(KINDS))}")
    memory, near = float(rng.choice([0.02, 0.05, 0.1, 0.3, 1.0])), float(10 ** rng.uniform(-1.5, 0.5))
    nodes = []
    for n, devices in enumerate(sizes):
        other = n > 0 and rng.random() < 0.1
        node = cluster.preset(f"1x1x{_pick(rng, list(KINDS))}").nodes[0] if other else base.nodes[0]
        nodes.append(_more(Node(node.device, devices, _scaled(node.link, near)), memory))
    inter = _scaled(base.inter, float(10 ** rng.uniform(-2, 0.5)))
    return Cluster(name="random", nodes=tuple(nodes), inter=inter)


def random_space(rng: np.random.Generator) -> StrategySpace:
    """Some shardings and recomputes."""
    shardings = tuple(s for s in SHARDINGS if s == "none" or rng.random() < 0.4)
    recomputes = tuple(r for r in RECOMPUTES if r == "none" or rng.random() < 0.4)
    return StrategySpace(shardings=shardings, recomputes=recomputes)


def _pick(rng: np.random.Generator, options: list[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _scaled(link: Link, factor: float) -> Link:
    return Link(link.kind, link.bandwidth_Bps * factor, link.latency_s / factor)


# --- what must not make the optimum worse -----------------------------------------------------------------------


def more_memory(case: Case) -> Case:
    """Half as much memory again on every device."""
    return replace(case, cluster=_with_nodes(case.cluster, lambda node: _more(node, 1.5)))


def _more(node: Node, factor: float) -> Node:
    return node.with_devices(lambda device: msgspec.structs.replace(device, memory_bytes=device.memory_bytes * factor))


def faster_links(case: Case) -> Case:
    """Twice the bandwidth and half the latency of every link."""
    faster = _with_nodes(case.cluster, lambda node: msgspec.structs.replace(node, link=_scaled(node.link, 2.0)))
    return replace(case, cluster=msgspec.structs.replace(faster, inter=_scaled(case.cluster.inter, 2.0)))


def more_strategies(case: Case) -> Case:
    """All shardings and recomputes."""
    return replace(case, space=msgspec.structs.replace(case.space, shardings=SHARDINGS, recomputes=RECOMPUTES))


def _with_nodes(machine: Cluster, change: Callable[[Node], Node]) -> Cluster:
    return msgspec.structs.replace(machine, nodes=tuple(change(node) for node in machine.nodes))


CHANGES: dict[str, Callable[[Case], Case]] = {
    "more memory": more_memory,
    "faster links": faster_links,
    "more strategies": more_strategies,
}

PROPERTIES = (
    "tables are well formed",
    "the same case has the same tables",
    "the answer verifies",
    "nothing better exists",
    *(f"{name}: the optimum is never worse" for name in CHANGES),
)


# --- the fuzz ---------------------------------------------------------------------------------------------------


def fuzz(
    count: int,
    *,
    price: Price,
    solve: Solve,
    seed: int = 0,
    time_limit_s: float | None = None,
    emit: Emit = silent,
) -> Verdict:
    """Try all properties on random cases.

    Parameters
    ----------
    count
        Number of cases.
    price
        The cost model.
    solve
        An exact solver: must answer to optimality, or say ``infeasible``.
    seed
        Case n of a seed is always the same.
    time_limit_s
        No case is begun after so many seconds, the first excepted; the evidence says how many were tried.
    emit
        Told of progress.

    Returns
    -------
    Verdict
        One check per property; the evidence says in how many cases it applied, a failure names cases.
    """
    tallies = {name: Tally() for name in PROPERTIES}
    began, asked, priced = time.perf_counter(), count, 0
    for number in range(asked):
        count = number + 1
        seconds = time.perf_counter() - began
        if time_limit_s is not None and number and seconds > time_limit_s:
            count = number
            break
        emit(Progress(seconds, number, asked, f"case {number}"))
        case = random_case(np.random.default_rng([seed, number]))
        try:
            tables = price(case.graph, case.cluster, case.space, case.candidate, None)
        except BadValue:
            continue  # indivisible: saying so is the right answer
        priced += 1
        _try(tallies, number, case, tables, price, solve)
    checks = [_conclude(name, tally, count, priced, seed) for name, tally in tallies.items()]
    return Verdict(subject=artifact.digest(["properties", seed, count]), verifier=VERIFIER, checks=tuple(checks))


def _conclude(name: str, tally: Tally, count: int, priced: int, seed: int) -> Check:
    faults = tally.faults if tally.tried else [f"none of {count} cases could test it ({priced} could be priced)"]
    evidence = f"held in all {tally.tried} of {count} random cases to which it applies (seed {seed})"
    fix = f"random_case(np.random.default_rng([{seed}, CASE])) of uniap_core.verify.properties brings the case back"
    return conclude(name, faults, evidence, fix, {"tried": tally.tried, "failed": len(tally.faults)})


def _try(tallies: dict[str, Tally], number: int, case: Case, tables: CostTables, price: Price, solve: Solve) -> None:
    formed, same, verified, best = (tallies[name] for name in PROPERTIES[:4])
    try:
        posed = pose(tables)
    except BadValue as error:
        formed.count(number, error.cause)
        return
    formed.count(number, "")
    again = price(case.graph, case.cluster, case.space, case.candidate, None)
    same.count(number, "" if problem.to_file(pose(again)) == problem.to_file(posed) else "the tables differ")
    answer = solve(posed)
    verified.count(number, _verify(case, tables, answer))
    optimum = math.inf if answer.objective_s is None else answer.objective_s
    exhausted = by_exhaustion(posed, optimum * (1 - TOLERANCE) if math.isfinite(optimum) else math.inf, STEPS)
    if exhausted is not None:
        best.count(number, "" if exhausted.passed else exhausted.evidence)
    for tally, change in zip(list(tallies.values())[4:], CHANGES.values(), strict=True):
        changed = change(case)
        if changed != case and math.isfinite(optimum):
            tally.count(number, _worse(changed, optimum, price, solve))


def _verify(case: Case, tables: CostTables, answer: Answer) -> str:
    if answer.assignment is None:
        return "" if str(answer.stop) == "infeasible" else f"no assignment, and the stop is {answer.stop}"
    proposal = propose(
        case.graph, case.cluster, case.space, tables, answer.assignment, solver="fuzzed", bound_s=answer.bound_s
    )
    failed = verify(proposal, tables).failed
    return "; ".join(f"{check.name}: {check.evidence}" for check in failed)


def _worse(changed: Case, optimum: float, price: Price, solve: Solve) -> str:
    try:
        tables = price(changed.graph, changed.cluster, changed.space, changed.candidate, None)
    except BadValue as error:
        return f"it cannot be priced any more: {error.cause}"
    found = solve(pose(tables)).objective_s
    now = math.inf if found is None else found
    return f"the optimum goes from {optimum:.6g} s to {now:.6g} s" if now > optimum * (1 + TOLERANCE) else ""
