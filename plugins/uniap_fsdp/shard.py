"""One layer under its strategy: tensor parallel, recompute, and data parallel sharing of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from uniap_core.api import Strategy

from .meshes import Meshes

Sharing = Literal["alone", "replicated", "fsdp"]


class Unit(nn.Module):
    """A layer with its recomputation; what FSDP wraps."""

    def __init__(self, layer: nn.Module, strategy: Strategy) -> None:
        super().__init__()
        self.layer = layer
        self.strategy = strategy
        self.sharing: Sharing = "alone"

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        if self.strategy.recompute == "none" or not torch.is_grad_enabled():
            return self.layer(*args, **kwargs)
        if self.strategy.recompute == "selective":
            return checkpoint(self.layer, *args, use_reentrant=False, context_fn=_selective, **kwargs)
        return checkpoint(self.layer, *args, use_reentrant=False, **kwargs)

    def before_backward(self, last: bool) -> None:
        """Tell FSDP what this micro-batch's backward pass does with gradients and gathered parameters.

        ZeRO-2 and 3 reduce the gradients of every micro-batch; the others accumulate whole gradients and reduce
        once. All but ZeRO-3 keep gathered parameters until the iteration ends.
        """
        if not isinstance(self, FSDPModule):
            return
        if self.strategy.sharding in ("none", "zero1"):
            self.set_requires_gradient_sync(last)
        if self.strategy.sharding != "zero3":
            self.set_reshard_after_backward(last)


def share(unit: Unit, meshes: Meshes, precision: str) -> None:
    """Share a unit's parameters with its data-parallel ranks as its strategy says.

    FSDP2 does the sharded ones, and all of them in mixed precision, where it keeps the fp32 master weights; what
    is left in full precision is reduced by :func:`uniap_fsdp.reduce.reduce_replicated`.
    """
    strategy, mixed = unit.strategy, precision == "bf16"
    if not any(True for _ in unit.parameters()):
        return
    if not mixed and (strategy.dp == 1 or strategy.sharding == "none"):
        unit.sharing = "alone" if strategy.dp == 1 else "replicated"
        return
    unit.sharing = "fsdp"
    whole = strategy.dp > 1 and strategy.sharding == "none"
    mesh = meshes.replicas(strategy.tp) if whole else meshes.dp(strategy.tp)
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else MixedPrecisionPolicy()
    fully_shard(unit, mesh=mesh, reshard_after_forward=strategy.sharding == "zero3", mp_policy=policy)
    assert isinstance(unit, FSDPModule)
    # The loss is divided by the whole batch, so gradients are summed, whatever the layer's own degree. PREMUL_SUM,
    # which FSDP would use otherwise, does not exist on gloo.
    unit.set_gradient_divide_factor(1.0)
    unit.set_force_sum_reduction_for_comms(True)


_aten = torch.ops.aten
_KEPT = {_aten.mm.default, _aten.addmm.default, _aten.bmm.default, _aten.linear.default}
"""Products whose results selective recomputation keeps; attention, norms and pointwise work are done again
(Korthikanti et al. 2022)."""


def _kept() -> set[Any]:
    collectives = torch.ops._c10d_functional
    return _KEPT | {collectives.reduce_scatter_tensor.default, collectives.all_reduce.default}


def _policy(kept: set[Any], ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in kept else CheckpointPolicy.PREFER_RECOMPUTE


def _selective() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    policy: Callable[..., CheckpointPolicy] = partial(_policy, _kept())
    contexts: tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
    contexts = create_selective_checkpoint_contexts(policy)
    return contexts
