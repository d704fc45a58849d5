"""A layer run from its operators: each on inputs of its own with the right shapes, divided by tensor parallelism.

Kernels and their shapes are those of the layer, whatever model it comes from; which operator feeds which does not
change their times. Communication is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F

from uniap_core.api import Layer, Operator

Run = Callable[[], torch.Tensor]


class Replay:
    """The operators of a layer for one tensor parallel width, batch and sequence.

    Attributes
    ----------
    runs
        One function per operator.
    leaves
        What gradients are taken of: inputs and weights.
    """

    def __init__(
        self, layer: Layer, tp: int, samples: int, sequence: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.tp, self.samples, self.sequence = tp, samples, sequence
        self.device, self.dtype = device, dtype
        self.leaves: list[torch.Tensor] = []
        self.runs: list[Run] = []
        for op in layer.operators:
            if op.rows.at(sequence) and not op.name.startswith("dropout") and (op.kind != "pointwise" or op.passes):
                self.runs += [self.build(op)] * op.count
        self.gradients: list[torch.Tensor] = []

    def forward(self, _: Any = None) -> list[torch.Tensor]:
        """Run all operators."""
        return [run() for run in self.runs]

    def backward(self, outputs: list[torch.Tensor]) -> None:
        """Take the gradients of all outputs."""
        outputs = [out for out in outputs if out.requires_grad]  # a lookup in a frozen table has no gradient
        if len(self.gradients) != len(outputs):
            self.gradients = [torch.ones_like(out) for out in outputs]
        if outputs:
            torch.autograd.grad(outputs, self.leaves, self.gradients, allow_unused=True)

    def tensor(self, *shape: int, trained: bool = True) -> torch.Tensor:
        """Small random values; a leaf that a gradient is taken of, unless it is a frozen weight."""
        leaf = torch.randn(*shape, device=self.device).mul_(0.02).to(self.dtype)
        if trained:
            self.leaves.append(leaf.requires_grad_())
        return leaf

    def build(self, op: Operator) -> Run:
        """The function that runs an operator."""
        rows = self.samples * op.rows.at(self.sequence)
        return getattr(self, f"_{op.kind}")(op, rows)  # type: ignore[no-any-return]

    def _gemm(self, op: Operator, rows: int) -> Run:
        inner = self.divided(op.inner, op.split == "row")
        outer = self.divided(op.outer, op.split in ("column", "vocab"))
        x, weight = self.tensor(rows, inner), self.tensor(outer, inner, trained=op.weight_trained)
        bias = self.tensor(outer) if op.parameters > op.inner * op.outer else None
        return lambda: F.linear(x, weight, bias)

    def _grouped_gemm(self, op: Operator, rows: int) -> Run:
        inner = self.divided(op.inner, not op.entry)
        outer = self.divided(op.outer, op.entry)
        each = ceil(rows * op.top_k / op.experts)
        inputs = [self.tensor(each, inner) for _ in range(op.experts)]
        weights = [self.tensor(outer, inner, trained=op.weight_trained) for _ in range(op.experts)]
        return lambda: torch.cat([F.linear(x, w) for x, w in zip(inputs, weights, strict=True)])

    def _attention(self, op: Operator, rows: int) -> Run:
        heads = max(1, self.divided(op.heads, op.split == "heads"))
        shared = max(1, self.divided(op.kv_heads or op.heads, op.split == "heads"))
        keys, queries = op.keys.at(self.sequence), op.rows.at(self.sequence)
        windows = queries // keys if queries > keys and queries % keys == 0 else 1
        batch = self.samples * windows
        q = self.tensor(batch, heads, queries // windows, op.inner)
        k, v = (self.tensor(batch, shared, keys, op.inner) for _ in range(2))
        gqa = shared != heads
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=op.causal, enable_gqa=gqa)

    def _norm(self, op: Operator, rows: int) -> Run:
        x, weight = self.tensor(self.divided(rows, op.split == "heads"), op.inner), self.tensor(op.inner)
        if op.parameters == 2 * op.inner:
            bias = self.tensor(op.inner)
            return lambda: F.layer_norm(x, (op.inner,), weight, bias)
        if op.passes < 10:
            return lambda: F.rms_norm(x, (op.inner,), weight)

        def eager() -> torch.Tensor:
            wide = x.float()
            scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
            return weight * (wide * scale).to(x.dtype)

        return eager

    def _pointwise(self, op: Operator, rows: int) -> Run:
        width = self.divided(op.inner, op.split in ("column", "heads", "vocab", "experts"))
        name = op.name.rpartition(".")[2].rstrip("_0123456789")
        x = self.tensor(rows, width)
        if name in ("gelu", "relu", "silu", "tanh"):
            function: Callable[[torch.Tensor], torch.Tensor] = getattr(F, name)
            return lambda: function(x)
        other = self.tensor(rows, width)
        if name == "swiglu":
            return lambda: F.silu(x) * other
        if name == "rotary":
            cosine, sine = (torch.ones(rows, width, device=self.device, dtype=self.dtype) for _ in range(2))

            def turn() -> torch.Tensor:
                first, second = x.chunk(2, dim=-1)
                return x * cosine + torch.cat((-second, first), dim=-1) * sine

            return turn if width % 2 == 0 else lambda: x * cosine + x * sine
        kernels = max(1, round(op.passes / 3))

        def additions() -> torch.Tensor:
            total = x + other
            for _ in range(kernels - 1):
                total = total + other
            return total

        return additions

    def _embedding(self, op: Operator, rows: int) -> Run:
        entries = max(1, self.divided(op.inner, op.split == "vocab"))
        table = self.tensor(entries, op.outer, trained=op.weight_trained)
        indices = torch.randint(entries, (rows,), device=self.device)
        return lambda: F.embedding(indices, table)

    def _loss(self, op: Operator, rows: int) -> Run:
        classes = max(1, self.divided(op.inner, op.split == "vocab"))
        logits = self.tensor(rows, classes)
        labels = torch.randint(classes, (rows,), device=self.device)
        return lambda: F.cross_entropy(logits.float(), labels)

    def divided(self, size: int, split: bool) -> int:
        """A dimension on one device."""
        return ceil(size / self.tp) if split else size
