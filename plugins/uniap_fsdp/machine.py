"""The machine at hand against the plan: how many devices, how much free memory."""

from __future__ import annotations

import os
from typing import Literal

from uniap_core.api import Job, LaunchFailed, Plan

GIB = 2**30


def device_kind(job: Job) -> Literal["cpu", "cuda"]:
    """The kind of device that a job runs on here.

    Raises
    ------
    LaunchFailed
        If the job wants CUDA and there is none.
    """
    import torch

    if job.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if job.device == "cuda":
        raise LaunchFailed("the job wants CUDA devices, and this machine has none", "run with --device cpu")
    return "cpu"


def check_machine(plan: Plan, kind: str, folder: str, *, memory: bool) -> list[str]:
    """Compare devices and memory of this machine with the plan; returns notes on harmless differences.

    Raises
    ------
    LaunchFailed
        If the plan needs more than there is, with what to do.
    """
    world = plan.cluster.devices
    if kind == "cuda":
        return _check_cuda(world, folder)
    needed, free = sum(len(stage.ranks) * stage.memory_bytes for stage in plan.stages), available_memory()
    if memory and free is not None and needed > free:
        raise LaunchFailed(
            f"the plan needs {needed / GIB:.1f} GiB for {world} ranks and this machine has {free / GIB:.1f} GiB free",
            "plan for a smaller batch or with memory_gib of this machine, or run where there is more",
        )
    cores = os.cpu_count() or 1
    return [f"{world} ranks share {cores} cores: times are not those of {world} devices"] if world > cores else []


def _check_cuda(world: int, folder: str) -> list[str]:
    import torch

    here = torch.cuda.device_count()
    if here >= world:
        return []
    nodes = -(-world // here)
    command = (
        f"torchrun --nnodes={nodes} --nproc-per-node={here} --node-rank=N --master-addr=HOST --master-port=29500 "
        f"-m uniap_fsdp.worker {folder}"
    )
    raise LaunchFailed(
        f"the plan needs {world} devices and this machine has {here}",
        f"on each of {nodes} nodes that share this folder, N from 0 and HOST the address of node 0, run: {command}",
    )


def check_device_memory(plan: Plan, rank: int) -> None:
    """Compare the free memory of a rank's CUDA device with what its stages need.

    Raises
    ------
    LaunchFailed
        If it has less.
    """
    import torch

    free, _ = torch.cuda.mem_get_info()
    needed = device_bytes(plan, rank)
    if needed > free:
        raise LaunchFailed(
            f"rank {rank} needs {needed / GIB:.1f} GiB and its device has {free / GIB:.1f} GiB free",
            "end what else runs there, or plan for devices with that much memory",
        )


def device_bytes(plan: Plan, rank: int) -> float:
    """Bytes that a plan says of a rank's device: those of all stages on it."""
    return float(sum(stage.memory_bytes for stage in plan.stages if rank in stage.ranks))


def available_memory() -> float | None:
    """Bytes that can be allocated without swapping, or ``None`` where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024
    except OSError:
        pass
    return None
