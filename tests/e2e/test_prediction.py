"""One device against its own profile: time and peak memory of a Llama under six shapes; and several against one.

On GPUs (``-m gpu``) the bands are those that are promised. On a CPU, which everything else shares, the same code runs,
and the prediction is held against the profile that it is made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from uniap_cost_profiled.pricing import price
from uniap_fsdp.launch import launch
from uniap_torch.profiler import profile

import uniap
from uniap_core import cluster as clusters
from uniap_core.api import Cluster, Device, Job, Link, Node, Profile, StrategySpace, write
from uniap_core.estimate.hardware import find_kind
from uniap_core.estimate.plan import Plan as Given
from uniap_core.estimate.prediction import predict
from uniap_core.testing.availability import absence
from uniap_zoo import build

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SHAPES = [(1024, 1, 2), (1024, 4, 4), (2048, 1, 2), (2048, 4, 4), (4096, 1, 1), (4096, 2, 4)]
"""Hidden size, samples per micro-batch, micro-batches."""


@dataclass(frozen=True)
class Found:
    """Predicted and measured, seconds per iteration and bytes; ``profile`` is what was predicted from."""

    predicted_s: float
    measured_s: float
    predicted_bytes: float
    measured_bytes: float
    profile: Profile


def llama(hidden: int, sequence: int) -> str:
    heads = max(4, hidden // 128)
    return f"llama:layers=4,hidden={hidden},heads={heads},ffn={hidden * 11 // 4},vocab=32000,seq={sequence}"


def predicted_and_measured(
    model: str, hardware: Cluster, kind: str, samples: int, micro_batches: int, folder: Path
) -> Found:
    """Profile, plan, predict, train."""
    graph = build(model)
    precision = "bf16" if kind == "cuda" else "fp32"
    made = profile(graph, kind, tp=(1,), samples=(samples,), ranks=0, precision=precision)
    path = folder / "profile.json"
    write(path, made)
    pins = ["pp=1", f"micro_batches={micro_batches}", "recompute=none"]
    plan = uniap.plan(
        graph,
        hardware,
        samples * micro_batches,
        precision=precision,
        pins=pins,
        cost_model="profiled",
        profile=path,
        executor="fsdp",
    ).plan
    report = launch(plan, Job(steps=8, device=kind, folder=str(folder / "run")), lambda event: None)
    seen = allocator_bytes(plan, made)
    return Found(report.predicted_time_s, report.measured_time_s, seen, report.stages[0].measured_memory_bytes, made)


def allocator_bytes(plan: Any, made: Profile) -> float:
    """The estimate of what the allocator holds at its peak, without the planner's margins."""
    space = StrategySpace(shardings=("none",), recomputes=("none",))
    given = Given(plan.model, plan.cluster, plan.candidate, space)
    tables = price(plan.model, plan.cluster, space, plan.candidate, made)
    found = predict(given, lambda *_: tables)
    return found.memory_bytes - tables.reserved_parts_bytes["fragmentation"][0]


def cuda(at_least: int = 1) -> None:
    """Skip without CUDA devices, or fail where they were promised (``UNIAP_REQUIRE=cuda``)."""
    here = torch.cuda.device_count()
    if here == 0:
        absence("cuda", "this machine has no CUDA device")
    if here < at_least:
        pytest.skip(f"needs {at_least} CUDA devices, and this machine has {here}")


def this_machine(devices: int = 1) -> Cluster:
    """GPUs of the kind that is here."""
    return clusters.load(f"1x{devices}x{find_kind(torch.cuda.get_device_name()).device.name}")


@pytest.mark.gpu
@pytest.mark.parametrize(("hidden", "samples", "micro_batches"), SHAPES)
def test_one_gpu_keeps_to_its_prediction(hidden: int, samples: int, micro_batches: int, tmp_path: Path) -> None:
    cuda()
    found = predicted_and_measured(llama(hidden, 2048), this_machine(), "cuda", samples, micro_batches, tmp_path)
    assert found.predicted_s == pytest.approx(found.measured_s, rel=0.08)
    assert found.predicted_bytes == pytest.approx(found.measured_bytes, rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("pins", [["pp=2"], ["pp=1", "tp=2"], ["pp=1", "tp=1", "sharding=zero3"]], ids=" ".join)
def test_two_gpus_train_as_one(pins: list[str], tmp_path: Path) -> None:
    cuda(2)
    losses = {}
    for devices, chosen in ((1, ["pp=1"]), (2, pins)):
        plan = uniap.plan(llama(1024, 512), this_machine(devices), 8, pins=chosen, executor="fsdp").plan
        job = Job(steps=5, device="cuda", folder=str(tmp_path / str(devices)))
        losses[devices] = launch(plan, job, lambda event: None).losses
    assert losses[2] == pytest.approx(losses[1], rel=2e-2)  # bf16


def test_one_cpu_is_predicted_from_its_profile(tmp_path: Path) -> None:
    device = Device(name="cpu", memory_bytes=8e9, peak_flops={"fp32": 5e10}, memory_Bps=1e10)
    link = Link("pcie", 1e9, 1e-5)
    hardware = Cluster(name="cpu", nodes=(Node(device, 1, link),), inter=link)
    model = "llama:layers=2,hidden=256,heads=4,ffn=704,vocab=512,seq=128"
    found = predicted_and_measured(model, hardware, "cpu", 2, 2, tmp_path)
    passes = {timing.layer: timing.forward_s + timing.backward_s for timing in found.profile.layers}
    compute = 2 * (passes["embedding"] + 2 * passes["layers.0"] + passes["head"])
    assert compute < found.predicted_s < 2 * compute + 0.02  # and the optimizer
    assert found.measured_s > 0
    assert found.predicted_bytes > 4 * build(model).parameters * 4  # weights, gradients and two moments
