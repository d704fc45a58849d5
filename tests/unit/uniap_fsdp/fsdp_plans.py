"""Sealed plans written by hand, for tests of the executor."""

from __future__ import annotations

from uniap_core.api import Candidate, ModelGraph, Pipeline, Training
from uniap_core.cluster import Cluster, Device, Link, Node
from uniap_core.plan import Plan, seal
from uniap_core.proposal import Hashes, LayerPlan, Prediction, Proposal, StagePlan
from uniap_core.proposal_file import subject
from uniap_core.strategy import StrategySpace, parse
from uniap_core.verify.verdict import Check, Verdict

LINK = Link("pcie", 1e9, 1e-5)


def cluster(devices: int) -> Cluster:
    device = Device(name="cpu", memory_bytes=4e9, peak_flops={"fp32": 1e10, "bf16": 1e10}, memory_Bps=1e10)
    return Cluster(name=f"{devices}xcpu", nodes=(Node(device, devices, LINK),), inter=LINK)


def proposal(
    graph: ModelGraph,
    devices: int,
    strategies: str | list[str],
    *,
    cuts: tuple[int, ...] = (),
    batch: int = 8,
    micro_batches: int = 2,
    schedule: str = "1f1b",
    vpp: int = 1,
    precision: str = "fp32",
    optimizer: str = "adamw",
) -> Proposal:
    """A proposal with the given strategies (one name for all layers, or one each) and cuts between stages.

    Schedules of chunks go round as many ranks as there are stages by ``vpp``, or down and up again.
    """
    names = [layer.name for layer in graph.layers]
    chosen = [strategies] * len(names) if isinstance(strategies, str) else strategies
    where = [sum(i >= cut for cut in cuts) for i in range(len(names))]
    depth = len(cuts) + 1
    pp = depth // vpp
    width = devices // pp
    vee = schedule in ("zbv", "dualpipev")
    chunks = tuple(depth - 1 - j if vee and j >= pp else j % pp for j in range(depth))
    training = Training(global_batch=batch, precision=precision, optimizer=optimizer)
    hardware = cluster(devices)
    rows = zip(names, where, chosen, strict=True)
    layers = tuple(LayerPlan(name, stage, parse(text)) for name, stage, text in rows)
    flights = Pipeline.of(schedule if schedule in ("gpipe", "1f1b") else "1f1b", pp).in_flight(micro_batches)
    stages = tuple(
        StagePlan(
            ranks=tuple(range(chunks[i] * width, (chunks[i] + 1) * width)),
            layers=tuple(name for name, stage in zip(names, where, strict=True) if stage == i),
            in_flight=int(flights[i][0][0]) if vpp == 1 else 1,
            time_s=1e-3,
            forward_s=4e-4,
            backward_s=6e-4,
            iteration_s=0.0,
            reshard_s=0.0,
            time_parts_s={},
            memory_bytes=1e6,
            memory_limit_bytes=4e9,
            memory_parts_bytes={},
        )
        for i in range(depth)
    )
    predicted = Prediction(
        iteration_time_s=1e-2,
        stages_s=1e-2,
        transfers_s=0.0,
        steady_s=0.0,
        cross_s=(0.0,) * (depth - 1),
        samples_per_s=batch / 1e-2,
        tokens_per_s=batch * graph.sequence / 1e-2,
    )
    return Proposal(
        model=graph,
        cluster=hardware,
        space=StrategySpace(),
        cost_model="hand/1",
        candidate=Candidate(Pipeline(schedule, pp, chunks), micro_batches, training),
        stages=stages,
        layers=layers,
        predicted=predicted,
        solver="hand",
        bound_s=None,
        hashes=Hashes(graph.hash, hardware.hash, "", ""),
    )


def sealed(made: Proposal) -> Plan:
    """The proposal with a verdict that passes."""
    check = Check(name="hand-made", passed=True, evidence="written for a test of the executor")
    return seal(made, (), Verdict(subject=subject(made), verifier="hand", checks=(check,)))
