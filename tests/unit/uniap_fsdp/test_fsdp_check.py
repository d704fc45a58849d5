"""What the executor refuses before it starts anything, and what a dry run finds."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest
from fsdp_plans import cluster, proposal, sealed
from uniap_fsdp import EXECUTOR
from uniap_fsdp.check import check, refusals
from uniap_fsdp.fit import fit
from uniap_fsdp.machine import check_machine

from tests.editing import changed
from uniap_core.api import Inexpressible, Job, LaunchFailed, Training
from uniap_core.pins import Pins
from uniap_zoo import build

GRAPH = build("llama:layers=2,hidden=32,heads=4,kv_heads=2,ffn=64,vocab=64,seq=16")
DEEP = build("llama:layers=12,hidden=32,heads=4,kv_heads=2,ffn=64,vocab=64,seq=16")


def with_layer(plan: Any, index: int, **degrees: Any) -> Any:
    layers = list(plan.layers)
    strategy = msgspec.structs.replace(layers[index].strategy, **degrees)
    layers[index] = msgspec.structs.replace(layers[index], strategy=strategy)
    return changed(plan, layers=tuple(layers))


def chunks(schedule: str, strategy: str = "tp1-dp2", **options: Any) -> Any:
    """A plan of two pipeline ranks with two chunks each."""
    return proposal(GRAPH, 4, strategy, cuts=(1, 2, 3), schedule=schedule, vpp=2, **options)


GOOD = proposal(GRAPH, 4, "tp2-dp2-sp")
BAD = {
    "the schedule 'v-half', which torch has not": changed(GOOD, schedule="v-half"),
    "interleaved has two or more chunks per rank": changed(GOOD, schedule="interleaved"),
    "zbv has two chunks per rank": changed(GOOD, schedule="zbv"),
    "interleaved takes 2 equal rounds on 2 ranks": chunks("interleaved", batch=10, micro_batches=5),
    "dualpipev wants a micro-batch for each of 4 chunks": chunks("dualpipev"),
    "zero3 of layer layers.0 under zbv": chunks("zbv", "tp1-dp2-zero3"),
    "recomputation of layer layers.0 under interleaved-zb": chunks("interleaved-zb", "tp1-dp2-full"),
    "stage 3 has ranks (2, 3)": msgspec.structs.replace(chunks("zbv"), stages=chunks("interleaved").stages),
    "stage 1 has no layers": changed(GOOD, pp=2),
    "fp16' needs loss scaling": changed(GOOD, precision="fp16"),
    "the optimizer 'adamw-8bit'": changed(GOOD, optimizer="adamw-8bit"),
    "dropout would differ": changed(GOOD, dropout=True),
    "behind the products beside them": changed(GOOD, tensor_overlap="all"),
    "3 micro-batches of a batch of 8": changed(GOOD, micro_batches=3),
    "shares a micro-batch of 1 among 2 ranks": changed(GOOD, micro_batches=8),
    "2 key heads of layers.0/attention over 4": proposal(GRAPH, 4, "tp4-dp1-sp"),
    "context parallelism": with_layer(GOOD, 1, cp=2, dp=1),
    "expert parallelism": with_layer(GOOD, 1, ep=2),
    "has tp 2 x dp 1 on 4 devices": with_layer(GOOD, 1, dp=1),
    "3 stages on 4 devices": changed(GOOD, pp=3),
}


@pytest.mark.parametrize("schedule", ["interleaved", "interleaved-zb", "zbv"])
def test_a_good_plan_passes(schedule: str) -> None:
    check(GOOD)
    check(chunks(schedule))


@pytest.mark.parametrize("schedule", EXECUTOR.capability.schedules)
def test_a_search_is_told_what_the_check_refuses(schedule: str) -> None:
    """The pins that it gets leave the micro-batches and strategies that the check passes, and no others."""
    vpp = {"interleaved": 3, "interleaved-zb": 2, "zbv": 2, "dualpipev": 2}.get(schedule, 1)
    hardware = cluster(8)
    regimes = [Pins.of(r) for r in fit(DEEP, hardware, Training(global_batch=60), schedule)]
    for pp, c in product((2, 4), (1, 2, 3, 4, 5, 6, 10, 12, 15, 60)):
        cuts = tuple(range(1, pp * vpp))
        for text in ("", "-zero1", "-zero2", "-zero3", "-full"):
            plan = proposal(
                DEEP, 8, f"tp1-dp{8 // pp}{text}", cuts=cuts, batch=60 * 4, micro_batches=c, schedule=schedule, vpp=vpp
            )
            strategy = plan.layers[0].strategy
            told = any(
                regime.allows(pp, c)
                and all(pin.holds(strategy[pin.key]) for pin in regime.pins if pin.key in ("sharding", "recompute"))
                for regime in regimes
            )
            assert told == (not refusals(plan)), (schedule, pp, c, text, refusals(plan))


@pytest.mark.parametrize("words", BAD)
def test_a_plan_that_cannot_be_run_exactly_is_refused_with_a_remedy(words: str) -> None:
    with pytest.raises(Inexpressible) as caught:
        check(BAD[words])
    assert words in caught.value.cause
    assert caught.value.fix


def test_the_descriptor_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, uniap_fsdp, uniap_fsdp.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert EXECUTOR.launch == "uniap_fsdp.launch:launch"


def test_too_little_memory_is_said_before_the_launch(tmp_path: Any) -> None:
    stage = msgspec.structs.replace(GOOD.stages[0], memory_bytes=1e15)
    with pytest.raises(LaunchFailed, match="GiB free"):
        check_machine(changed(GOOD, stages=(stage,)), "cpu", str(tmp_path), memory=True)
    assert Job().check_memory


@pytest.mark.torch
def test_a_dry_run_builds_every_stage_and_its_groups() -> None:
    pytest.importorskip("torch")
    from uniap_fsdp.dry import layout as dry_layout

    from uniap_core.execute import layout

    plan = proposal(GRAPH, 8, ["tp1-dp4", "tp2-dp2-zero3-sp", "tp1-dp4-zero2", "tp2-dp2-sp"], cuts=(2,))
    built = dry_layout(plan)
    assert built.notes == ()
    odd = build("llama:layers=2,hidden=32,heads=4,ffn=64,vocab=64,seq=15")
    assert "no sequence parallelism inside layers.0, layers.1" in dry_layout(proposal(odd, 2, "tp2-dp1-sp")).notes[0]
    assert built.groups["layers.0"]["tp"] == ((0, 1), (2, 3))
    assert built.groups["head"]["dp"] == ((4, 6), (5, 7))
    assert set(built.parameters) == {0, 4}
    assert all(c.passed for c in layout.checks(plan, world=built.world, stages=built.stages, built=built.groups))
    embedding, block = 64 * 32, sum(op.parameters for op in GRAPH.layers[1].operators)
    norms = 2 * 32
    assert built.parameters[0] == embedding + (block - norms) // 4 + norms // 2


@pytest.mark.torch
def test_a_dry_run_builds_all_chunks_of_a_rank() -> None:
    pytest.importorskip("torch")
    from uniap_fsdp.dry import layout as dry_layout

    from uniap_core.execute import layout

    plan = chunks("zbv")
    built = dry_layout(plan)
    assert all(c.passed for c in layout.checks(plan, world=built.world, stages=built.stages, built=built.groups))
    assert built.pipelines == ((0, 2), (1, 3))
    assert {name: kinds["dp"] for name, kinds in built.groups.items()} == {
        "embedding": ((0, 1),), "layers.0": ((2, 3),), "layers.1": ((2, 3),), "head": ((0, 1),)
    }  # fmt: skip
    assert built.parameters[0] == 2 * 64 * 32 + 32


@pytest.mark.torch
def test_a_model_that_does_not_exist_here_is_refused() -> None:
    pytest.importorskip("torch")
    from uniap_fsdp.dry import layout

    graph = build("swin-huge")
    with pytest.raises(Inexpressible, match="no torch model of the family 'swin'"):
        layout(proposal(graph, 2, "tp1-dp2"))


@pytest.mark.torch
def test_a_report_has_the_time_of_every_stage_and_the_bytes_of_its_device() -> None:
    pytest.importorskip("torch")
    from uniap_fsdp.train import Measured
    from uniap_fsdp.worker import report

    measured = [([0.1, 0.4], 10.0), ([0.2, 0.3], 11.0), ([0.5, 0.6], 12.0), ([0.7, 0.5], 9.0)]
    stages = report(sealed(chunks("zbv")), Measured(), measured, "cpu", "", ()).stages
    assert [stage.measured_time_s for stage in stages] == [0.2, 0.7, 0.6, 0.4]
    assert [stage.measured_memory_bytes for stage in stages] == [11.0, 12.0, 12.0, 11.0]
    assert {stage.predicted_memory_bytes for stage in stages} == {2e6}
