"""Cross-entropy over logits that may be split by vocabulary (Shoeybi et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, vocab: int, group: dist.ProcessGroup | None
) -> torch.Tensor:
    """Sum of the cross-entropies of all rows.

    Parameters
    ----------
    logits
        Shape (..., columns): this rank's columns of the vocabulary, or all of them.
    targets
        Class of each row, in the whole vocabulary.
    vocab
        Size of the whole vocabulary.
    group
        The ranks that share the vocabulary, in order; not needed if the columns are whole.
    """
    flat, wanted = logits.flatten(0, -2), targets.flatten()
    if flat.shape[-1] == vocab:
        return F.cross_entropy(flat.float(), wanted, reduction="sum")
    total: torch.Tensor = _SplitCrossEntropy.apply(flat, wanted, vocab, group)  # type: ignore[no-untyped-call]
    return total


class _SplitCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, vocab: int, group: dist.ProcessGroup
    ) -> torch.Tensor:
        width = -(-vocab // dist.get_world_size(group))
        local = targets - dist.get_rank(group) * width
        mine = (local >= 0) & (local < logits.shape[-1])
        local = torch.where(mine, local, 0)
        wide = logits.float()
        # The largest logit of each row, so that no exponential overflows.
        largest = wide.amax(-1) if wide.shape[-1] else wide.new_full((len(wide),), float("-inf"))
        dist.all_reduce(largest, dist.ReduceOp.MAX, group)
        wide = wide - largest[:, None]
        picked = torch.where(mine, wide.gather(-1, local[:, None])[:, 0], 0.0)
        powers = wide.exp()
        sums = torch.stack((powers.sum(-1), picked))
        dist.all_reduce(sums, group=group)
        ctx.save_for_backward(powers.div_(sums[0][:, None]), local, mine)
        ctx.dtype = logits.dtype
        return (sums[0].log() - sums[1]).sum()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        share, local, mine = ctx.saved_tensors
        grad = share.clone()
        grad[torch.arange(len(grad), device=grad.device), local] -= mine.to(grad.dtype)
        return (grad * grads[0]).to(ctx.dtype), None, None, None
