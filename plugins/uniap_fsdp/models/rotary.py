"""Rotary positions (Su et al. 2021), also as models stretch them for longer texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

KINDS = ("default", "linear", "llama3")
"""What ``rotary`` of an architecture may say."""


def frequencies(size: int, architecture: Mapping[str, Any]) -> torch.Tensor:
    """Radians per position of each pair of a head's dimensions, shape (size / 2,).

    ``linear`` divides all by ``rotary_factor`` (Chen et al. 2023). ``llama3`` divides those that turn fewer than
    ``rotary_low`` times in ``rotary_positions``, leaves those that turn more than ``rotary_high`` times, and goes
    from one to the other in between (Llama team 2024).
    """
    a = architecture
    kind, factor = a.get("rotary", "default"), float(a.get("rotary_factor", 1.0))
    frequency = 1.0 / float(a.get("rotary_base", 10000.0)) ** (torch.arange(0, size, 2).float() / size)
    if kind == "linear":
        return frequency / factor
    if kind == "llama3":
        low, high = float(a["rotary_low"]), float(a["rotary_high"])
        turns = int(a["rotary_positions"]) * frequency / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
        return (1.0 - kept) * frequency / factor + kept * frequency
    return frequency


def angles(positions: int, frequency: torch.Tensor) -> torch.Tensor:
    """Cosines and sines by position and dimension, shape (2, positions, size)."""
    angle = torch.outer(torch.arange(positions).float(), frequency).repeat(1, 2)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Turn x of shape (batch, heads, positions, size) by a table of :func:`angles`."""
    cos, sin = table[:, : x.shape[2]].to(x.dtype)
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin
