"""Time of one operator on one device: rooflines over compute, memory and kernel launch.

A matrix product runs in tiles spread over the multiprocessors in waves (NVIDIA, "Matrix Multiplication Background
User's Guide", tile and wave quantization); everything else is bound by memory (Williams et al. 2009, roofline).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from uniap_core.api import Device, Operator, Training, precision

from .constants import Constants

TILES = ((256, 128, 1.0), (128, 128, 0.95), (128, 64, 0.78), (64, 64, 0.55))
"""Output tiles of matrix kernels, with the share of the ceiling each can reach (its reuse of operands)."""

TILE_DEPTH = 96
"""Depth of the inner dimension that filling and draining a tile costs."""

VECTOR_SHARE = 0.95
"""Share of the fp32 peak that large products reach outside tensor cores, which keeps no board from its clock (whole
layers on A100 at 18.2 of 19.5 TFLOP/s, Sailor's layer profiles)."""

VECTOR_TILES = ((128, 128, 1.0), (128, 64, 0.95), (64, 64, 0.85))
VECTOR_DEPTH = 12
"""Tiles of products outside tensor cores, where arithmetic hides more of everything else."""

UNALIGNED = {2: 0.8, 4: 0.6, 8: 0.4}
"""Share of the speed that remains where the largest common divisor falls short of the granule by that factor."""

FLASH = {1: 0.58, 2: 1.0, 3: 1.4}
"""Speed of fused attention kernels relative to FlashAttention-2: the first is 1.7 times slower (Dao 2023, arXiv
2307.08691, figures 4 and 6), the third 1.4 times faster on Hopper over both passes at training's lengths (Shah et al.
2024, arXiv 2407.08608, figures 5 and 6)."""

UNPACKING = 2
"""Kernels that turn a quantised weight into one of the training's precision before a product: constants of blocks,
then the weight (bitsandbytes, ``dequantize_4bit``, in ``MatMul4Bit`` forward and backward)."""

ROUTING = 10
"""Kernels of routing and permutation beside each grouped product, forward or backward."""


class Engine(NamedTuple):
    """A device as kernels see it."""

    flops: float
    """FLOP/s of large matrix products of 16 bits and more (attention, the output layer)."""
    linear_flops: float
    """FLOP/s of large matrix products of linear layers."""
    peak_flops: float
    memory_Bps: float
    launch_s: float
    sms: int
    element_bytes: int
    cast_bytes: float
    """Moved per element of the operands of a narrow product to cast them; 0: no product is narrow."""
    granule: int

    @property
    def vector(self) -> bool:
        """Whether products run outside tensor cores (fp32)."""
        return self.granule == 1


class Cut(NamedTuple):
    """How much of a layer one device holds: samples, sequence length, and the parallel degrees."""

    samples: float
    sequence: int
    tp: int
    cp: int
    ep: int
    sequence_parallel: bool
    etp: int = 1
    imbalance: float = 1.0
    """Rows of the expert rank that receives most, over the mean."""

    @property
    def routed(self) -> float:
        """Share of a tensor-parallel group's rows that the ranks which hold the same part of an expert route.

        Without sequence parallelism, or where experts are cut as all else is, that is all of them; where each rank
        holds whole experts, its slice.
        """
        return self.etp / self.tp if self.sequence_parallel else 1.0


class Work(NamedTuple):
    """Seconds of one operator on one device, and how many kernels its forward and backward issue."""

    forward_s: float
    backward_s: float
    kernels: int
    backward_kernels: int


def engine(device: Device, training: Training, constants: Constants) -> Engine:
    """The engine of a device for a training.

    Raises
    ------
    BadValue
        If the device has no figure for the precision.
    """
    known = precision(training.precision)
    share = VECTOR_SHARE if known.granule == 1 else device.matmul_ceiling * constants.matmul_share
    linear = device.peak(training.precision) * share
    peak = device.peak_flops.get(known.others, device.peak_flops[known.figure])
    return Engine(
        peak * share,
        linear,
        peak,
        device.memory_Bps * constants.memory_share,
        device.launch_s,
        device.sms,
        known.element_bytes,
        known.cast_bytes,
        known.granule,
    )


@lru_cache(maxsize=65536)
def matmul_s(rows: float, inner: float, outer: float, count: float, flops: float, e: Engine) -> float:
    """Seconds of ``count`` products (rows x inner) @ (inner x outer), FLOP/s ceiling ``flops``.

    The best of a few tile sizes and splits of the inner dimension; never faster than moving the operands. Dimensions
    that tensor cores cannot read 16 bytes at a time take slower kernels (NVIDIA, same guide, "Tensor Core
    Requirements"; the vocabulary of 50257 is the example that everyone meets).
    """
    if min(rows, inner, outer, count) <= 0:
        return 0.0
    best = math.inf
    per_sm = flops / e.sms * alignment(inner, outer, e.granule)
    depth = VECTOR_DEPTH if e.vector else TILE_DEPTH
    for height, width, share in VECTOR_TILES if e.vector else TILES:
        tiles = math.ceil(rows / height) * math.ceil(outer / width) * count
        work = 2.0 * height * width / (per_sm * share)
        for split in (1, 2, 4, 8) if tiles < e.sms else (1,):
            waves = math.ceil(tiles * split / e.sms)
            best = min(best, waves * work * (inner / split + depth))
    moved = (rows * inner + inner * outer + rows * outer) * count * e.element_bytes
    return max(best, moved / e.memory_Bps) + e.launch_s


def alignment(inner: float, outer: float, granule: int) -> float:
    """Share of the speed of matrix products that the dimensions of a weight leave."""
    common = min(math.gcd(math.ceil(dimension), granule) for dimension in (inner, outer))
    return UNALIGNED.get(granule // common, 1.0)


def streamed_s(moved_bytes: float, e: Engine) -> float:
    """Seconds of an operator bound by memory."""
    return moved_bytes / e.memory_Bps + e.launch_s


def work(op: Operator, cut: Cut, e: Engine, training: Training, constants: Constants) -> Work:
    """Time one operator on one device of a stage.

    Parameters
    ----------
    op
        The whole operator.
    cut
        What one device holds of it.
    """
    rows = cut.samples * op.rows.at(cut.sequence) / cut.cp
    match op.kind:
        case "gemm":
            return _linear(op, rows, cut, e)
        case "grouped_gemm":
            return _grouped(op, rows, cut, e)
        case "attention":
            return _attention(op, rows, cut, e, training, constants)
        case "embedding":
            width = rows * op.outer * e.element_bytes
            table = op.inner * op.outer / (cut.tp if op.split == "vocab" else 1) * e.element_bytes
            forward = streamed_s(2 * width, e)
            return (
                Work(forward, streamed_s(3 * width + table, e), 3, 4) if op.weight_trained else Work(forward, 0.0, 3, 0)
            )
        case "loss":
            logits = rows * op.inner / (cut.tp if op.split == "vocab" else 1)
            forward = streamed_s(logits * (e.element_bytes + 4 * 5), e)
            return Work(forward, streamed_s(logits * (e.element_bytes + 4 * 2), e), 10, 4)
        case _:
            return _streaming(op, rows, cut, e)


def _linear(op: Operator, rows: float, cut: Cut, e: Engine) -> Work:
    """Forward product, and the two of backward: by the input and, if it is trained, by the weight."""
    inner = op.inner / (cut.tp if op.split == "row" else 1)
    outer = op.outer / (cut.tp if op.split in ("column", "vocab") else 1)
    if op.split == "heads":
        outer = op.outer / cut.tp
    flops = e.linear_flops if op.split != "vocab" else e.flops
    forward, backward = _products(op, rows, inner, outer, flops, e)
    if op.split == "vocab" and op.outer % cut.tp:
        # Parts of a vocabulary are rounded up, so the last one is smaller, and may be the slower one for its shape.
        last = op.outer - (cut.tp - 1) * math.ceil(outer)
        forward, backward = max((forward, backward), _products(op, rows, inner, last, flops, e))
    if e.cast_bytes and op.split != "vocab":
        # Casts of the input and of the output's gradient, each with its transpose for backward, partly fused into
        # the kernels before them (Transformer Engine).
        forward += streamed_s(e.cast_bytes * rows * inner * op.count, e)
        backward += streamed_s(e.cast_bytes * rows * outer * op.count, e)
    unpacked = UNPACKING if op.frozen_bytes else 0
    if unpacked:
        each = streamed_s(inner * outer * op.count * (op.frozen_bytes + e.element_bytes), e) + e.launch_s
        forward, backward = forward + each, backward + each
    return Work(forward, backward, 2 + unpacked, (3 if op.weight_trained else 2) + unpacked)


def _products(op: Operator, rows: float, inner: float, outer: float, flops: float, e: Engine) -> tuple[float, float]:
    """Seconds of the forward product of a weight, and of those of backward."""
    backward = matmul_s(rows, outer, inner, op.count, flops, e)
    if op.weight_trained:
        backward += matmul_s(inner, rows, outer, op.count, flops, e)
    return matmul_s(rows, inner, outer, op.count, flops, e), backward


def _grouped(op: Operator, rows: float, cut: Cut, e: Engine) -> Work:
    """Products of the experts that a device holds, rows routed evenly among them."""
    local = max(1.0, op.experts / cut.ep)
    rows *= cut.routed * cut.imbalance
    each = rows * cut.ep * op.top_k / max(1, op.experts)
    inner = op.inner if op.entry else op.inner / cut.etp
    outer = op.outer / cut.etp if op.entry else op.outer
    count = local * op.count
    forward = matmul_s(each, inner, outer, count, e.linear_flops, e)
    backward = matmul_s(each, outer, inner, count, e.linear_flops, e)
    if op.weight_trained:
        backward += matmul_s(inner, each, outer, count, e.linear_flops, e)
    # Permuting tokens into expert order and back.
    shuffle = streamed_s(2 * rows * op.top_k * (op.inner if op.entry else op.outer) * e.element_bytes, e)
    # Products are issued one by one (Transformer Engine, GroupedLinear), beside routing and permutation.
    issued = ROUTING + round(local)
    return Work(forward + shuffle, backward + shuffle, issued, issued + round(local) * op.weight_trained)


def _attention(op: Operator, rows: float, cut: Cut, e: Engine, training: Training, constants: Constants) -> Work:
    """Fused attention at its measured share of the peak, or two batched products with a softmax in memory.

    Causal masking and windows save work in the fused kernel alone (Dao 2023, arXiv 2307.08691: backward does 2.5 times
    the forward's FLOPs).
    """
    heads = op.heads * op.count / (cut.tp if op.split == "heads" else 1)
    keys = op.keys.at(cut.sequence)
    queries = op.rows.at(cut.sequence) / cut.cp
    if training.flash_attention:
        flops = 4.0 * rows * op.seen_keys(cut.sequence) * heads * op.inner
        moved = rows * heads * op.inner * 4 * e.element_bytes
        speed = e.peak_flops * constants.attention_share * FLASH[training.flash_version]
        forward = max(flops / speed, moved / e.memory_Bps) + e.launch_s
        backward = max(2.5 * flops / (speed * constants.attention_backward), 2 * moved / e.memory_Bps) + 2 * e.launch_s
        return Work(forward, backward, 3, 4)
    batch = rows / queries * heads
    scores = batch * queries * keys * e.element_bytes
    products = matmul_s(queries, op.inner, keys, batch, e.flops, e)
    products += matmul_s(queries, keys, op.inner, batch, e.flops, e)
    # The scaled, masked softmax reads and writes once and its backward reads twice and writes; causal ones read the
    # lower triangle alone (Megatron-LM, scaled_upper_triang_masked_softmax). Dropout moves two and a half in either
    # direction (Aceso's operator profiles of Megatron-LM agree).
    softmax, back = (
        streamed_s(scores * (n + 2.5 * training.dropout), e) for n in ((1.5, 2.0) if op.causal else (2.0, 3.0))
    )
    if batch % 4 or e.element_bytes > 2:
        # Megatron-LM's fused softmax takes four heads at a time and 16-bit scores (fused_softmax.py,
        # is_kernel_available); what remains goes through eager kernels in fp32: scale, mask, cast.
        extra = streamed_s(scores / e.element_bytes * 20, e) + 5 * e.launch_s
        return Work(products + softmax + extra, 2 * products + back + extra, 14, 15)
    return Work(products + softmax, 2 * products + back, 8, 10)


def _streaming(op: Operator, rows: float, cut: Cut, e: Engine) -> Work:
    share = cut.tp if op.split != "none" or cut.sequence_parallel else 1
    rows *= cut.imbalance if op.split == "experts" else 1.0
    moved = rows * op.inner * op.count / share * op.passes * e.element_bytes
    # Eager chains of small kernels move about four elements each.
    kernels = max(1, round(op.passes / 4))
    backward = (2.0 if op.kind == "norm" else 1.25) * moved
    return Work(
        moved / e.memory_Bps + kernels * e.launch_s, backward / e.memory_Bps + kernels * e.launch_s, kernels, kernels
    )


def active(op: Operator, training: Training) -> bool:
    """Whether an operator runs: those of dropout only in training with dropout."""
    return training.dropout or not op.name.startswith("dropout")
