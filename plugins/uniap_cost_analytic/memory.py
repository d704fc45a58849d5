"""Bytes: model states, stashed activations, and what a device needs beside them.

States follow ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054, figure 1) and Megatron-LM's distributed optimizer
(docs/source/api-guide/dist_optimizer.md): 18 bytes a parameter in bf16 with fp32 gradients, 20 in fp16, 16 in fp32.
What is frozen has its weight alone, in the training's precision or quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from uniap_core.api import Length, Operator, Strategy, Training, modules, precision

from .context import context_bytes
from .kernels import Cut


class Recipe(NamedTuple):
    """Bytes per parameter of a precision recipe.

    Attributes
    ----------
    weight, gradient, optimizer
        Kept on the device while nothing is sharded; ``optimizer`` includes the fp32 master copy.
    master
        The master copy's part of ``optimizer``.
    gathered, reduced
        Moved per parameter by an all-gather of weights and a reduction of gradients.
    touched
        Read and written by the optimizer's update, gradient norm and clipping included.
    frozen
        Kept of a parameter that is not trained (and not quantised).
    """

    weight: float
    gradient: float
    optimizer: float
    master: float
    gathered: float
    reduced: float
    touched: float
    frozen: float


BLOCK = 256
"""Values that share one fp32 constant in 8-bit optimizers (bitsandbytes, ``blocksize``; Dettmers et al. 2022, arXiv
2110.02861)."""

LOSS_CHUNKS = 8
"""Pieces of the rows in which a chunked loss makes logits (torchtune, ``num_output_chunks``)."""


def recipe(training: Training, *, adapters: bool = False) -> Recipe:
    """The recipe of a precision, an optimizer and its states.

    Adam keeps two moments, momentum SGD one. ``mixed``: all in fp32, with a master copy of 16-bit weights.
    ``bf16-moments``: moments in bf16, master and gradients in fp32 (DeepSeek-V3, arXiv 2412.19437, section 3.3.3;
    Megatron-LM ``--use-precision-aware-optimizer --exp-avg-dtype bf16``). ``bf16``: weights, gradients and moments in
    bf16 and no master: 8 bytes a parameter. 8-bit optimizers keep a byte a moment and a constant a block in any case.
    ``adapters`` in 16 bits are kept in fp32 themselves, without a master (PEFT, ``autocast_adapter_dtype``).
    """
    number = 1 if training.optimizer == "sgd" else 2
    moments = number * (
        1 + 4 / BLOCK if training.optimizer.endswith("-8bit") else 4 if training.states == "mixed" else 2
    )
    if training.states == "bf16":
        return Recipe(2, 2, moments, 0, 2, 2, 2 + 4 + 2 * moments + 2, 2)
    single = training.precision in ("fp32", "tf32")
    if single or adapters:
        return Recipe(4, 4, moments, 0, 4, 4, 4 + 8 + 2 * moments + 4, 4 if single else 2)
    if training.precision == "fp16":
        # The update turns fp16 gradients into fp32 ones first.
        return Recipe(2, 2, 8 + moments, 4, 2, 2, 2 + 8 + 8 + 2 * moments + 2, 2)
    return Recipe(2, 4, 4 + moments, 4, 2, 4, 4 + 8 + 2 * moments + 2 + 4, 2)


def recomputes(operators: tuple[Operator, ...]) -> bool:
    """Whether recomputation applies: embeddings and heads are never recomputed (Megatron-LM, torchtitan)."""
    return not any(op.kind in ("embedding", "loss") for op in operators)


def local_parameters(
    operators: tuple[Operator, ...], strategy: Strategy, *, copies: bool, frozen: bool = True
) -> tuple[float, float]:
    """Dense and expert parameters of a layer on one device, before any sharding; with or without frozen ones."""
    return _local(operators, strategy, copies, lambda op: op.parameters if frozen else op.trained)


def frozen_bytes(
    operators: tuple[Operator, ...], strategy: Strategy, recipe: Recipe, *, copies: bool
) -> tuple[float, float]:
    """Bytes of the dense and the expert parameters of a layer that are not trained, on one device before sharding."""
    return _local(operators, strategy, copies, lambda op: op.frozen * (op.frozen_bytes or recipe.frozen))


def is_narrow(op: Operator) -> bool:
    """Whether a recipe of less than 16 bits casts the operands of an operator: linear layers, but the output layer."""
    return op.kind in ("gemm", "grouped_gemm") and op.split != "vocab"


def narrow_bytes(operators: tuple[Operator, ...], strategy: Strategy, training: Training) -> tuple[float, float]:
    """Bytes of narrow copies of the dense and the expert weights of a layer, on one device before sharding."""
    each = precision(training.precision).weight_bytes
    if not each:
        return 0.0, 0.0
    return _local(operators, strategy, True, lambda op: op.parameters * each if is_narrow(op) else 0.0)


def _local(
    operators: tuple[Operator, ...], strategy: Strategy, copies: bool, amount: Callable[[Operator], float]
) -> tuple[float, float]:
    dense = experts = 0.0
    grid = strategy.grids.expert
    for op in operators:
        if op.tied and not copies:
            continue
        count = amount(op)
        if op.kind == "grouped_gemm":
            experts += count / (grid.size("etp") * grid.size("ep"))
        else:
            # A norm of each head has the same weight for all of them.
            split = op.split != "none" and op.kind != "norm"
            dense += count / (strategy.tp if split else 1)
    return dense, experts


def state_bytes(
    trained: tuple[float, float], frozen: tuple[float, float], strategy: Strategy, recipe: Recipe
) -> tuple[float, float, float]:
    """Parameters, gradients and optimizer states on one device, bytes: of trained elements and of ``frozen`` bytes."""
    weight, optimizer = recipe.weight, recipe.optimizer
    if strategy.sharding == "zero3" and recipe.master:
        # Sharded throughout, the fp32 master copy is the weight; what is gathered is cast (FSDP mixed precision).
        weight, optimizer = recipe.master, optimizer - recipe.master
    kept = strategy.parts("parameters")
    return (
        _shared(trained, weight, kept) + _shared(frozen, 1, kept),
        _shared(trained, recipe.gradient, strategy.parts("gradients")),
        _shared(trained, optimizer, strategy.parts("optimizer")),
    )


def _shared(counts: tuple[float, float], each: float, parts: tuple[int, int]) -> float:
    """Bytes of a state of dense and of expert parameters, cut into some parts each."""
    return sum((count * each / part for count, part in zip(counts, parts, strict=True)), 0.0)


def repeated_width(op: Operator, tp: int) -> int:
    """Elements per row of keys and values that all ranks keep beside one copy of each, where heads are repeated."""
    return 2 * (op.key_heads(tp) - (op.kv_heads or op.heads)) * op.inner if _shares_keys(op, tp) else 0


def gathered_width(op: Operator, tp: int) -> int:
    """Elements per row of queries, keys and values that are gathered where several ranks share a key head."""
    return (op.heads + 2 * (op.kv_heads or op.heads)) * op.inner if _shares_keys(op, tp) else 0


def _shares_keys(op: Operator, tp: int) -> bool:
    return op.kind == "attention" and op.split == "heads" and (op.kv_heads or op.heads) < tp


def kept_bytes(operators: tuple[Operator, ...], cut: Cut, training: Training, recompute: str) -> float:
    """Bytes that a layer keeps for backward on one device under a set of modules, per micro-batch."""
    told = zip(operators, modules.again(operators, recompute), strict=True)
    return sum(saved_bytes(op, cut, training, selective=a.light, rest=a.rest) for op, a in told)


def saved_bytes(op: Operator, cut: Cut, training: Training, *, selective: bool, rest: bool = False) -> float:
    """Bytes that one operator keeps for backward on one device, per micro-batch.

    Without fused attention the probabilities stay (with dropout also its mask and result): the ``5 a s / h`` term of
    Korthikanti et al. 2022 (arXiv 2205.05198), equation 1. Not kept are what is ``selective``, and the ``rest``.
    """
    known = precision(training.precision)
    element = known.element_bytes
    # An input that comes from attention or an activation is kept by these too, in 16 bits: an upper bound.
    kept = known.input_bytes if is_narrow(op) and op.entry else element
    rows = cut.samples * op.rows.at(cut.sequence) / cut.cp * op.count
    rows *= cut.imbalance if op.split == "experts" else 1.0
    total = 0.0
    for saved in op.saved:
        if selective if saved.selective else rest:
            continue
        share = cut.tp if saved.split or cut.sequence_parallel else 1
        total += rows * saved.width * (saved.bytes or kept) / share
    if not rest:
        total += rows * repeated_width(op, cut.tp) * element / cut.tp
    if op.kind == "attention" and not training.flash_attention and not selective:
        heads = op.heads / (cut.tp if op.split == "heads" else 1)
        total += rows * heads * op.keys.at(cut.sequence) * (element + training.dropout * (element + 1))
    return total


def pieces(op: Operator, operators: tuple[Operator, ...], training: Training) -> int:
    """In how many pieces, one after the other, an operator runs: a chunked loss and all that is as wide as it.

    A piece is done forward and backward at once, so that nothing of it stays (Hsu et al. 2024, arXiv 2410.10989, fused
    linear cross-entropy); the gradient of the projection's input takes the place of the input.
    """
    if training.loss == "whole":
        return 1
    widths = {other.inner for other in operators if other.kind == "loss"}
    own = op.outer if op.kind == "gemm" else op.inner if op.kind in ("loss", "pointwise") else 0
    return LOSS_CHUNKS if own in widths else 1


def stash_bytes(
    operators: tuple[Operator, ...],
    inputs: tuple[tuple[Length, int], ...],
    cut: Cut,
    strategy: Strategy,
    training: Training,
) -> float:
    """Bytes of a layer's stashed activations per micro-batch in flight.

    Full recomputation keeps the layer's inputs (Chen et al. 2016, arXiv 1604.06174).
    """
    everything = sum(
        saved_bytes(op, cut, training, selective=False)
        for op in operators
        if op.kind == "gemm" or pieces(op, operators, training) == 1
    )
    if strategy.recompute == "none" or not recomputes(operators):
        return everything
    if strategy.recompute != "full":
        return kept_bytes(operators, cut, training, strategy.recompute)
    share = strategy.layout.rows.size
    element = precision(training.precision).element_bytes
    kept = sum(cut.samples * rows.at(cut.sequence) * width * element for rows, width in inputs) / share
    return min(everything, kept)


def transient_bytes(
    operators: tuple[Operator, ...],
    cut: Cut,
    strategy: Strategy,
    trained: tuple[float, float],
    frozen: tuple[float, float],
    recipe: Recipe,
    training: Training,
    *,
    backward: bool = True,
) -> float:
    """Bytes that a layer needs only while it runs, and no two layers at once.

    The recomputed activations of one layer; the gradients that flow through its widest operator; the logits and their
    gradient, once in float; one weight turned back from its quantised form; under zero3 two gathered layers (this and
    the prefetched) and whole gradients; under zero2 those. Without ``backward`` there are no gradients and nothing is
    recomputed. ``frozen`` are bytes, ``trained`` elements.
    """
    element = precision(training.precision).element_bytes
    running, passes = 0.0, 2 if backward else 1
    for op in operators:
        rows = cut.samples * op.rows.at(cut.sequence) / cut.cp / pieces(op, operators, training)
        share = cut.tp if op.split != "none" or cut.sequence_parallel else 1
        if op.kind == "loss":
            running = max(running, rows * op.inner * (4 + 2 * element) / share)
        elif op.kind in ("gemm", "grouped_gemm", "pointwise"):
            width = max(op.inner, op.outer) * (op.top_k or 1)
            # Under sequence parallelism the whole input is gathered, and its gradient whole before it is scattered.
            entered = op.entry and cut.sequence_parallel and not (op.kind == "grouped_gemm" and cut.etp == 1)
            gathered = rows * op.inner * element if entered else 0.0
            unpacked = op.inner * op.outer * element / share if op.frozen_bytes else 0.0
            uneven = cut.imbalance if op.split == "experts" else 1.0
            running = max(running, passes * (rows * width * element * uneven / share + gathered) + unpacked)
        running = max(
            running, passes * (rows * gathered_width(op, cut.tp) * element + context_bytes(op, cut, training))
        )
    if backward and recomputes(operators) and strategy.recompute != "none":
        kept = kept_bytes(operators, cut, training, strategy.recompute)
        running += kept_bytes(operators, cut, training, "none") - kept
    if strategy.grids.data.size > 1 and strategy.sharding in ("zero2", "zero3"):
        running += sum(trained) * recipe.gathered
        if strategy.sharding == "zero3":
            running += 2 * (sum(trained) * recipe.gathered + sum(frozen)) + sum(
                narrow_bytes(operators, strategy, training)
            )
    return running
