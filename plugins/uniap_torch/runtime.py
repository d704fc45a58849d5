"""What torch's runtime adds to collectives: FSDP's copies and hooks, and the dispatch of distributed tensors.

A bare all-gather is not what a sharded layer waits for: its parameters are copied into one buffer and out of it
again, and a tensor-parallel product passes through distributed tensors, whose bookkeeping costs the host more than a
small kernel. Both are measured as training meets them: a module with the runtime's wrapping against the same module
without, on all ranks at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

SIZES = (2**14, 2**18, 2**22)
"""Bytes of the layers and activations that are measured."""

WIDTH = 64
"""Of the products in a region: small, so that what is measured is not arithmetic."""

Timer = Callable[[list[Callable[[Any], Any]]], list[float]]
"""Seconds of each of several steps, each fed the result of the last; the same on all ranks."""


def sharded(size: int, mesh: DeviceMesh, device: torch.device, clock: Timer) -> tuple[float, float]:
    """Seconds forward and backward that sharding adds to a layer of ``size`` bytes.

    Forward gathers it, backward gathers it again and reduce-scatters its gradients (FSDP2).
    """
    rows = max(mesh.size(), size // 4 // WIDTH)
    plain = nn.Sequential(nn.Linear(WIDTH, rows, bias=False, device=device))
    wrapped = copy.deepcopy(plain)
    fully_shard(wrapped[0], mesh=mesh, reshard_after_forward=True)
    fully_shard(wrapped, mesh=mesh)
    x = torch.zeros(1, WIDTH, device=device)
    return _beyond(plain, wrapped, x, x, clock)


def region(size: int, split: bool, mesh: DeviceMesh, device: torch.device, clock: Timer) -> tuple[float, float]:
    """Seconds forward and backward that one tensor-parallel region adds to its products on ``size`` bytes.

    A region is a norm, projections split by column, and one split by row (Shoeybi et al. 2019). ``split``: its
    border is split over the sequence (Korthikanti et al. 2022).
    """
    tp = mesh.size()
    rows = max(tp, size // 4 // WIDTH // tp * tp)
    wrapped = Region(WIDTH, WIDTH).to(device)
    plain = Region(WIDTH, WIDTH // tp).to(device)
    edge = Shard(1) if split else Replicate()
    styles: dict[str, Any] = {
        "inner.up": ColwiseParallel(),
        "inner.gate": ColwiseParallel(),
        "inner.down": RowwiseParallel(output_layouts=edge),
    }
    if split:
        styles["norm"] = SequenceParallel(use_local_output=True)
        styles["inner"] = PrepareModuleInput(input_layouts=(edge,), desired_input_layouts=(Replicate(),))
    parallelize_module(wrapped, mesh, styles, src_data_rank=None)
    mine = rows // tp if split else rows
    x = torch.zeros(1, mine, WIDTH, device=device, requires_grad=True)
    whole = torch.zeros(1, rows, WIDTH, device=device, requires_grad=True)
    return _beyond(plain, wrapped, whole, x, clock)


class Region(nn.Module):
    """A norm and a gated pair of products; ``inner`` wide between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.inner = Inner(width, inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        out: torch.Tensor = self.inner(self.norm(x))
        return out


class Inner(nn.Module):
    """Two products in, one out."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.gate = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        out: torch.Tensor = self.down(self.gate(x) * self.up(x))
        return out


def _beyond(
    plain: nn.Module, wrapped: nn.Module, x: torch.Tensor, y: torch.Tensor, clock: Timer
) -> tuple[float, float]:
    """What a wrapped module takes forward and backward on ``y`` beyond the plain one on ``x``."""
    bare, full = clock(_steps(plain, x)), clock(_steps(wrapped, y))
    return max(1e-9, full[0] - bare[0]), max(1e-9, full[1] - bare[1])


def _steps(module: nn.Module, x: torch.Tensor) -> list[Callable[[Any], Any]]:
    def forward(_: Any) -> torch.Tensor:
        out: torch.Tensor = module(x)
        return out

    def backward(out: torch.Tensor) -> None:
        out.backward(torch.ones_like(out))
        module.zero_grad(set_to_none=True)

    return [forward, backward]
