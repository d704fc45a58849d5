"""What the executor refuses before it starts anything, and what a dry run finds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fsdp_plans import proposal
from uniap_fsdp import EXECUTOR
from uniap_fsdp.check import check
from uniap_fsdp.machine import check_machine

from tests.editing import changed
from uniap_core.api import Inexpressible, Job, LaunchFailed
from uniap_zoo import build

GRAPH = build("llama:layers=2,hidden=32,heads=4,kv_heads=2,ffn=64,vocab=64,seq=16")


def with_layer(plan: Any, index: int, **degrees: Any) -> Any:
    layers = list(plan.layers)
    strategy = msgspec.structs.replace(layers[index].strategy, **degrees)
    layers[index] = msgspec.structs.replace(layers[index], strategy=strategy)
    return changed(plan, layers=tuple(layers))


GOOD = proposal(GRAPH, 4, "tp2-dp2-sp")
BAD = {
    "zero-bubble schedules lose gradients": changed(GOOD, schedule="zb-h1"),
    "the schedule 'interleaved'": changed(GOOD, schedule="interleaved"),
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


def test_a_good_plan_passes() -> None:
    check(GOOD)


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
def test_a_model_that_does_not_exist_here_is_refused() -> None:
    pytest.importorskip("torch")
    from uniap_fsdp.dry import layout

    graph = build("swin-huge")
    with pytest.raises(Inexpressible, match="no torch model of the family 'swin'"):
        layout(proposal(graph, 2, "tp1-dp2"))
