"""The operators that transformer layers are made of, with what autograd keeps of each.

``saved`` lists the tensors that PyTorch keeps for backward, each where it is first needed, for the Hugging Face
implementation with flash attention (measured with ``torch.autograd.graph.saved_tensors_hooks``). Tensors marked
``selective`` can be rebuilt from the others without a matrix product. Where rebuilding starts from a residual that
is not itself in the list, the input of the next product stands for it, having the same size.

With ``kernels="eager"`` RMS norms, rotary embeddings and gated activations are those of eager PyTorch; with
``"fused"`` they are the single kernels of Megatron-LM, Transformer Engine or a compiled model, which keep their
inputs alone. Operators whose name begins with ``dropout`` count only in training with dropout.
"""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

from uniap_core.graph import TOKENS, Flow, Layer, Length, Operator, Saved, Split
from uniap_core.models import Kernels

KERNELS: tuple[Kernels, ...] = get_args(Kernels)

STATISTIC = Saved(1, bytes=4, selective=True)


def linear(
    name: str,
    inner: int,
    outer: int,
    *,
    rows: Length = TOKENS,
    split: Split = "none",
    entry: bool = False,
    bias: bool = False,
    keep: bool = True,
    selective: bool = False,
    tied: str = "",
) -> Operator:
    """A product with a weight of inner x outer; keeps its input unless an earlier operator does (``keep``)."""
    saved = (Saved(inner, split=split == "row", selective=selective),) if keep else ()
    return Operator(
        name=name,
        kind="gemm",
        rows=rows,
        inner=inner,
        outer=outer,
        split=split,
        entry=entry,
        parameters=inner * outer + bias * outer,
        tied=tied,
        saved=saved,
    )


def layer_norm(name: str, width: int, rows: Length = TOKENS, *, selective: bool = True) -> Operator:
    """Layer norm with scale and shift; keeps its input and two statistics."""
    saved = (Saved(width, selective=selective), STATISTIC, STATISTIC)
    return Operator(name=name, kind="norm", rows=rows, inner=width, parameters=2 * width, saved=saved)


def rms_norm(name: str, width: int, kernels: Kernels, rows: Length = TOKENS) -> Operator:
    """RMS norm with scale; eager code keeps the input in fp32 and the normalized tensor besides."""
    if kernels == "fused":
        saved: tuple[Saved, ...] = (Saved(width, selective=True), STATISTIC)
        passes = 2.0
    else:
        saved = (Saved(width, bytes=4, selective=True), STATISTIC, Saved(width, selective=True))
        passes = 18.0  # six kernels, four of which move fp32
    return Operator(name=name, kind="norm", rows=rows, inner=width, parameters=width, passes=passes, saved=saved)


def attention(
    name: str,
    heads: int,
    head_size: int,
    *,
    kv_heads: int = 0,
    rows: Length = TOKENS,
    keys: Length = TOKENS,
    causal: bool = False,
    parameters: int = 0,
    bias_width: int = 0,
) -> Operator:
    """The attention core as one flash kernel: keeps queries, keys, values and a statistic per head.

    Its output is kept by the product that follows. ``parameters`` and ``bias_width`` are for a relative position
    bias: its trainable elements, and what is kept of it per row. Keys and values are kept per key row, which for
    self-attention is the query row.
    """
    kv = kv_heads or heads
    return Operator(
        name=name,
        kind="attention",
        rows=rows,
        inner=head_size,
        keys=keys,
        heads=heads,
        kv_heads=kv,
        causal=causal,
        split="heads",
        parameters=parameters,
        saved=(
            Saved((heads + 2 * kv) * head_size, split=True),
            Saved(heads, bytes=4, split=True, selective=True),
            *((Saved(bias_width, split=True, selective=True),) if bias_width else ()),
        ),
    )


def rotary(width: int, kernels: Kernels) -> Operator:
    """Rotary embedding of queries and keys; keeps nothing of its own."""
    return Operator(
        name="rotary",
        kind="pointwise",
        rows=TOKENS,
        inner=width,
        split="heads",
        passes=10.0 if kernels == "eager" else 2.0,
    )


def activation(name: str, width: int, rows: Length = TOKENS) -> Operator:
    """GELU or another function of one kernel; keeps its input, the output of the product before it."""
    return Operator(
        name=name, kind="pointwise", rows=rows, inner=width, split="column", saved=(Saved(width, split=True),)
    )


def swiglu(width: int, kernels: Kernels, rows: Length = TOKENS) -> Operator:
    """``silu(gate) * up``; keeps both, and eager code ``silu(gate)`` too."""
    kept = Saved(width, split=True)
    extra = (Saved(width, split=True, selective=True),) if kernels == "eager" else ()
    return Operator(
        name="swiglu",
        kind="pointwise",
        rows=rows,
        inner=width,
        split="column",
        passes=5.0 if kernels == "eager" else 3.0,
        saved=(kept, kept, *extra),
    )


def residual(name: str, width: int, rows: Length = TOKENS) -> Operator:
    """Addition to the residual stream; keeps nothing."""
    return Operator(name=name, kind="pointwise", rows=rows, inner=width, passes=3.0)


def dropout(
    name: str, width: int, *, rows: Length = TOKENS, split: bool = False, output: bool = False, fused: bool = False
) -> Operator:
    """Dropout: keeps a mask of one byte, and its output where that is another kept tensor (``output``).

    ``fused`` with the addition behind it (Megatron-LM, ``bias_dropout_add``) forward moves the mask alone more than the
    addition does; backward is a kernel of its own.
    """
    saved: tuple[Saved, ...] = (Saved(width, bytes=1, split=split, selective=True),)
    if output:
        saved += (Saved(width, split=split, selective=True),)
    return Operator(
        name=f"dropout_{name}",
        kind="pointwise",
        rows=rows,
        inner=width,
        split="column" if split else "none",
        passes=1.0 if fused else 2.5,
        saved=saved,
    )


def lookup(name: str, entries: int, width: int, *, split: Split = "none", tied: str = "") -> Operator:
    """An embedding table; keeps the indices."""
    return Operator(
        name=name,
        kind="embedding",
        rows=TOKENS,
        inner=entries,
        outer=width,
        split=split,
        parameters=entries * width,
        tied=tied,
        saved=(Saved(1, bytes=8),),
    )


def cross_entropy(classes: int, *, rows: Length = TOKENS, upcast: bool = True, split: Split = "vocab") -> Operator:
    """Softmax cross-entropy; keeps the log-probabilities, in fp32 if logits are cast up."""
    saved = (Saved(classes, bytes=4 if upcast else 0, split=split == "vocab"), Saved(1, bytes=8))
    return Operator(name="loss", kind="loss", rows=rows, inner=classes, split=split, passes=7.0, saved=saved)


def chain(layers: list[Layer], rows: Length, width: int) -> tuple[Flow, ...]:
    """Edges along a list of layers that hand on one hidden state."""
    return tuple(Flow(a.name, b.name, f"{a.name}.out", rows, width) for a, b in pairwise(layers))
