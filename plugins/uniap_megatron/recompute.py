"""Activation recomputation in Megatron-LM's terms, and what its selective mode keeps that a plan's does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from uniap_core.api import Layer, LayerPlan, Plan, Strategy, modules, precision

Flags = tuple[tuple[str, str], ...]

MODULES = {
    "selective": "core_attn",
    "core_attn": "core_attn",
    "mla_up": "mla_up_proj",
    "shared_experts": "shared_experts",
    "mlp": "mlp",
    "moe": "moe",
}
"""Its names of modules. Its ``layernorm`` and ``moe_act`` drop less than a plan's norms and activations."""


def method(plan: Plan, blocks: list[LayerPlan]) -> Flags | None:
    """The recomputation flags of a plan, or ``None`` if Megatron-LM has none for it.

    ``uniform`` with one layer a unit recomputes every layer; ``block`` with N layers recomputes the first N of every
    stage (megatron/core/transformer/transformer_block.py, ``_checkpointed_forward``). Embedding and head are never
    recomputed, there or in a plan.
    """
    modes = {layer.strategy.recompute for layer in blocks}
    if modes == {"none"}:
        return ()
    if len(modes) == 1 and (words := modules.words_of(next(iter(modes)))):
        listed = [MODULES[word] for word in words if word in MODULES]
        return _selective(listed) if listed else None
    if modes == {"full"}:
        return (
            ("recompute-granularity", "full"),
            ("recompute-method", "uniform"),
            ("recompute-num-layers", "1"),
        )
    if modes != {"none", "full"}:
        return None
    places = range(len(plan.stages))
    stages = [[layer.strategy.recompute == "full" for layer in blocks if layer.stage == i] for i in places]
    count = max(sum(flags) for flags in stages)
    if any(flags != [position < count for position in range(len(flags))] for flags in stages):
        return None
    return (
        ("recompute-granularity", "full"),
        ("recompute-method", "block"),
        ("recompute-num-layers", str(count)),
    )


def _selective(listed: list[str]) -> Flags:
    """The flags of some modules; of several, each is an argument of its own."""
    first = (("recompute-granularity", "selective"),)
    if len(listed) == 1:
        return (*first, ("recompute-modules", listed[0]))
    return (*first, ("recompute-modules", ""), *(("", word) for word in listed))


def selective_shortage(plan: Plan, blocks: list[LayerPlan]) -> Iterator[str]:
    """Stages where Megatron-LM's selective recomputation would not fit, though the plan's does.

    A plan drops whatever can be rebuilt without a matrix product: norms, activations, the attention core.
    Megatron-LM drops the attention core alone (layer norms are fused into the products after them; it has no
    recomputation of a dense layer's activation function), so all else that a plan drops stays there.
    """
    modes = sorted({layer.strategy.recompute for layer in blocks})
    light = [mode for mode in modes if {"selective", *modules.LIGHT} & set(modules.words_of(mode))]
    for where, kept, sizes in (found for mode in light for found in _short(plan, blocks, mode, _kept_bytes)):
        more = f"{kept / 2**30:.1f} GiB more on {where} than the plan's, {sizes}"
        yield f"Megatron-LM's selective recomputation keeps {more}"


def attention_shortage(plan: Plan, blocks: list[LayerPlan]) -> Iterator[str]:
    """Stages where attention without a fused kernel would not fit, though the plan, priced with one, does.

    It keeps the probabilities of every micro-batch in flight (Korthikanti et al. 2022, arXiv 2205.05198, equation 1).
    """
    told = sorted({layer.strategy.recompute for layer in blocks})
    core = {"selective", "core_attn"}
    kept_by = [mode for mode in told if mode != "full" and core.isdisjoint(modules.words_of(mode))]
    for where, kept, sizes in (found for mode in kept_by for found in _short(plan, blocks, mode, _probability_bytes)):
        yield (
            f"attention is not fused here (compute capability below 8.0, or fp32), and keeps "
            f"{kept / 2**30:.1f} GiB of probabilities more on {where} than was priced, {sizes}"
        )


def _short(
    plan: Plan, blocks: list[LayerPlan], mode: str, more: Callable[[Plan, Strategy, Layer], float]
) -> Iterator[tuple[str, float, str]]:
    """Pipeline ranks whose stages would not fit if the blocks of a mode kept more per micro-batch in flight.

    Yields where, how many bytes more, and in words how many in all of how many there are.
    """
    if not any(layer.strategy.recompute == mode for layer in blocks):
        return
    graph = {layer.name: layer for layer in plan.model.layers}
    pipeline = plan.candidate.pipeline
    for rank, moments in enumerate(pipeline.in_flight(plan.micro_batches)):
        mine = [i for i, where in enumerate(pipeline.chunks) if where == rank]
        each = [
            sum(more(plan, x.strategy, graph[x.name]) for x in blocks if x.stage == i and x.strategy.recompute == mode)
            for i in mine
        ]
        kept = max(sum(count * size for count, size in zip(moment, each, strict=True)) for moment in moments)
        total = sum(plan.stages[i].memory_bytes for i in mine) + kept
        limit = plan.stages[mine[0]].memory_limit_bytes
        if total > limit:
            where = f"stage {rank}" if len(mine) == 1 else f"pipeline rank {rank}"
            yield where, kept, f"{total / 2**30:.1f} of {limit / 2**30:.1f} GiB"


def _probability_bytes(plan: Plan, chosen: Strategy, layer: Layer) -> float:
    """Bytes per micro-batch and device of the probabilities of a layer's attention."""
    samples = plan.global_batch / plan.micro_batches / chosen.dp
    element = precision(plan.precision).element_bytes
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
    element = precision(plan.precision).element_bytes
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
