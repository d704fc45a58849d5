"""Operators of a model: shapes, how tensor parallelism splits them, and what they keep for backward.

Counts are per sample and symbolic in the sequence length.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .growth import Growth, value_at
from .limits import Amount, Shift, Size

OperatorKind = Literal["gemm", "grouped_gemm", "attention", "norm", "pointwise", "embedding", "loss"]
Split = Literal["none", "column", "row", "heads", "vocab", "experts"]


class Length(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Rows per sample: ``fixed + per_position * sequence`` (197 patches of an image; one row per token)."""

    fixed: Shift = 0
    per_position: Size = 0

    def at(self, sequence: int) -> int:
        """Rows of one sample at this sequence length."""
        return self.fixed + self.per_position * sequence

    @staticmethod
    def through(count: int, sequence: int) -> Length:
        """A length of so many rows at one sequence, of rows that grow with it in some other way."""
        step = count // sequence
        return Length(count - step * sequence, step)


TOKENS = Length(0, 1)
"""One row per position of the sequence."""


def per_row(width: float) -> int | float:
    """A width as files have it: whole where it is whole, else to a millionth."""
    return round(width) if abs(width - round(width)) < 1e-6 else round(width, 6)


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tensor that an operator keeps for its backward pass.

    Attributes
    ----------
    width
        Elements per row; no whole number where a tensor is not made of the operator's rows.
    bytes
        Bytes per element, or 0 for the precision of activations (1 for a dropout mask, 4 for statistics).
    split
        True if tensor parallelism divides it; otherwise only sequence parallelism does.
    selective
        True if selective recomputation drops it (attention core; norms and pointwise work).
    growth
        How its width grows, where it does (the scores of an attention that is written out).
    """

    width: Size | Amount
    bytes: Size = 0
    split: bool = False
    selective: bool = False
    growth: tuple[Growth, ...] = ()

    def at(self, sequence: int, rows: float) -> Saved:
        """The same at another sequence, where the operator has so many rows."""
        width = value_at(self.growth, "width", sequence, rows)
        return self if width is None else msgspec.structs.replace(self, width=per_row(width))


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One operator of a layer: its shape, how tensor parallelism splits it, and what it saves.

    Attributes
    ----------
    kind
        ``gemm``: (rows x inner) @ (inner x outer), ``count`` times. ``grouped_gemm``: the same over ``experts``
        weight matrices, rows routed to ``top_k`` of them (``rows`` counts tokens once). ``attention``: rows are
        queries, ``keys`` their keys, ``inner`` the head size. ``norm``, ``pointwise``: rows x inner, bound by
        memory bandwidth. ``embedding``: rows looked up in (inner = vocabulary) x (outer = width). ``loss``:
        softmax cross-entropy over rows x (inner = vocabulary).
    split
        ``column`` divides ``outer``, ``row`` divides ``inner`` (and reduces the output), ``heads`` divides heads,
        ``vocab`` divides the vocabulary (padded up), ``experts`` divides by expert parallelism.
    entry
        True for an operator whose input enters a tensor-parallel region: backward all-reduces the gradient of its
        input (rows x inner); under sequence parallelism forward gathers it and backward scatters.
    parameters
        Elements, biases included.
    frozen
        Those of them that are not trained: no gradient, no optimizer state, no update.
    frozen_bytes
        Bytes that each of these takes, constants of blocks included, where they are quantised; 0: as the training's
        precision keeps weights. They are turned into that precision for every product.
    adapter
        True for the weights of an adapter beside a frozen product, which no architecture describes.
    tied
        ``layer/operator`` whose weight this one shares; counted once in the model.
    passes
        Elements read and written per element of rows x inner in forward, for operators bound by memory.
    window
        Keys that a query of an attention sees at most (a sliding window, itself included); 0 is no window. ``keys``
        are all there are: a kernel that knows nothing of windows reads them all and masks.
    growth
        How those of its numbers grow that do not stay or go by rows; they themselves are those at the graph's sequence.
    """

    name: str
    kind: OperatorKind
    rows: Length
    inner: Size = 1
    outer: Size = 1
    count: Size = 1
    keys: Length = Length()
    heads: Size = 0
    kv_heads: Size = 0
    causal: bool = False
    experts: Size = 0
    top_k: Size = 0
    split: Split = "none"
    entry: bool = False
    parameters: Size = 0
    frozen: Size = 0
    frozen_bytes: Amount = 0.0
    adapter: bool = False
    tied: str = ""
    passes: Amount = 2.0
    saved: tuple[Saved, ...] = ()
    window: Size = 0
    growth: tuple[Growth, ...] = ()

    @property
    def grows(self) -> bool:
        """Whether any number of it grows with the sequence otherwise than by rows."""
        return bool(self.growth) or any(s.growth for s in self.saved)

    def at(self, sequence: int) -> Operator:
        """The same with its numbers at another sequence."""
        if not self.grows:
            return self
        found: dict[str, Any] = {}
        for length in ("rows", "keys"):
            count = value_at(self.growth, length, sequence, 1)
            if count is not None:
                found[length] = Length.through(round(count), sequence)
        for size in ("inner", "outer"):
            width = value_at(self.growth, size, sequence, 1)
            if width is not None:
                found[size] = max(1, round(width))
        rows: int = found.get("rows", self.rows).at(sequence)
        passes = value_at(self.growth, "passes", sequence, rows * found.get("inner", self.inner))
        if passes is not None:
            found["passes"] = round(passes, 2)
        saved = tuple(s.at(sequence, rows) for s in self.saved)
        return msgspec.structs.replace(self, saved=saved, **found)

    @property
    def trained(self) -> int:
        """Elements that are trained."""
        return self.parameters - self.frozen

    @property
    def weight_trained(self) -> bool:
        """Whether backward makes a gradient of the weight (of a bias alone, as in BitFit, it costs nothing)."""
        return not self.frozen or self.trained > self.outer * max(1, self.experts)

    @property
    def divided(self) -> int:
        """The width that column or row splitting divides (of a pointwise operator its only one), else 0."""
        if self.split == "column" and self.kind in ("gemm", "grouped_gemm", "embedding"):
            return self.outer
        return self.inner if self.split in ("column", "row") else 0

    def key_heads(self, tp: int) -> int:
        """Heads of keys and values that ``tp`` ranks hold together: at least one each, fewer are repeated."""
        return max(self.kv_heads or self.heads, tp)

    def misfit(self, tp: int) -> str:
        """Why tensor parallelism of a degree cannot divide attention's heads, or an empty string.

        Key heads are a multiple or a divisor of the degree: fewer are repeated on the ranks that share one (Megatron
        Core, transformer_config.py and attention.py).
        """
        if self.kind != "attention" or self.split != "heads":
            return ""
        keys = self.kv_heads or self.heads
        if self.heads % tp:
            return f"{self.heads} heads of {self.name} do not divide by tp {tp}"
        if keys % tp and tp % keys:
            return f"{keys} key heads of {self.name} do not divide by tp {tp}, nor it by them"
        return ""

    def seen_keys(self, sequence: int) -> float:
        """Keys that a query sees on average, as fused kernels count them: half of them all where it is causal.

        The i-th query of a causal window of w keys sees min(i, w): w - w^2 / 2s of them on average over s queries.
        """
        keys = self.keys.at(sequence)
        if not self.window or self.window >= keys:
            return 0.5 * keys if self.causal else float(keys)
        return self.window * (max(0.5, 1 - self.window / max(1, 2 * self.rows.at(sequence))) if self.causal else 1.0)

    def flops(self, batch: float, sequence: int) -> float:
        """Floating-point operations of one forward pass (a multiply-add is two; attention counted in full)."""
        rows = batch * self.rows.at(sequence)
        if self.kind == "gemm":
            return 2.0 * rows * self.inner * self.outer * self.count
        if self.kind == "grouped_gemm":
            return 2.0 * rows * self.top_k * self.inner * self.outer * self.count
        if self.kind == "attention":
            return 4.0 * rows * self.keys.at(sequence) * self.heads * self.inner * self.count
        return 0.0

    def saved_bytes(self, batch: float, sequence: int, element_bytes: int) -> float:
        """Bytes kept for backward, unsplit and without recomputation."""
        rows = batch * self.rows.at(sequence) * self.count
        return rows * sum(s.width * (s.bytes or element_bytes) for s in self.saved)
