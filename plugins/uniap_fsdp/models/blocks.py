"""Parts that the families share, and how tensor parallelism splits them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
)

from .rotary import rotate

Styles = dict[str, ParallelStyle]


class Model(nn.Module):
    """A model whose matrices start as small normal numbers (Radford et al. 2019)."""

    def _init_weights(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)


class RMSNorm(nn.Module):
    """Root-mean-square norm in fp32 (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x)


class Attention(nn.Module):
    """Multi-head attention over head-split projections.

    ``out_bias`` is the output projection's, where it differs from the others'. ``norms`` are those of the heads of
    queries and of keys (Henry et al. 2020), ``rotary`` (:func:`~.rotary.angles`) turns them (Su et al. 2021).

    ``table`` adds T5's relative position bias. Head counts follow from the projections' width, so the module is
    the same on one device and on one of a tensor-parallel group.
    """

    angles: torch.Tensor | None

    def __init__(
        self,
        hidden: int,
        heads: int,
        *,
        kv_heads: int = 0,
        size: int = 0,
        causal: bool = False,
        bias: bool = True,
        out_bias: bool | None = None,
        norms: tuple[nn.Module, nn.Module] | None = None,
        rotary: torch.Tensor | None = None,
        table: RelativeBias | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        kv_heads, self.size, self.causal, self.scale = kv_heads or heads, size or hidden // heads, causal, scale
        self.query = nn.Linear(hidden, heads * self.size, bias=bias)
        self.key = nn.Linear(hidden, kv_heads * self.size, bias=bias)
        self.value = nn.Linear(hidden, kv_heads * self.size, bias=bias)
        self.out = nn.Linear(heads * self.size, hidden, bias=bias if out_bias is None else out_bias)
        self.norm_query = norms[0] if norms else None
        self.norm_key = norms[1] if norms else None
        self.table = table
        self.register_buffer("angles", rotary, persistent=False)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:  # noqa: D102
        source = x if memory is None else memory
        q = self._heads(self.query(x), self.norm_query)
        k, v = self._heads(self.key(source), self.norm_key), self._heads(self.value(source))
        if self.angles is not None:
            q, k = rotate(q, self.angles), rotate(k, self.angles)
        groups = q.shape[1] // k.shape[1]
        if self.table is None:
            mixed = F.scaled_dot_product_attention(
                q, k, v, is_causal=self.causal, scale=self.scale, enable_gqa=groups > 1
            )
        else:
            mask = self.table(q.shape[2], k.shape[2]).to(q.dtype)
            if self.causal:
                future = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
                mask = mask.masked_fill(future, float("-inf"))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor, norm: nn.Module | None = None) -> torch.Tensor:
        x = x.unflatten(-1, (-1, self.size))
        return (x if norm is None else norm(x)).transpose(1, 2)

    def styles(self, path: str, sequence_parallel: bool) -> Styles:
        """Column-split projections in, row-split projection out; one gather under sequence parallelism."""
        styles: Styles = {f"{path}.{name}": ColwiseParallel() for name in ("query", "key", "value")}
        styles[f"{path}.out"] = row(sequence_parallel)
        if self.norm_query is not None:
            styles |= {f"{path}.{name}": within_heads() for name in ("norm_query", "norm_key")}
        if self.table is not None:
            styles[f"{path}.table.table"] = ColwiseParallel()
        if sequence_parallel:
            styles[path] = gather()
        return styles


class RelativeBias(nn.Module):
    """T5's bias per head and bucketed distance (Raffel et al. 2020); the table is shared by a stack's blocks."""

    def __init__(self, heads: int, *, buckets: int, bidirectional: bool, furthest: int = 128) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.buckets, self.bidirectional, self.furthest = buckets, bidirectional, furthest

    def forward(self, queries: int, keys: int) -> torch.Tensor:  # noqa: D102
        device = self.table.weight.device
        distance = torch.arange(keys, device=device)[None, :] - torch.arange(queries, device=device)[:, None]
        return self.table(self.bucket(distance)).permute(2, 0, 1).unsqueeze(0)

    def bucket(self, distance: torch.Tensor) -> torch.Tensor:
        """Near distances have buckets of their own, far ones share logarithmic buckets."""
        buckets, start = self.buckets, torch.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            start = (distance > 0).long() * buckets
            distance = distance.abs()
        else:
            distance = -distance.clamp(max=0)
        exact = buckets // 2
        ratio = torch.log(distance.float().clamp(min=1) / exact) / torch.log(torch.tensor(self.furthest / exact))
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return start + torch.where(distance < exact, distance, far)


class MLP(nn.Module):
    """Up projection, activation, down projection; ``gated`` multiplies by a second projection (Shazeer 2020)."""

    def __init__(self, hidden: int, ffn: int, activation: nn.Module, *, gated: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, ffn, bias=bias) if gated else None
        self.up = nn.Linear(hidden, ffn, bias=bias)
        self.activation = activation
        self.down = nn.Linear(ffn, hidden, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))

    def styles(self, path: str, sequence_parallel: bool) -> Styles:
        """Column-split in, row-split out; one gather under sequence parallelism."""
        names = ("gate", "up") if self.gate is not None else ("up",)
        styles: Styles = {f"{path}.{name}": ColwiseParallel() for name in names}
        styles[f"{path}.down"] = row(sequence_parallel)
        if sequence_parallel:
            styles[path] = gather()
        return styles


def row(sequence_parallel: bool) -> ParallelStyle:
    """A row-split projection that reduces its output, or reduces and scatters it over the sequence."""
    return RowwiseParallel(output_layouts=Shard(1) if sequence_parallel else Replicate())


def gather() -> ParallelStyle:
    """Gather a module's first input over the sequence."""
    return PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))


def norm(sequence_parallel: bool, *names: str) -> Styles:
    """Norms that work on sequence shards."""
    return {name: SequenceParallel(use_local_output=True) for name in names} if sequence_parallel else {}


def within_heads() -> ParallelStyle:
    """A norm of each head of (batch, positions, heads, size), the heads split.

    A rank's gradient of its weight is that of its own heads: a part of the sum, as on slices of a sequence.
    """
    return SequenceParallel(sequence_dim=2, use_local_output=True)


def vocab_rows(sequence_parallel: bool) -> ParallelStyle:
    """An embedding table split by vocabulary."""
    return RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1) if sequence_parallel else Replicate())


def vocab_columns(sequence_parallel: bool) -> ParallelStyle:
    """An output projection that leaves its logits split by vocabulary."""
    return ColwiseParallel(input_layouts=Shard(1) if sequence_parallel else Replicate())
