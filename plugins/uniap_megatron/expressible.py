"""Why Megatron-LM could not run a plan as it stands, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import (
    AXES,
    SHAPES,
    Cluster,
    Inexpressible,
    LayerPlan,
    ModelGraph,
    Plan,
    Training,
    divisors,
    precision,
)

from . import FAMILIES, MEGATRON, PRECISIONS
from .recompute import attention_shortage, method, selective_shortage
from .shape import untold

UNFUSED = ("maxwell", "pascal", "volta", "turing")
"""Generations of devices below compute capability 8.0."""

BLOCKS = ("decoder", "encoder")
"""Kinds of layers that are transformer layers to Megatron-LM."""


def fit(graph: ModelGraph, cluster: Cluster, training: Training, schedule: str) -> tuple[tuple[str, ...], ...]:
    """The pins under which a model can be run: tensor parallel degrees that divide the sequence.

    Context parallelism where its attention has it (:func:`_context`).
    An interleaved pipeline has a micro-batch for each rank at least.

    Raises
    ------
    Inexpressible
        If the model is none that Megatron-LM has.
    """
    reasons = list(_model(graph))
    if reasons:
        raise Inexpressible("; ".join(reasons), f"choose another executor, or a model of {', '.join(FAMILIES)}")
    always = tuple(f"tp!={tp}" for tp in divisors(cluster.node_size) if graph.sequence % tp)
    if any(_context(graph, cluster, training)):
        always += ("cp=1",)
    if schedule != "interleaved":
        return (always,)
    return tuple((f"pp={pp}", f"micro_batches>={pp}", *always) for pp in divisors(cluster.devices))


def express(plan: Plan) -> list[str]:
    """Every reason why stock Megatron-LM cannot run this plan; empty if it can."""
    reasons = list(_model(plan.model))
    if not reasons:
        reasons += [*_strategies(plan), *_schedule(plan), *_training(plan)]
    return reasons


def blocks(plan: Plan) -> list[LayerPlan]:
    """The plan's transformer layers, in order."""
    kinds = {layer.name: layer.kind for layer in plan.model.layers}
    return [layer for layer in plan.layers if kinds[layer.name] in BLOCKS]


def experts(plan: Plan) -> list[LayerPlan]:
    """The plan's layers with experts, in order."""
    having = {layer.name for layer in plan.model.layers if any(op.experts for op in layer.operators)}
    return [layer for layer in plan.layers if layer.name in having]


def flashes(plan: Plan) -> bool:
    """Whether attention can be fused: priced so, in 16 bits, on devices that Transformer Engine fuses it on.

    It switches flash and cuDNN attention off below compute capability 8.0 (transformer_engine,
    dot_product_attention/utils.py, ``get_attention_backend``), and has neither in fp32.
    """
    return _flashes(plan.cluster, plan.training)


def _flashes(cluster: Cluster, training: Training) -> bool:
    made = {node.device.generation for node in cluster.nodes}
    return training.flash_attention and precision(training.precision).element_bytes == 2 and not made & set(UNFUSED)


def _context(graph: ModelGraph, cluster: Cluster, training: Training) -> Iterator[str]:
    """Why there is no context parallelism for a model: keys and values go round between fused kernels."""
    if graph.architecture.get("sliding_window"):
        yield "Megatron-LM's context parallelism passes keys on, which does not go with a sliding window"
    if graph.family == "bert":
        yield "pretrain_bert.py has no context parallelism"
    if not _flashes(cluster, training):
        # transformer_engine, attention/dot_product_attention/utils.py, get_attention_backend
        yield "Transformer Engine's unfused attention has no context parallelism"


def _model(graph: ModelGraph) -> Iterator[str]:
    if graph.family not in FAMILIES:
        yield f"Megatron-LM {MEGATRON} is exported for {', '.join(FAMILIES)}, not for the family {graph.family!r}"
        return
    lacking = [key for key in (*SHAPES, "tied") if key not in graph.architecture]
    if lacking:
        yield f"the graph of {graph.name} does not say its {', '.join(lacking)}"
        return
    kinds = [layer.kind for layer in graph.layers]
    inner = kinds[1:-1]
    if kinds[0] != "embedding" or kinds[-1] != "head" or any(kind not in BLOCKS for kind in inner):
        yield f"{graph.name} is not an embedding, transformer layers and a head in a row"
    yield from untold(graph)


def _strategies(plan: Plan) -> Iterator[str]:
    chosen = [layer.strategy for layer in plan.layers]
    spread = [layer.strategy for layer in experts(plan)]
    for axis in (axis for axis in AXES if axis.name != "recompute"):
        mine = spread if axis.name in ("ep", "etp") and spread else chosen
        values = dict.fromkeys(strategy[axis.name] for strategy in mine)
        if len(values) > 1:
            yield f"Megatron-LM takes one {axis.title} for the whole model; the plan has {', '.join(map(str, values))}"
    first = chosen[0]
    if first.sharding not in ("none", "zero1"):
        yield f"Megatron-LM's distributed optimizer is zero1; the plan shards by {first.sharding}"
    if first.sequence_parallel and plan.sequence % first.tp:
        # megatron/core/tensor_parallel/mappings.py, _split_along_first_dim
        yield f"the sequence of {plan.sequence} does not divide by tp {first.tp}, as its sequence parallelism needs"
    if first.ep > 1 and not spread:
        yield f"there are no experts in {plan.model.name} to be spread over ep {first.ep}"
    if spread and first.tp > 1 and not first.sequence_parallel:
        yield "Megatron-LM refuses experts under tensor parallelism without sequence parallelism"
    if first.cp > 1:
        yield from _context(plan.model, plan.cluster, plan.training)
    if method(plan, blocks(plan)) is None:
        yield (
            "Megatron-LM recomputes all transformer layers, or fully the first few of every stage alike; "
            "the plan mixes otherwise"
        )
    yield from selective_shortage(plan, blocks(plan))
    if plan.training.flash_attention and not flashes(plan):
        yield from attention_shortage(plan, blocks(plan))


def _schedule(plan: Plan) -> Iterator[str]:
    pipeline = plan.candidate.pipeline
    if plan.schedule == "interleaved":
        if pipeline.chunks != tuple(range(plan.pp)) * pipeline.chunks_per_rank:
            yield f"Megatron-LM lays chunks round the ranks, not on ranks {pipeline.chunks}"
        if plan.micro_batches < plan.pp:
            # megatron/core/pipeline_parallel/schedules.py, forward_backward_pipelining_with_interleaving
            yield (
                f"Megatron-LM's interleaved pipeline takes {plan.pp} or more micro-batches in a group, and the plan "
                f"has {plan.micro_batches}"
            )
    elif plan.pp > 1 and plan.schedule != "1f1b":
        yield f"Megatron-LM runs pipelines by 1f1b or interleaved; the plan's schedule is {plan.schedule}"
    sizes = sorted({node.devices for node in plan.cluster.nodes})
    if len(sizes) > 1:
        yield f"torchrun starts equally many ranks on every node; nodes here have {' or '.join(map(str, sizes))}"


def _training(plan: Plan) -> Iterator[str]:
    if plan.precision not in PRECISIONS:
        yield f"Megatron-LM has no switch for {plan.precision}"
    first = plan.layers[0].strategy
    if first.tp == 1 or first.sequence_parallel:
        return
    if plan.training.tensor_overlap == "all":
        yield "Megatron-LM puts all of tensor parallelism behind products under sequence parallelism alone"
    if plan.training.scatter_gather and plan.pp > 1:
        yield "Megatron Core sends activations between stages whole, not in parts that are gathered behind them"
