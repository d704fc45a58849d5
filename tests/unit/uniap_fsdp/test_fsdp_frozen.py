"""Frozen parameters stay as they are, bit by bit, and the others train as in one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsdp_parity as parity
import pytest
import torch
from fsdp_plans import proposal
from fsdp_ranks import Ranks
from uniap_fsdp.check import refusals
from uniap_fsdp.source import fill_all, load

from tests.unit.uniap_torch import traced_models
from uniap_core.api import Job
from uniap_core.trust import allow

pytestmark = pytest.mark.torch

World = Callable[[int], Ranks]
JOB = Job(steps=3, learning_rate=1e-3)


def traced(name: str):
    from uniap_torch.trace import trace

    return trace(f"{traced_models.__name__}:{name}", 64)


@pytest.mark.parametrize("strategy", ["tp1-dp2", "tp1-dp2-zero1", "tp1-dp2-zero3", "tp1-dp2-full"])
@pytest.mark.parametrize("name", ["lora", "tuned"])
def test_frozen_parameters_stay_and_the_others_train(name: str, strategy: str, world: World) -> None:
    graph = traced(name)
    reference = world(1).run(parity.alone, graph, 8, JOB)[0]
    results = world(2).run(parity.under_plan, proposal(graph, 2, strategy), JOB)
    parity.compare(reference, results)
    first = fill_all(load(graph).model, JOB.seed)
    still = {n: p.detach() for n, p in first.named_parameters() if not p.requires_grad}
    moved = {n: p.detach() for n, p in first.named_parameters() if p.requires_grad}
    assert still
    for _, parameters, _ in results:
        last = {n: torch.from_numpy(value) for n, value in parameters.values()}
        assert all(torch.equal(last[n], p) for n, p in still.items())
        assert all(not torch.equal(last[n], p) for n, p in moved.items())


def saved(plan, job: Job) -> set[str]:
    from torch.distributed.checkpoint import FileSystemReader
    from uniap_fsdp.train import train

    allow(plan.model.source)
    measured, _ = train(plan, job, "cpu")
    return set(FileSystemReader(measured.checkpoint).read_metadata().state_dict_metadata)


def test_a_checkpoint_has_no_optimizer_state_of_what_is_frozen_and_resumes(world: World, tmp_path: Path) -> None:
    plan = proposal(traced("lora"), 2, "tp1-dp2-zero3")
    job = Job(steps=2, checkpoint=str(tmp_path))
    names = world(2).run(saved, plan, job)[0]
    states = {n for n in names if n.startswith("optimizer.")}
    assert states
    assert all(".qkv.up" in n or ".qkv.down" in n for n in states)
    whole = world(2).run(parity.under_plan, plan, Job(steps=4))
    again = world(2).run(parity.under_plan, plan, Job(steps=4, resume=str(tmp_path / "step-2")))
    assert again[0][0] == pytest.approx(whole[0][0][2:])


def test_what_cannot_be_run_is_refused() -> None:
    graph = traced("tuned")
    assert not refusals(proposal(graph, 2, "tp1-dp2"))
    assert any("bf16" in cause for cause, _ in refusals(proposal(graph, 2, "tp1-dp2", precision="bf16")))
    assert any("pipelining" in cause for cause, _ in refusals(proposal(graph, 2, "tp1-dp1", cuts=(2,))))
