"""Clocks, and what a device can do at best: matrix products by precision, and the floor under every kernel."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def elapsed(
    steps: list[Callable[[Any], Any]], device: torch.device, budget_s: float, most: int = 50, *, shared: bool = False
) -> list[float]:
    """Seconds of each of several steps that run one after the other, each fed the result of the last.

    The median on a GPU, and on a CPU that is shared on purpose; else the least, as other processes only ever add.

    Parameters
    ----------
    steps
        The first is called with ``None``.
    budget_s
        Time to spend after warming up; at least three rounds are measured, at most ``most``.
    """
    mark, read = _marks(device)
    warm = 3 if device.type == "cuda" else 1
    rounds: list[list[float]] = []
    began = 0.0
    for turn in range(warm + most):
        if turn == warm:
            synchronize(device)
            began = time.perf_counter()
        if turn - warm >= 3 and time.perf_counter() - began > budget_s:
            break
        value, marks = None, [mark()]
        for step in steps:
            value = step(value)
            marks.append(mark())
        del value
        if turn >= warm:
            rounds.append(marks)
        if turn == 0:
            synchronize(device)
    synchronize(device)
    typical = statistics.median if device.type == "cuda" or shared else min
    return [float(typical([read(m[i], m[i + 1]) for m in rounds])) for i in range(len(steps))]


def _marks(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Events on a GPU, which time its queue and not the host; the clock elsewhere."""
    if device.type != "cuda":
        return time.perf_counter, lambda first, second: float(second - first)

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return mark, lambda first, second: float(first.elapsed_time(second)) * 1e-3


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_flops(device: torch.device, budget_s: float = 0.3) -> dict[str, float]:
    """FLOP/s of large square products by precision."""
    cuda = device.type == "cuda"
    found = {}
    tf32 = torch.backends.cuda.matmul.allow_tf32
    for name in ("fp32", "tf32", "bf16", "fp16") if cuda else ("fp32", "bf16"):
        size = 8192 if cuda and name != "fp32" else 4096 if cuda else 512
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        left, right = (torch.randn(size, size, device=device).to(PRECISIONS[name]) for _ in range(2))
        found[name] = 2.0 * size**3 / elapsed([lambda _, a=left, b=right: a @ b], device, budget_s)[0]  # type: ignore[misc]
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return found


def launch_floor(device: torch.device) -> float:
    """Seconds per operator when operators are tiny: what no layer can go below per kernel."""
    count = 1000
    tiny = torch.zeros(8, device=device)

    def burst(_: Any) -> None:
        for _ in range(count):
            tiny.add_(1.0)

    return elapsed([burst], device, 0.2)[0] / count


def adam_step(parameters: int, device: torch.device) -> float:
    """Seconds of AdamW on that many fp32 parameters; beyond 16 M taken in proportion."""
    measured = max(1, min(parameters, 2**24))
    weight = torch.zeros(measured, device=device, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.AdamW([weight], lr=1e-4, fused=True)
    return elapsed([lambda _: optimizer.step()], device, 0.05, most=10)[0] * parameters / measured


def device_name(device: torch.device) -> str:
    """The device, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import os
    import platform

    name = platform.processor() or platform.machine()
    return f"cpu {name}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
