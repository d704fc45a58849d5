"""Gradients after the backward passes: replicated parameters, tied parameters, and the global norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Replicate

from .meshes import Meshes
from .shard import Unit


@dataclass(frozen=True)
class Held:
    """A parameter as a rank holds it.

    Attributes
    ----------
    name, alias
        Name in the whole model: the first one of a tied parameter, and the one of this copy.
    owner
        Whether this is the copy that counts for norms and checkpoints.
    """

    name: str
    alias: str
    parameter: nn.Parameter
    unit: Unit
    owner: bool

    @property
    def local(self) -> torch.Tensor:
        """The rank's part, sharing memory with the parameter."""
        return local(self.parameter.detach())

    @property
    def grad(self) -> torch.Tensor | None:
        """The rank's part of the gradient."""
        grad, parameter = self.parameter.grad, self.parameter
        if isinstance(grad, DTensor) and isinstance(parameter, DTensor) and grad.placements != parameter.placements:
            # Norms on sequence shards leave sums over parts of the sequence.
            grad = parameter.grad = grad.redistribute(placements=parameter.placements)
        return None if grad is None else local(grad)

    @property
    def parts(self) -> int:
        """Into how many parts the parameter is cut."""
        if not isinstance(self.parameter, DTensor):
            return 1
        count = 1
        for dim, placement in enumerate(self.parameter.placements):
            count *= 1 if isinstance(placement, Replicate) else self.parameter.device_mesh.size(dim)
        return count

    @property
    def cut(self) -> tuple[str, ...]:
        """How it is cut: copies with equal cuts have equal parts on ranks with equal places."""
        if not isinstance(self.parameter, DTensor):
            return ()
        mesh = self.parameter.device_mesh
        return tuple(
            f"{placement}/{mesh.size(dim)}"
            for dim, placement in enumerate(self.parameter.placements)
            if not isinstance(placement, Replicate)
        )


def local(x: torch.Tensor) -> torch.Tensor:
    """A tensor's local part."""
    return x._local_tensor if isinstance(x, DTensor) else x


def reduce_replicated(units: Sequence[Unit], meshes: Meshes) -> None:
    """Sum the gradients of replicated parameters over their data-parallel ranks, one buffer per layer."""
    waiting: list[tuple[dist.Work, torch.Tensor, list[torch.Tensor]]] = []
    for unit in reversed(units):
        if unit.sharing != "replicated":
            continue
        grads = [local(p.grad) for p in unit.parameters() if p.grad is not None]
        if not grads:
            continue
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        work = dist.all_reduce(flat, group=meshes.dp(unit.strategy.tp).get_group(), async_op=True)
        waiting.append((work, flat, grads))
        if len(waiting) > 1:
            _finish(*waiting.pop(0))
    for item in waiting:
        _finish(*item)


def _finish(work: dist.Work, flat: torch.Tensor, grads: list[torch.Tensor]) -> None:
    work.wait()
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


@dataclass(frozen=True)
class Tie:
    """A parameter with copies in several layers.

    Attributes
    ----------
    copies
        Those of this rank.
    group
        This rank's peers on the other pipeline ranks that have copies, or ``None`` if one has all.
    alike
        Whether all copies are cut in the same way, so that parts can be added.
    """

    copies: tuple[Held, ...]
    group: dist.ProcessGroup | None
    alike: bool


def reduce_ties(ties: Sequence[Tie]) -> None:
    """Give all copies of a tied parameter the sum of their gradients, so that they stay equal."""
    for tie in ties:
        if not tie.copies or not tie.copies[0].parameter.requires_grad:
            continue
        if tie.alike:
            parts = [_grad(held) for held in tie.copies]
            total = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0].clone()
        else:
            wholes = [_whole(held) for held in tie.copies]
            total = torch.stack(wholes).sum(0) if len(wholes) > 1 else wholes[0].clone()
        if tie.group is not None:
            dist.all_reduce(total, group=tie.group)
        for held in tie.copies:
            _grad(held).copy_(total if tie.alike else part_of(total, held.parameter))


def _grad(held: Held) -> torch.Tensor:
    grad = held.grad
    if grad is None:
        held.parameter.grad = torch.zeros_like(held.parameter)
        grad = held.grad
        assert grad is not None
    return grad


def _whole(held: Held) -> torch.Tensor:
    _grad(held)
    grad = held.parameter.grad
    assert grad is not None
    return grad.full_tensor() if isinstance(grad, DTensor) else grad


def part_of(whole: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """The rank's part of a whole tensor, cut as a parameter is: tensor parallel first, then shards of it."""
    if not isinstance(parameter, DTensor):
        return whole
    mesh = parameter.device_mesh
    place = mesh.get_coordinate()
    assert place is not None
    order = sorted(range(mesh.ndim), key=lambda dim: (mesh.mesh_dim_names or ())[dim] != "tp")
    for dim in order:
        # Shards of every kind have a dimension, replicas none.
        cut: int | None = getattr(parameter.placements[dim], "dim", None)
        if cut is None:
            continue
        parts = whole.chunk(mesh.size(dim), cut)
        whole = parts[place[dim]] if place[dim] < len(parts) else whole.narrow(cut, 0, 0)
    return whole


def clip(held: Sequence[Held], ranks_per_stage: int, limit: float | None) -> torch.Tensor:
    """Scale gradients so that their global norm is at most ``limit``; returns the norm before that.

    Each element of the model counts once, however many ranks or tied copies hold it.
    """
    squares = [
        grad.float().square().sum() * (one.parts / ranks_per_stage)
        for one in held
        if one.owner and (grad := one.grad) is not None
    ]
    device = held[0].local.device if held else torch.device("cpu")
    total = torch.stack(squares).sum() if squares else torch.zeros((), device=device)
    dist.all_reduce(total)
    norm = total.sqrt()
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        grads = [grad for one in held if (grad := one.grad) is not None]
        torch._foreach_mul_(grads, factor)
    return norm


def optimizer(kind: str, held: Sequence[Held], learning_rate: float) -> torch.optim.Optimizer:
    """The plan's optimizer over the parts that this rank holds.

    Adam and SGD work element by element, so they need not know how parameters are cut; plain local tensors spare
    the dispatch of distributed ones and can be updated together.
    """
    locals_ = [nn.Parameter(one.local) for one in held]
    if kind == "sgd":
        return torch.optim.SGD(locals_ or [torch.zeros(0)], lr=learning_rate)
    made: Callable[..., torch.optim.Optimizer] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[kind]
    return made(locals_ or [torch.zeros(0)], lr=learning_rate, fused=True)


def hand_over(held: Sequence[Held], optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's parts their gradients."""
    for one, part in zip(held, optimizer.param_groups[0]["params"], strict=False):
        part.grad = one.grad
