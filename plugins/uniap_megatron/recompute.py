"""Activation recomputation in Megatron-LM's terms, and what its selective mode keeps that a plan's does not."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import Layer, LayerPlan, Plan, Strategy

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}

Flags = tuple[tuple[str, str], ...]


def method(plan: Plan, blocks: list[LayerPlan]) -> Flags | None:
    """The recomputation flags of a plan, or ``None`` if Megatron-LM has none for it.

    ``uniform`` with one layer a unit recomputes every layer; ``block`` with N layers recomputes the first N of every
    stage (megatron/core/transformer/transformer_block.py, ``_checkpointed_forward``). Embedding and head are never
    recomputed, there or in a plan.
    """
    modes = {layer.strategy.recompute for layer in blocks}
    if modes == {"none"}:
        return ()
    if modes == {"selective"}:
        return (("recompute-granularity", "selective"), ("recompute-modules", "core_attn"))
    if modes == {"full"}:
        return (
            ("recompute-granularity", "full"),
            ("recompute-method", "uniform"),
            ("recompute-num-layers", "1"),
        )
    if modes != {"none", "full"}:
        return None
    stages = [[layer.strategy.recompute == "full" for layer in blocks if layer.stage == i] for i in range(plan.pp)]
    count = max(sum(flags) for flags in stages)
    if any(flags != [position < count for position in range(len(flags))] for flags in stages):
        return None
    return (
        ("recompute-granularity", "full"),
        ("recompute-method", "block"),
        ("recompute-num-layers", str(count)),
    )


def selective_shortage(plan: Plan, blocks: list[LayerPlan]) -> Iterator[str]:
    """Stages where Megatron-LM's selective recomputation would not fit, though the plan's does.

    A plan drops whatever can be rebuilt without a matrix product: norms, activations, the attention core.
    Megatron-LM drops the attention core alone (layer norms are fused into the products after them; it has no
    recomputation of a dense layer's activation function), so all else that a plan drops stays there.
    """
    graph = {layer.name: layer for layer in plan.model.layers}
    for i, stage in enumerate(plan.stages):
        mine = [layer for layer in blocks if layer.stage == i and layer.strategy.recompute == "selective"]
        kept = stage.in_flight * sum(_kept_bytes(plan, layer.strategy, graph[layer.name]) for layer in mine)
        if stage.memory_bytes + kept > stage.memory_limit_bytes:
            yield (
                f"Megatron-LM's selective recomputation keeps {kept / 2**30:.1f} GiB more on stage {i} than the "
                f"plan's, {(stage.memory_bytes + kept) / 2**30:.1f} of {stage.memory_limit_bytes / 2**30:.1f} GiB"
            )


def attention_shortage(plan: Plan, blocks: list[LayerPlan]) -> Iterator[str]:
    """Stages where attention without a fused kernel would not fit, though the plan, priced with one, does.

    It keeps the probabilities of every micro-batch in flight (Korthikanti et al. 2022, arXiv 2205.05198, equation 1).
    """
    graph = {layer.name: layer for layer in plan.model.layers}
    for i, stage in enumerate(plan.stages):
        mine = [layer for layer in blocks if layer.stage == i and layer.strategy.recompute == "none"]
        kept = stage.in_flight * sum(_probability_bytes(plan, x.strategy, graph[x.name]) for x in mine)
        if stage.memory_bytes + kept > stage.memory_limit_bytes:
            yield (
                f"attention is not fused here (compute capability below 8.0, or fp32), and keeps "
                f"{kept / 2**30:.1f} GiB of probabilities more on stage {i} than was priced, "
                f"{(stage.memory_bytes + kept) / 2**30:.1f} of {stage.memory_limit_bytes / 2**30:.1f} GiB"
            )


def _probability_bytes(plan: Plan, chosen: Strategy, layer: Layer) -> float:
    """Bytes per micro-batch and device of the probabilities of a layer's attention."""
    samples = plan.global_batch / plan.micro_batches / chosen.dp
    element = ELEMENT_BYTES.get(plan.precision, 4)
    each = element + plan.training.dropout * (element + 1)
    return sum(
        samples
        * op.rows.at(plan.sequence)
        * op.count
        * op.keys.at(plan.sequence)
        * op.heads
        / chosen.tp
        / chosen.cp
        * each
        for op in layer.operators
        if op.kind == "attention"
    )


def _kept_bytes(plan: Plan, chosen: Strategy, layer: Layer) -> float:
    """Bytes per micro-batch and device that the plan's selective recomputation drops and Megatron-LM's keeps."""
    samples = plan.global_batch / plan.micro_batches / chosen.dp
    element = ELEMENT_BYTES.get(plan.precision, 4)
    total = 0.0
    for op in layer.operators:
        if op.name.startswith("dropout") and not plan.training.dropout:
            continue
        rows = samples * op.rows.at(plan.sequence) * op.count / chosen.cp
        for saved in op.saved:
            if saved.selective:
                share = chosen.tp if saved.split or chosen.sequence_parallel else 1
                total += rows * saved.width * (saved.bytes or element) / share
    return total
