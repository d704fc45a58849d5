"""A model whose third layer kills the process of rank 1 in its second real forward pass."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, deadly: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.deadly, self.calls = deadly, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        real = type(x) is torch.Tensor and not x.is_meta
        self.calls += real
        if self.deadly and real and self.calls > 1 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return x + torch.relu(self.linear(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(deadly=i == 2) for i in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def factory(batch: int = 1) -> tuple[nn.Module, Any]:
    return Model(), {"x": torch.zeros(batch, 8)}
